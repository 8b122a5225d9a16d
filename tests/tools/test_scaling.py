"""The laws that are planted are found again, and nothing is predicted after it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

N, D = (x.ravel() for x in np.meshgrid([0.36, 0.79, 1.67, 4.39, 9.1], [0.25, 0.75, 2.2, 6.6]))


@pytest.mark.parametrize("name", ["chinchilla", "kaplan"])
def test_a_planted_law_is_found_again_within_its_interval(name: str) -> None:
    from scaling_laws import Law, bounds, drawn, fit

    planted = {
        "chinchilla": {"E": 2.1, "A": 0.25, "alpha": 0.4, "B": 0.3, "beta": 0.5},
        "kaplan": {"alpha_N": 0.08, "alpha_D": 0.11, "N_c": 3e4, "D_c": 2e3},
    }[name]
    truth = Law(name, planted, 0.0)
    exact = fit(name, [N, D], truth(N, D))
    assert exact.error < 2e-3
    assert float(exact(20.0, 6.6)) == pytest.approx(float(truth(20.0, 6.6)), rel=5e-3)
    noisy = truth(N, D) * (1 + 0.01 * np.random.default_rng(2).normal(size=len(N)))
    low, high = bounds([float(law(20.0, 6.6)) for law in drawn(name, [N, D], noisy, 5)])
    assert low - 0.05 < float(truth(20.0, 6.6)) < high + 0.05 and high - low < 0.5


def test_too_few_runs_make_no_law() -> None:
    from scaling_laws import fit

    with pytest.raises(ValueError, match="too few"):
        fit("chinchilla", [N[:4], D[:4]], N[:4])


def test_the_frontier_has_no_point_that_another_beats() -> None:
    from scaling_laws import frontier

    rows = frontier(np.array([3.0, 1, 2, 4]), np.array([1.0, 3, 3.5, 0.5]))
    assert rows.tolist() == [1, 0, 3]


def test_runs_become_a_page_and_predictions_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scaling

    monkeypatch.setattr(scaling, "RESULTS", tmp_path)
    monkeypatch.setattr(scaling, "PAGE", tmp_path / "scaling.md")
    monkeypatch.setattr(scaling, "drawn", lambda name, x, loss: [scaling.fit(name, x, loss)] * 2)
    scaling.main(["write"])
    assert scaling.PAGE.read_text().count("Not measured.") == 2
    runs = []
    for place, cell in enumerate(c for c in scaling.grid(False) if c.stage == "autoregressive"):
        loss = 2.0 + 0.3 / N[place % 5] ** 0.4 + 0.2 / D[place] ** 0.5
        runs.append({
            "name": cell.name, "stage": cell.stage, "size": list(cell.size), "hours": float(D[place]), "steps": 100,
            "flops": 1e9 * float(N[place]), "audio": 80.0, "parameters": int(1e6 * N[place]),
            "curve": [[50, loss + 0.3], [100, loss]],
        })  # fmt: skip
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    monkeypatch.setattr(scaling, "counted", lambda stage, size: {"parameters": 20_000_000})
    scaling.main(["predict"])
    points = json.loads((tmp_path / "prediction.json").read_text())
    assert [point["stage"] for point in points] == ["autoregressive"] * 2
    assert all(2.0 < point["laws"]["chinchilla"]["loss"] < runs[0]["curve"][1][1] for point in points)
    larger = scaling.grid(True)[0]
    (tmp_path / "runs.json").write_text(json.dumps([*runs, runs[0] | {"name": larger.name, "size": list(larger.size)}]))
    with pytest.raises(SystemExit, match="no prediction"):
        scaling.main(["predict"])
    scaling.main(["write"])
    page = scaling.PAGE.read_text()
    assert "The best size grows as C^" in page and page.count("not yet") == 1 and "| 9.10 | 6.60 |" in page

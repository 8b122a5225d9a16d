"""Ray makes the same files as processes here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import made_up
import pytest
from made_up import tree

from chelys.data.prepare.engine import Local
from chelys.data.prepare.pipeline import PrepareSettings, prepare
from chelys.errors import MissingExtra

Settings = Callable[..., PrepareSettings]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    pytest.importorskip("ray")
    from chelys.data.prepare.engine import Ray

    here = str(Path(made_up.__file__).parent)
    source = str(Path(__file__).parents[3] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, source, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 otherwise: on a busy machine nothing would move
    with Ray(workers=2) as engine:
        yield engine


@pytest.mark.slow
def test_the_same_as_processes(raw: Path, tmp_path: Path, settings: Settings, cluster: object) -> None:
    (raw / "broken.flac").write_bytes(b"fLaC" + bytes(range(256)))
    told: list[str] = []
    there = prepare(raw, tmp_path / "ray", settings(), engine=cluster,  # type: ignore[arg-type]
                    progress=lambda stage, *_: told.append(stage))  # fmt: skip
    here = prepare(raw, tmp_path / "local", settings(), engine=Local(0))
    assert there == here and here.kept == 6
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert set(told) >= {"scan", "segment", "measure", "transcribe", "align", "deduplicate", "pack"}
    told.clear()
    assert prepare(raw, tmp_path / "ray", settings(), engine=cluster) == here  # type: ignore[arg-type]
    assert not told


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    from chelys.data.prepare.engine import Ray

    with pytest.raises(MissingExtra, match=r"pip install 'chelys\[cluster\]'"):
        Ray()

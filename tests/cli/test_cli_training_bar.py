"""The bar of ``chelys train``: steps done, time left, losses."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest

from chelys.cli.train import _losses, training_bar


class Terminal(io.StringIO):
    """Standard error as a person has it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Sit down at a terminal; within the test, for pytest puts its own stream back in between."""

    def sit() -> Terminal:
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        return terminal

    return sit


def seen(terminal: Terminal) -> list[str]:
    """What stood on the line, one state after another."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()))


def test_steps_time_left_and_losses(at_terminal: Callable[[], Terminal]) -> None:
    terminal = at_terminal()
    with training_bar("dvae", shown=True) as update:
        assert update is not None
        update(40, 3500, {"learning_rate": 0.1, "reconstruction": 0.58249, "commitment": 0.0115})
        update(60, 3500, {"learning_rate": 0.1, "reconstruction": 0.5, "dvae_grad_norm": 3.0, "seconds_per_step": 2.0})
    (line,) = {line for line in seen(terminal) if "60/3500" in line}
    assert line.startswith("dvae") and "left" in line and "reconstruction 0.5" in line
    assert "grad_norm" not in line and "rate" not in line and "seconds" not in line
    assert any("40/3500" in line and "reconstruction 0.582 commitment 0.0115" in line for line in seen(terminal))


def test_not_shown(at_terminal: Callable[[], Terminal]) -> None:
    terminal = at_terminal()
    with training_bar("dvae", shown=False) as update:
        assert update is None
    assert terminal.getvalue() == ""


def test_losses_that_fit() -> None:
    figures = {"learning_rate": 1.0, "code": 1.23456, "text": 0.5, "plane_grad_norm": 2.0, "x_loss_scale": 3.0}
    assert _losses(figures, 100) == "code 1.23 text 0.5"
    assert _losses(figures, 12) == "code 1.23" and _losses(figures, 3) == ""

"""Progress bars are those of tqdm in a terminal, and a line every ten seconds elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from robust_hub.launch import progress

MODULE = sys.modules[progress.__module__]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told to go on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(MODULE, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(MODULE, "_LINES", MODULE._Lines())
    return clock


@pytest.fixture
def run(monkeypatch, clock):
    """Runs a loop of one second a step, whose bar is drawn at each step, and lists the lines it wrote to a file."""

    def run(seconds: int) -> list[str]:
        # Here, and not in a fixture: between fixtures and test pytest puts a stream of its own in its place.
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        for _ in progress(range(seconds), desc="steps", mininterval=0, miniters=1):
            clock.now += 1
        return sys.stderr.getvalue().splitlines()

    return run


def test_without_a_terminal_a_long_loop_writes_a_line_every_ten_seconds(run):
    lines = run(95)
    assert len(lines) == 9
    assert all(line.startswith("steps: ") and "/95" in line for line in lines)


def test_without_a_terminal_nothing_steers_one(run):
    lines = run(25)
    assert lines
    assert all(line.isprintable() for line in lines)


def test_without_a_terminal_a_short_loop_writes_nothing(run):
    assert run(9) == []


def test_without_a_terminal_short_loops_share_the_ten_seconds(run):
    lines = [line for _ in range(10) for line in run(5)]
    assert 4 <= len(lines) <= 5


def test_without_a_terminal_two_bars_share_the_ten_seconds(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress(total=30, desc="outer", mininterval=0, miniters=1) as outer:
        for _ in range(30):
            outer.update()
            for _ in progress(range(2), desc="inner", mininterval=0, miniters=1):
                clock.now += 1
    assert 5 <= len(sys.stderr.getvalue().splitlines()) <= 6


def test_in_a_terminal_the_bar_is_that_of_tqdm(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress(range(3), desc="steps", mininterval=0, miniters=1, leave=True))
    told = terminal.getvalue()
    assert [f"| {step}/3 [" in told for step in range(4)] == [True] * 4
    assert told.count("\r") >= 4
    assert told.count("\n") == 1


def test_in_a_terminal_a_bar_vanishes_at_its_end(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress(range(3), desc="steps"))
    assert terminal.getvalue().split("\r")[-2].strip() == ""
    assert "\n" not in terminal.getvalue()

"""A program that is stopped or refused says how to go on, and what nobody needs does not end it."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from accelerate import Accelerator

from robust_hub.files import whole_file
from robust_hub.launch import command_line, end_training, endings, track
from robust_hub.launch.progress_bars import _Lines


def run(monkeypatch, command) -> int:
    """Runs a program of one command without options; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["recipes/a.py", "--resume"])
    with pytest.raises(SystemExit) as ended:
        command_line({"a": command})
    return ended.value.code


@pytest.fixture
def heeded() -> Iterator[None]:
    """Lets Ctrl-C be heeded, which shells tell what they start in the background to ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_one_line_and_the_status_that_shells_expect(monkeypatch, capsys, number, code):
    before = signal.getsignal(number)

    def command(*, resume: bool = False) -> None:
        os.kill(os.getpid(), number)

    assert run(monkeypatch, command) == code
    assert capsys.readouterr().err == "stopped; the same command with --resume goes on from what is finished\n"
    assert signal.getsignal(number) == before


def test_a_signal_that_is_lost_while_an_object_is_disposed_of_comes_again(monkeypatch, capsys):
    monkeypatch.setattr(endings, "SECONDS_UNTIL_STOPPED_AGAIN", 0.2)

    class Disposed:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    def command(*, resume: bool = False) -> None:
        Disposed()
        signal.pause()

    assert run(monkeypatch, command) == 143
    assert capsys.readouterr().err == "stopped; the same command with --resume goes on from what is finished\n"


def test_a_full_disk_is_told_with_the_place_and_how_to_go_on(monkeypatch, capsys, tmp_path):
    def command(*, resume: bool = False) -> None:
        with whole_file(tmp_path / "weights") as unfinished:
            unfinished.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    assert run(monkeypatch, command) == 2
    assert capsys.readouterr().err == (
        f"error: the disk refuses at {tmp_path / 'weights'} (No space left on device); make room or give leave there, "
        "and run it with --resume, which goes on from what is finished\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_mistake_of_ours_is_not_blamed_on_the_disk(monkeypatch):
    def command(*, resume: bool = False) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file")

    monkeypatch.setattr(sys, "argv", ["recipes/a.py", "--resume"])
    with pytest.raises(FileNotFoundError):
        command_line({"a": command})


def test_a_tracker_that_fails_is_given_up_in_one_line(capsys):
    def fail(*_, **__):
        raise ConnectionError("no server")

    accelerator = Accelerator(cpu=True)
    accelerator.trackers = [SimpleNamespace(name="tracker", log=fail, finish=fail)]
    track(accelerator, {"loss": 1.0}, step=1)
    track(accelerator, {"loss": 1.0}, step=2)
    end_training(accelerator)
    assert capsys.readouterr().out == "warning: the tracker fails (no server); the run goes on without\n"


def test_a_log_that_takes_no_more_does_not_end_the_loop(monkeypatch):
    def full(text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    lines = _Lines()
    lines._last = -100.0
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=full))
    assert lines.write("epoch 1") == len("epoch 1")

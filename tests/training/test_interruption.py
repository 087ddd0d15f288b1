"""A run that is stopped, killed or refused by the disk keeps what is finished, and goes on to the same end."""

import json
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

import robust_hub.training.loop as loop
from recipes.adversarial_training import n_fgsm
from robust_hub.evaluation import Report
from robust_hub.launch import command_line
from robust_hub.model_folder import require_provenance

NETWORK = ["--student", "resnet18_cifar", "--student-args", '{"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 8]}']
DATA = ["--data", "synthetic", "--test-images", "8", "--threat", "linf:4/255", "--epochs", "2"]
STOPPED = "stopped; the same command with --resume goes on from what is finished\n"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PICTURES = {"accuracy_against_eps.png", "input_gradients.png"}


def train(output: Path, *words: str, before: Callable | None = None) -> None:
    """Starts the recipe as its command line does, and writes what it tells beside its output."""
    with output.with_suffix(".log").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.argv = ["recipe", *NETWORK, *DATA, "--output", str(output), *words]
    if before is not None:
        before()
    command_line({"n-fgsm": n_fgsm})


def started(output: Path, *words: str, before: Callable | None = None):
    """Starts it in a process of its own."""
    child = get_context("fork").Process(target=train, args=(output, *words), kwargs={"before": before})
    child.start()
    return child


def ended(output: Path, *words: str, before: Callable | None = None) -> tuple[int, str]:
    """Waits for its end; gives the exit code and what it told."""
    child = started(output, *words, before=before)
    child.join()
    return child.exitcode, output.with_suffix(".log").read_text()


def outcome(output: Path) -> tuple:
    """What a run is to end with: weights, masks, cost and files."""
    student = output / "student"
    evaluation, training = Report.read(student).evaluation, require_provenance(student).training
    masks = (evaluation.clean.tolist(), evaluation.robust.tolist())
    cost = (training.images, training.best_epoch, training.passes)
    return (student / "model.safetensors").read_bytes(), masks, cost, {file.name for file in student.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    code, told = ended(output)
    assert code == 0, told
    return outcome(output)


def killed_while_drawing() -> None:
    import robust_hub.training.pictures as pictures

    pictures.plot_input_gradients = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def without_training() -> None:
    loop.train_epoch = None


@pytest.mark.slow
def test_a_run_killed_while_it_draws_has_its_folder_and_draws_without_training_again(tmp_path, undisturbed):
    output = tmp_path / "run"
    assert ended(output, before=killed_while_drawing)[0] == -signal.SIGKILL
    weights, masks, cost, files = outcome(output)
    assert (weights, masks, cost, files | PICTURES) == undisturbed
    # Its owner may have written on the card meanwhile.
    card = output / "student" / "README.md"
    card.write_text(card.read_text().replace("<!-- end of notes -->", "Mine.\n<!-- end of notes -->"))
    assert ended(output, "--resume", before=without_training)[0] == 0
    assert outcome(output) == undisturbed
    assert "Mine." in card.read_text()
    assert all(f"]({picture})" in card.read_text() for picture in PICTURES)


def stopped_as_it_saves(number: int) -> Callable:
    def before() -> None:
        save = loop.save_checkpoint
        loop.save_checkpoint = lambda *state: (save(*state), os.kill(os.getpid(), number))

    return before


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_run_that_is_stopped_says_in_one_line_how_to_go_on(tmp_path, number, code):
    ended_with, told = ended(tmp_path / "run", before=stopped_as_it_saves(number))
    assert ended_with == code
    assert told.count(STOPPED) == 1
    assert "Traceback" not in told
    assert [state.name for state in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-000001"]


def without_room_for_the_second() -> None:
    save = loop.save_checkpoint

    def full(accelerator, folder, epoch):
        if epoch == 2:
            # As of a full disk: what is larger is not written, and the system says so.
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        save(accelerator, folder, epoch)

    loop.save_checkpoint = full


@pytest.mark.slow
def test_a_disk_without_room_for_a_checkpoint_ends_in_a_sentence_and_leaves_the_one_before(tmp_path, undisturbed):
    code, told = ended(tmp_path / "run", before=without_room_for_the_second)
    assert code == 2
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: the disk refuses at {tmp_path / 'run' / 'checkpoints' / 'epoch-000002'} (")
    assert line.endswith("run it with --resume, which goes on from what is finished")
    assert [state.name for state in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-000001"]
    assert ended(tmp_path / "run", "--resume")[0] == 0
    assert outcome(tmp_path / "run") == undisturbed


def resumed_after_kills(output: Path, chance: random.Random, seconds: float) -> None:
    """Stops and kills a run at random moments, and at last lets it be."""
    words: tuple[str, ...] = ()
    for number in chance.sample(SIGNALS, 2):
        child = started(output, *words)
        child.join(chance.uniform(0, seconds))
        if child.is_alive():
            os.kill(child.pid, number)
        child.join()
        assert child.exitcode in (0, -number, 128 + number), output.with_suffix(".log").read_text()
        words = ("--resume",) if output.exists() else ()
    code, told = ended(output, *words)
    assert code == 0, told


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(tmp_path, undisturbed, seed):
    resumed_after_kills(tmp_path / "run", random.Random(seed), seconds=2.0)
    assert outcome(tmp_path / "run") == undisturbed


def test_a_killed_run_started_again_without_resume_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({}))
    code, told = ended(tmp_path / "run")
    assert code == 2
    assert "holds a run already; add --resume to go on with it" in told

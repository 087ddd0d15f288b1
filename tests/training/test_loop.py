"""A run that was killed, resumed, divided among processes or broken off ends as it should."""

import os
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from robust_hub.data import Source, load_data, training_loader
from robust_hub.methods import IGAM, RRM, AdversarialTraining, IGAMOptions, Losses, NFGSMOptions, Objective, Plain
from robust_hub.models import Teacher, create_classifier
from robust_hub.threats import Linf
from robust_hub.training import TrainingConfig
from robust_hub.training.loop import Scores, fit

SHAPE = (3, 16, 16)
TRAINING = TrainingConfig(epochs=3, batch_size=64, lr=0.05)


def small_resnet():
    return create_classifier(
        "resnet18_cifar", {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 8]}, num_classes=4, image_shape=SHAPE
    )


def train(folder: Path, *, resume: bool, method=RRM, validate=None, **options):
    """Trains a student with BatchNorm, augmentation, weight averaging and noise, and returns its weights."""
    set_seed(0)
    data = load_data(Source("synthetic"))
    student, teacher = small_resnet(), Teacher(small_resnet())
    objective = Plain(student) if method is Plain else method(student, teacher, **options)
    loader = training_loader(
        data.train, student.preprocessing, batch_size=64, augmentation="crop-flip", seed=0, device=torch.device("cpu")
    )
    validate = validate or (lambda accelerator, classifier: Scores(torch.rand(()).item(), 0.0))
    accelerator = Accelerator(cpu=True)
    best, progress = fit(accelerator, objective, loader, TRAINING, validate=validate, checkpoints=folder, resume=resume)
    return {**best.state_dict(), **{f"trained.{k}": v for k, v in student.state_dict().items()}}, progress


def fast(student, teacher):
    return AdversarialTraining(student, Linf(8 / 255), NFGSMOptions())


def killed_at(folder: Path, *, call: int, name: str) -> None:
    """Trains in a process that is killed at one of its calls of a function that writes checkpoints."""
    calls = 0
    owner, attribute = {"torch.save": (torch, "save"), "rename": (os, "replace"), "fsync": (os, "fsync")}[name]
    original = getattr(owner, attribute)

    def deadly(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, attribute, deadly)
    train(folder, resume=True)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("torch.save", 3),
        ("rename", 2),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("torch.save", 11), ("rename", 1), ("fsync", 9))),
    ],
)
def test_a_run_killed_while_it_writes_a_checkpoint_resumes_to_the_same_weights(tmp_path, uninterrupted, name, call):
    child = get_context("fork").Process(target=killed_at, args=(tmp_path,), kwargs={"name": name, "call": call})
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    weights, progress = train(tmp_path, resume=True)
    assert progress.epoch == TRAINING.epochs
    assert weights.keys() == uninterrupted.keys()
    assert all(torch.equal(weights[key], uninterrupted[key]) for key in weights)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    weights, _ = train(tmp_path_factory.mktemp("uninterrupted"), resume=False)
    return weights


@pytest.mark.slow
def test_a_streamed_run_with_noise_that_was_broken_off_resumes_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("robust_hub.data.loaders.IN_MEMORY_BYTES", 0)
    options = {"method": IGAM, "options": IGAMOptions(weight=0.1, noise=0.1, start=0.0, ramp=0.0)}
    whole, _ = train(tmp_path / "whole", resume=False, **options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", resume=True, validate=interrupted_in_the_second_epoch(), **options)
    resumed, _ = train(tmp_path / "broken", resume=True, **options)
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def interrupted_in_the_second_epoch():
    calls = iter([False, True])

    def validate(accelerator, classifier):
        if next(calls):
            raise KeyboardInterrupt
        return Scores(torch.rand(()).item(), 0.0)

    return validate


def test_resuming_a_finished_run_trains_no_more_and_returns_the_same(tmp_path, uninterrupted):
    train(tmp_path, resume=False)
    weights, _ = train(tmp_path, resume=True)
    assert all(torch.equal(weights[key], uninterrupted[key]) for key in uninterrupted)


def test_the_cost_of_a_resumed_run_is_that_of_the_whole(tmp_path):
    child = get_context("fork").Process(target=killed_at, args=(tmp_path,), kwargs={"name": "rename", "call": 2})
    child.start()
    child.join()
    _, progress = train(tmp_path, resume=True)
    images = 3 * (288 // 64) * 64
    assert progress.passes["student"].forward == progress.passes["student"].backward == images
    assert (progress.passes["teacher"].forward, progress.passes["teacher"].backward) == (images, 0)


def test_a_double_backward_is_counted_as_one_backward_more(tmp_path):
    options = IGAMOptions(weight=0.1, noise=0.0, start=0.0, ramp=0.0)
    _, progress = train(tmp_path, resume=False, method=IGAM, options=options)
    images = 3 * (288 // 64) * 64
    assert (progress.passes["student"].forward, progress.passes["student"].backward) == (images, 3 * images)
    assert (progress.passes["teacher"].forward, progress.passes["teacher"].backward) == (images, images)


def test_the_best_epoch_on_validation_is_returned(tmp_path):
    scores, seen = iter([0.2, 0.9, 0.3]), []

    def validate(accelerator, classifier):
        seen.append({key: value.clone() for key, value in classifier.state_dict().items()})
        return Scores(next(scores), 0.0)

    weights, progress = train(tmp_path, resume=False, validate=validate)
    assert progress.best_epoch == 2
    assert all(torch.equal(weights[key], seen[1][key]) for key in seen[1])


@pytest.mark.parametrize(
    ("method", "robust", "told"),
    [
        (fast, [0.4, 0.1, 0.3], [2]),
        (fast, [0.4, 0.3, 0.21], []),
        (fast, [0.02, 0.0, 0.0], []),
        (RRM, [0.4, 0.1, 0.0], []),
    ],
    ids=["fallen", "not fallen", "by chance", "no one-step method"],
)
def test_a_student_that_learns_to_fool_the_one_step_of_training_is_told_of(tmp_path, capsys, method, robust, told):
    scores = iter(robust)
    train(tmp_path, resume=False, method=method, validate=lambda *_: Scores(0.5, next(scores)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "catastrophic overfitting" in line]
    assert [int(line.split("after epoch ")[1].split()[0]) for line in lines] == told
    assert all("on 10.0 % of images, where it was 40.0 % before" in line for line in lines)


class Diverging(Objective):
    """Loses its head in the second epoch."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.calls = student, 0

    def forward(self, images, labels):
        self.calls += 1
        total = self.student(images).square().mean() * (float("nan") if self.calls > 5 else 1.0)
        return Losses(total, {})


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="checkpoints of earlier epochs are kept"):
        train(tmp_path, resume=False, method=Diverging)
    assert [folder.name for folder in tmp_path.iterdir()] == ["epoch-000001"]

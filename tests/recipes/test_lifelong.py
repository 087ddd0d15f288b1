"""lifelong.py from a robust classifier to one that knows other classes and has not forgotten."""

from dataclasses import replace

import pytest
import torch

from recipes import lifelong
from recipes.lifelong import Config
from robust_hub import hub
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.methods import LifelongOptions
from robust_hub.training import TrainingConfig
from tests.recipes.test_transfer import NAMES, save_teacher


@pytest.fixture(
    scope="module",
    params=[pytest.param(NAMES, marks=pytest.mark.slow), ["up", "down", "left", "right"]],
    ids=["same", "other"],
)
def teacher(request, tmp_path_factory) -> str:
    return save_teacher(tmp_path_factory.mktemp("teachers") / "teacher", names=request.param)


def config(teacher, tmp_path, **changes) -> Config:
    training = TrainingConfig(epochs=2, batch_size=32, lr=0.01)
    return Config(teacher, Source("synthetic", test_images=16), Output(tmp_path / "run"), training=training, **changes)


def test_every_weight_is_trained_and_batch_statistics_stay_those_of_the_teacher(tmp_path, teacher):
    lifelong.fine_tune(config(teacher, tmp_path))
    before, after = (dict(hub.load(name).model.state_dict()) for name in (teacher, f"local-dir:{tmp_path}/run/student"))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same >= {name for name in before if "running" in name or "num_batches" in name}
    assert not any("conv" in name or "fc" in name for name in same)


def test_the_passes_of_head_and_student_and_teacher_are_counted(tmp_path, teacher):
    result = lifelong.fine_tune(config(teacher, tmp_path))
    assert result.passes == {
        "student": {"forward": 2 * 288 + 2 * 288, "backward": 2 * 288},
        "teacher": {"forward": 2 * 288, "backward": 0},
    }


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_a_larger_weight_keeps_the_features_nearer(tmp_path, teacher, distance):
    images = torch.rand(16, 3, 16, 16)
    _, wanted = hub.load(teacher).eval().forward_with_features(images)
    moved = []
    for options in (LifelongOptions(weight=0.0), LifelongOptions(weight=10.0, distance=distance)):
        folder = tmp_path / str(options.weight)
        lifelong.fine_tune(config(teacher, folder), options)
        _, features = hub.load(f"local-dir:{folder}/run/student").eval().forward_with_features(images)
        moved.append((features - wanted).abs().mean().item())
    assert moved[1] < moved[0] / 2


def test_a_negative_weight_is_told_and_leaves_the_output_untouched(tmp_path, teacher):
    with pytest.raises(ValueError, match="Lifelong needs weight >= 0, got -1"):
        lifelong.fine_tune(config(teacher, tmp_path), LifelongOptions(weight=-1.0))
    assert not (tmp_path / "run").exists()


def test_a_distance_that_counts_nothing_is_refused(tmp_path, teacher):
    with pytest.raises(ValueError, match="--distance has no effect without a --weight above 0"):
        lifelong.fine_tune(config(teacher, tmp_path), LifelongOptions(weight=0.0, distance="l2"))
    assert not (tmp_path / "run").exists()


def test_the_seed_decides_the_order_in_which_the_head_learns_as_well(tmp_path, teacher, monkeypatch):
    seeds = []

    def train_head(head, features, labels, training, device):
        seeds.append(training.seed)

    monkeypatch.setattr("robust_hub.training.head.train_head", train_head)
    chosen = config(teacher, tmp_path)
    lifelong.fine_tune(replace(chosen, training=replace(chosen.training, epochs=1, seed=7)))
    assert seeds == [7]

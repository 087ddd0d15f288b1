"""linear_probe.py from a robust classifier of some classes to one of others."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import robust_hub  # noqa: F401  registers what the folders name
from recipes import linear_probe
from recipes.linear_probe import Config
from robust_hub import hub
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.methods import ProbeOptions
from robust_hub.model_folder import require_provenance
from robust_hub.training import TrainingConfig
from tests.recipes.test_transfer import NAMES, save_teacher

IMAGES = 2 * 288  # as they are and mirrored


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return save_teacher(tmp_path_factory.mktemp("teachers") / "teacher", names=["up", "down", "left", "right"])


def config(teacher, tmp_path, **changes) -> Config:
    training = TrainingConfig(epochs=2, batch_size=32, optimizer="adamw", lr=0.01)
    source = Source("synthetic", test_images=16)
    return Config(teacher, **{"source": source, "output": Output(tmp_path / "run"), "training": training, **changes})


def weights(name: str) -> dict[str, torch.Tensor]:
    return dict(hub.load(name).model.state_dict())


def test_a_probe_changes_nothing_but_the_head(tmp_path, teacher):
    linear_probe.probe(config(teacher, tmp_path))
    before, after = weights(teacher), weights(f"local-dir:{tmp_path}/run/student")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"fc.weight", "fc.bias"}


def test_features_are_computed_once_and_kept(tmp_path, teacher):
    result = linear_probe.probe(config(teacher, tmp_path))
    assert result.passes == {"student": {"forward": IMAGES, "backward": 0}}
    assert np.load(tmp_path / "run" / "features" / "features.npy", mmap_mode="r").shape == (2, 288, 16)


def test_a_probe_that_is_resumed_uses_the_features_and_ends_with_the_same_weights(tmp_path, teacher):
    linear_probe.probe(config(teacher, tmp_path))
    before = weights(f"local-dir:{tmp_path}/run/student")
    file = tmp_path / "run" / "features" / "features.npy"
    written = file.stat().st_mtime_ns
    result = linear_probe.probe(config(teacher, tmp_path, output=Output(tmp_path / "run", resume=True)))
    assert file.stat().st_mtime_ns == written
    assert result.passes == {"student": {"forward": IMAGES, "backward": 0}}
    after = weights(f"local-dir:{tmp_path}/run/student")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_hidden_layer_is_published_with_its_head(tmp_path, teacher):
    linear_probe.probe(config(teacher, tmp_path), ProbeOptions(mlp=8))
    model = timm.create_model(f"local-dir:{tmp_path}/run/student", pretrained=True)
    assert [tuple(model.hidden[0].weight.shape), tuple(model.head.weight.shape)] == [(8, 16), (4, 8)]
    body = weights(teacher)
    assert all(torch.equal(tensor, body[name]) for name, tensor in model.body.state_dict().items())


@pytest.mark.parametrize(
    ("stages", "first"),
    [
        (1, "layer4"),
        (5, "conv1"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((2, "layer3"), (4, "layer1"))),
    ],
)
def test_the_last_stages_are_retrained_and_the_rest_is_left(tmp_path, teacher, stages, first):
    linear_probe.probe(config(teacher, tmp_path), ProbeOptions(retrain_stages=stages))
    before, after = weights(teacher), weights(f"local-dir:{tmp_path}/run/student")
    parts = list(dict.fromkeys(name.split(".")[0] for name in before))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(parts[parts.index(first) :])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mlp": 8, "retrain_stages": 1},
        *(pytest.param(each, marks=pytest.mark.slow) for each in ({"mlp": 8}, {"retrain_stages": 1})),
    ],
)
def test_all_passes_are_counted(tmp_path, teacher, changes):
    result = linear_probe.probe(config(teacher, tmp_path), ProbeOptions(**changes))
    retrained = 2 * 288 if "retrain_stages" in changes else 0
    assert result.passes == {"student": {"forward": IMAGES + retrained, "backward": retrained}}
    assert require_provenance(tmp_path / "run" / "student").training.passes == result.passes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlp": -1}, "must be at least 0, got -1 and 0"),
        ({"retrain_stages": 6}, r"has 5 stages \(act1, layer1, .* between 1 and that many can be retrained, got 6"),
    ],
)
def test_bad_options_are_told_and_leave_the_output_untouched(tmp_path, teacher, changes, message):
    with pytest.raises(ValueError, match=message):
        linear_probe.probe(config(teacher, tmp_path), ProbeOptions(**changes))
    assert not (tmp_path / "run").exists()


def test_the_card_of_a_probe_does_not_claim_a_choice_on_validation(tmp_path, teacher):
    linear_probe.probe(config(teacher, tmp_path))
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "The weights are those of the last epoch." in card
    assert "the best on validation" not in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": Source("synthetic", augmentation="crop")}, "--augmentation crop has no effect on a head alone"),
        (
            {"output": Output(Path("run"), log_with="tensorboard")},
            "--log-with tensorboard has no effect on a head alone",
        ),
    ],
)
def test_what_a_head_alone_has_no_use_for_is_refused(tmp_path, teacher, changes, message):
    with pytest.raises(ValueError, match=message):
        linear_probe.probe(config(teacher, tmp_path, **changes))


def test_names_that_are_stated_show_the_teacher_beside_the_student(tmp_path, teacher, capsys):
    linear_probe.probe(config(teacher, tmp_path, label_names=tuple(NAMES)))
    assert capsys.readouterr().out.count("| teacher") == 1

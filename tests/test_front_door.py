"""What `import robust_hub` gives a user: everything that is needed, and nothing heavy before it is used."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import robust_hub
from robust_hub import L2, Linf
from robust_hub.attacks import AutoAttack
from tests.conftest import MEAN, STD

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "timm", "datasets", "accelerate", "huggingface_hub")


def python(code: str) -> str:
    """Runs code in a process that has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout


def test_importing_the_package_loads_nothing_heavy():
    loaded = json.loads(python("import json, sys, robust_hub; print(json.dumps(sorted(sys.modules)))"))
    assert set(loaded) & set(HEAVY) == set()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import robust_hub, timm", "import timm, robust_hub"])
def test_architectures_are_known_to_timm_whichever_is_imported_first(order):
    assert python(f"{order}; print(timm.create_model('resnet18_cifar', num_classes=3).num_classes)") == "3\n"


@pytest.mark.parametrize(
    "name", ["load", "list_models", "predict", "evaluate", "PixelClassifier", "Teacher", "Linf", "L2"]
)
def test_what_a_user_needs_is_at_hand(name):
    assert name in dir(robust_hub)
    assert callable(getattr(robust_hub, name))


def radii(classifier, images, labels, threat) -> np.ndarray:
    """Gives how large eps must be until each image can be brought into another class.

    The logits are z = A x + b, and over a ball of radius eps the margin z_y - z_j falls by at most eps times the dual
    norm of A_y - A_j. Images stay at least 0.3 away from 0 and 1, so the box never binds.
    """
    head, of_label = classifier.model.head, (range(len(labels)), labels.numpy())
    weight = head.weight.detach().double().numpy() / np.repeat(STD, 64)
    bias = head.bias.detach().double().numpy() - weight @ np.repeat(MEAN, 64)
    logits = images.flatten(1).double().numpy() @ weight.T + bias
    margins = logits[of_label][:, None] - logits
    slopes = np.linalg.norm(weight[labels][:, None] - weight, ord={Linf: 1, L2: 2}[threat], axis=2)
    margins[of_label], slopes[of_label] = np.inf, 1.0
    return (margins / slopes).min(1)


@pytest.fixture
def task(create_linear, images):
    """A linear classifier, and labels of which it misses the first."""
    classifier = create_linear().eval()
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    return classifier, labels


# Beyond every radius of these images, so that attacks end at once.
FAR = Linf(0.2)


@pytest.mark.parametrize("threat", [Linf, L2])
@pytest.mark.parametrize("version", ["quick", pytest.param("standard", marks=pytest.mark.slow)])
def test_a_linear_classifier_is_as_robust_as_the_closed_form_says(task, images, threat, version):
    classifier, labels = task
    critical = radii(classifier, images, labels, threat)
    # Between the radii of the third image and the fourth; attacks reach the optimum far closer than that.
    eps = float(np.sort(critical)[2:4].mean())
    assert critical[0] < 0 < eps < 0.3
    evaluation = robust_hub.evaluate(classifier, images, labels, threat(eps), version=version)
    assert evaluation.clean.tolist() == (critical > 0).tolist()
    assert evaluation.robust.tolist() == (critical > eps).tolist()
    assert evaluation.clean_accuracy.value == 5 / 6
    assert evaluation.robust_accuracy.value == 3 / 6


def test_the_quick_version_is_meant_where_none_is_named(task, images):
    evaluation = robust_hub.evaluate(task[0], images, task[1], FAR)
    assert list(evaluation.survivors) == ["apgd-ce", "apgd-t"]
    assert "not AutoAttack" in evaluation.attack


def test_the_standard_version_is_all_four_attacks(task, images):
    evaluation = robust_hub.evaluate(task[0], images, task[1], FAR, version="standard")
    assert list(evaluation.survivors) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert evaluation.robust_accuracy.value == 0


def test_evaluating_leaves_the_classifier_as_it_was(task, images):
    classifier, labels = task
    classifier.train()
    before = {name: weight.clone() for name, weight in classifier.state_dict().items()}
    robust_hub.evaluate(classifier, images, labels, FAR)
    assert classifier.training
    assert all(torch.equal(weight, before[name]) for name, weight in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())


NONE = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "fast"}, r"version must be standard or quick, got 'fast'"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, r"as many labels as images, .* got 6 and 5"),
        ({"images": torch.zeros(0, 3, 8, 8), "labels": NONE}, r"at least one, got 0 and 0"),
    ],
)
def test_what_can_not_be_evaluated_is_told_in_one_sentence(task, images, monkeypatch, change, message):
    classifier, labels = task
    given = {"images": images, "labels": labels, "threat": FAR, **change}
    # Tests check types and shapes beforehand, and a user's process does not.
    monkeypatch.setattr(AutoAttack, "__init__", inspect.unwrap(AutoAttack.__init__))
    with pytest.raises(ValueError, match=message) as refusal:
        inspect.unwrap(robust_hub.evaluate)(classifier, **given)
    assert "\n" not in str(refusal.value)

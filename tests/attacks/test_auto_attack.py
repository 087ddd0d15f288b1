from dataclasses import dataclass

import pytest
import torch
from torch import nn

from robust_hub.attacks import APGD, AutoAttack, SearchClassifier, Square, Stage, TargetedAPGD, TargetedFAB
from robust_hub.losses import cross_entropy, targeted_difference_of_logits_ratio, targeted_margin
from robust_hub.threats import L2, Linf

THREATS = [Linf(0.1), L2(1.0)]


@pytest.mark.parametrize(
    ("num_classes", "targets", "loss"),
    [
        (1000, 9, targeted_difference_of_logits_ratio),
        (10, 9, targeted_difference_of_logits_ratio),
        (4, 3, targeted_difference_of_logits_ratio),
        (3, 2, targeted_margin),
        (2, 1, targeted_margin),
    ],
)
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_stages_are_those_of_the_standard_version(threat, num_classes, targets, loss):
    stages = AutoAttack(threat).stages(num_classes)
    # Parameters of the authors' standard version: 100 steps, 1 restart, at most 9 targets, 5000 queries.
    assert list(stages.items()) == [
        ("apgd-ce", APGD(threat, loss=cross_entropy, steps=100, restarts=1)),
        ("apgd-t", TargetedAPGD(threat, targets=targets, loss=loss, steps=100)),
        ("fab-t", TargetedFAB(threat, targets=targets, steps=100)),
        ("square", Square(threat, queries=5000, share=0.8)),
    ]


def test_the_quick_version_stops_after_both_apgds():
    standard, quick = AutoAttack(Linf(0.1)).stages(10), AutoAttack(Linf(0.1), version="quick").stages(10)
    assert list(quick.items()) == list(standard.items())[:2]


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="an attack needs at least 2 classes, the classifier has 1"):
        AutoAttack(Linf(0.1)).stages(1)


@pytest.mark.parametrize("say", [repr, lambda attack: attack.protocol], ids=["repr", "protocol"])
def test_the_quick_version_says_that_it_is_not_autoattack(say):
    assert "AutoAttack" not in say(AutoAttack(Linf(0.1), version="quick")).replace("not AutoAttack", "")


def test_the_repr_names_version_and_threat():
    assert repr(AutoAttack(Linf(8 / 255))) == "AutoAttack, standard, linf:8/255"


@dataclass
class Brighten:
    """Adds to the images of some labels, and remembers the labels it was given."""

    labels: tuple[int, ...]
    given: list[int]
    most_passes: int = 0

    def __call__(self, classifier, images, labels):
        self.given.extend(labels.tolist())
        chosen = torch.isin(labels, torch.tensor(self.labels))
        return images + chosen[:, None, None, None].float()


class Bright(nn.Module):
    """Takes a black image numbered k for class k, as its label says, and a bright one for class 0."""

    def forward(self, images):
        number = torch.where(images[:, 0, 0, 0] < 1, (images[:, 0, 0, 1] * 10).round(), 0)
        return nn.functional.one_hot(number.long(), 10).float()


def numbered(*numbers: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.zeros(len(numbers), 1, 1, 2)
    images[:, 0, 0, 1] = torch.tensor(numbers) / 10
    return images, torch.tensor(numbers)


def test_a_stage_is_not_shown_what_an_earlier_one_fooled(monkeypatch):
    images, labels = numbered(1, 2, 3, 4, 5)
    stages = {"one": Brighten((2, 4), []), "two": Brighten((2, 5), []), "three": Brighten((), [])}
    monkeypatch.setattr(AutoAttack, "stages", lambda self, num_classes: stages)
    adversarial = AutoAttack(Linf(0.1))(Bright(), images, labels)
    assert [stage.given for stage in stages.values()] == [[1, 2, 3, 4, 5], [1, 3, 5], [1, 3]]
    assert adversarial[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 1]


def test_no_stage_runs_once_all_are_fooled(monkeypatch):
    images, labels = numbered(1, 2)
    stages = {"one": Brighten((1, 2), []), "two": Brighten((), [])}
    monkeypatch.setattr(AutoAttack, "stages", lambda self, num_classes: stages)
    AutoAttack(Linf(0.1))(Bright(), images, labels)
    assert stages["two"].given == []


class Wrong(nn.Module):
    """Takes every image for another class than it is, by a margin that depends on the pixels."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        self.classifier = classifier

    def forward(self, images):
        return -self.classifier(images)


@dataclass(frozen=True)
class Watched:
    """An attack that notes how many images it is given."""

    attack: Stage
    counts: list[int]
    most_passes: int = 0

    def __call__(self, classifier, images, labels):
        self.counts.append(len(images))
        return self.attack(classifier, images, labels)


@pytest.fixture
def watched(short_stages, monkeypatch) -> dict[str, list[int]]:
    """Notes for each short stage how many images it is given."""
    counts, stages = {}, AutoAttack.stages

    def watch(self, num_classes):
        return {name: Watched(stage, counts.setdefault(name, [])) for name, stage in stages(self, num_classes).items()}

    monkeypatch.setattr(AutoAttack, "stages", watch)
    return counts


@pytest.mark.parametrize("threat", [Linf(1e-5), L2(1e-4)], ids=str)
def test_a_success_of_the_search_that_the_exact_classifier_denies_is_none(create_linear, images, watched, threat):
    exact = create_linear()
    labels = exact(images).argmax(1)
    AutoAttack(threat)(SearchClassifier(Wrong(exact), exact), images, labels)
    assert watched == {"apgd-ce": [6], "apgd-t": [6], "fab-t": [6], "square": [6]}


class Zero(nn.Module):
    """Takes every image for class 0."""

    def forward(self, images):
        return torch.tensor([1.0, 0.0, 0.0]).repeat(len(images), 1)


@pytest.mark.parametrize(
    "attack",
    [
        APGD(Linf(0.3), steps=5, restarts=2),
        TargetedAPGD(Linf(0.3), targets=2, loss=targeted_margin, steps=5),
        TargetedFAB(Linf(0.3), targets=2, steps=5),
        Square(Linf(0.3), queries=10),
    ],
    ids=repr,
)
def test_no_image_leaves_an_attack_for_a_success_that_the_exact_classifier_denies(create_linear, images, attack):
    search, shown = create_linear(), []
    search.register_forward_hook(lambda _module, _inputs, logits: shown.append(logits.argmax(1) != 0))
    attack(SearchClassifier(search, Zero()), images, torch.zeros(6, dtype=torch.long))
    assert any(misclassified.any() for misclassified in shown)
    assert {len(misclassified) for misclassified in shown} == {6}


@pytest.mark.parametrize("threat", [Linf(0.02), L2(0.2)], ids=str)
def test_a_success_of_the_search_that_the_exact_classifier_confirms_counts(create_linear, images, watched, threat):
    exact = create_linear()
    images = images.repeat(4, 1, 1, 1) + 0.1 * torch.randn(24, 3, 8, 8)
    labels = exact(images.clamp_(0, 1)).argmax(1)
    # Weights rounded to bfloat16: a search that errs a little, in both directions.
    search = create_linear()
    search.load_state_dict({name: tensor.bfloat16().float() for name, tensor in exact.state_dict().items()})
    adversarial = AutoAttack(threat)(SearchClassifier(search, exact), images, labels)
    assert watched["apgd-ce"] == [24]
    assert 0 < (exact(adversarial).argmax(1) == labels).sum() <= watched["square"][0] < 24


@pytest.mark.parametrize("version", ["standard", "quick"])
@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize(
    ("num_classes", "shape"), [(2, (3, 8, 8)), (3, (3, 8, 8)), (1000, (3, 8, 8)), (10, (1, 8, 8))], ids=str
)
def test_autoattack_fools_for_few_classes_for_many_and_for_grey_images(
    short_stages, version, threat, num_classes, shape
):
    images = torch.rand(8, *shape)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), num_classes))
    labels = classifier(images).argmax(1)
    adversarial = AutoAttack(threat, version=version)(classifier, images, labels)
    assert adversarial.shape == images.shape
    assert (threat.norm(adversarial - images) <= threat.eps + 1e-6).all()
    assert (classifier(adversarial).argmax(1) != labels).all()


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_an_empty_batch_stays_empty(create_linear, images, labels, threat):
    assert AutoAttack(threat)(create_linear(), images[:0], labels[:0]).shape == (0, 3, 8, 8)

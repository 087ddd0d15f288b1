"""What every attack promises, whatever it does in between."""

import pytest
import torch

from robust_hub.attacks import APGD, FGSM, NFGSM, PGD, AutoAttack, Square, TargetedAPGD, TargetedFAB
from robust_hub.losses import margin, targeted_margin
from robust_hub.threats import L2, Linf

# Pixels near 1 are rounded to 6e-8 in float32; an L2 norm over 192 of them gathers at most sqrt(192) * 6e-8 = 8e-7.
ROUNDING = 1e-6

ATTACKS = [
    PGD.standard(Linf(0.1), steps=3),
    PGD.standard(Linf(8 / 255), steps=2, restarts=3),
    PGD.standard(L2(1.0), steps=3),
    PGD.standard(L2(0.5), steps=2, restarts=3),
    FGSM(Linf(8 / 255)),
    FGSM(L2(0.5)),
    NFGSM(Linf(8 / 255)),
    NFGSM(L2(0.5), noise=1.0),
    APGD(Linf(0.1), loss=margin, steps=5),
    APGD(L2(1.0), steps=3, restarts=2),
    TargetedAPGD(Linf(8 / 255), targets=2, loss=targeted_margin, steps=3),
    TargetedAPGD(L2(0.5), targets=1, loss=targeted_margin, steps=5),
    TargetedFAB(Linf(0.1), targets=2, steps=3),
    TargetedFAB(L2(1.0), targets=1, steps=5),
    Square(Linf(0.1), queries=20),
    Square(L2(1.0), queries=20),
    AutoAttack(Linf(8 / 255)),
    AutoAttack(L2(0.5)),
]
STAYING = [attack for attack in ATTACKS if not isinstance(attack, NFGSM)]

pytestmark = pytest.mark.usefixtures("short_stages")


def attacked_at_the_border(attack, classifier, images) -> torch.Tensor:
    """Attacks images from where the classifier is right about all of them."""
    with torch.no_grad():
        labels = classifier.eval()(images).argmax(1)
    return attack(classifier, images, labels)


@pytest.mark.parametrize("attack", STAYING, ids=repr)
def test_an_adversarial_image_stays_in_the_ball(create_cnn, border_images, attack):
    delta = attacked_at_the_border(attack, create_cnn(), border_images) - border_images
    order = float("inf") if isinstance(attack.threat, Linf) else 2
    assert delta.flatten(1).norm(p=order, dim=1).max() <= attack.threat.eps + ROUNDING


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_adversarial_image_stays_in_the_unit_interval(create_cnn, border_images, attack):
    adversarial = attacked_at_the_border(attack, create_cnn(), border_images)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_repeats_itself_under_the_same_seed(create_cnn, border_images, attack):
    classifier = create_cnn()
    with torch.random.fork_rng():
        expected = attacked_at_the_border(attack, classifier, border_images)
    assert torch.equal(attacked_at_the_border(attack, classifier, border_images), expected)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_leaves_parameter_gradients_as_they_were(create_cnn, images, labels, attack):
    classifier = create_cnn()
    first, *others = classifier.parameters()
    first.grad = torch.ones_like(first)
    attack(classifier, images, labels)
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(parameter.grad is None for parameter in others)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_an_attack_leaves_every_mode_as_it_was(create_cnn, images, labels, attack, mode):
    classifier = create_cnn().train(mode != "eval")
    if mode == "mixed":
        classifier.model.layer1.eval()
        classifier.model.layer2[0].bn1.eval()
    before = [module.training for module in classifier.modules()]
    attack(classifier, images, labels)
    assert [module.training for module in classifier.modules()] == before


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_leaves_weights_and_batch_statistics_as_they_were(create_cnn, images, labels, attack):
    classifier = create_cnn().train()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    attack(classifier, images, labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_runs_the_classifier_in_eval_mode(create_cnn, images, labels, attack):
    classifier, modes = create_cnn().train(), []
    classifier.model.bn1.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    attack(classifier, images, labels)
    assert modes
    assert not any(modes)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_returns_new_images_without_a_graph(create_cnn, images, labels, attack):
    before = images.clone()
    adversarial = attack(create_cnn(), images, labels)
    assert not adversarial.requires_grad
    assert torch.equal(images, before)
    assert not torch.equal(adversarial, images)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_works_under_no_grad(create_cnn, images, labels, attack):
    classifier = create_cnn().eval()
    with torch.random.fork_rng():
        expected = attack(classifier, images, labels)
    with torch.no_grad():
        assert torch.equal(attack(classifier, images, labels), expected)


@pytest.mark.parametrize("threat", [Linf(0.0), L2(0.0)], ids=str)
@pytest.mark.parametrize(
    "create_attack",
    [
        lambda threat: PGD.standard(threat, steps=2, restarts=2),
        lambda threat: PGD(threat, steps=2, step_size=0.1, restarts=2),
        FGSM,
        NFGSM,
        lambda threat: APGD(threat, steps=5, restarts=2),
        lambda threat: TargetedAPGD(threat, targets=2, loss=targeted_margin, steps=5),
        lambda threat: TargetedFAB(threat, targets=2, steps=5),
        lambda threat: Square(threat, queries=5),
        AutoAttack,
    ],
    ids=[
        "standard pgd",
        "pgd with long steps",
        "fgsm",
        "nfgsm",
        "apgd",
        "targeted apgd",
        "fab",
        "square",
        "autoattack",
    ],
)
def test_an_attack_of_radius_zero_returns_the_images(create_cnn, border_images, labels, threat, create_attack):
    adversarial = create_attack(threat)(create_cnn(), border_images, labels)
    # step - images may round, but what is projected onto the ball is exactly 0.
    assert torch.equal(adversarial, border_images)


@pytest.mark.parametrize(
    "attack",
    [
        APGD(Linf(1e-5), steps=7, restarts=2),
        TargetedAPGD(L2(1e-5), targets=2, loss=targeted_margin, steps=5),
        TargetedFAB(Linf(1e-5), targets=2, steps=4),
        Square(L2(1e-5), queries=12),
    ],
    ids=repr,
)
def test_an_image_that_withstands_takes_the_most_passes(create_linear, images, attack):
    classifier = create_linear()
    labels = classifier(images).argmax(1)
    classifier.passes.forward = 0
    attack(classifier, images, labels)
    assert classifier.passes.forward + classifier.passes.backward == len(images) * attack.most_passes


@pytest.mark.parametrize(
    "attack",
    [
        APGD(Linf(0.02), steps=5, restarts=2),
        TargetedAPGD(L2(0.2), targets=2, loss=targeted_margin, steps=5),
        Square(Linf(0.05), queries=30),
    ],
    ids=repr,
)
def test_a_fooled_image_leaves_the_batch(create_smooth, attack):
    classifier, images, sizes, right = create_smooth(), torch.rand(40, 3, 8, 8), [], []
    labels = torch.zeros(40, dtype=torch.long)
    images = images[classifier(images).argmax(1) == 0]

    def count(_module, _inputs, logits):
        sizes.append(len(logits))
        right.append(int((logits.argmax(1) == 0).sum()))

    classifier.register_forward_hook(count)
    attack(classifier, images, labels[: len(images)])
    # Every image has label 0, so what one call classifies rightly is what the next one sees.
    assert sizes[1:] == right[: len(sizes) - 1]
    assert 0 < sizes[-1] < sizes[0]


@pytest.mark.parametrize(
    "attack", [TargetedAPGD(Linf(0.1)), TargetedFAB(Linf(0.1))], ids=lambda attack: type(attack).__name__
)
def test_as_many_targets_as_classes_are_refused(create_linear, images, labels, attack):
    with pytest.raises(ValueError, match="targets must be fewer than the 3 classes, got 9"):
        attack(create_linear(), images, labels)

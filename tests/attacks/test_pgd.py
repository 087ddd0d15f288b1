import dataclasses
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from robust_hub.attacks import PGD, ascend, eval_mode
from robust_hub.losses import cross_entropy
from robust_hub.threats import L2, Linf, Threat

# Pixels near 1 are rounded to 6e-8 in float32; an L2 norm over 192 of them gathers at most sqrt(192) * 6e-8 = 8e-7.
ROUNDING = 1e-6


def test_pgd_reaches_the_optimum_on_a_linear_classifier_for_linf(create_linear, border_images, steepest):
    classifier, labels = create_linear(num_classes=2), torch.tensor([0, 1, 0, 1, 0, 1])
    # The loss grows with each pixel on its own, so every pixel goes as far as ball and [0, 1] allow.
    optimum = (border_images + 0.1 * steepest(classifier, labels).sign()).clamp(0, 1).float()
    adversarial = PGD.standard(Linf(0.1), steps=10)(classifier, border_images, labels)
    torch.testing.assert_close(adversarial, optimum, rtol=0, atol=ROUNDING)


def test_pgd_reaches_the_optimum_on_a_linear_classifier_for_l2(create_linear, images, steepest):
    classifier, labels = create_linear(num_classes=2), torch.tensor([0, 1, 0, 1, 0, 1])
    # By Cauchy-Schwarz the optimum lies along the gradient; eps is too small to meet a border of [0, 1].
    gradient = steepest(classifier, labels)
    optimum = (images + 0.25 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]).float()
    # Steps of 10 eps shrink what is left across the gradient by 11 each, so ten of them leave 4e-11 of it.
    adversarial = PGD(L2(0.25), steps=10, step_size=2.5)(classifier, images, labels)
    torch.testing.assert_close(adversarial, optimum, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.25)], ids=str)
def test_pgd_raises_the_loss_to_the_closed_form_on_a_linear_classifier(create_linear, images, steepest, threat):
    classifier, labels = create_linear(num_classes=2), torch.tensor([0, 1, 0, 1, 0, 1])
    gradient = steepest(classifier, labels).flatten(1)
    gain = threat.eps * gradient.norm(p=1 if isinstance(threat, Linf) else 2, dim=1)
    margin = classifier(images).double().gather(1, 1 - labels[:, None]) - classifier(images).gather(1, labels[:, None])
    worst = torch.log1p(torch.exp(margin[:, 0] + gain))
    adversarial = PGD(threat, steps=10, step_size=10 * threat.eps)(classifier, images, labels)
    # Logits are float32 sums of 192 products of order 1.
    torch.testing.assert_close(cross_entropy(classifier(adversarial), labels).double(), worst, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(0.5)], ids=str)
def test_pgd_raises_the_loss_of_every_image(create_smooth, images, labels, threat):
    classifier = create_smooth()
    adversarial = PGD.standard(threat, steps=10)(classifier, images, labels)
    clean, attacked = (cross_entropy(classifier(batch), labels) for batch in (images, adversarial))
    assert (attacked > clean).all()


@pytest.mark.parametrize("threat", [Linf(0.1), L2(1.0)], ids=str)
def test_restarts_never_make_pgd_weaker(create_cnn, images, labels, threat):
    classifier = create_cnn().eval()
    losses = []
    for restarts in (1, 2, 4):
        torch.manual_seed(1)  # the same first start
        adversarial = PGD.standard(threat, steps=2, restarts=restarts)(classifier, images, labels)
        losses.append(cross_entropy(classifier(adversarial), labels))
    # Restarts run on smaller batches, whose convolutions may round differently.
    assert (losses[1] >= losses[0] - 1e-5).all()
    assert (losses[2] >= losses[1] - 1e-5).all()


@dataclass(frozen=True)
class Scripted(Threat):
    """Perturbations of a whole image by one number, drawn from a script."""

    name = "scripted"
    eps: float = 1.0
    script: list[float] = field(kw_only=True)
    drawn: list[float] = field(default_factory=list)

    def project(self, delta):
        return delta

    def sample(self, like):
        self.drawn.append(self.script[len(self.drawn)])
        return torch.full_like(like, self.drawn[-1])

    def steepest_ascent(self, grad):
        return grad.sign()

    def norm(self, delta):
        return delta.abs().flatten(1).amax(1)


class Script(nn.Module):
    """A classifier of one-pixel images that answers with the softmax of the nearest scripted brightness."""

    def __init__(self, probabilities: dict[float, list[float]]):
        super().__init__()
        self.brightness = torch.tensor(list(probabilities))
        self.logits = torch.tensor(list(probabilities.values())).log()

    def forward(self, images):
        nearest = (images.flatten(1) - self.brightness).abs().argmin(1)
        return self.logits[nearest] + 0 * images.flatten(1)


def attacked_by_script(probabilities: dict[float, list[float]], starts: list[float]) -> tuple[float, int]:
    """Runs PGD without steps from scripted starts; returns the brightness it chose and the number of starts drawn."""
    threat = Scripted(script=starts)
    attack = PGD(threat, steps=1, step_size=0.0, restarts=len(starts))
    adversarial = attack(Script(probabilities), torch.zeros(1, 1, 1, 1), torch.tensor([0]))
    return round(adversarial.item(), 6), len(threat.drawn)


def test_pgd_keeps_the_restart_of_highest_loss():
    probabilities = {0.2: [0.9, 0.1, 0.0], 0.4: [0.6, 0.4, 0.0], 0.6: [0.8, 0.2, 0.0]}
    assert attacked_by_script(probabilities, [0.2, 0.4, 0.6]) == (0.4, 3)


def test_pgd_attacks_a_fooled_image_no_further():
    probabilities = {0.2: [0.9, 0.1, 0.0], 0.4: [0.4, 0.6, 0.0], 0.6: [0.1, 0.9, 0.0]}
    assert attacked_by_script(probabilities, [0.2, 0.4, 0.6]) == (0.4, 2)


def test_pgd_keeps_a_restart_that_fools_even_where_its_loss_is_lower():
    # At 0.2 the label has 0.34, the most of three, and a loss of 1.08; at 0.4 it has 0.45, the second most, and 0.80.
    probabilities = {0.2: [0.34, 0.33, 0.33], 0.4: [0.45, 0.55, 0.0]}
    assert attacked_by_script(probabilities, [0.2, 0.4]) == (0.4, 2)


def test_pgd_does_not_depend_on_the_other_images_of_the_batch(create_cnn, images, labels):
    classifier = create_cnn().eval()
    start = torch.zeros_like(images)
    options = {"threat": Linf(0.1), "steps": 3, "step_size": 0.05}

    def attack(which: slice) -> torch.Tensor:
        return ascend(
            lambda adversarial: cross_entropy(classifier(adversarial), labels[which]),
            images[which],
            start[which],
            **options,
        )

    # Signs of gradients: equal unless one is within rounding of 0, which this seed does not meet.
    torch.testing.assert_close(attack(slice(0, 2)), attack(slice(0, 6))[:2], rtol=0, atol=ROUNDING)


def test_ascend_follows_a_naive_loop_of_steps(images):
    # The loss c . x^2 has the gradient 2 c x; every step is a sign, a clip to the ball and a clip to [0, 1].
    coefficients = torch.randn(3, 8, 8)
    start = 0.02 * torch.randn_like(images)
    adversarial = ascend(
        lambda batch: (coefficients * batch.square()).flatten(1).sum(1),
        images,
        start,
        threat=Linf(0.03),
        steps=3,
        step_size=0.01,
    )
    for index in range(len(images)):
        pixels = (images[index] + start[index]).clamp(0, 1)
        for _ in range(3):
            moved = pixels + 0.01 * (2 * coefficients * pixels).sign()
            pixels = torch.minimum(torch.maximum(moved, images[index] - 0.03), images[index] + 0.03).clamp(0, 1)
        torch.testing.assert_close(adversarial[index], pixels, rtol=0, atol=ROUNDING)


def test_standard_steps_are_two_and_a_half_radii_long_together():
    assert PGD.standard(Linf(0.1), steps=5, restarts=2) == PGD(Linf(0.1), steps=5, step_size=0.05, restarts=2)


def test_the_repr_of_an_attack_says_all_of_it():
    attack = PGD(L2(0.5), steps=5, step_size=0.1, restarts=2)
    told = "PGD(threat=L2(eps=0.5), steps=5, step_size=0.1, restarts=2, stop_when_fooled=False)"
    assert repr(attack) == told


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.5)], ids=str)
def test_an_image_is_left_where_it_first_fools_and_others_are_climbed_with_to_the_end(create_cnn, images, threat):
    classifier = create_cnn().eval()
    with torch.no_grad():
        labels = classifier(images).argmax(1)
    starts, asked = threat.sample(images), []
    trajectory = [(images + starts).clamp(0, 1)]
    for _ in range(6):
        pixels = trajectory[-1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            torch.nn.functional.cross_entropy(classifier(pixels), labels, reduction="sum"), pixels
        )
        moved = trajectory[-1] + 0.4 * threat.eps * threat.steepest_ascent(gradient)
        trajectory.append((images + threat.project(moved - images)).clamp(0, 1))
    with torch.no_grad():
        fooled = torch.stack([classifier(pixels).argmax(1) != labels for pixels in trajectory])
    first = [int(row.nonzero()[0]) if row.any() else 6 for row in fooled.T]
    assert len(set(first)) > 1  # the fixture has images of more than one kind

    fixed = dataclasses.replace(threat)
    object.__setattr__(fixed, "sample", lambda like: starts)
    classifier.register_forward_pre_hook(lambda _module, inputs: asked.append(len(inputs[0])))
    found = PGD(fixed, steps=6, step_size=0.4 * threat.eps, stop_when_fooled=True)(classifier, images, labels)
    for image, steps in enumerate(first):
        # The last step's image is not asked again, and rounding depends on how many are classified together.
        torch.testing.assert_close(found[image], trajectory[steps][image], rtol=0, atol=1e-5)
    assert asked == [count for count in (sum(step <= last for last in first) for step in range(6)) if count]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"restarts": 0}, {"step_size": -0.1}], ids=str)
def test_pgd_refuses_what_can_not_climb(wrong):
    options = {"steps": 1, "step_size": 0.1, "restarts": 1}
    with pytest.raises(ValueError, match="PGD needs steps >= 1, restarts >= 1 and step_size >= 0, got PGD"):
        PGD(Linf(0.1), **{**options, **wrong})


def test_eval_mode_is_undone_after_an_error(create_cnn):
    classifier = create_cnn().train()
    classifier.model.layer1.eval()
    before = [module.training for module in classifier.modules()]
    with pytest.raises(KeyError), eval_mode(classifier):
        raise KeyError
    assert [module.training for module in classifier.modules()] == before

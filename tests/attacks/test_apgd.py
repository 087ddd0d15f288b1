import math

import numpy as np
import pytest
import torch
from torch import nn

from robust_hub.attacks import APGD, TargetedAPGD
from robust_hub.losses import cross_entropy, margin, targeted_margin
from robust_hub.threats import L2, Linf


def first_logit(logits, labels):
    return logits[:, 0]


def naive_apgd(threat, image: np.ndarray, start: np.ndarray, ask, steps: int) -> list[np.ndarray]:
    """Runs Algorithm 1 of arXiv 2003.01690 on one image, and returns every point it asks about until one fools.

    Where text and authors' code differ it follows the code: 75 % of rises is not enough, a loss rises when it exceeds
    that of the point asked about before, and the first check does not ask whether the best point is an old one.

    Args:
        ask: gives loss, gradient and whether it fools, for a point.
    """

    def inside(point: np.ndarray) -> np.ndarray:
        delta = point - image
        if isinstance(threat, Linf):
            return np.clip(image + np.clip(delta, -threat.eps, threat.eps), 0, 1)
        return np.clip(image + delta * min(1, threat.eps / max(np.linalg.norm(delta), 1e-12)), 0, 1)

    def direction(gradient: np.ndarray) -> np.ndarray:
        return np.sign(gradient) if isinstance(threat, Linf) else gradient / np.linalg.norm(gradient)

    checks, share, next_share = set(), 0.0, 0.22
    while next_share <= 1:
        checks.add(math.ceil(round(next_share * steps, 6)))
        share, next_share = next_share, next_share + max(next_share - share - 0.03, 0.06)

    asked, previous, current = [start], start, start
    loss, gradient, fooled = ask(start)
    best, best_loss, best_gradient = start, loss, gradient
    step_size, rises, last_check, best_loss_before, halved = 2 * threat.eps, 0, 0, loss, True
    for step in range(1, steps + 1):
        if fooled:
            break
        ahead = inside(current + step_size * direction(gradient))
        if step > 1:
            ahead = inside(current + 0.75 * (ahead - current) + 0.25 * (current - previous))
        previous, current, loss_before = current, ahead, loss
        asked.append(current)
        loss, gradient, fooled = ask(current)
        rises += loss > loss_before
        if loss > best_loss:
            best, best_loss, best_gradient = current, loss, gradient
        if step in checks:
            halved = bool(rises <= 0.75 * (step - last_check) or (not halved and best_loss == best_loss_before))
            if halved:
                step_size, current, gradient = step_size / 2, best, best_gradient
            rises, last_check, best_loss_before = 0, step, best_loss
    return asked


def record_inputs(classifier: nn.Module) -> list[torch.Tensor]:
    """Lists the images of each forward pass as they come."""
    seen = []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    return seen


@pytest.fixture
def start_from(monkeypatch):
    """Lets both threats draw the one perturbation that is given."""

    def patch(delta: torch.Tensor) -> None:
        for threat in (Linf, L2):
            monkeypatch.setattr(threat, "sample", lambda self, like: delta)

    return patch


@pytest.mark.parametrize("threat", [Linf(0.03), L2(0.6)], ids=str)
def test_apgd_visits_the_points_of_a_naive_algorithm_on_a_smooth_classifier(
    create_smooth, by_hand, start_from, border_images, threat
):
    classifier, images = create_smooth().double().eval(), border_images.double()
    naive, labels = by_hand(classifier), classifier(images).argmax(1)
    seen, lengths = record_inputs(classifier), []
    for image, label in zip(images[:, None], labels[:, None], strict=True):
        delta = threat.project(0.01 * torch.randn_like(image))
        start_from(delta)
        seen.clear()
        APGD(threat)(classifier, image, label)

        def ask(point: np.ndarray, label: int = label.item()):
            gradient = naive.input_gradient(point, label).reshape(point.shape)
            return naive.cross_entropy(point, label), gradient, naive.logits(point).argmax() != label

        expected = naive_apgd(threat, image[0].numpy(), (image + delta).clamp(0, 1)[0].numpy(), ask, steps=100)
        lengths.append(len(expected))
        # The classifier's mean and std are float32 numbers, 1e-8 from those written by hand.
        np.testing.assert_allclose(torch.cat(seen).numpy(), np.stack(expected), rtol=0, atol=1e-6)
    assert min(lengths) < max(lengths) == 101  # some images are fooled on the way, some are not


class Script(nn.Module):
    """Answers each call with the next scripted loss and gradient of every image, and is never fooled."""

    def __init__(self, losses: torch.Tensor, gradients: torch.Tensor):
        super().__init__()
        self.losses, self.gradients, self.calls = losses, gradients, 0

    def forward(self, images):
        slope = ((images - images.detach()) * self.gradients[self.calls]).flatten(1).sum(1)
        first = self.losses[self.calls] + slope
        self.calls += 1
        return torch.stack([first, first - 1], dim=1)


def scripted(threat, images: torch.Tensor) -> tuple[Script, torch.Tensor, torch.Tensor]:
    """Runs APGD on losses that rise more often from image to image: too rarely for some windows, enough for others."""
    walk = torch.rand(101, len(images), dtype=torch.float64)
    often = torch.rand_like(walk) < torch.linspace(0.6, 1, len(images), dtype=torch.float64)
    script = Script(torch.where(often, walk, -4 * walk).cumsum(0), torch.randn(101, *images.shape).double())
    seen = record_inputs(script)
    adversarial = APGD(threat, loss=first_logit)(script, images, torch.zeros(len(images), dtype=torch.long))
    return script, torch.stack(seen), adversarial


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.6)], ids=str)
def test_apgd_halves_its_steps_where_a_naive_algorithm_does(start_from, threat):
    images = torch.rand(40, 1, 2, 2, dtype=torch.float64)
    start_from(torch.zeros_like(images))
    script, seen, _ = scripted(threat, images)
    for index in range(len(images)):
        answers = zip(script.losses[:, index].tolist(), script.gradients[:, index].numpy(), strict=True)

        def ask(point: np.ndarray, answers=answers):
            return *next(answers), False

        expected = naive_apgd(threat, images[index].numpy(), images[index].numpy(), ask, steps=100)
        # Both are float64 sums of a few hundred steps of order 1.
        np.testing.assert_allclose(seen[:, index].numpy(), np.stack(expected), rtol=0, atol=1e-12)


def test_apgd_returns_the_point_of_highest_loss():
    images = torch.rand(8, 1, 2, 2, dtype=torch.float64)
    script, seen, adversarial = scripted(Linf(0.1), images)
    assert torch.equal(adversarial, seen[script.losses.argmax(0), torch.arange(8)])


def standing(create_linear):
    """Creates a linear classifier that takes every image for the first of two classes by far, and these labels."""
    classifier = create_linear(num_classes=2).double()
    with torch.no_grad():
        classifier.model.head.bias[0] += 8
    return classifier, torch.zeros(6, dtype=torch.long)


@pytest.mark.parametrize(
    "create_attack",
    [
        lambda threat: APGD(threat, steps=40),
        lambda threat: APGD(threat, loss=margin, steps=40, restarts=2),
        lambda threat: TargetedAPGD(threat, targets=1, loss=targeted_margin, steps=40),
    ],
    ids=["cross-entropy", "margin", "targeted"],
)
class TestOnALinearClassifier:
    def test_apgd_reaches_the_optimum_for_linf(self, create_linear, border_images, steepest, create_attack):
        classifier, labels = standing(create_linear)
        # The loss grows with each pixel on its own, so every pixel goes as far as ball and [0, 1] allow.
        images = border_images.double()
        optimum = (images + 0.1 * steepest(classifier, labels).sign()).clamp(0, 1)
        adversarial = create_attack(Linf(0.1))(classifier, images, labels)
        torch.testing.assert_close(adversarial, optimum, rtol=0, atol=1e-12)  # additions of float64

    def test_apgd_reaches_the_optimum_for_l2(self, create_linear, images, steepest, create_attack):
        classifier, labels = standing(create_linear)
        # By Cauchy-Schwarz the optimum lies along the gradient; eps is too small to meet a border of [0, 1].
        gradient, images = steepest(classifier, labels), images.double()
        optimum = images + 0.25 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
        adversarial = create_attack(L2(0.25))(classifier, images, labels)
        # The gain, 0.3 and rounded to 1e-15, is the same within an angle of sqrt(2e-15 / 0.3); that is 2e-8 at 0.25.
        torch.testing.assert_close(adversarial, optimum, rtol=0, atol=1e-7)


def test_targeted_apgd_tries_the_likeliest_classes_first(create_linear, images):
    classifier, tried = create_linear(num_classes=5), []
    logits = classifier(images)
    labels = logits.argmax(1)

    def spy(logits, labels, targets):
        tried.append(targets.tolist())
        return targeted_margin(logits, labels, targets)

    TargetedAPGD(Linf(1e-5), targets=3, loss=spy, steps=1)(classifier, images, labels)
    ranked = logits.detach().numpy().argsort(1)[:, ::-1]
    # A start and a step for each target; column 0 is the label.
    assert tried == [ranked[:, rank].tolist() for rank in (1, 1, 2, 2, 3, 3)]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"restarts": 0}], ids=str)
def test_apgd_refuses_what_can_not_climb(wrong):
    ((name, count),) = wrong.items()
    with pytest.raises(ValueError, match=f"^APGD needs {name} >= 1, got {count}$"):
        APGD(Linf(0.1), **wrong)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"targets": -1}], ids=str)
def test_targeted_apgd_refuses_what_can_not_climb(wrong):
    ((name, count),) = wrong.items()
    with pytest.raises(ValueError, match=f"^TargetedAPGD needs {name} >= 1, got {count}$"):
        TargetedAPGD(Linf(0.1), **wrong)


def test_the_repr_of_apgd_names_its_loss():
    attack = APGD(L2(0.5), loss=margin, steps=5, restarts=2)
    assert repr(attack) == "APGD(l2:0.5, loss=margin, steps=5, restarts=2)"


def test_the_repr_of_targeted_apgd_names_its_loss():
    attack = TargetedAPGD(Linf(8 / 255), targets=2, loss=targeted_margin, steps=5)
    assert repr(attack) == "TargetedAPGD(linf:8/255, targets=2, loss=targeted_margin, steps=5)"


def test_apgd_climbs_the_cross_entropy_unless_told_otherwise():
    assert APGD(Linf(0.1)) == APGD(Linf(0.1), loss=cross_entropy, steps=100, restarts=1)

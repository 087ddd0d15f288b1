import pytest
import torch

from robust_hub.methods import TRADES, TRADESOptions
from robust_hub.threats import Linf

LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


def cornered(classifier) -> torch.Tensor:
    """Images that are 1 where pixels speak for class 1 and 0 elsewhere: every change lowers the margin z_1 - z_0."""
    weight = classifier.model.head.weight.detach()
    return (weight[1] > weight[0]).float().view(1, 3, 8, 8).repeat(6, 1, 1, 1)


def test_trades_is_cross_entropy_plus_the_largest_divergence(create_linear):
    student = create_linear(num_classes=2, scale=0.005)
    images = cornered(student)
    clean = student(images).detach().double()
    # All pixels may only move inwards, and the divergence grows with the fall of the margin: all go eps far.
    farthest = student((images - 0.1).abs()).detach().double()
    cross_entropy = torch.tensor(0.0, dtype=torch.float64)
    divergence = torch.tensor(0.0, dtype=torch.float64)
    for index, label in enumerate(LABELS):
        p, q = clean[index].exp() / clean[index].exp().sum(), farthest[index].exp() / farthest[index].exp().sum()
        cross_entropy -= p[label].log() / 6
        divergence += sum(p[k] * (p[k] / q[k]).log() for k in range(2)) / 6
    losses = TRADES(student, Linf(0.1), TRADESOptions(weight=6.0, steps=20))(images, LABELS)
    # float32 logits of order 1; the divergence is a difference of logarithms.
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy.item(), abs=1e-5)
    assert losses.terms["divergence"].item() == pytest.approx(divergence.item(), abs=1e-5)
    assert losses.total.item() == pytest.approx((cross_entropy + 6 * divergence).item(), abs=6e-5)


def test_trades_of_weight_zero_is_the_clean_cross_entropy(create_smooth, by_hand, images, labels):
    student = create_smooth()
    hand = by_hand(student)
    pairs = zip(images.double().numpy(), labels.tolist(), strict=True)
    expected = sum(hand.cross_entropy(image, label) for image, label in pairs) / 6
    losses = TRADES(student, Linf(0.1), TRADESOptions(weight=0.0))(images, labels)
    assert losses.total.item() == pytest.approx(expected, abs=1e-5)  # float32 logits of order 1


def test_trades_of_radius_zero_has_no_divergence(create_smooth, images, labels):
    losses = TRADES(create_smooth(), Linf(0.0), TRADESOptions(weight=6.0, steps=2))(images, labels)
    assert losses.terms["divergence"].item() == pytest.approx(0, abs=1e-6)


def test_the_divergence_teaches_clean_and_adversarial_predictions(create_smooth, images, labels):
    # Equation 5 has the classifier on both sides, and no stop-gradient.
    student = create_smooth()
    captured = []
    student.model.register_forward_hook(lambda _module, _inputs, logits: captured.append(logits))
    losses = TRADES(student, Linf(0.1), TRADESOptions(weight=1.0, steps=2))(images, labels)
    captured[-1].retain_grad()
    divergence = losses.total - torch.nn.functional.cross_entropy(captured[-1][:6], labels)
    divergence.backward()
    clean, adversarial = captured[-1].grad.chunk(2)
    assert (clean.abs().sum(1) > 0).all()
    assert (adversarial.abs().sum(1) > 0).all()

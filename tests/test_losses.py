import math

import pytest
import torch

from robust_hub.losses import cosine_distance, cross_entropy, kl_divergence, squared_distance

# Both sides are float64 sums of at most 48 terms.
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def some_logits() -> torch.Tensor:
    return 3 * torch.randn(5, 4, dtype=torch.float64)


def naive_softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def test_cross_entropy_is_minus_the_log_of_the_true_probability():
    logits, labels = some_logits(), torch.tensor([0, 1, 2, 3, 0])
    expected = [-math.log(naive_softmax(row)[label]) for row, label in zip(logits.tolist(), labels, strict=True)]
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_cross_entropy_of_equal_logits_is_the_log_of_the_number_of_classes():
    losses = cross_entropy(torch.zeros(2, 10, dtype=torch.float64), torch.tensor([3, 7]))
    torch.testing.assert_close(losses, torch.full((2,), math.log(10), dtype=torch.float64), **EXACT)


def test_kl_divergence_is_the_sum_of_p_log_p_over_q_with_p_from_the_reference():
    logits, reference = some_logits(), some_logits()
    expected = []
    for row, reference_row in zip(logits.tolist(), reference.tolist(), strict=True):
        q, p = naive_softmax(row), naive_softmax(reference_row)
        expected.append(sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True)))
    torch.testing.assert_close(kl_divergence(logits, reference), torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_kl_divergence_from_itself_is_zero():
    logits = some_logits()
    torch.testing.assert_close(kl_divergence(logits, logits), torch.zeros(5, dtype=torch.float64), **EXACT)


def test_kl_divergence_stays_finite_for_certain_predictions():
    certain = torch.tensor([[200.0, 0.0, -200.0]])
    # p is one-hot to float32, so KL = log p_0 - log q_0 = 0 - (-400).
    assert kl_divergence(certain.flip(1), certain).item() == pytest.approx(400, rel=1e-6)


def test_kl_divergence_sends_a_gradient_to_both_arguments():
    logits, reference = some_logits().requires_grad_(), some_logits().requires_grad_()
    assert torch.autograd.gradcheck(kl_divergence, (logits, reference))


def test_cosine_distance_is_one_minus_the_cosine():
    features, reference = torch.randn(2, 5, 7, dtype=torch.float64)
    expected = []
    for a, b in zip(features.tolist(), reference.tolist(), strict=True):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        expected.append(1 - dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))))
    torch.testing.assert_close(
        cosine_distance(features, reference), torch.tensor(expected, dtype=torch.float64), **EXACT
    )


@pytest.mark.parametrize(("factor", "distance"), [(3.0, 0.0), (-0.5, 2.0)])
def test_cosine_distance_sees_the_direction_only(factor, distance):
    features = torch.randn(4, 7, dtype=torch.float64)
    expected = torch.full((4,), distance, dtype=torch.float64)
    torch.testing.assert_close(cosine_distance(factor * features, features), expected, **EXACT)


def test_squared_distance_sums_over_channels_and_pixels():
    gradients, reference = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    expected = [
        sum((a - b) ** 2 for a, b in zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
        for one, other in zip(gradients, reference, strict=True)
    ]
    torch.testing.assert_close(
        squared_distance(gradients, reference), torch.tensor(expected, dtype=torch.float64), **EXACT
    )

import math

import pytest
import torch

from robust_hub.losses import (
    cosine_distance,
    cross_entropy,
    distillation,
    kl_divergence,
    l1_distance,
    l2_distance,
    margin,
    relative_distance,
    squared_distance,
    targeted_difference_of_logits_ratio,
    targeted_margin,
)

# Both sides are float64 sums of at most 48 terms.
EXACT = {"rtol": 1e-12, "atol": 1e-12}
# A ratio's denominator, at least 0.05 here, is kept from 0 by adding 1e-12: a relative error of at most 2e-11.
RATIO = {"rtol": 2e-11, "atol": 2e-11}

LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2])
TARGETS = torch.tensor([1, 0, 4, 0, 2, 4, 1])


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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_divergence_of_softened_predictions_times_the_squared_temperature(temperature):
    logits, reference = some_logits(), some_logits()
    expected = []
    for row, reference_row in zip(logits.tolist(), reference.tolist(), strict=True):
        q, p = (naive_softmax([logit / temperature for logit in one]) for one in (row, reference_row))
        expected.append(temperature**2 * sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True)))
    actual = distillation(logits, reference, temperature)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), **EXACT)


def test_distillation_sends_a_gradient_to_both_arguments():
    logits, reference = some_logits().requires_grad_(), some_logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda one, other: distillation(one, other, 3.0), (logits, reference))


def naive_norm(values: list[float], order: int) -> float:
    return sum(abs(value) ** order for value in values) ** (1 / order)


DISTANCES = {
    "l1": (l1_distance, lambda gap, reference: naive_norm(gap, 1)),
    "l2": (l2_distance, lambda gap, reference: naive_norm(gap, 2)),
    "relative": (relative_distance, lambda gap, reference: naive_norm(gap, 2) / naive_norm(reference, 2)),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_a_feature_distance_is_the_norm_of_the_gap(name):
    distance, naive = DISTANCES[name]
    features, reference = torch.randn(2, 5, 7, dtype=torch.float64)
    expected = [
        naive([x - y for x, y in zip(a, b, strict=True)], b)
        for a, b in zip(features.tolist(), reference.tolist(), strict=True)
    ]
    actual = distance(features, reference)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_feature_distance_differentiates_like_its_finite_differences(name):
    features, reference = torch.randn(2, 5, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(DISTANCES[name][0], (features.requires_grad_(), reference.requires_grad_()))


@pytest.mark.parametrize("name", DISTANCES)
def test_a_feature_distance_of_the_same_features_is_zero_and_so_is_its_gradient(name):
    features = torch.randn(5, 7).requires_grad_()
    distance = DISTANCES[name][0](features, features.detach())
    distance.sum().backward()
    assert torch.equal(distance, torch.zeros(5))
    assert torch.equal(features.grad, torch.zeros(5, 7))


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_only_the_relative_distance_does_not_see_the_unit_of_the_features(name, scale):
    features, reference = torch.randn(2, 5, 7, dtype=torch.float64)
    factor = 1.0 if name == "relative" else scale
    distance = DISTANCES[name][0]
    torch.testing.assert_close(
        distance(scale * features, scale * reference), factor * distance(features, reference), rtol=1e-12, atol=0
    )


def test_the_relative_distance_from_features_of_zero_is_finite():
    assert relative_distance(torch.ones(2, 3), torch.zeros(2, 3)).isfinite().all()


def ranked_logits() -> torch.Tensor:
    """Rows in any order, below zero, far apart, and with ties for the first, the third and the label's own place."""
    rows = [
        [2.0, -1.0, 0.5, 3.0, 0.0],
        [-9.0, -3.5, -4.0, -8.0, -3.4],
        [1e3, -1e3, 0.0, 1.0, 5e2],
        [4.0, 4.0, 1.0, 2.0, 0.0],
        [1.0, 2.0, 1.0, 1.0, 0.0],
        [0.1, 0.0, 0.0, 0.0, 0.1],
        [0.3, 0.3, 0.3, 0.2, 0.2],
    ]
    return torch.tensor(rows, dtype=torch.float64)


def naive_margin(row: list[float], label: int) -> float:
    best = -math.inf
    for k, logit in enumerate(row):
        if k != label and logit > best:
            best = logit
    return best - row[label]


def per_row(loss, *classes: torch.Tensor) -> torch.Tensor:
    rows = zip(ranked_logits().tolist(), *(numbers.tolist() for numbers in classes), strict=True)
    return torch.tensor([loss(*row) for row in rows], dtype=torch.float64)


def test_the_margin_is_the_best_other_logit_less_that_of_the_label():
    torch.testing.assert_close(margin(ranked_logits(), LABELS), per_row(naive_margin, LABELS), **EXACT)


def test_the_margin_is_above_zero_where_the_label_is_not_the_largest_logit():
    logits, labels = some_logits(), torch.tensor([0, 1, 2, 3, 0])
    assert torch.equal(margin(logits, labels) > 0, logits.argmax(1) != labels)


def test_the_targeted_margin_is_the_logit_of_the_target_less_that_of_the_label():
    expected = per_row(lambda row, label, target: row[target] - row[label], LABELS, TARGETS)
    torch.testing.assert_close(targeted_margin(ranked_logits(), LABELS, TARGETS), expected, **EXACT)


def test_the_targeted_ratio_divides_by_the_distance_from_first_to_the_middle_of_third_and_fourth():
    def naive(row: list[float], label: int, target: int) -> float:
        first, _, third, fourth, _ = sorted(row, reverse=True)
        return (row[target] - row[label]) / (first - (third + fourth) / 2)

    expected = per_row(naive, LABELS, TARGETS)
    actual = targeted_difference_of_logits_ratio(ranked_logits(), LABELS, TARGETS)
    torch.testing.assert_close(actual, expected, **RATIO)


RATIOS = {
    "targeted": lambda logits: targeted_difference_of_logits_ratio(logits, LABELS, TARGETS),
}


@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS.keys())
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 70.0), (0.05, 0.0), (40.0, -300.0)])
def test_a_ratio_does_not_see_scale_and_shift_of_the_logits(ratio, scale, shift):
    logits = 3 * torch.randn(7, 5, dtype=torch.float64)
    # A denominator near 0.1 of logits near 300 keeps 13 digits of float64.
    torch.testing.assert_close(ratio(scale * logits + shift), ratio(logits), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS.keys())
def test_a_ratio_of_equal_logits_is_zero(ratio):
    equal = torch.full((7, 5), -2.5, dtype=torch.float64)
    assert torch.equal(ratio(equal), torch.zeros(7, dtype=torch.float64))


@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS.keys())
def test_a_ratio_sends_a_gradient_through_its_denominator_too(ratio):
    logits = 3 * torch.randn(7, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(ratio, (logits.requires_grad_(),))

import copy

import numpy as np
import pytest

from robust_hub.methods import KD, KDOptions
from robust_hub.models import Teacher


def naive(by_hand, student, teacher, images, labels, temperature: float) -> tuple[float, float]:
    """The divergence T^2 sum_k p_k log(p_k / q_k) of softened predictions and the cross-entropy, image by image."""
    learnt, taught = by_hand(student), by_hand(teacher)
    divergence = cross_entropy = 0.0
    for image, label in zip(images.double().numpy(), labels.tolist(), strict=True):
        p, q = taught.softened(image, temperature), learnt.softened(image, temperature)
        divergence += temperature**2 * sum(p[k] * np.log(p[k] / q[k]) for k in range(len(p))) / len(images)
        cross_entropy += learnt.cross_entropy(image, label) / len(images)
    return divergence, cross_entropy


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 0.1), (1.0, 2.0), (0.5, 0.0)])
def test_kd_is_the_divergence_from_the_teacher_and_some_cross_entropy(
    create_smooth, by_hand, images, labels, temperature, weight
):
    student, teacher = create_smooth(), create_smooth()
    divergence, cross_entropy = naive(by_hand, student, teacher, images, labels, temperature)
    objective = KD(student, Teacher(teacher), KDOptions(temperature=temperature, cross_entropy_weight=weight))
    losses = objective(images, labels)
    # float32 logits of order 1; the divergence is a difference of logarithms, times at most 16.
    assert losses.terms["divergence"].item() == pytest.approx(divergence, abs=2e-5)
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    assert losses.total.item() == pytest.approx(divergence + weight * cross_entropy, abs=4e-5)


def test_without_options_the_temperature_is_4_and_the_labels_weigh_a_tenth(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth(), create_smooth()
    divergence, cross_entropy = naive(by_hand, student, teacher, images, labels, 4.0)
    total = KD(student, Teacher(teacher))(images, labels).total
    assert total.item() == pytest.approx(divergence + 0.1 * cross_entropy, abs=3e-5)  # as above


def test_a_student_that_is_its_teacher_has_no_divergence(create_cnn, images, labels):
    teacher = create_cnn().eval()
    losses = KD(copy.deepcopy(teacher), Teacher(teacher))(images, labels)
    # The same float32 operations on both sides.
    assert losses.terms["divergence"].item() == pytest.approx(0, abs=1e-6)


def test_at_a_high_temperature_kd_is_half_the_squared_difference_of_centred_logits(
    create_smooth, by_hand, images, labels
):
    # Hinton et al., section 2.1: with logits of zero mean T^2 KL tends to sum_k (z_k - v_k)^2 / (2 K).
    student, teacher = create_smooth().double(), create_smooth().double()
    learnt, taught = by_hand(student), by_hand(teacher)
    expected = 0.0
    for image in images.double().numpy():
        gap = learnt.logits(image) - taught.logits(image)
        expected += np.square(gap - gap.mean()).sum() / (2 * 3) / len(images)
    losses = KD(student, Teacher(teacher), KDOptions(temperature=1e4, cross_entropy_weight=0.0))(
        images.double(), labels
    )
    # The next term of the series is of order 1 / T; 1e-16 of rounding is multiplied by T^2.
    assert losses.total.item() == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_the_gradient_for_the_logits_is_t_times_the_difference_of_softened_predictions(
    create_smooth, by_hand, images, labels
):
    student, teacher = create_smooth(), create_smooth()
    learnt, taught = by_hand(student), by_hand(teacher)
    captured = []
    student.model.register_forward_hook(lambda _module, _inputs, logits: captured.append(logits))
    losses = KD(student, Teacher(teacher), KDOptions(temperature=4.0, cross_entropy_weight=0.0))(images, labels)
    captured[0].retain_grad()
    losses.total.backward()
    for image, gradient in zip(images.double().numpy(), captured[0].grad, strict=True):
        expected = 4 * (learnt.softened(image, 4.0) - taught.softened(image, 4.0)) / len(images)
        assert gradient.tolist() == pytest.approx(expected.tolist(), abs=1e-6)  # float32 of order 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"KD needs temperature >= 0\.1, got 0\.0"),
        ({"temperature": float("inf")}, r"KD needs temperature >= 0\.1, got inf"),
        ({"cross_entropy_weight": -0.5}, r"KD needs cross_entropy_weight >= 0, got -0\.5"),
        ({"cross_entropy_weight": float("nan")}, "KD needs cross_entropy_weight >= 0, got nan"),
    ],
    ids=["temperature of 0", "infinite temperature", "negative weight", "weight that is no number"],
)
def test_an_option_out_of_its_range_is_refused(create_smooth, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        KD(create_smooth(), Teacher(create_smooth()), KDOptions(**options))


def test_a_teacher_of_other_classes_is_refused(create_smooth):
    with pytest.raises(ValueError, match=r"^teacher and student differ in classes \(4 and 3\)"):
        KD(create_smooth(num_classes=3), Teacher(create_smooth(num_classes=4)))

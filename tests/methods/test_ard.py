import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from robust_hub.attacks import Attack
from robust_hub.methods import ARD, KD, ARDOptions, KDOptions
from robust_hub.models import Teacher
from robust_hub.threats import Linf


def inverted(classifier, images, labels):
    """An attack whose result is known: every pixel mirrored about mid-grey."""
    return 1 - images


def unchanged(classifier, images, labels):
    return images.clone()


@dataclass(frozen=True)
class Given(ARDOptions):
    """An attack that does not depend on the threat."""

    given: Attack = unchanged

    def attack(self, threat):
        return self.given


def under(attack, student, teacher, **options) -> ARD:
    return ARD(student, teacher, Linf(0.1), Given(**options, given=attack))


def naive_divergence(by_hand, student, teacher, images, temperature: float) -> float:
    """T^2 sum_k p_k log(p_k / q_k), p the teacher's on the clean image, q the student's on the mirrored one."""
    learnt, taught = by_hand(student), by_hand(teacher)
    divergence = 0.0
    for image in images.double().numpy():
        p, q = taught.softened(image, temperature), learnt.softened(1 - image, temperature)
        divergence += temperature**2 * sum(p[k] * np.log(p[k] / q[k]) for k in range(len(p))) / len(images)
    return divergence


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_ard_is_the_divergence_under_attack_from_the_teacher_on_the_clean_image(
    create_smooth, by_hand, images, labels, temperature
):
    student, teacher = create_smooth(), create_smooth()
    expected = naive_divergence(by_hand, student, teacher, images, temperature)
    losses = under(inverted, student, Teacher(teacher), temperature=temperature)(images, labels)
    # float32 logits of order 1; 1e-7 of rounding in a divergence is multiplied by 25.
    assert losses.total.item() == pytest.approx(expected, abs=5e-5)
    assert losses.terms == {"divergence": losses.total}


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_the_labels_count_on_clean_images(create_smooth, by_hand, images, labels, weight):
    student, teacher = create_smooth(), create_smooth()
    divergence = naive_divergence(by_hand, student, teacher, images, 2.0)
    hand = by_hand(student)
    pairs = zip(images.double().numpy(), labels.tolist(), strict=True)
    cross_entropy = sum(hand.cross_entropy(image, label) for image, label in pairs) / 6
    objective = under(inverted, student, Teacher(teacher), temperature=2.0, cross_entropy_weight=weight)
    losses = objective(images, labels)
    # float32 logits of order 1.
    assert losses.terms["divergence"].item() == pytest.approx(divergence, abs=1e-5)
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    assert losses.total.item() == pytest.approx(divergence + weight * cross_entropy, abs=4e-5)


def test_without_options_the_temperature_is_30_and_labels_do_not_count(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth().double(), create_smooth().double()
    expected = naive_divergence(by_hand, student, teacher, images, 30.0)
    losses = under(inverted, student, Teacher(teacher))(images.double(), labels)
    assert losses.total.item() == pytest.approx(expected, abs=1e-9)  # float64, 1e-16 of rounding times 900


def test_without_an_attack_ard_is_kd(create_smooth, images, labels):
    student, teacher = create_smooth(), Teacher(create_smooth())
    ard = under(unchanged, student, teacher, temperature=4.0, cross_entropy_weight=0.1)(images, labels)
    kd = KD(student, teacher, KDOptions(temperature=4.0, cross_entropy_weight=0.1))(images, labels)
    assert ard.total.item() == pytest.approx(kd.total.item(), abs=1e-6)  # the same sums, in a batch twice as large


def test_a_student_that_is_its_teacher_diverges_under_attack_only(create_smooth, images, labels):
    teacher = create_smooth().double()
    student, images = copy.deepcopy(teacher), images.double()
    # float64, 1e-16 of rounding times 900.
    assert under(unchanged, student, Teacher(teacher))(images, labels).total.item() == pytest.approx(0, abs=1e-9)
    assert under(inverted, student, Teacher(teacher))(images, labels).total.item() > 1e-2


def test_the_attack_is_run_against_the_student_of_the_moment_on_the_true_labels(create_smooth, images, labels):
    student, seen = create_smooth(), []

    def attack(classifier, images, labels):
        seen.append((classifier, images, labels))
        return 1 - images

    under(attack, student, Teacher(create_smooth()))(images, labels)
    assert len(seen) == 1
    assert seen[0][0] is student
    assert torch.equal(seen[0][1], images)
    assert torch.equal(seen[0][2], labels)


def test_the_attack_sees_the_student_in_eval_mode(create_cnn, images, labels):
    student, modes = create_cnn().train(), []
    student.model.bn1.register_forward_hook(lambda module, _inputs, _output: modes.append(module.training))
    ARD(student, Teacher(create_cnn()), Linf(8 / 255), ARDOptions(steps=2))(images, labels)
    assert modes == [False, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.05}, r"ARD needs temperature >= 0\.1, got 0\.05"),
        ({"cross_entropy_weight": -1.0}, r"ARD needs cross_entropy_weight >= 0, got -1\.0"),
    ],
    ids=["low temperature", "negative weight"],
)
def test_an_option_out_of_its_range_is_refused(create_smooth, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        under(unchanged, create_smooth(), Teacher(create_smooth()), **options)


def test_a_teacher_of_other_classes_is_refused(create_smooth):
    with pytest.raises(ValueError, match=r"^teacher and student differ in classes \(4 and 3\)"):
        under(unchanged, create_smooth(num_classes=3), Teacher(create_smooth(num_classes=4)))

import copy

import numpy as np
import pytest
import torch

from robust_hub.methods import Lifelong, LifelongOptions
from robust_hub.models import Teacher, create_classifier


def naive(by_hand, student, teacher, images, labels, order: int) -> tuple[float, float]:
    """The cross-entropy, and the distance of the features in the 1- or 2-norm as a share of the source's length."""
    learnt, taught = by_hand(student), by_hand(teacher)
    cross_entropy = distance = size = 0.0
    for image, label in zip(images.double().numpy(), labels.tolist(), strict=True):
        cross_entropy += learnt.cross_entropy(image, label) / len(images)
        gap = np.abs(learnt.features(image) - taught.features(image))
        distance += sum(one**order for one in gap) ** (1 / order) / len(images)
        size += sum(np.abs(one) ** order for one in taught.features(image)) ** (1 / order) / len(images)
    return cross_entropy, distance / size


@pytest.mark.parametrize("weight", [0.005, 2.0])
def test_lifelong_is_cross_entropy_plus_the_l1_distance_of_the_features(create_smooth, by_hand, images, labels, weight):
    student, source = create_smooth(), create_smooth()
    cross_entropy, distance = naive(by_hand, student, source, images, labels, 1)
    losses = Lifelong(student, Teacher(source), LifelongOptions(weight=weight))(images, labels)
    # float32 features and logits of order 1.
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    assert losses.terms["feature_distance"].item() == pytest.approx(distance, abs=1e-5)
    assert losses.total.item() == pytest.approx(cross_entropy + weight * distance, abs=3e-5)


def test_lifelong_measures_features_by_the_distance_it_is_given(create_smooth, by_hand, images, labels):
    student, source = create_smooth(), create_smooth()
    _, distance = naive(by_hand, student, source, images, labels, 2)
    losses = Lifelong(student, Teacher(source), LifelongOptions(distance="l2"))(images, labels)
    assert losses.terms["feature_distance"].item() == pytest.approx(distance, abs=1e-5)  # float32 of order 1


def test_without_options_the_weight_is_a_fifth(create_smooth, by_hand, images, labels):
    student, source = create_smooth(), create_smooth()
    cross_entropy, distance = naive(by_hand, student, source, images, labels, 1)
    total = Lifelong(student, Teacher(source))(images, labels).total
    assert total.item() == pytest.approx(cross_entropy + 0.2 * distance, abs=1e-5)  # float32 of order 1


def test_lifelong_of_weight_zero_is_the_cross_entropy(create_smooth, by_hand, images, labels):
    student, source = create_smooth(), create_smooth()
    cross_entropy, _ = naive(by_hand, student, source, images, labels, 1)
    total = Lifelong(student, Teacher(source), LifelongOptions(weight=0.0))(images, labels).total
    assert total.item() == pytest.approx(cross_entropy, abs=1e-5)  # float32 logits of order 1


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_at_the_start_the_distance_is_zero_and_so_is_its_gradient(create_cnn, images, labels, distance):
    source = create_cnn().eval()
    student = copy.deepcopy(source)
    options = {"distance": "l2"} if distance == "l2" else {}
    losses = Lifelong(student, Teacher(source), LifelongOptions(weight=1e6, **options)).train()(images, labels)
    assert losses.terms["feature_distance"] == 0
    weights = list(student.parameters())
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(student(images), labels), weights)
    actual = torch.autograd.grad(losses.total, weights)
    # The same backward; zeros that are added to it at the features change the order of no sum.
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_the_source_may_have_other_classes(create_smooth, images, labels):
    student, source = create_smooth(num_classes=3), create_smooth(num_classes=7)
    assert Lifelong(student, Teacher(source))(images, labels).total.isfinite()


def test_norms_and_dropout_of_the_student_stay_in_eval_mode_when_told_to_train(create_cnn):
    objective = Lifelong(create_cnn().train(), Teacher(create_cnn())).train()
    assert objective.training
    assert not any(module.training for module in objective.student.modules() if not list(module.children()))


def test_batch_statistics_stay_those_of_the_source(create_cnn, images, labels):
    source = create_cnn()
    student = copy.deepcopy(source)
    objective = Lifelong(student, Teacher(source)).train()
    objective(images, labels).total.backward()
    before, after = dict(source.named_buffers()), dict(student.named_buffers())
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_student_of_another_width_is_refused(create_smooth):
    message = (
        "^lifelong learning needs a student of the source's architecture, got headed with 4 features and headed with "
        r"7; transfer\.py takes any student$"
    )
    with pytest.raises(ValueError, match=message):
        Lifelong(create_smooth(width=4), Teacher(create_smooth(width=7)))


def test_a_student_of_another_architecture_is_refused(create_cnn):
    other = create_classifier(
        "preact_resnet18_cifar",
        {"layers": (1, 1, 1), "channels": (8, 8, 16), "stem_chs": 8},
        num_classes=3,
        image_shape=(3, 8, 8),
    )
    with pytest.raises(ValueError, match="got preact_resnet18_cifar with 16 features and resnet18_cifar with 16"):
        Lifelong(other, Teacher(create_cnn()))


def test_a_negative_weight_is_refused(create_smooth):
    with pytest.raises(ValueError, match=r"^Lifelong needs weight >= 0, got -0\.1$"):
        Lifelong(create_smooth(), Teacher(create_smooth()), LifelongOptions(weight=-0.1))

import copy

import numpy as np
import pytest
import torch

from robust_hub.methods import RRM, RRMOptions
from robust_hub.models import Teacher


def naive_cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize("weight", [0.005, 2.0])
def test_rrm_is_the_feature_distance_and_a_little_cross_entropy(create_smooth, by_hand, images, labels, weight):
    student, teacher = create_smooth(), create_smooth()
    learnt, taught = by_hand(student), by_hand(teacher)
    distance = cross_entropy = 0.0
    for image, label in zip(images.double().numpy(), labels.tolist(), strict=True):
        distance += naive_cosine_distance(learnt.features(image), taught.features(image)) / 6
        cross_entropy += learnt.cross_entropy(image, label) / 6
    losses = RRM(student, Teacher(teacher), RRMOptions(cross_entropy_weight=weight))(images, labels)
    # float32 features and logits of order 1.
    assert losses.terms["feature_distance"].item() == pytest.approx(distance, abs=1e-5)
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    assert losses.total.item() == pytest.approx(distance + weight * cross_entropy, abs=3e-5)


def test_rrm_maps_the_students_features_by_the_projection(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth(width=4), create_smooth(width=7)
    objective = RRM(student, Teacher(teacher), RRMOptions(projection=True))
    matrix = objective.projection.weight.detach().double().numpy()
    learnt, taught = by_hand(student), by_hand(teacher)
    distance = sum(
        naive_cosine_distance(matrix @ learnt.features(image), taught.features(image)) / 6
        for image in images.double().numpy()
    )
    losses = objective(images, labels)
    assert losses.terms["feature_distance"].item() == pytest.approx(distance, abs=1e-5)  # float32 features of order 1


def test_a_student_that_is_its_teacher_has_no_feature_distance(create_cnn, images, labels):
    teacher = create_cnn().eval()
    student = copy.deepcopy(teacher)
    losses = RRM(student, Teacher(teacher))(images, labels)
    # 1 - cos in float32.
    assert losses.terms["feature_distance"].item() == pytest.approx(0, abs=1e-6)


def test_without_cross_entropy_the_head_of_the_student_learns_nothing(create_smooth, images, labels):
    student = create_smooth()
    RRM(student, Teacher(create_smooth()), RRMOptions(cross_entropy_weight=0.0))(images, labels).total.backward()
    assert student.model.head.weight.grad.abs().max() == 0
    assert student.model.body[0].weight.grad.abs().max() > 0


def test_feature_widths_that_differ_are_refused(create_smooth):
    message = (
        r"student and teacher features differ in width \(4 and 7\); choose a student with 7 features or ask for a "
        "projection with --projection"
    )
    with pytest.raises(ValueError, match=message):
        RRM(create_smooth(width=4), Teacher(create_smooth(width=7)))


def test_without_a_projection_only_the_student_is_trained(create_smooth):
    objective = RRM(create_smooth(), Teacher(create_smooth()))
    trained = {id(parameter) for parameter in objective.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in objective.student.parameters()}
    assert isinstance(objective.projection, torch.nn.Identity)


def test_rrm_measures_features_by_the_distance_it_is_given(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth(), create_smooth()
    learnt, taught = by_hand(student), by_hand(teacher)
    expected = 0.0
    for image in images.double().numpy():
        gap, reference = learnt.features(image) - taught.features(image), taught.features(image)
        expected += np.sqrt(gap @ gap) / np.sqrt(reference @ reference) / 6
    losses = RRM(student, Teacher(teacher), RRMOptions(distance="relative-l2"))(images, labels)
    assert losses.terms["feature_distance"].item() == pytest.approx(expected, rel=1e-5)  # float32 features of order 1


def test_a_negative_weight_is_refused(create_smooth):
    with pytest.raises(ValueError, match=r"^RRM needs cross_entropy_weight >= 0, got -1\.0$"):
        RRM(create_smooth(), Teacher(create_smooth()), RRMOptions(cross_entropy_weight=-1.0))


def test_the_teachers_head_behind_the_projection_is_the_students_one_linear_layer(create_smooth, images, labels):
    student, teacher = create_smooth(width=4), create_smooth(width=7)
    objective = RRM(student, Teacher(teacher), RRMOptions(projection=True, head="teacher"))
    optimizer = torch.optim.SGD([weight for weight in objective.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        objective(images, labels).total.backward()
        optimizer.step()
    objective(images, labels)
    with torch.no_grad():
        logits, features = student.forward_with_features(images)
        expected = teacher.model.head(objective.projection(features))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)  # float32, two products in another order
    assert student.model.head.weight.grad is None


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.0), (0.1, 0.1)])
def test_student_and_teacher_see_the_same_noisy_images(create_smooth, images, labels, noise, most):
    student, teacher = create_smooth(), create_smooth()
    seen = []
    for network in (student, teacher):
        network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    RRM(student, Teacher(teacher), RRMOptions(noise=noise))(images, labels)
    assert torch.equal(*seen)
    assert most / 2 <= (seen[0] - images).abs().max() <= most + 1e-6


def test_the_teachers_head_without_a_projection_is_refused(create_smooth):
    message = "^--head teacher reads the features behind a projection; give --projection as well$"
    with pytest.raises(ValueError, match=message):
        RRM(create_smooth(), Teacher(create_smooth()), RRMOptions(head="teacher"))

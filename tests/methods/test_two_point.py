import copy

import numpy as np
import pytest
import torch

from robust_hub.methods import TwoPoint, TwoPointOptions
from robust_hub.models import Teacher


def draw(images: torch.Tensor) -> torch.Tensor:
    """The coefficients that the next call draws."""
    coefficients = torch.randn(len(images), 3, dtype=images.dtype)
    return coefficients - coefficients.mean(1, keepdim=True)


def exact_distance(student, teacher, images, coefficients) -> torch.Tensor:
    """The squared distance between gradients of a combination, as a share of the teacher's, by second derivatives."""
    pixels = images.clone().requires_grad_()
    (learnt,) = torch.autograd.grad((coefficients * student(pixels)).sum(), pixels, create_graph=True)
    (taught,) = torch.autograd.grad((coefficients * teacher(pixels)).sum(), pixels)
    return (learnt - taught).square().sum() / taught.square().sum()


def test_its_derivative_is_that_of_the_squared_gradient_distance(create_smooth, images, labels):
    student, teacher = create_smooth().double(), create_smooth().double()
    images, weights = images.double(), list(student.parameters())
    options = TwoPointOptions(radius=1e-4, divergence_weight=0.0, cross_entropy_weight=0.0)
    torch.manual_seed(3)
    losses = TwoPoint(student, Teacher(teacher), options)(images, labels)
    found = torch.autograd.grad(losses.total, weights)
    torch.manual_seed(3)
    distance = exact_distance(student, teacher, images, draw(images))
    expected = torch.autograd.grad(distance, weights, allow_unused=True)
    assert losses.total.item() == pytest.approx(distance.item(), rel=1e-9)  # float64
    for one, other in zip(found, expected, strict=True):
        # The bias of a head has no gradient; a central difference is off by the square of its length, here 1.4e-3.
        torch.testing.assert_close(one, torch.zeros_like(one) if other is None else other, rtol=1e-3, atol=1e-4)


def test_the_two_points_lie_on_both_sides_of_the_image_at_the_radius(create_smooth, images, labels):
    student, seen = create_smooth(), []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    TwoPoint(student, Teacher(create_smooth()), TwoPointOptions(radius=0.02))(images, labels)
    first, points = seen
    assert torch.equal(first, images)
    ahead, behind = points.chunk(2)
    torch.testing.assert_close((ahead + behind) / 2, images)
    sizes = (ahead - images).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(sizes, torch.full_like(sizes, 0.02), rtol=1e-4, atol=0)


def test_the_mean_of_the_two_is_compared_with_prediction_and_label(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth().double(), create_smooth().double()
    seen = []
    student.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.detach().numpy()))
    options = TwoPointOptions(weight=0.5, divergence_weight=2.0, cross_entropy_weight=0.3)
    losses = TwoPoint(student, Teacher(teacher), options)(images.double(), labels)
    taught, n = by_hand(teacher), len(images)
    divergence = cross_entropy = 0.0
    for i, (image, label) in enumerate(zip(images.double().numpy(), labels.tolist(), strict=True)):
        logits = (seen[1][i] + seen[1][n + i]) / 2
        q, p = np.exp(logits) / np.exp(logits).sum(), taught.probabilities(image)
        divergence += sum(p * np.log(p / q)) / n
        cross_entropy -= np.log(q[label]) / n
    assert losses.terms["divergence"].item() == pytest.approx(divergence, abs=1e-9)  # float64
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-9)
    expected = 0.5 * losses.terms["gradient_distance"].item() + 2 * divergence + 0.3 * cross_entropy
    assert losses.total.item() == pytest.approx(expected, abs=1e-9)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_gradients(create_smooth, images, labels):
    teacher = create_smooth()
    losses = TwoPoint(copy.deepcopy(teacher), Teacher(teacher))(images, labels)
    assert losses.terms["gradient_distance"].item() == pytest.approx(0, abs=1e-10)  # the same float32 operations
    losses.total.backward()


def test_an_image_takes_three_passes_of_the_student_and_one_of_the_teacher(create_cnn, images, labels):
    objective = TwoPoint(create_cnn(), Teacher(create_cnn()))
    objective(images, labels).total.backward()
    passes, n = objective.passes(), len(images)
    assert (passes["student"].forward, passes["student"].backward) == (3 * n, 3 * n)
    assert (passes["teacher"].forward, passes["teacher"].backward) == (n, n)


def test_a_few_steps_bring_gradients_together(create_smooth, images, labels):
    student = create_smooth()
    options = TwoPointOptions(weight=10.0, radius=1e-3)
    objective = TwoPoint(student, Teacher(create_smooth()), options)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
    distances = []
    for _ in range(40):
        optimizer.zero_grad()
        losses = objective(images, labels)
        losses.total.backward()
        optimizer.step()
        distances.append(losses.terms["gradient_distance"].item())
    assert np.mean(distances[-5:]) < 0.7 * np.mean(distances[:5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"TwoPoint needs weight >= 0, got -1\.0"),
        ({"divergence_weight": -1.0}, r"TwoPoint needs divergence_weight >= 0, got -1\.0"),
        ({"cross_entropy_weight": -1.0}, r"TwoPoint needs cross_entropy_weight >= 0, got -1\.0"),
        ({"radius": 0.0}, r"TwoPoint needs radius >= 0\.0001, got 0\.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(create_smooth, options, message):
    with pytest.raises(ValueError, match=message):
        TwoPoint(create_smooth(), Teacher(create_smooth()), TwoPointOptions(**options))

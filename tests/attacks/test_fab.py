import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from robust_hub.attacks import TargetedFAB
from robust_hub.attacks.fab import step_to_hyperplane
from robust_hub.threats import L2, Linf

THREATS = [Linf(0.1), L2(0.5)]


def hyperplanes(pixels: int = 12):
    """Points with some pixels on a border, normals with some zeros, and how far the hyperplane can be reached."""
    rng = np.random.default_rng(0)
    points = (1.4 * rng.random((8, pixels)) - 0.2).clip(0, 1)
    normals = rng.normal(size=(8, pixels)) * (rng.random((8, pixels)) > 0.2)
    values = np.array([1, -1] * 4) * np.array([0.01, 0.01, 0.3, 0.3, 0.7, 0.7, 0.95, 0.95])
    room = np.where(normals * values[:, None] > 0, points, 1 - points)
    return points, normals, values * (np.abs(normals) * room).sum(1)


def steps(threat, points: np.ndarray, normals: np.ndarray, values: np.ndarray) -> np.ndarray:
    shaped = (torch.tensor(array).view(len(points), 1, 1, -1) for array in (points, normals))
    return step_to_hyperplane(threat, *shaped, torch.tensor(values)).flatten(1).numpy()


def shortest_linf(point: np.ndarray, normal: np.ndarray, value: float) -> float:
    """Minimises r under -r <= step <= r, 0 <= point + step <= 1 and value + normal . step = 0 by linear programming."""
    identity, ones = np.eye(len(point)), np.ones((len(point), 1))
    return linprog(
        c=[0] * len(point) + [1],
        A_ub=np.block([[identity, -ones], [-identity, -ones]]),
        b_ub=np.zeros(2 * len(point)),
        A_eq=[[*normal, 0]],
        b_eq=[-value],
        bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
    ).fun


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_step_ends_on_the_hyperplane_inside_the_unit_interval(threat):
    points, normals, values = hyperplanes()
    step = steps(threat, points, normals, values)
    # Newton's method stops within 1e-6 of the value.
    np.testing.assert_allclose((normals * step).sum(1), -values, rtol=1e-6)
    assert (points + step).min() >= -1e-15
    assert (points + step).max() <= 1 + 1e-15


def test_a_step_to_a_hyperplane_is_the_shortest_for_linf():
    points, normals, values = hyperplanes()
    lengths = np.abs(steps(Linf(0.1), points, normals, values)).max(1)
    expected = [shortest_linf(*row) for row in zip(points, normals, values, strict=True)]
    # Newton's method ends exactly once it is on the last piece, or within 1e-6 of the value.
    np.testing.assert_allclose(lengths, expected, rtol=1e-5)


def test_a_step_to_a_hyperplane_is_the_shortest_for_l2():
    points, normals, values = hyperplanes()
    for point, normal, value, step in zip(
        points, normals, values, steps(L2(0.5), points, normals, values), strict=True
    ):
        expected = minimize(
            lambda step: (step @ step, 2 * step),
            x0=np.zeros(len(point)),
            jac=True,
            bounds=list(zip(-point, 1 - point, strict=True)),
            constraints={
                "type": "eq",
                "fun": lambda step, n=normal, v=value: v + n @ step,
                "jac": lambda step, n=normal: n,
            },
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert expected.success
        np.testing.assert_allclose(step, expected.x, rtol=0, atol=1e-5)  # what SLSQP promises


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_step_moves_no_pixel_of_zero_weight(threat):
    points, normals, values = hyperplanes()
    assert (steps(threat, points, normals, values)[normals == 0] == 0).all()


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_step_towards_a_hyperplane_out_of_reach_comes_as_near_as_it_can(threat):
    points, normals, values = hyperplanes()
    step = steps(threat, points, normals, 20 * np.sign(values))
    # Each weighted pixel goes to the border that lowers the absolute value; those of no weight stay.
    border = np.where(normals * values[:, None] > 0, 0.0, 1.0)
    np.testing.assert_allclose(step, np.where(normals == 0, 0, border - points), rtol=0, atol=1e-12)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_step_from_a_point_on_the_hyperplane_is_zero(threat):
    points, normals, values = hyperplanes()
    assert (steps(threat, points, normals, 0 * values) == 0).all()


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_step_is_zero_where_the_function_is_flat(threat):
    points, normals, values = hyperplanes()
    assert (steps(threat, points, 0 * normals, values) == 0).all()


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_step_is_finite_beside_vanishing_weights(threat):
    points, normals = np.full((1, 3), 0.5), np.array([[1.0, 1e-20, 0.0]])
    in_float32 = (torch.tensor(array, dtype=torch.float32).view(1, 1, 1, 3) for array in (points, normals))
    assert step_to_hyperplane(threat, *in_float32, torch.tensor([10.0])).isfinite().all()


def distances(classifier, images, labels, threat) -> np.ndarray:
    """The closed form: the least of (z_y - z_k) / ||w_y - w_k||_q over the other classes; q is 1 for linf, 2 for l2."""
    std = torch.tensor(classifier.model.pretrained_cfg["std"], dtype=torch.float64).repeat_interleave(64)
    weight = classifier.model.head.weight.detach().double() / std
    logits = classifier(images).detach().double()
    order = 1 if isinstance(threat, Linf) else 2
    lengths = (weight[None] - weight[labels][:, None]).norm(p=order, dim=2)
    gaps = logits.gather(1, labels[:, None]) - logits
    return (gaps / lengths).scatter(1, labels[:, None], torch.inf).amin(1).numpy()


# Steps of 1.05 and pull-backs to 0.9 come to 1.0052 of the distance in the second step, and settle at 1.0085.
@pytest.mark.parametrize(("ratio", "fooled"), [(0.999, False), (1.006, True)])
@pytest.mark.parametrize("norm", [Linf, L2])
def test_fab_succeeds_on_a_linear_classifier_where_the_distance_is_at_most_eps(
    create_linear, images, norm, ratio, fooled
):
    classifier = create_linear(num_classes=4)
    labels = classifier(images).argmax(1)
    for index, distance in enumerate(distances(classifier, images, labels, norm(0.1))):
        one = slice(index, index + 1)
        attack = TargetedFAB(norm(float(ratio * distance)), targets=3, steps=5)
        adversarial = attack(classifier, images[one], labels[one])
        assert (classifier(adversarial).argmax(1) != labels[one]).item() == fooled


# The border cuts overshoots short, so that the boundary is crossed later and a little farther away.
@pytest.mark.parametrize(("ratio", "fooled"), [(0.999, False), (1.01, True)])
def test_fab_succeeds_at_the_border_where_a_linear_program_does(create_linear, border_images, ratio, fooled):
    classifier = create_linear(num_classes=2)
    labels = classifier(border_images).argmax(1)
    gradient = torch.autograd.functional.jacobian(lambda image: classifier(image)[0], border_images[:1])[:, 0]
    for index, label in enumerate(labels.tolist()):
        one = slice(index, index + 1)
        normal = (gradient[1 - label] - gradient[label]).flatten().double().numpy()
        logits = classifier(border_images[one])[0].detach().double()
        value = (logits[1 - label] - logits[label]).item()
        distance = shortest_linf(border_images[index].flatten().double().numpy(), normal, value)
        attack = TargetedFAB(Linf(ratio * distance), targets=1, steps=20)
        adversarial = attack(classifier, border_images[one], labels[one])
        assert (classifier(adversarial).argmax(1) != labels[one]).item() == fooled


@pytest.mark.parametrize("threat", [Linf(1e-4), L2(1e-3)], ids=str)
def test_fab_returns_the_image_where_nothing_in_the_ball_fools(create_linear, images, threat):
    classifier = create_linear()
    labels = classifier(images).argmax(1)
    assert torch.equal(TargetedFAB(threat, targets=2, steps=5)(classifier, images, labels), images)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_fab_leaves_a_misclassified_image_misclassified(create_smooth, images, threat):
    classifier = create_smooth()
    labels = classifier(images).argmin(1)
    adversarial = TargetedFAB(threat, targets=2, steps=5)(classifier, images, labels)
    assert (classifier(adversarial).argmax(1) != labels).all()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"targets": 0}], ids=str)
def test_fab_refuses_what_can_not_walk(wrong):
    with pytest.raises(ValueError, match="TargetedFAB needs steps >= 1 and targets >= 1, got TargetedFAB"):
        TargetedFAB(Linf(0.1), **wrong)

import numpy as np
import pytest
import torch

from robust_hub.methods import RSLAD, RSLADOptions
from robust_hub.models import Teacher
from robust_hub.threats import Linf

EPS = 0.03


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return float(sum(p[k] * np.log(p[k] / q[k]) for k in range(len(p))))


def stepped(by_hand, student, image: np.ndarray, error: np.ndarray, size: float = EPS) -> np.ndarray:
    """One signed step, up a loss whose gradient for the logits is `error`, through the smooth classifier."""
    hand = by_hand(student)
    through_tanh = (1 - hand.features(image) ** 2) * (hand.head[0].T @ error)
    gradient = hand.hidden[0].T @ through_tanh / hand.std
    return (image + size * np.sign(gradient).reshape(image.shape)).clip(0, 1)


@pytest.mark.parametrize("target", ["clean", "perturbed"])
@pytest.mark.parametrize("direction", ["divergence", "labels"])
def test_it_is_the_divergence_one_step_away_from_what_the_teacher_says(
    create_smooth, by_hand, images, labels, target, direction
):
    student, teacher = create_smooth().double(), create_smooth().double()
    learnt, taught = by_hand(student), by_hand(teacher)
    expected = 0.0
    for image, label in zip(images.double().numpy(), labels.tolist(), strict=True):
        q = learnt.probabilities(image)
        # Of KL(p || q) and of the cross-entropy, the gradients for the logits are q - p and q - onehot.
        wanted = taught.probabilities(image) if direction == "divergence" else np.eye(len(q))[label]
        moved = stepped(by_hand, student, image, q - wanted)
        told = taught.probabilities(moved if target == "perturbed" else image)
        expected += divergence(told, learnt.probabilities(moved)) / len(images)
    options = RSLADOptions(direction=direction, target=target, feature_weight=0.0, noise=0.0)
    losses = RSLAD(student, Teacher(teacher), Linf(EPS), options)(images.double(), labels)
    assert losses.total.item() == pytest.approx(expected, abs=1e-9)  # float64
    assert losses.terms == {"divergence": losses.total}


def test_a_teacher_that_was_asked_once_is_not_asked_again(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth().double(), Teacher(create_smooth().double())
    learnt, told = by_hand(student), torch.linspace(-2, 3, 3 * len(images)).view(len(images), 3).double()
    expected = 0.0
    for image, logits in zip(images.double().numpy(), told.numpy(), strict=True):
        wanted = np.exp(logits) / np.exp(logits).sum()
        moved = stepped(by_hand, student, image, learnt.probabilities(image) - wanted, 1.5 * EPS)
        expected += divergence(wanted, learnt.probabilities(moved)) / len(images)
    rslad = RSLAD(
        student, teacher, Linf(EPS), RSLADOptions(target="once", feature_weight=0.0, noise=0.0, step_size=1.5)
    )
    # The mean and std of the classifier were float32 before they were float64.
    assert rslad(images.double(), labels, told).total.item() == pytest.approx(expected, rel=1e-7)
    assert teacher.passes.forward == 0


@pytest.mark.parametrize("target", ["clean", "perturbed", "once"])
def test_features_under_attack_are_led_to_those_of_the_teacher(create_smooth, by_hand, images, labels, target):
    student, teacher = create_smooth().double(), Teacher(create_smooth().double())
    options = RSLADOptions(target=target, feature_weight=3.0, noise=0.0)
    rslad = RSLAD(student, teacher, Linf(EPS), options).double()
    learnt, taught = by_hand(student), by_hand(teacher.classifier)
    assert rslad.projection is not None
    weight, bias = (each.detach().numpy() for each in rslad.projection.parameters())
    answers = [rslad.ask(images.double())] if target == "once" else []
    losses = rslad(images.double(), labels, *answers)
    expected = 0.0
    for image in images.double().numpy():
        moved = stepped(by_hand, student, image, learnt.probabilities(image) - taught.probabilities(image))
        own, wanted = weight @ learnt.features(moved) + bias, taught.features(moved if target == "perturbed" else image)
        expected += (1 - own @ wanted / np.linalg.norm(own) / np.linalg.norm(wanted)) / len(images)
    assert losses.terms["feature_distance"].item() == pytest.approx(expected, rel=1e-6)
    assert losses.total.item() == pytest.approx((losses.terms["divergence"] + 3 * expected).item(), rel=1e-6)


def test_the_clean_term_is_weighed_beside_it(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth().double(), create_smooth().double()
    taught, learnt = by_hand(teacher), by_hand(student)
    pairs = [(taught.probabilities(image), learnt.probabilities(image)) for image in images.double().numpy()]
    clean = sum(divergence(p, q) for p, q in pairs) / len(images)
    options = RSLADOptions(clean_weight=0.2, feature_weight=0.0)
    losses = RSLAD(student, Teacher(teacher), Linf(EPS), options)(images.double(), labels)
    assert losses.terms["clean"].item() == pytest.approx(clean, abs=1e-9)
    assert losses.total.item() == pytest.approx((losses.terms["divergence"] + 0.2 * clean).item(), abs=1e-9)


def test_the_step_starts_from_noise_and_sees_the_student_in_eval_mode(create_cnn, images, labels):
    student, seen = create_cnn().train(), []
    student.register_forward_hook(lambda module, inputs, _: seen.append((inputs[0].detach(), module.training)))
    RSLAD(student, Teacher(create_cnn()), Linf(EPS), RSLADOptions(noise=2.0))(images, labels)
    (started, first_mode), (moved, second_mode) = seen
    assert (first_mode, second_mode) == (False, True)
    assert EPS < (started - images).abs().max() <= 2 * EPS + 1e-6
    assert (moved - started).abs().max() <= EPS + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clean_weight": -0.1}, r"RSLAD needs clean_weight >= 0, got -0\.1"),
        ({"feature_weight": -1.0}, r"RSLAD needs feature_weight >= 0, got -1\.0"),
        ({"temperature": 0.0}, r"RSLAD needs temperature >= 0\.1, got 0\.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(create_smooth, options, message):
    with pytest.raises(ValueError, match=message):
        RSLAD(create_smooth(), Teacher(create_smooth()), Linf(EPS), RSLADOptions(**options))

import numpy as np
import pytest
import torch

from robust_hub.methods import RSLAD, AdversarialTraining, NFGSMOptions, RSLADOptions
from robust_hub.methods.one_step import nonlinearity
from robust_hub.models import Teacher
from robust_hub.threats import L2, Linf


def record(student) -> list[torch.Tensor]:
    """Notes the images that a student is shown."""
    seen = []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    return seen


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
def test_it_is_the_squared_bend_of_the_loss_between_two_points_of_the_ball(
    create_smooth, by_hand, images, labels, threat
):
    student = create_smooth().double()
    seen = record(student)
    found = nonlinearity(student, images.double(), labels, threat)
    hand, expected = by_hand(student), 0.0
    starts, ends, betweens = seen[0].numpy().reshape(3, len(images), 3, 8, 8)
    for start, end, between, label in zip(starts, ends, betweens, labels.tolist(), strict=True):
        way = (end - start).ravel()
        share = (between - start).ravel() @ way / (way @ way)
        assert 0 <= share <= 1
        np.testing.assert_allclose(between, start + share * (end - start), atol=1e-7)  # the share is float32
        line = (1 - share) * hand.cross_entropy(start, label) + share * hand.cross_entropy(end, label)
        expected += (hand.cross_entropy(between, label) - line) ** 2 / len(images)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    for points in (starts, ends):
        assert threat.norm(torch.tensor(points) - images).max() <= threat.eps + 1e-6


def test_a_loss_that_is_linear_has_none(create_linear, images):
    # With two classes of which one is certain, the cross-entropy is the margin.
    student = create_linear(num_classes=2, scale=1e-4)
    student.model.head.bias.data = torch.tensor([0.0, 60.0])
    bend = nonlinearity(student, images, torch.zeros(6, dtype=torch.long), Linf(0.1))
    assert bend.item() == pytest.approx(0, abs=1e-9)  # float32 losses of 60 are rounded to 4e-6


@pytest.mark.parametrize(
    "create",
    [
        lambda student, teacher, options: AdversarialTraining(student, Linf(0.1), NFGSMOptions(**options)),
        lambda student, teacher, options: RSLAD(
            student, teacher, Linf(0.1), RSLADOptions(**options, feature_weight=0.0)
        ),
    ],
    ids=["n-fgsm", "rslad"],
)
def test_the_bend_is_weighed_beside_the_loss(create, create_smooth, images, labels):
    student, teacher = create_smooth(), Teacher(create_smooth())
    torch.manual_seed(1)
    without = create(student, teacher, {})(images, labels)
    torch.manual_seed(1)
    losses = create(student, teacher, {"linearity_weight": 50.0})(images, labels)
    expected = without.total + 50 * losses.terms["nonlinearity"]
    assert losses.terms["nonlinearity"] > 0
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -1.0}, r"NFGSM needs noise >= 0, got -1\.0"),
        ({"linearity_weight": -1.0}, r"NFGSM needs linearity_weight >= 0, got -1\.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NFGSMOptions(**options)

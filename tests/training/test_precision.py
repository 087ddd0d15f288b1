"""In float16, gradients of images neither vanish nor overflow."""

import pytest
import torch
from torch import nn

from robust_hub.attacks import NFGSM, PGD, loss_and_gradient
from robust_hub.losses import cross_entropy
from robust_hub.methods import IGAM, PAG, IGAMOptions, PAGOptions, TeacherGradients
from robust_hub.methods.input_gradients import twice_differentiable
from robust_hub.models import Teacher
from robust_hub.threats import L2, Linf


def gradient_of(classifier, images, labels) -> torch.Tensor:
    _, gradient = loss_and_gradient(lambda pixels: cross_entropy(classifier(pixels), labels), images)
    return gradient


# float16 holds nothing between 0 and 6e-8, and nothing above 65504.
@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_an_attacks_gradient_in_float16_is_that_of_float32(create_linear, images, labels, scale):
    classifier = create_linear(scale=scale)
    expected = gradient_of(classifier, images, labels)
    with torch.autocast("cpu", dtype=torch.float16):
        plainly = images.clone().requires_grad_()
        (lost,) = torch.autograd.grad(cross_entropy(classifier(plainly), labels).sum(), plainly)
        gradient = gradient_of(classifier, images, labels)
    assert not torch.allclose(lost, expected, rtol=0.1, atol=0)
    assert torch.equal(gradient, expected)
    assert expected.abs().sum() > 0


@pytest.mark.parametrize("attack", [NFGSM(Linf(0.1)), PGD.standard(L2(0.5), steps=3)], ids=["nfgsm", "pgd"])
def test_an_attack_in_float16_finds_what_it_finds_in_float32(create_linear, images, labels, attack):
    classifier = create_linear(scale=1e-9)
    torch.manual_seed(1)
    expected = attack(classifier, images, labels)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.float16):
        adversarial = attack(classifier, images, labels)
    assert torch.equal(adversarial, expected)


def test_an_attack_in_bfloat16_stays_in_it(create_smooth, images, labels):
    classifier = create_smooth()
    seen = []
    classifier.model.head.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradient_of(classifier, images, labels)
    assert seen == [torch.bfloat16]


@pytest.mark.parametrize("method", ["igam", "pag"])
def test_second_derivatives_in_float16_are_those_of_float32(create_cnn, images, labels, method):
    student, teacher = create_cnn().eval(), Teacher(create_cnn())
    objective = {
        "igam": lambda: IGAM(student, teacher, IGAMOptions(weight=1.0, noise=0.0, start=0.0, ramp=0.0)),
        "pag": lambda: PAG(student, TeacherGradients(teacher, student), PAGOptions(classes_per_image=3)),
    }[method]()
    weight = student.model.conv1.weight

    def gradient(enabled: bool) -> torch.Tensor:
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.float16, enabled=enabled):
            total = objective(images, labels).total
        (found,) = torch.autograd.grad(total, weight)  # outside, as Accelerate goes back
        return found

    torch.testing.assert_close(gradient(True), gradient(False))


@pytest.mark.parametrize("layer", [nn.Hardsigmoid(), nn.Hardsigmoid(inplace=True)], ids=["new", "in place"])
def test_a_hard_sigmoid_is_differentiated_twice(layer):
    values = torch.tensor([-4.0, -2.0, 0.5, 2.5, 3.5], dtype=torch.float64, requires_grad=True)
    with twice_differentiable("cpu"):
        output = layer(values * 1)
        (gradient,) = torch.autograd.grad(output.pow(3).sum(), values, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), values)
    torch.testing.assert_close(output, nn.functional.hardsigmoid(values))
    # h = x / 6 + 1 / 2 between -3 and 3: the second derivative of h^3 is 6 h / 36 there, and 0 outside.
    inside = values.detach().abs() < 3
    torch.testing.assert_close(second, torch.where(inside, (values.detach() / 6 + 0.5) / 6, 0.0))

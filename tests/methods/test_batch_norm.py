"""BatchNorm with second derivatives of its own is torch's, and is differentiated as finite differences say."""

import pytest
import torch
import torch.nn.functional as F

from robust_hub.methods.batch_norm import batch_norm
from robust_hub.methods.input_gradients import twice_differentiable


@pytest.fixture
def arguments():
    images = torch.randn(4, 3, 5, 2, dtype=torch.float64, requires_grad=True)
    weight = (0.5 + torch.rand(3, dtype=torch.float64)).requires_grad_()
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    return images, weight, bias


def test_first_and_second_derivatives_are_those_of_finite_differences(arguments):
    def normalised(images, weight, bias):
        return batch_norm(images, None, None, weight, bias, training=True)

    assert torch.autograd.gradcheck(normalised, arguments)
    assert torch.autograd.gradgradcheck(normalised, arguments)


def test_values_and_running_statistics_are_torchs(arguments):
    ours, torchs = ([torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)] for _ in range(2))
    images, weight, bias = arguments
    found = batch_norm(images, *ours, weight, bias, True, 0.3, 1e-3)
    torch.testing.assert_close(found, F.batch_norm(images, *torchs, weight, bias, True, 0.3, 1e-3))
    torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4), (6, 3, 2, 2, 2)])
def test_the_squared_gradient_has_the_derivative_that_torch_gives_it(arguments, shape):
    images = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    found = []
    for normalise in (lambda *all: F.batch_norm(all[0], None, None, *all[1:], True), ours_of):
        values = normalise(images, *arguments[1:])
        (gradient,) = torch.autograd.grad(values.pow(3).sum(), images, create_graph=True)
        found.append(torch.autograd.grad(gradient.square().sum(), [images, arguments[1]]))
    torch.testing.assert_close(*found)


def ours_of(images, weight, bias):
    return batch_norm(images, None, None, weight, bias, training=True)


def test_modules_use_it_where_gradients_are_differentiated_and_statistics_are_those_of_the_batch():
    module, images = torch.nn.BatchNorm2d(3), torch.randn(4, 3, 2, 2)
    with twice_differentiable("cpu"):
        assert "_BatchNorm" in module(images).grad_fn.name()
        assert "_BatchNorm" not in module.eval()(images).grad_fn.name()
    assert "_BatchNorm" not in module.train()(images).grad_fn.name()

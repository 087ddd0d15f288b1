import numpy as np
import pytest
import torch
from torch import nn

from robust_hub.methods.discriminator import Discriminator, direction


def some_gradients() -> torch.Tensor:
    return torch.randn(5, 3, 8, 8, dtype=torch.float64) + 0.3


def test_the_direction_is_the_centred_gradient_over_its_norm():
    gradients = some_gradients()
    expected = []
    for gradient in gradients.numpy():
        centred = gradient - sum(gradient.ravel()) / gradient.size
        expected.append(centred / np.sqrt(sum(value * value for value in centred.ravel())))
    # float64 sums of 192 terms.
    torch.testing.assert_close(direction(gradients), torch.tensor(np.stack(expected)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-8])
def test_the_direction_is_that_of_the_authors_code_on_pixels_from_0_to_255(size):
    # Theirs: gradients on 0 to 255, so 255 times shorter, with 1e-12 as the least squared norm; at 1e-8 it is in force.
    gradients = size * some_gradients()
    expected = []
    for gradient in gradients.numpy() / 255:
        centred = gradient - gradient.mean()
        expected.append(centred / np.sqrt(max(np.square(centred).sum(), 1e-12)))
    # float64 sums of 192 terms.
    torch.testing.assert_close(direction(gradients), torch.tensor(np.stack(expected)), rtol=1e-10, atol=1e-14)


def test_a_gradient_of_zero_has_the_direction_zero():
    assert torch.equal(direction(torch.zeros(2, 3, 8, 8)), torch.zeros(2, 3, 8, 8))


def test_mean_and_norm_of_a_gradient_make_no_difference():
    discriminator = Discriminator((3, 8, 8)).double()
    gradients = some_gradients()
    # float64; the mean is subtracted again.
    torch.testing.assert_close(discriminator(7 * gradients + 2), discriminator(gradients), rtol=1e-10, atol=1e-10)


def test_the_direction_differentiates_like_its_finite_differences():
    gradients = some_gradients()[:2, :, :3, :3].requires_grad_()
    assert torch.autograd.gradcheck(direction, (gradients,))


@pytest.mark.parametrize(
    ("input_size", "channels"),
    [
        ((3, 32, 32), [16, 32, 64, 128, 256]),
        ((1, 28, 28), [16, 32, 64, 128]),
        ((3, 224, 224), [16, 32, 64, 128, 256]),
        ((3, 8, 8), [16, 32, 64]),
        ((1, 8, 12), [16, 32, 64]),
    ],
    ids=["cifar", "mnist", "imagenet", "8 pixels", "8 by 12 pixels"],
)
def test_layers_double_their_channels_until_the_gradient_is_one_place(input_size, channels):
    discriminator = Discriminator(input_size)
    convolutions = [layer for layer in discriminator.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == channels
    assert discriminator(torch.randn(2, *input_size)).shape == (2, 2)


def test_the_discriminator_learns_to_tell_two_patterns_apart():
    # A third of the loss of guessing, ln 2, in 20 steps on patterns that differ by their sign.
    pattern = torch.randn(1, 3, 8, 8)
    told = torch.tensor([0, 1]).repeat(4)
    gradients = torch.where(told.view(-1, 1, 1, 1) == 1, pattern, -pattern) + 0.1 * torch.randn(8, 3, 8, 8)
    discriminator = Discriminator((3, 8, 8))
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(discriminator(gradients), told)
        loss.backward()
        optimizer.step()
    assert loss.item() < np.log(2) / 3

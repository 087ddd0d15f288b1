"""Tells the input gradients of a student from those of its teacher."""

import torch
from torch import nn

from robust_hub.types import Images, Logits

CHANNELS = 16
MOST_LAYERS = 5
# 1e-12 on pixels from 0 to 255, as in the authors' code: the squared norm of a gradient grows by 255^2 on [0, 1].
TINY = 1e-12 * 255**2


class Discriminator(nn.Module):
    """Strided convolutions on the direction of each gradient map; class 0 is the student, class 1 the teacher.

    Args:
        input_size: channels, height and width of the gradients.

    Source: Chan et al., CVPR 2020, arXiv 1912.05699, the authors' discriminator for CIFAR-100: five layers of 16 to 256
        channels.
    Deviations: as many layers as halve the gradient to one place, at most five; torch's initialisation.
    """

    def __init__(self, input_size: tuple[int, int, int]):
        super().__init__()
        channels, *size = input_size
        depth = max(1, min(MOST_LAYERS, min(size).bit_length() - 1))
        widths = [channels, *(CHANNELS * 2**layer for layer in range(depth))]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(widths[layer], widths[layer + 1], 4, stride=2, padding=1),
                    nn.BatchNorm2d(widths[layer + 1]),
                    nn.LeakyReLU(0.1),
                )
                for layer in range(depth)
            ),
            nn.Flatten(),
            nn.Linear(widths[-1] * (size[0] >> depth) * (size[1] >> depth), 2),
        )

    def forward(self, gradients: Images) -> Logits:
        """Classifies gradient maps; their mean and norm make no difference."""
        return self.layers(direction(gradients))


def direction(gradients: Images) -> Images:
    """Subtracts each map's mean over channels and places and divides it by its L2 norm."""
    centred = gradients - gradients.mean((1, 2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().sum((1, 2, 3), keepdim=True).clamp_min(TINY))

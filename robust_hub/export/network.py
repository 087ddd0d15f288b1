"""The network that leaves Python: it takes pixels and gives logits, and counts nothing."""

import torch
from torch import Tensor, nn

from robust_hub.export.choices import Pixels
from robust_hub.models import PixelClassifier
from robust_hub.types import Images, Logits

WHITE = 255


class PixelNetwork(nn.Module):
    """A classifier's network with its mean and std inside.

    Args:
        classifier: in eval mode, on the CPU; it shares its weights.
        pixels: float32 takes images in [0, 1], uint8 those of 0 to 255; n c h w.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classifier: PixelClassifier, pixels: Pixels):
        super().__init__()
        self.model, self.pixels = classifier.model, pixels
        self.register_buffer("mean", classifier.mean)
        self.register_buffer("std", classifier.std)

    def forward(self, images: Tensor) -> Logits:
        """Classifies images."""
        if self.pixels == "uint8":
            images = images.to(torch.float32) / WHITE
        return self.model((images - self.mean) / self.std)


def as_pixels(images: Images, pixels: Pixels) -> Tensor:
    """Gives images in [0, 1] in the form that a file takes; bytes are the nearest ones."""
    return images if pixels == "float32" else (images * WHITE).round().to(torch.uint8)

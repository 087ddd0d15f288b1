"""The classifier that teaches: frozen, and able to look at images of any size or colour."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_hub.models.pixel_classifier import Passes, PixelClassifier
from robust_hub.models.preprocessing import Preprocessing
from robust_hub.types import Features, Images, Logits

# Rec. 601 luma, by which Pillow makes colour images grey.
LUMA = (0.299, 0.587, 0.114)


def fit_pixels(images: Images, input_size: tuple[int, int, int]) -> Tensor:
    """Brings images to the channels and size that a classifier takes, differentiably; leaves them where they fit.

    Colour becomes grey by luma, grey becomes three equal channels; size changes by antialiased bilinear interpolation.

    Args:
        images: of one or three channels, or of as many as wanted.
        input_size: channels, height and width wanted.

    Returns:
        As many images, of that size.
    """
    channels, *size = input_size
    if images.shape[1] != channels:
        luma = torch.tensor(LUMA, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
        images = images.expand(-1, channels, -1, -1) if channels == 3 else (images * luma).sum(1, keepdim=True)
    if list(images.shape[2:]) != size:
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return images


class Teacher(nn.Module):
    """A classifier that never learns: no parameter requires a gradient and `train()` leaves it in eval mode.

    It takes images of any size, grey or in colour, and brings them to those its classifier takes by a fixed
    differentiable map; gradients are those with respect to the images it was given.
    """

    def __init__(self, classifier: PixelClassifier):
        super().__init__()
        self.classifier = classifier.requires_grad_(False).eval()

    @property
    def passes(self) -> Passes:
        """What the teacher has cost so far."""
        return self.classifier.passes

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the images its classifier takes."""
        return self.classifier.input_size

    @property
    def preprocessing(self) -> Preprocessing:
        """How photos become the images its classifier takes."""
        return self.classifier.preprocessing

    def train(self, mode: bool = True) -> "Teacher":
        """Keeps the classifier in eval mode whatever is asked for."""
        super().train(mode)
        self.classifier.eval()
        return self

    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1]."""
        return self.classifier(self._fitted(images))

    def forward_with_features(self, images: Images) -> tuple[Logits, Features]:
        """Classifies images and returns what entered the classifier layer as well."""
        return self.classifier.forward_with_features(self._fitted(images))

    def forward_intermediates(self, images: Images) -> tuple[Logits, list[Tensor]]:
        """Classifies images and returns the map that each stage gives as well."""
        return self.classifier.forward_intermediates(self._fitted(images))

    def _fitted(self, images: Images) -> Tensor:
        return fit_pixels(images, self.input_size)

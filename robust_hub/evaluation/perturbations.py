"""Perturbations that fool a classifier, rounded to be small enough to publish, and confirmed by one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from robust_hub.attacks import eval_mode
from robust_hub.data import Loader
from robust_hub.evaluation.robust_accuracy import right, strict_float32
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, Mask

# Evidence of before has int16.
STEPS = torch.int8
# Norms of float32 perturbations are off by less, as a share; and a pixel in [0, 1], once a change is added, by less.
ROUNDING, PIXEL_ROUNDING = 1e-5, 2.0**-24


@dataclass(frozen=True)
class Perturbations:
    """Perturbations that fool a classifier, one a row.

    Attributes:
        indices: which image of the test split each belongs to; int64, n.
        predicted: the class the classifier takes the perturbed image for; int64, n.
        scale: the largest change of a pixel in each perturbation, in pixel units; float32, n.
        perturbation: in units of scale / 127; int8, n c h w. Of evaluations of before, scale / 32767 and int16.
    """

    indices: Tensor
    predicted: Tensor
    scale: Tensor
    perturbation: Tensor

    @classmethod
    def of(cls, indices: Tensor, images: Images, adversarial: Images, threat: Threat) -> "Perturbations":
        """Rounds perturbations to the nearest step, and scales down those that leave the ball by that.

        Rounded towards zero, one in thirteen that fooled does so no more; rounded to the nearest, none of 2,449.

        Args:
            indices: which image of the test split each belongs to.
            images: as they are.
            adversarial: the same ones, perturbed.
            threat: the ball that the perturbations must lie in.

        Returns:
            Perturbations of which it is not known yet what a classifier makes of them (predicted is -1).
        """
        delta = adversarial - images
        scale = delta.abs().amax((1, 2, 3))
        steps = (delta / scale.clamp_min(1e-12)[:, None, None, None] * torch.iinfo(STEPS).max).round()
        rounded = cls(indices, torch.full_like(indices, -1), scale, steps.to(STEPS))
        too_long = threat.norm(rounded.delta()).clamp_min(1e-12) / threat.eps
        return replace(rounded, scale=scale / too_long.clamp_min(1))

    def __len__(self) -> int:
        return len(self.indices)

    def delta(self) -> Images:
        """Gives the perturbations in pixel units, in float32."""
        step = self.scale / torch.iinfo(self.perturbation.dtype).max
        return self.perturbation * step[:, None, None, None]

    def adversarial(self, images: Images) -> Images:
        """Adds the perturbations to the images they belong to."""
        return (images + self.delta()).clamp(0, 1)

    def fooling(self, classifier: nn.Module, images: Images, labels: Labels, threat: Threat) -> tuple[Labels, Mask]:
        """Tells what counts as fooled, by the classifier's own verdict on the perturbations as they are stored.

        Args:
            classifier: in eval mode.
            images: that the rows belong to, one each.
            labels: of these images.
            threat: the ball that the perturbations must lie in.

        Returns:
            The class of each perturbed image, and which lie in the ball and are misclassified.
        """
        adversarial = self.adversarial(images)
        with torch.no_grad():
            logits = classifier(adversarial) if len(self) else adversarial.new_zeros(0, 1)
        # The largest of logits that are no numbers is none of them.
        predicted = torch.where(logits.isfinite().all(1), logits.argmax(1), -1) if len(self) else self.predicted
        inside = threat.norm(adversarial - images) <= threat.eps * (1 + ROUNDING) + PIXEL_ROUNDING
        return predicted, inside & (predicted != labels) & (predicted >= 0)

    def rows(self, chosen: Tensor) -> "Perturbations":
        """Picks rows, by a mask or by numbers."""
        return Perturbations(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def to(self, device: torch.device) -> "Perturbations":
        """Moves all of it to a device."""
        return Perturbations(*(getattr(self, field.name).to(device) for field in fields(self)))

    def tensors(self) -> dict[str, Tensor]:
        """Gives the parts by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def merge(parts: Sequence[Perturbations]) -> Perturbations:
    """Joins perturbations, in the order of the images."""
    joined = (torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Perturbations))
    perturbations = Perturbations(*joined)
    return perturbations.rows(perturbations.indices.argsort())


def confirm(
    classifier: nn.Module, perturbations: Perturbations, loader: Loader, threat: Threat
) -> tuple[np.ndarray, np.ndarray]:
    """Classifies the images of a split, and those that are perturbed, once more.

    Args:
        classifier: the one they fool.
        perturbations: for images of the split; on the device of the loader.
        loader: the whole split in its order.
        threat: the ball that the perturbations must lie in.

    Returns:
        Which images are classified rightly as they are, and which perturbations do lie in the ball and give the class
        that they say, another than the label.
    """
    clean, confirmed, begin = [], torch.zeros(len(perturbations), dtype=torch.bool), 0
    with eval_mode(classifier), strict_float32(), torch.no_grad():
        for images, labels in loader:
            clean.append(right(classifier, images, labels).cpu().numpy())
            here = (perturbations.indices >= begin) & (perturbations.indices < begin + len(images))
            part = perturbations.rows(here)
            row = part.indices - begin
            predicted, fooled = part.fooling(classifier, images[row], labels[row], threat)
            confirmed[here.cpu()] = (fooled & (predicted == part.predicted)).cpu()
            begin += len(images)
    return np.concatenate(clean), confirmed.numpy()

"""Evidence: the adversarial images of an evaluation, small enough to publish, and confirmed by one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robust_hub.attacks import eval_mode
from robust_hub.data import Loader
from robust_hub.errors import CheckpointError, first_line
from robust_hub.evaluation.robust_accuracy import right, strict_float32
from robust_hub.files import whole_file
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, Mask

LEVELS = 2**15 - 1
# Of indices, predicted, scale and perturbation.
KINDS = [(torch.int64, 1), (torch.int64, 1), (torch.float32, 1), (torch.int16, 4)]
# Norms of float32 perturbations are off by less, as a share.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Evidence:
    """Perturbations that fool a classifier, one a row.

    Attributes:
        indices: which image of the test split each belongs to; int64, n.
        predicted: the class the classifier takes the perturbed image for; int64, n.
        scale: the largest change of a pixel in each perturbation, in pixel units; float32, n.
        perturbation: in units of scale / 32767, rounded towards zero so that no perturbation grows; int16, n c h w.
    """

    indices: Tensor
    predicted: Tensor
    scale: Tensor
    perturbation: Tensor

    @classmethod
    def of(cls, indices: Tensor, images: Images, adversarial: Images) -> "Evidence":
        """Rounds perturbations; what a classifier makes of them is not known yet (predicted is -1)."""
        delta = adversarial - images
        scale = delta.abs().amax((1, 2, 3))
        steps = (delta / scale.clamp_min(1e-12)[:, None, None, None] * LEVELS).trunc()
        return cls(indices, torch.full_like(indices, -1), scale, steps.to(torch.int16))

    def __len__(self) -> int:
        return len(self.indices)

    def adversarial(self, images: Images) -> Images:
        """Adds the perturbations to the images they belong to, in float32."""
        delta = self.perturbation.to(images) * (self.scale / LEVELS)[:, None, None, None]
        return (images + delta).clamp(0, 1)

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
            predicted = classifier(adversarial).argmax(1) if len(self) else self.predicted
        inside = threat.norm(adversarial - images) <= threat.eps * (1 + ROUNDING)
        return predicted, inside & (predicted != labels)

    def rows(self, chosen: Tensor) -> "Evidence":
        """Picks rows, by a mask or by numbers."""
        return Evidence(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def to(self, device: torch.device) -> "Evidence":
        """Moves all of it to a device."""
        return Evidence(*(getattr(self, field.name).to(device) for field in fields(self)))

    def tensors(self) -> dict[str, Tensor]:
        """Gives the parts by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def save(self, file: Path) -> None:
        """Writes a safetensors file, whole or not at all."""
        with whole_file(file) as unfinished:
            save_file({name: tensor.cpu().contiguous() for name, tensor in self.tensors().items()}, unfinished)

    @classmethod
    def load(cls, file: Path) -> "Evidence":
        """Reads what `save` wrote.

        Raises:
            CheckpointError: when the file is something else.
        """
        try:
            evidence = cls(**load_file(file))
        except (OSError, SafetensorError, TypeError) as error:
            raise CheckpointError(f"{file} holds no evidence ({first_line(error)}); evaluate again") from error
        kinds = [(tensor.dtype, tensor.ndim) for tensor in evidence.tensors().values()]
        lengths = {len(tensor) for tensor in evidence.tensors().values() if tensor.ndim}
        if kinds != KINDS or len(lengths) != 1 or not evidence.scale.isfinite().all():
            raise CheckpointError(f"{file} holds no evidence (its tensors are others than ours); evaluate again")
        return evidence


def merge(parts: Sequence[Evidence]) -> Evidence:
    """Joins evidence, in the order of the images."""
    joined = Evidence(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Evidence)))
    return joined.rows(joined.indices.argsort())


def confirm(classifier: nn.Module, evidence: Evidence, loader: Loader, threat: Threat) -> tuple[np.ndarray, np.ndarray]:
    """Classifies the images of a split, and those that the evidence perturbs, once more.

    Args:
        classifier: the one the evidence is about.
        evidence: for images of the split; on the device of the loader.
        loader: the whole split in its order.
        threat: the ball that the perturbations must lie in.

    Returns:
        Which images are classified rightly as they are, and which perturbations do lie in the ball and give the class
        that the evidence says, another than the label.
    """
    clean, confirmed, begin = [], torch.zeros(len(evidence), dtype=torch.bool), 0
    with eval_mode(classifier), strict_float32(), torch.no_grad():
        for images, labels in loader:
            clean.append(right(classifier, images, labels).cpu().numpy())
            here = (evidence.indices >= begin) & (evidence.indices < begin + len(images))
            part = evidence.rows(here)
            row = part.indices - begin
            predicted, fooled = part.fooling(classifier, images[row], labels[row], threat)
            confirmed[here.cpu()] = (fooled & (predicted == part.predicted)).cpu()
            begin += len(images)
    return np.concatenate(clean), confirmed.numpy()

"""What a file without gradients withstands: what fooled the network that it was made of, and Square."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from robust_hub.attacks import AutoAttack, Square, eval_mode
from robust_hub.data import Loader
from robust_hub.evaluation import Accuracy, right, search_classifier, seeded
from robust_hub.launch import progress
from robust_hub.models import PixelClassifier
from robust_hub.threats import L2, Linf

# Each takes a pass of the file; AutoAttack's Square takes 5,000.
QUERIES = 500


@dataclass(frozen=True)
class Withstood:
    """Accuracies of the classifier and of the file on the same images.

    Attributes:
        threat: as it prints itself.
        clean: of the classifier.
        robust: of the classifier, under the first two attacks of AutoAttack.
        file_clean: of the file.
        file_transferred: of the file, when shown what these attacks came to against the classifier.
        file_robust: of the file, after Square has attacked what then stands.
    """

    threat: str
    clean: Accuracy
    robust: Accuracy
    file_clean: Accuracy
    file_transferred: Accuracy
    file_robust: Accuracy

    def __str__(self) -> str:
        """Writes it in three lines."""
        return (
            f"float32 on {self.clean.n} test images: {self.clean} % clean, {self.robust} % under quick at "
            f"{self.threat}\n"
            f"the file on the same: {self.file_clean} % clean, {self.file_transferred} % when shown what quick came to "
            f"against float32, {self.file_robust} % after Square of {QUERIES} queries\n"
            "that is an upper bound by transfer: nothing has followed the file's own gradients, so never call it its "
            "robust accuracy"
        )


def withstood(
    classifier: PixelClassifier, exported: nn.Module, loader: Loader, threat: Linf | L2, *, seed: int = 0
) -> Withstood:
    """Attacks a classifier, tries every resulting image on the exported file, and then attacks the file itself.

    An image is tried on the file whether or not it fooled the classifier.

    Args:
        classifier: in eval mode.
        exported: the file; only its logits are used.
        loader: of test images, with labels in the order of the logits.
        threat: the ball.
        seed: of the random starts.
    """
    attack, square, told = AutoAttack(threat, "quick"), Square(threat, queries=QUERIES), []
    with eval_mode(classifier), seeded(seed, device=torch.device("cpu")):
        search = search_classifier(classifier, "float32", next(iter(loader))[0][:8])
        for images, labels in progress(loader, desc="attacking"):
            clean, file_clean = right(classifier, images, labels), right(exported, images, labels)
            adversarial = attack(search, images, labels)
            robust = clean & right(classifier, adversarial, labels)
            transferred = file_clean & right(exported, adversarial, labels)
            standing = transferred.clone()
            found = square(exported, images[transferred], labels[transferred])
            standing[transferred] = right(exported, found, labels[transferred])
            told.append([clean, robust, file_clean, transferred, standing])
    masks = (np.concatenate([mask.numpy() for mask in each]) for each in zip(*told, strict=True))
    return Withstood(str(threat), *(Accuracy.of(mask) for mask in masks))

"""Attacks: frozen dataclasses called with (classifier, images, labels) that return adversarial images.

An attack leaves parameter gradients and the train/eval mode as they were, and runs the classifier in eval mode.
"""

from robust_hub.attacks.base import Attack, eval_mode
from robust_hub.attacks.fgsm import FGSM, NFGSM
from robust_hub.attacks.pgd import PGD, ascend

__all__ = ["FGSM", "NFGSM", "PGD", "Attack", "ascend", "eval_mode"]

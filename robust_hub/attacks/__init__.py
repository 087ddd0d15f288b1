"""Attacks: frozen dataclasses called with (classifier, images, labels) that return adversarial images.

An attack leaves parameter gradients and the train/eval mode as they were, and runs the classifier in eval mode.
"""

from robust_hub.attacks.apgd import APGD, TargetedAPGD
from robust_hub.attacks.auto_attack import AutoAttack
from robust_hub.attacks.base import Attack, Ensemble, SearchClassifier, Stage, eval_mode
from robust_hub.attacks.fab import TargetedFAB
from robust_hub.attacks.fgsm import FGSM, NFGSM
from robust_hub.attacks.pgd import PGD, ascend
from robust_hub.attacks.square import Square

__all__ = [
    "APGD",
    "FGSM",
    "NFGSM",
    "PGD",
    "Attack",
    "AutoAttack",
    "Ensemble",
    "SearchClassifier",
    "Square",
    "Stage",
    "TargetedAPGD",
    "TargetedFAB",
    "ascend",
    "eval_mode",
]

"""Attacks: frozen dataclasses called with (classifier, images, labels) that return adversarial images.

An attack leaves parameter gradients and the train/eval mode as they were, and runs the classifier in eval mode.
"""

from .apgd import APGD as APGD
from .apgd import TargetedAPGD as TargetedAPGD
from .auto_attack import AutoAttack as AutoAttack
from .base import Attack as Attack
from .base import SearchClassifier as SearchClassifier
from .base import Stage as Stage
from .base import eval_mode as eval_mode
from .base import loss_and_gradient as loss_and_gradient
from .base import without_float16 as without_float16
from .fab import TargetedFAB as TargetedFAB
from .fgsm import FGSM as FGSM
from .fgsm import NFGSM as NFGSM
from .pgd import PGD as PGD
from .pgd import ascend as ascend
from .protocol import AUTO_ATTACK as AUTO_ATTACK
from .protocol import Version as Version
from .protocol import protocol_of as protocol_of
from .square import Square as Square

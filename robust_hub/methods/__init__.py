"""Training objectives, one paper a file. Each is a module whose forward(images, labels) returns the loss."""

from robust_hub.methods.adversarial_training import AdversarialTraining
from robust_hub.methods.ard import ARD
from robust_hub.methods.base import Losses, Objective
from robust_hub.methods.igam import IGAM
from robust_hub.methods.kd import KD
from robust_hub.methods.lifelong import Lifelong
from robust_hub.methods.mixacm import MixACM
from robust_hub.methods.pag import PAG
from robust_hub.methods.plain import Plain
from robust_hub.methods.retraining import Retraining
from robust_hub.methods.rrm import RRM
from robust_hub.methods.trades import TRADES

__all__ = [
    "ARD",
    "IGAM",
    "KD",
    "PAG",
    "RRM",
    "TRADES",
    "AdversarialTraining",
    "Lifelong",
    "Losses",
    "MixACM",
    "Objective",
    "Plain",
    "Retraining",
]

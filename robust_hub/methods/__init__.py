"""Training objectives, one paper a file. Each is a module whose forward(images, labels) returns the loss."""

from robust_hub.methods.adversarial_training import AdversarialTraining
from robust_hub.methods.base import Losses, Objective
from robust_hub.methods.igam import IGAM
from robust_hub.methods.plain import Plain
from robust_hub.methods.rrm import RRM
from robust_hub.methods.trades import TRADES

__all__ = ["IGAM", "RRM", "TRADES", "AdversarialTraining", "Losses", "Objective", "Plain"]

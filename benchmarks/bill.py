"""What each recipe costs for a ResNet-50 at 224 px on ImageNet, counted on paper.

    python benchmarks/bill.py

A step of each method is taken on two images, and its passes and floating-point operations are counted, by the
networks' own counters and by torch.utils.flop_counter; the teacher is a ResNet-50 as well. What a run then costs is
these times images and epochs, over what a device computes a second at the utilisation that is assumed; nothing is
timed.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from tabulate import tabulate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.method_step import METHODS
from robust_hub.methods import TRADES, AdversarialTraining, NFGSMOptions, Objective, PGDOptions, Plain, TRADESOptions
from robust_hub.models import PixelClassifier, Teacher, create_classifier
from robust_hub.threats import Linf

ARCHITECTURE, SHAPE, CLASSES, BATCH = "resnet50", (3, 224, 224), 1000, 2
IMAGES, THREAT = 1_281_167, Linf(4 / 255)
ALL: dict[str, Callable[[PixelClassifier, Teacher], Objective]] = {
    "plain": lambda student, _: Plain(student),
    "adversarial training, N-FGSM": lambda student, _: AdversarialTraining(student, THREAT, NFGSMOptions()),
    "adversarial training, PGD-3": lambda student, _: AdversarialTraining(student, THREAT, PGDOptions(steps=3)),
    "adversarial training, PGD-10": lambda student, _: AdversarialTraining(student, THREAT, PGDOptions(steps=10)),
    "adversarial training, TRADES-10": lambda student, _: TRADES(student, THREAT, TRADESOptions(steps=10)),
    **METHODS,
}


class Operations(TorchDispatchMode):
    """Counts floating-point operations by the formulas of torch's own counter, which does not bear autograd.grad."""

    def __init__(self) -> None:
        """Begins at none."""
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Lets an operation be done, and counts it."""
        done = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.number += formula(*args, **(kwargs or {}), out_val=done)
        return done


def main(epochs: int = 30, tera: float = 989.0, utilisation: float = 0.1) -> None:
    """Prints the table.

    Args:
        epochs: of training.
        tera: 10^12 operations that a device does in a second at most; the default is an H100's in bfloat16.
        utilisation: which share of that training reaches.
    """
    rows, plain = [], 0.0
    for method, objective_for in tqdm(ALL.items()):
        passes, operations = count(objective_for)
        plain = plain or operations
        hours = operations * IMAGES * epochs / (tera * 1e12 * utilisation) / 3600
        rows.append([method, *passes, operations / 1e9, operations / plain, operations * IMAGES * epochs / 1e18, hours])
    print(
        f"{ARCHITECTURE} at {SHAPE[1]} px, {IMAGES:,} images, {epochs} epochs; a device of {tera:g} TFLOP/s at "
        f"{utilisation:.0%}; torch {torch.__version__}"
    )
    networks = ["student fwd", "student bwd", "teacher fwd", "teacher bwd"]
    headers = ["method", *networks, "GFLOP an image", "over plain", "EFLOP", "device-hours"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=["", *[".1f"] * 5, ".2f", ".1f", ".1f"]))


def count(objective_for: Callable[[PixelClassifier, Teacher], Objective]) -> tuple[list[float], float]:
    """Counts passes of student and teacher, forward and backward, and operations of a step; all an image."""
    torch.manual_seed(0)
    student, teacher = (create_classifier(ARCHITECTURE, {}, num_classes=CLASSES, image_shape=SHAPE) for _ in range(2))
    objective = objective_for(student, Teacher(teacher)).train()
    images, labels = torch.rand(BATCH, *SHAPE), torch.randint(CLASSES, (BATCH,))
    with Operations() as counted:
        objective(images, labels).total.backward()
    counts = objective.passes()
    passes = [
        getattr(counts[name], kind) / BATCH if name in counts else 0.0
        for name in ("student", "teacher")
        for kind in ("forward", "backward")
    ]
    return passes, counted.number / BATCH


if __name__ == "__main__":
    tyro.cli(main)

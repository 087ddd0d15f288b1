"""Time of one step of each method over the time of the passes it cannot avoid.

    python benchmarks/method_step.py [METHOD ...]

The floor is made of bare passes on the same networks and images, in eager mode: the student's forward and backward pass
with a cross-entropy and the teacher's forward pass without gradients; for IGAM and PAG the teacher's and the student's
input gradients and the way back through the student's as well; for ARD the attack's gradients. Both are timed in turns
in one run, so that a change of the machine's speed meets both; the ratio is the median of the turns' own ratios.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
import tyro
from tabulate import tabulate
from torch import nn
from tqdm import trange

import robust_hub  # noqa: F401  registers resnet18_cifar
from robust_hub.methods import (
    ARD,
    IGAM,
    KD,
    PAG,
    RRM,
    ARDOptions,
    IGAMOptions,
    Lifelong,
    MixACM,
    Objective,
    TeacherGradients,
)
from robust_hub.models import PixelClassifier, Teacher, create_classifier
from robust_hub.threats import Linf

TURNS, WARM_UP = 20, 2
SHAPE, BATCH, ATTACK_STEPS = (3, 32, 32), 128, 3
THREAT = Linf(8 / 255)
Networks = tuple[nn.Module, nn.Module]

METHODS: dict[str, Callable[[PixelClassifier, Teacher], Objective]] = {
    "rrm": RRM,
    "mixacm": MixACM,
    "kd": KD,
    "lifelong": Lifelong,
    "igam": lambda student, teacher: IGAM(student, teacher, IGAMOptions(weight=1.0, noise=0.0, ramp=0)),
    "pag": lambda student, teacher: PAG(student, TeacherGradients(teacher, student)),
    "ard": lambda student, teacher: ARD(student, teacher, THREAT, ARDOptions(steps=ATTACK_STEPS)),
}


def main(methods: tyro.conf.Positional[tuple[str, ...]] = tuple(METHODS)) -> None:
    """Times the methods and prints the table.

    Args:
        methods: which.
    """
    rows = []
    for method in methods:
        torch.manual_seed(0)
        images, labels = torch.rand(BATCH, *SHAPE), torch.randint(10, (BATCH,))
        small = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}
        student, teacher = (
            create_classifier("resnet18_cifar", small, num_classes=10, image_shape=SHAPE) for _ in range(2)
        )
        objective = METHODS[method](student, Teacher(teacher)).to(memory_format=torch.channels_last).train()
        networks = student.model, teacher.model
        low, ratio, high, step, floor = compare(
            lambda: objective(images, labels).total.backward(),  # noqa: B023
            lambda: FLOORS[method](networks, images, labels),  # noqa: B023
            student,
        )
        rows.append([method, 1000 * step, 1000 * floor, ratio, f"{low:.3f} to {high:.3f}"])
    print(f"batches of {BATCH}, {TURNS} turns, {torch.get_num_threads()} threads; wanted at most 1.10")
    headers = ["method", "step ms", "floor ms", "ratio", "quartiles"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=(".0f", ".0f", ".0f", ".3f")))


def compare(step: Callable[[], None], floor: Callable[[], None], student: PixelClassifier) -> tuple[float, ...]:
    """Gives the quartiles of the ratio, and the median seconds of a step and of its floor."""
    seconds = {step: [], floor: []}
    for turn in trange(TURNS + WARM_UP, desc="turns", leave=False):
        for part in (step, floor) if turn % 2 else (floor, step):
            start = time.perf_counter()
            part()
            elapsed = time.perf_counter() - start
            student.zero_grad()
            if turn >= WARM_UP:
                seconds[part].append(elapsed)
    ratios = [a / b for a, b in zip(seconds[step], seconds[floor], strict=True)]
    return *statistics.quantiles(ratios), statistics.median(seconds[step]), statistics.median(seconds[floor])


def forward_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Student forward and backward, teacher forward."""
    student, teacher = networks
    with torch.no_grad():
        teacher(images)
    F.cross_entropy(student(images), labels).backward()


def double_backward_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The input gradients of both, and the way back through the student's and through its logits."""
    student, teacher = networks
    pixels = images.clone().requires_grad_()
    torch.autograd.grad(F.cross_entropy(teacher(pixels), labels, reduction="sum"), pixels)
    losses = F.cross_entropy(student(pixels), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), pixels, create_graph=True)
    (losses.mean() + gradient.square().sum()).backward()


def attack_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The student's input gradients, one a step of the attack, in eval mode, and then as without an attack."""
    student, _ = networks
    student.eval()
    for _ in range(ATTACK_STEPS):
        pixels = images.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(student(pixels), labels, reduction="sum"), pixels)
    student.train()
    forward_floor(networks, images, labels)


def lifelong_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> None:
    """As `forward_floor`, with a student in eval mode."""
    networks[0].eval()
    forward_floor(networks, images, labels)


FLOORS = dict.fromkeys(METHODS, forward_floor) | {
    "lifelong": lifelong_floor,
    "igam": double_backward_floor,
    "pag": double_backward_floor,
    "ard": attack_floor,
}


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

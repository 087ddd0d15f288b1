"""Time of one step of each method over that of a plain training step, and over the passes it cannot avoid.

    OMP_NUM_THREADS=1 python benchmarks/method_step.py [METHOD ...] [--bf16]

The floor is made of bare passes on the same networks and images, in eager mode: the student's forward and backward pass
with a cross-entropy and the teacher's forward pass without gradients; for IGAM and PAG the teacher's and the student's
input gradients and the way back through the student's as well; for two-point matching the input gradients of both and
the student at two points; for RSLAD and ARD the attack's gradients. All are timed in turns in one run, so that a change
of the machine's speed meets all; a ratio is the median of the turns' own ratios.
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
    RSLAD,
    ARDOptions,
    IGAMOptions,
    Lifelong,
    MixACM,
    Objective,
    TeacherGradients,
    TwoPoint,
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
    "igam": lambda student, teacher: IGAM(
        student, teacher, IGAMOptions(weight=1.0, feature_weight=0.0, noise=0.0, start=0.0, ramp=0.0)
    ),
    "pag": lambda student, teacher: PAG(student, TeacherGradients(teacher, student)),
    "rslad": lambda student, teacher: RSLAD(student, teacher, THREAT),
    "two-point": TwoPoint,
    "ard": lambda student, teacher: ARD(student, teacher, THREAT, ARDOptions(steps=ATTACK_STEPS)),
}


def main(methods: tyro.conf.Positional[tuple[str, ...]] = tuple(METHODS), *, bf16: bool = False) -> None:
    """Times the methods and prints the table.

    Args:
        methods: which.
        bf16: computes under autocast to bfloat16, as runs with --mixed_precision bf16 do.
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
        parts: dict[str, Callable[[], torch.Tensor]] = {
            "step": lambda: objective(images, labels).total,  # noqa: B023
            "plain": lambda: F.cross_entropy(student(images), labels),  # noqa: B023
            "floor": lambda: FLOORS[method](networks, images, labels),  # noqa: B023
        }
        seconds = time_in_turns(parts, student, bf16=bf16)
        over_floor, over_plain = (ratios(seconds["step"], seconds[other]) for other in ("floor", "plain"))
        spread = f"{over_floor[0]:.3f} to {over_floor[2]:.3f}"
        rows.append([method, 1000 * statistics.median(seconds["step"]), over_plain[1], over_floor[1], spread])
    precision = "bfloat16" if bf16 else "float32"
    print(
        f"batches of {BATCH}, {TURNS} turns, {torch.get_num_threads()} threads, {precision}; over passes: at most 1.10"
    )
    headers = ["method", "step ms", "over a plain step", "over its passes", "quartiles"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", ".0f", ".2f", ".3f", "")))


def time_in_turns(
    parts: dict[str, Callable[[], torch.Tensor]], student: PixelClassifier, *, bf16: bool
) -> dict[str, list[float]]:
    """Takes the seconds of each part and its way back, again and again, in an order that changes."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in trange(TURNS + WARM_UP, desc="turns", leave=False):
        for name in list(parts)[:: -1 if turn % 2 else 1]:
            student.train()
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                total = parts[name]()
            total.backward()
            elapsed = time.perf_counter() - start
            student.zero_grad()
            if turn >= WARM_UP:
                seconds[name].append(elapsed)
    return seconds


def ratios(one: list[float], other: list[float]) -> list[float]:
    """Gives the quartiles of the turns' own ratios."""
    return statistics.quantiles([a / b for a, b in zip(one, other, strict=True)])


def forward_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Student forward and backward, teacher forward."""
    student, teacher = networks
    with torch.no_grad():
        teacher(images)
    return F.cross_entropy(student(images), labels)


def double_backward_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The input gradients of both, and the way back through the student's and through its logits."""
    student, teacher = networks
    pixels = images.clone().requires_grad_()
    torch.autograd.grad(F.cross_entropy(teacher(pixels), labels, reduction="sum"), pixels)
    losses = F.cross_entropy(student(pixels), labels, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), pixels, create_graph=True)
    return losses.mean() + gradient.square().sum()


def attack_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The student's input gradients, one a step of the attack, in eval mode, and then as without an attack."""
    for _ in range(ATTACK_STEPS):
        input_gradient(networks[0], images, labels)
    return forward_floor(networks, images, labels)


def one_step_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The student's input gradient, in eval mode, and then as without a step."""
    input_gradient(networks[0], images, labels)
    return forward_floor(networks, images, labels)


def two_point_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The input gradients of both, and the student forward and backward at two points."""
    for network in networks:
        input_gradient(network, images, labels)
    return F.cross_entropy(networks[0](torch.cat([images, images])), labels.repeat(2))


def input_gradient(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Computes it in eval mode."""
    mode = network.training
    pixels = images.clone().requires_grad_()
    torch.autograd.grad(F.cross_entropy(network.eval()(pixels), labels, reduction="sum"), pixels)
    network.train(mode)


def lifelong_floor(networks: Networks, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """As `forward_floor`, with a student in eval mode."""
    networks[0].eval()
    return forward_floor(networks, images, labels)


FLOORS = dict.fromkeys(METHODS, forward_floor) | {
    "lifelong": lifelong_floor,
    "igam": double_backward_floor,
    "pag": double_backward_floor,
    "ard": attack_floor,
    "rslad": one_step_floor,
    "two-point": two_point_floor,
}


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

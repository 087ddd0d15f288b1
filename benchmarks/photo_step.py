"""Images a second and peak memory of a training step on photos of 224 px, by method, on the fastest device there is.

    python benchmarks/photo_step.py [METHOD ...] [--bf16] [--compiled]

Student and teacher are of one architecture. Each method takes its steps in a process of its own, so that the memory is
its alone, and plain training steps after them: as it is, with activations that are computed again
(--grad-checkpointing), and compiled (as --dynamo_backend inductor does). On a CPU memory is the most that the process
held, on an accelerator the most that torch allocated.
"""

import multiprocessing
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from tabulate import tabulate
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.method_step import METHODS, THREAT
from robust_hub.methods import AdversarialTraining, NFGSMOptions, Objective, Plain
from robust_hub.models import Teacher, create_classifier
from robust_hub.training import FineTuningConfig, fine_tune

CLASSES, STEPS, WARM_UP = 10, 3, 1
ALL = METHODS | {
    "plain": lambda student, _: Plain(student),
    "n-fgsm": lambda student, _: AdversarialTraining(student, THREAT, NFGSMOptions()),
}


@dataclass(frozen=True)
class Setting:
    """What all methods have in common."""

    architecture: str = "tf_efficientnet_lite0"
    image_size: int = 224
    batch_size: int = 32
    bf16: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Step:
    """What a method takes: images a second, the same over plain training's, and GiB."""

    speed: float
    over_plain: float
    memory: float


def main(methods: tyro.conf.Positional[tuple[str, ...]] = tuple(ALL), *, setting: tyro.conf.OmitArgPrefixes[Setting]):
    """Measures the methods and prints the table.

    Args:
        methods: which.
        setting: of all of them.
    """
    rows, ways = [], ["checkpointed", *(["compiled"] if setting.compiled else [])]
    for method in tqdm(methods):
        usual = alone(method, "", setting)
        assert usual
        row = [method, f"{usual.speed:.0f}", f"{usual.over_plain:.2f}", f"{usual.memory:.1f}"]
        for way in ways:
            other = alone(method, way, setting)
            ratios = (other.speed / usual.speed, other.memory / usual.memory) if other else ()
            row += [f"{ratio:.2f}" for ratio in ratios] or ["refused"] * 2
        rows.append(row)
    print(f"{setting}, on {device_name()}, torch {torch.__version__}")
    headers = ["method", "images / s", "a step over a plain step", "peak GiB"]
    headers += [f"{what}, {way} over not" for way in ways for what in ("speed", "memory")]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


def device() -> torch.device:
    """Tells where steps are taken."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def device_name() -> str:
    """Names that in words."""
    return torch.cuda.get_device_name() if device().type == "cuda" else f"{device()}, {torch.get_num_threads()} threads"


def alone(method: str, way: str, setting: Setting) -> Step | None:
    """Measures a method in a process of its own; see `measure`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        return processes.submit(measure, method, way, setting).result()


def measure(method: str, way: str, setting: Setting) -> Step | None:
    """Takes steps of one method, and then of plain training; none where the method does not go that way."""
    torch.manual_seed(0)
    shape = 3, setting.image_size, setting.image_size
    images = torch.rand(setting.batch_size, *shape, device=device()).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (setting.batch_size,), device=device())
    student, teacher = (
        create_classifier(setting.architecture, {}, num_classes=CLASSES, image_shape=shape) for _ in range(2)
    )
    objective = ALL[method](student, Teacher(teacher)).to(device()).to(memory_format=torch.channels_last).train()
    if way and objective.needs_second_derivatives:
        return None
    fine_tune(objective, FineTuningConfig(grad_checkpointing=way == "checkpointed"))
    step = torch.compile(objective) if way == "compiled" else objective
    seconds = [timed(step, images, labels, objective, setting) for _ in range(STEPS + WARM_UP)][WARM_UP:]
    memory = peak()
    plain = [timed(Plain(student), images, labels, objective, setting) for _ in range(STEPS + WARM_UP)][WARM_UP:]
    median = statistics.median(seconds)
    return Step(setting.batch_size / median, median / statistics.median(plain), memory)


def timed(step, images: torch.Tensor, labels: torch.Tensor, objective: Objective, setting: Setting) -> float:
    """Takes the seconds of a step."""
    begun = time.perf_counter()
    with torch.autocast(device().type, dtype=torch.bfloat16, enabled=setting.bf16):
        total = step(images, labels).total
    total.backward()
    if device().type != "cpu":
        torch.accelerator.synchronize()
    elapsed = time.perf_counter() - begun
    objective.zero_grad()
    return elapsed


def peak() -> float:
    """Tells the most GiB that were taken so far."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    # Linux counts it in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

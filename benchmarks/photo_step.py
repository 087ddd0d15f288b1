"""Images a second and peak memory of a training step on photos of 224 px, by method.

    python benchmarks/photo_step.py [METHOD ...]

Student and teacher are tf_efficientnet_lite0, a batch is 32 photos. Each method takes steps in a process of its own, as
it is and with activations that are computed again (--grad-checkpointing), so that the memory is its alone.
"""

import multiprocessing
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import tyro
from tabulate import tabulate
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.method_step import METHODS, THREAT
from robust_hub.methods import RSLAD, AdversarialTraining, NFGSMOptions, Plain
from robust_hub.models import Teacher, create_classifier
from robust_hub.training import FineTuningConfig, fine_tune

ARCHITECTURE, SHAPE, BATCH, CLASSES = "tf_efficientnet_lite0", (3, 224, 224), 32, 10
STEPS, WARM_UP = 5, 1
# They take second derivatives, for which activations can't be computed again.
REFUSED = ("igam", "pag")
ALL = METHODS | {
    "plain": lambda student, _: Plain(student),
    "n-fgsm": lambda student, _: AdversarialTraining(student, THREAT, NFGSMOptions()),
    "rslad": lambda student, teacher: RSLAD(student, teacher, THREAT),
}


def main(methods: tyro.conf.Positional[tuple[str, ...]] = tuple(ALL)) -> None:
    """Measures the methods and prints the table.

    Args:
        methods: which.
    """
    rows = []
    for method in tqdm(methods):
        speed, memory = alone(method, checkpointed=False)
        slower, smaller = "refused", "refused"
        if method not in REFUSED:
            again = alone(method, checkpointed=True)
            slower, smaller = again[0] / speed, again[1] / memory
        rows.append([method, speed, memory, slower, smaller])
    print(f"batches of {BATCH}, {ARCHITECTURE}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    headers = ["method", "images / s", "peak GiB", "speed, checkpointed over not", "memory, checkpointed over not"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=(".0f", ".1f", ".2f", ".2f", ".2f")))


def alone(method: str, *, checkpointed: bool) -> tuple[float, float]:
    """Measures a method in a process of its own; see `measure`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        return processes.submit(measure, method, checkpointed).result()


def measure(method: str, checkpointed: bool) -> tuple[float, float]:
    """Takes steps of one method.

    Returns:
        Images a second, and the most GiB that the process held.
    """
    torch.manual_seed(0)
    images = torch.rand(BATCH, *SHAPE).to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,))
    student, teacher = (create_classifier(ARCHITECTURE, {}, num_classes=CLASSES, image_shape=SHAPE) for _ in range(2))
    objective = ALL[method](student, Teacher(teacher)).to(memory_format=torch.channels_last).train()
    fine_tune(objective, FineTuningConfig(grad_checkpointing=checkpointed))
    seconds = []
    for _ in range(STEPS + WARM_UP):
        start = time.perf_counter()
        objective(images, labels).total.backward()
        seconds.append(time.perf_counter() - start)
        objective.zero_grad()
    # Linux counts it in KiB.
    return BATCH / statistics.median(seconds[WARM_UP:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

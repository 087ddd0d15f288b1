"""Time of one RRM step over the time of the passes it cannot avoid.

    python benchmarks/transfer_step.py

The floor: the student's forward and backward pass with a cross-entropy, and the teacher's forward pass without
gradients, on the same networks and images, in eager mode. Both are timed in turns in one run, so that a change of the
machine's speed meets both; the ratio is that of the medians, its spread the quartiles of the turns' own ratios.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from tqdm import trange

import robust_hub  # noqa: F401  registers resnet18_cifar
from robust_hub.architectures import create_classifier
from robust_hub.classifiers import Teacher
from robust_hub.methods import RRM

TURNS = 40
SHAPE = (3, 32, 32)


def main() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(128, *SHAPE), torch.randint(10, (128,))
    small = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}
    teacher = Teacher(create_classifier("resnet18_cifar", small, num_classes=10, image_shape=SHAPE))
    student = create_classifier("resnet10t", {**small, "output_stride": 8}, num_classes=10, image_shape=SHAPE)
    objective = RRM(student, teacher).to(memory_format=torch.channels_last).train()

    def step() -> None:
        objective(images, labels).total.backward()

    def floor() -> None:
        with torch.no_grad():
            teacher.classifier.model(images)
        F.cross_entropy(student.model(images), labels).backward()

    seconds = {step: [], floor: []}
    for turn in trange(TURNS + 3, desc="turns"):
        for part in (step, floor) if turn % 2 else (floor, step):
            elapsed = _time(part)
            student.zero_grad()
            if turn >= 3:
                seconds[part].append(elapsed)
    ratios = [a / b for a, b in zip(seconds[step], seconds[floor], strict=True)]
    low, _, high = statistics.quantiles(ratios)
    medians = {part: statistics.median(times) for part, times in seconds.items()}
    step_ms, floor_ms = 1000 * medians[step], 1000 * medians[floor]
    print(f"RRM step {step_ms:.1f} ms, floor {floor_ms:.1f} ms, {torch.get_num_threads()} threads")
    print(f"ratio {step_ms / floor_ms:.3f} (quartiles of {TURNS} turns {low:.3f} to {high:.3f}); wanted <= 1.05")


def _time(part: Callable[[], None]) -> float:
    start = time.perf_counter()
    part()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

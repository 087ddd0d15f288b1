"""Times AutoAttack beside the reference engine, stage by stage, on the same model and the same images.

    python benchmarks/autoattack.py --data FOLDER_OF_CIFAR10

Every stage gets the images that our stages before it have left, in both engines. The reference is `pyautoattack` 0.2.0
with its own batch size of 250; ours has 64, which the caches of a CPU hold. Ratios are the reference's time over ours.
The floor is the time of the passes that our stage made, and no more: as many forward passes, and forward and backward
passes together, of the network it searched on (the fastest that has equal logits), at our batch size, each timed as the
median of five right after the stage.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from pyautoattack import AutoAttack as Reference
from tabulate import tabulate
from torch import nn
from tqdm import tqdm

from robust_hub.attacks import Attack, AutoAttack
from robust_hub.data import Source, evaluation_loader, load_data, subset
from robust_hub.evaluation import search_classifier
from robust_hub.hub import load
from robust_hub.models import PixelClassifier
from robust_hub.threats import Linf, Threat, parse_threat

REFERENCE_BATCH = 250
OUR_BATCH = 64


@dataclass(frozen=True)
class Timed:
    """What one engine made of one stage."""

    robust: torch.Tensor
    seconds: float


def main(
    data: str,
    model: str = "local-dir:model_cards/resnet18_cifar.nfgsm_linf8_cifar10",
    threat: str = "linf:8/255",
    images: int = 250,
    seed: int = 0,
) -> None:
    """Runs both engines and prints the table.

    Args:
        data: a data set whose test split it classifies.
        model: a checkpoint.
        threat: linf:EPS or l2:EPS.
        images: how many.
        seed: of the random starts.
    """
    classifier, ball = load(model).eval(), parse_threat(threat)
    rows = subset(load_data(Source(data)).test, images)
    (pixels, labels), *_ = evaluation_loader(
        rows, classifier.preprocessing, batch_size=images, device=torch.device("cpu")
    )
    standing = _robust(classifier, pixels, labels)
    strict = search_classifier(classifier, "float32", pixels[:8])
    fast = search_classifier(classifier, "bfloat16", pixels[:8])
    assert isinstance(strict, PixelClassifier)
    lines, totals = [], [0.0] * 4
    for name, stage in tqdm(AutoAttack(ball).stages(classifier.num_classes).items(), leave=False):
        attacked, true = pixels[standing], labels[standing]
        reference = _timed(
            classifier, lambda a, t, name=name: _reference(classifier, ball, name, seed)(a, t), attacked, true
        )
        before = strict.passes.forward, strict.passes.backward
        ours = _timed(classifier, _ours(stage, strict, seed), attacked, true)
        forward, backward = strict.passes.forward - before[0], strict.passes.backward - before[1]
        low = _timed(classifier, _ours(stage, fast, seed), attacked, true)
        floor = _floor(strict, attacked[:OUR_BATCH], forward, backward)
        agree = (reference.robust == ours.robust).float().mean().item()
        seconds = (reference.seconds, ours.seconds, low.seconds, floor)
        totals = [total + one for total, one in zip(totals, seconds, strict=True)]
        counts = [int(one.robust.sum()) for one in (reference, ours, low)]
        lines.append((name, len(attacked), *counts, f"{100 * agree:.1f}", *_columns(*seconds)))
        tqdm.write(f"{name}: {seconds[0]:.0f} s, ours {seconds[1]:.0f} s, with bfloat16 {seconds[2]:.0f} s")
        standing = standing.clone()
        standing[standing.clone()] = ours.robust
    lines.append(("total", "", "", "", "", "", *_columns(*totals)))
    headers = ("attack", "images", "left by reference", "by ours", "by ours, bf16 search", "agree %")
    headers += ("reference s", "ours s", "ratio", "bf16 s", "ratio", "ours / floor")
    print(f"{model}, {threat}, {images} images, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(tabulate(lines, headers, tablefmt="github"))


def _columns(reference: float, ours: float, low: float, floor: float) -> tuple[str, ...]:
    return (
        f"{reference:.0f}",
        f"{ours:.0f}",
        f"{reference / ours:.2f}",
        f"{low:.0f}",
        f"{reference / low:.2f}",
        f"{ours / floor:.2f}",
    )


def _reference(classifier: PixelClassifier, threat: Threat, stage: str, seed: int) -> Callable:
    norm = "Linf" if isinstance(threat, Linf) else "L2"
    engine = Reference(classifier, norm=norm, eps=threat.eps, version="standard", seed=seed)
    engine.attacks_to_run = [stage]

    def run(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        adversarial, _ = engine.run_standard_evaluation(images, labels, batch_size=REFERENCE_BATCH)
        return adversarial

    return run


def _ours(stage: Attack, search: nn.Module, seed: int) -> Callable:
    def run(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(seed)
        batches = zip(images.split(OUR_BATCH), labels.split(OUR_BATCH), strict=True)
        return torch.cat([stage(search, *batch) for batch in batches])

    return run


def _timed(classifier: PixelClassifier, attack: Callable, images: torch.Tensor, labels: torch.Tensor) -> Timed:
    start = time.perf_counter()
    adversarial = attack(images, labels)
    seconds = time.perf_counter() - start
    return Timed(_robust(classifier, adversarial, labels), seconds)


@torch.no_grad()
def _robust(classifier: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return classifier(images).argmax(1) == labels


def _floor(search: nn.Module, images: torch.Tensor, forward: int, backward: int) -> float:
    def forward_only() -> None:
        with torch.no_grad():
            search(images)

    def forward_and_backward() -> None:
        pixels = images.clone().requires_grad_()
        torch.autograd.grad(search(pixels).sum(), pixels)

    return (
        (forward - backward) * _median_seconds(forward_only) + backward * _median_seconds(forward_and_backward)
    ) / len(images)


def _median_seconds(run: Callable[[], None]) -> float:
    times = []
    for _ in range(6):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

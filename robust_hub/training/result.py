"""What a run ends with: one table, the student's folder, and the pictures in it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tabulate import tabulate
from torch import nn

from robust_hub.attacks import eval_mode, loss_and_gradient
from robust_hub.evaluation import (
    CURVE_STEPS,
    Evaluation,
    pgd_curve,
    plot_accuracy_curves,
    plot_input_gradients,
    report_on,
)
from robust_hub.launch import hardware, peak_memory, progress, told_command, versions
from robust_hub.losses import cross_entropy
from robust_hub.model_folder import Lineage, Provenance, TrainingCost, model_name, save, short_name
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.training.loaders import Loaders
from robust_hub.training.loop import TrainState


@dataclass(frozen=True)
class Result:
    """One model of a comparison.

    Attributes:
        name: what the table and the pictures call it.
        classifier: the model; a `PixelClassifier`, or the `Teacher` around one.
        evaluation: on the test split.
        seconds: of training, without the teacher's own; nan where it is not known.
        images: training images seen, on all processes; 0 where not known.
        passes: forward and backward passes of each network in training, on all processes; empty where not known.
        best_epoch: the epoch its averaged weights are from, chosen on validation; 0 where none was chosen.
        loaders: what it was trained and tested on; None for a model that others trained.
    """

    name: str
    classifier: nn.Module
    evaluation: Evaluation
    seconds: float
    images: int
    passes: dict[str, dict[str, int]]
    best_epoch: int
    loaders: Loaders | None = None


def trained(
    accelerator: Accelerator, method: str, classifier: PixelClassifier, evaluation: Evaluation, state: TrainState
) -> Result:
    """Makes the result of a training run."""
    passes = {
        network: {kind: count * accelerator.num_processes for kind, count in asdict(counts).items()}
        for network, counts in state.passes.items()
    }
    name, best = short_name(method), state.best_epoch
    return Result(name, classifier, evaluation, state.seconds, state.images, passes, best)


def published(name: str, classifier: nn.Module, evaluation: Evaluation, cost: TrainingCost | None) -> Result:
    """Makes the result of a model; what it cost to train is what its own config.json tells."""
    if cost is None:
        return Result(name, classifier, evaluation, math.nan, 0, {}, 0)
    return Result(name, classifier, evaluation, cost.seconds, cost.images, cost.passes, 0)


def table(results: list[Result], data: str, threat: Threat) -> str:
    """Writes results one below the other, with what was measured and how above them."""
    evaluation = results[0].evaluation
    rows = [
        (
            result.name,
            str(result.evaluation.clean_accuracy),
            str(result.evaluation.robust_accuracy),
            result.seconds,
            *(_passes(result, kind) for kind in ("forward", "backward")),
        )
        for result in results
    ]
    headers = ("", "clean %", f"robust %, {threat}", "training s", "forward passes", "backward passes")
    return (
        f"{data}: {len(evaluation.clean)} test images, accuracy with 95 % intervals\n"
        f"attack: {evaluation.attack}\n\n" + tabulate(rows, headers, tablefmt="github", floatfmt=".0f", intfmt=",")
    )


def _passes(result: Result, kind: str) -> str:
    if not result.passes:
        return "-"
    if len(result.passes) == 1:
        return f"{next(iter(result.passes.values()))[kind]:,}"
    return " + ".join(f"{counts[kind]:,} {network}" for network, counts in result.passes.items() if counts[kind])


def draw_pictures(accelerator: Accelerator, results: list[Result], loaders: Loaders, folder: Path) -> dict[Path, str]:
    """Draws accuracy against eps and the gallery of input gradients; returns the files with their captions.

    Each process attacks the first batch of its share of the test split.
    """
    threat = loaders.threat
    images, labels = next(iter(loaders.test))
    curves = {
        result.name: pgd_curve(accelerator, result.classifier, images, labels, threat)
        for result in progress(results, desc="pictures")
    }
    n = sum(gather_object([len(images)]))
    images, labels = images[:8], labels[:8]
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        plot_accuracy_curves(folder / "accuracy_against_eps.png", curves, norm=threat.name, reported=threat.eps)
        gradients = {result.name: _input_gradient(result.classifier, images, labels) for result in results}
        plot_input_gradients(folder / "input_gradients.png", images, gradients)
    return {
        folder / "accuracy_against_eps.png": f"Accuracy under PGD-{CURVE_STEPS} against eps, {n} test images.",
        folder / "input_gradients.png": "Test images, and the gradient of each model's loss with respect to them.",
    }


def _input_gradient(classifier: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with eval_mode(classifier):
        _, gradient = loss_and_gradient(lambda pixels: cross_entropy(classifier(pixels), labels), images)
    return gradient


def save_result(
    accelerator: Accelerator,
    folder: Path,
    result: Result,
    *,
    method: str,
    seed: int,
    teacher: Lineage | None = None,
    starts_from: str = "",
    pictures: Mapping[Path, str] = MappingProxyType({}),
) -> None:
    """Writes the folder of a trained student, on the main process.

    Args:
        accelerator: of the run.
        folder: where it goes.
        result: the student.
        method: the objective with its arguments, its name before the first bracket.
        seed: of the run.
        teacher: what taught it; None when nobody did.
        starts_from: the model whose weights it started from; empty for an untrained network.
        pictures: plots to put into the folder, with what they show.
    """
    classifier, evaluation, loaders = result.classifier, result.evaluation, result.loaders
    assert isinstance(classifier, PixelClassifier)
    assert loaders is not None
    provenance = Provenance(
        name=model_name(classifier.architecture, method, loaders.threat, loaders.data.name),
        architecture=classifier.architecture,
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
        method=method,
        data=loaders.data.name,
        threat=str(loaders.threat),
        eps=loaders.threat.eps,
        command=told_command(),
        teacher=teacher,
        starts_from=starts_from,
        training=TrainingCost(
            seed=seed,
            best_epoch=result.best_epoch,
            seconds=result.seconds,
            images=result.images,
            peak_memory=peak_memory(accelerator),
            passes=result.passes,
            hardware=hardware(accelerator),
            versions=versions(),
        ),
        pictures={picture.name: caption for picture, caption in pictures.items()},
    )
    report = report_on(
        accelerator,
        classifier,
        loaders.data,
        loaders.source,
        loaders.threat,
        evaluation,
        model=provenance.name,
        attacks={evaluation.attack: evaluation.attack},
        seed=seed,
    )
    if accelerator.is_main_process:
        label_names = loaders.data.label_names
        save(folder, classifier, provenance, label_names=label_names, report=report, pictures=list(pictures))
    accelerator.print(f"\nwritten: timm.create_model('local-dir:{folder}', pretrained=True)")
    accelerator.wait_for_everyone()

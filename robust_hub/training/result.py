"""What a run ends with: the student's folder and one table."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from tabulate import tabulate
from torch import nn

from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Evaluation, Report, report_on
from robust_hub.launch import hardware, peak_memory, told_command, versions
from robust_hub.model_folder import Lineage, ModelFolder, Provenance, TrainingCost, model_name, save, short_name
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
    is_imbalanced = any(
        result.loaders.data.facts.splits["test"].is_imbalanced for result in results if result.loaders is not None
    )
    rows = [
        (
            result.name,
            str(result.evaluation.clean_accuracy),
            str(result.evaluation.robust_accuracy),
            *(_balanced(result.evaluation) if is_imbalanced else ()),
            result.seconds,
            *(_passes(result, kind) for kind in ("forward", "backward")),
        )
        for result in results
    ]
    balanced = ("balanced clean %", "balanced robust %") if is_imbalanced else ()
    headers = ("", "clean %", f"robust %, {threat}", *balanced, "training s", "forward passes", "backward passes")
    return (
        f"{data}: {len(evaluation.clean)} test images, accuracy with 95 % intervals\n"
        f"attack: {evaluation.attack}\n\n"
        + tabulate(
            rows, headers, tablefmt="github", floatfmt=".0f", intfmt=",", disable_numparse=[3, 4] if balanced else []
        )
    )


def _balanced(evaluation: Evaluation) -> tuple[str, str]:
    clean, robust = (100 * evaluation.balanced(mask) for mask in (evaluation.clean, evaluation.robust))
    return f"{clean:.1f}", f"{robust:.1f}"


def _passes(result: Result, kind: str) -> str:
    if not result.passes:
        return "-"
    if len(result.passes) == 1:
        return f"{next(iter(result.passes.values()))[kind]:,}"
    return " + ".join(f"{counts[kind]:,} {network}" for network, counts in result.passes.items() if counts[kind])


def save_result(
    accelerator: Accelerator,
    folder: Path,
    result: Result,
    *,
    method: str,
    seed: int,
    teacher: Lineage | None = None,
    starts_from: ModelFolder | None = None,
) -> None:
    """Writes the folder of a trained student, on the main process; one that holds these weights already is kept.

    Args:
        accelerator: of the run.
        folder: where it goes.
        result: the student.
        method: the objective with its arguments, its name before the first bracket.
        seed: of the run.
        teacher: what taught it; None when nobody did.
        starts_from: the model whose weights it started from; None for an untrained network.
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
        starts_from=starts_from.public_place if starts_from else "",
        starts_from_sha256=starts_from.sha256 if starts_from else "",
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
    if accelerator.is_main_process and not _holds(folder, report.model_sha256):
        save(folder, classifier, provenance, label_names=loaders.data.label_names, report=report)
    accelerator.wait_for_everyone()


def _holds(folder: Path, sha256: str) -> bool:
    """Tells whether a model folder is about these very weights: its evaluation may be a better one, and its notes."""
    try:
        return Report.read(folder).model_sha256 == sha256
    except CheckpointError:
        return False

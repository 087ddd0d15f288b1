"""Measures a classifier: all attacks of an ensemble, the honesty checks, evidence and pictures, as one report."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robust_hub.attacks import AutoAttack
from robust_hub.data import Data, Loader, Shard, Source, evaluation_loader, split_sha256, subset
from robust_hub.evaluation.accuracy import Accuracy, Check, Cost, Evaluation
from robust_hub.evaluation.honesty import check_honesty
from robust_hub.evaluation.journal import Journal
from robust_hub.evaluation.plots import plot_accuracy_curves, plot_classes, plot_survivors
from robust_hub.evaluation.report import Report, SearchPrecision
from robust_hub.evaluation.robust_accuracy import pgd_curve
from robust_hub.evaluation.search import search_classifier
from robust_hub.evaluation.stages import evaluate_in_stages
from robust_hub.launch import Output, hardware, told_command, versions
from robust_hub.models import PixelClassifier
from robust_hub.names import EVIDENCE
from robust_hub.threats import Threat


@runtime_checkable
class Measurement(Protocol):
    """How a classifier is measured."""

    @property
    def source(self) -> Source:
        """Where the images are from, and how many are tested."""
        ...

    @property
    def output(self) -> Output:
        """Where the run writes."""
        ...

    @property
    def search_precision(self) -> SearchPrecision:
        """Of the network the attacks search on; every verdict is float32's."""
        ...

    @property
    def honesty_images(self) -> int:
        """How many images the honesty checks use, over all processes."""
        ...

    @property
    def batch_size(self) -> int:
        """Images at a time on each process; halved where they do not fit into memory."""
        ...

    @property
    def seed(self) -> int:
        """Of the random starts."""
        ...


def measure(
    accelerator: Accelerator,
    classifier: PixelClassifier,
    data: Data,
    attack: AutoAttack,
    config: Measurement,
    *,
    model: str,
    surrogates: dict[str, nn.Module],
) -> Report:
    """Attacks the test images and looks for reasons not to believe the outcome; writes all of it into a folder.

    Args:
        accelerator: of the run.
        classifier: on its device, in eval mode.
        data: whose test split is attacked.
        attack: the ensemble.
        config: how; its output gets evaluation.json, the evidence and three pictures, and what a killed run left there
            is gone on from.
        model: its name in the report.
        surrogates: see `check_honesty`.
    """
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    loader = evaluation_loader(
        subset(data.test, config.source.test_images),
        classifier.input_size,
        batch_size=config.batch_size,
        device=accelerator.device,
        shard=shard,
    )
    none = torch.zeros(0, *classifier.input_size, device=accelerator.device)
    images, labels = _first(loader, -(-config.honesty_images // accelerator.num_processes), none)
    search = search_classifier(classifier, config.search_precision, images[:8])
    journal, label = Journal(config.output.checkpoints), classifier.architecture
    evaluation, costs, evidence = evaluate_in_stages(
        accelerator, classifier, search, loader, attack, seed=config.seed, journal=journal, label=label
    )
    # Of this process's share of the split, the images that the checks look at.
    withstood = evaluation.survivors[attack.last_with_gradients][shard.rank :: shard.world][: len(images)]
    survivors = torch.from_numpy(withstood).to(images.device)
    checks = check_honesty(
        accelerator, classifier, images, labels, attack.threat, survivors, surrogates=surrogates, seed=config.seed
    )
    curve = pgd_curve(accelerator, classifier, images, labels, attack.threat)
    report = report_on(
        accelerator,
        classifier,
        data,
        config.source,
        attack.threat,
        evaluation,
        model=model,
        attacks={name: repr(stage) for name, stage in attack.stages(classifier.num_classes).items()},
        seed=config.seed,
        search_precision=config.search_precision,
        costs=costs,
        checks=checks,
    )
    if accelerator.is_main_process:
        evidence.save(config.output.folder / EVIDENCE)
        _draw(report, attack.threat, curve, config.output.folder)
        # Last, as it says that all the rest is there.
        report.write(config.output.folder)
        shutil.rmtree(config.output.checkpoints)
    return report


def report_on(
    accelerator: Accelerator,
    classifier: PixelClassifier,
    data: Data,
    source: Source,
    threat: Threat,
    evaluation: Evaluation,
    *,
    model: str,
    attacks: dict[str, str],
    seed: int,
    search_precision: SearchPrecision = "float32",
    costs: Mapping[str, Cost] = MappingProxyType({}),
    checks: Sequence[Check] = (),
) -> Report:
    """Collects everything that an evaluation measured, and on what; the arguments are those of `Report`."""
    return Report(
        model=model,
        architecture=classifier.architecture,
        model_sha256=classifier.fingerprint(),
        source=source,
        data_sha256=split_sha256(subset(data.test, source.test_images)),
        label_names=data.label_names,
        threat=str(threat),
        attacks=attacks,
        search_precision=search_precision,
        evaluation=evaluation,
        costs=dict(costs),
        checks=list(checks),
        seed=seed,
        command=told_command(),
        hardware=hardware(accelerator),
        versions=versions(),
        rule=data.rule,
    )


def _first(loader: Loader, count: int, empty: Tensor) -> tuple[Tensor, Tensor]:
    """Takes the first images of a share; fewer, or none, where there are no more."""
    images, labels = [empty], [torch.zeros(0, dtype=torch.int64, device=empty.device)]
    for batch in loader:
        if sum(map(len, labels)) >= count:
            break
        images.append(batch[0])
        labels.append(batch[1])
    return torch.cat(images)[:count], torch.cat(labels)[:count]


def _draw(report: Report, threat: Threat, curve: dict[float, float], folder: Path) -> None:
    evaluation = report.evaluation
    plot_accuracy_curves(
        folder / "accuracy_against_eps.png", {report.architecture: curve}, norm=threat.name, reported=threat.eps
    )
    after = {stage: Accuracy.of(mask) for stage, mask in evaluation.survivors.items()}
    plot_survivors(folder / "survivors.png", {"clean": evaluation.clean_accuracy, **after}, threat=report.threat)
    plot_classes(folder / "classes.png", report.classes(), threat=report.threat)

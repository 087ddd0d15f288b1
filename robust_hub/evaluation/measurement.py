"""Measures a classifier: all attacks of an ensemble, the honesty checks and evidence, as one report; then pictures."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from robust_hub.attacks import AutoAttack
from robust_hub.data import (
    Data,
    Loader,
    Shard,
    Source,
    evaluation_loader,
    fingerprints_of,
    subset,
    tested_sha256,
    with_augmentation,
)
from robust_hub.evaluation.accuracy import Accuracy, Evaluation
from robust_hub.evaluation.evidence import Evidence, as_many_as_fit
from robust_hub.evaluation.honesty import check_honesty
from robust_hub.evaluation.journal import Journal
from robust_hub.evaluation.plots import dispensable, plot_accuracy_curves, plot_classes, plot_stress, plot_survivors
from robust_hub.evaluation.portions import Portion
from robust_hub.evaluation.report import FORMAT, Report, SearchPrecision
from robust_hub.evaluation.robust_accuracy import pgd_curve
from robust_hub.evaluation.search import search_classifier
from robust_hub.evaluation.stages import evaluate_in_stages
from robust_hub.evaluation.stress_panel import measure_stress
from robust_hub.launch import Output, hardware, told_command, versions
from robust_hub.models import PixelClassifier
from robust_hub.names import EVIDENCE
from robust_hub.threats import Threat, parse_threat
from robust_hub.types import Images

# To compare two copies of a classifier on.
FEW = 8


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
    def evidence_images(self) -> int:
        """Of how many of the tested images perturbations are kept, the first ones; 0 for as many as fit."""
        ...

    @property
    def stress(self) -> bool:
        """Whether accuracy under changes that are no attack is measured as well, on those of the honesty checks."""
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
        config: how; its output gets evaluation.json and the evidence, and what a killed run left there is gone on from.
        model: its name in the report.
        surrogates: see `check_honesty`.
    """
    accelerator.print(f"each image is brought to {classifier.preprocessing}, as the model wants it")
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    images = subset(data.test, config.source.test_images)
    rows = shard.batches(len(images), config.batch_size)
    loader = evaluation_loader(
        images, classifier.preprocessing, batch_size=config.batch_size, device=accelerator.device, shard=shard
    )
    search = search_classifier(classifier, config.search_precision, _few(accelerator, classifier, images))
    journal, label = Journal(config.output.checkpoints), classifier.architecture
    evaluation, costs, perturbations = evaluate_in_stages(
        accelerator, classifier, search, loader, rows, attack, seed=config.seed, journal=journal, label=label
    )
    portions = list(_first(loader, rows, config.honesty_images))
    withstood = torch.from_numpy(evaluation.survivors[attack.last_with_gradients])
    checks = check_honesty(
        classifier,
        portions,
        attack.threat,
        [withstood[first:][: len(labels)].to(labels.device) for first, _, labels in portions],
        surrogates=surrogates,
        seed=config.seed,
        journal=journal,
    )
    curve = pgd_curve(classifier, portions, attack.threat, seed=config.seed)
    stress = None
    if config.stress:
        stress = measure_stress(classifier, portions, attack.threat, seed=config.seed)
    tested = len(evaluation.clean)
    covered = min(tested, config.evidence_images or as_many_as_fit(perturbations, tested))
    attacks = {name: repr(stage) for name, stage in attack.stages(classifier.num_classes).items()}
    # As the surrogate saw them.
    source = with_augmentation(config.source, data, data.image_shape)
    report = replace(
        report_on(
            accelerator,
            classifier,
            data,
            source,
            attack.threat,
            evaluation,
            model=model,
            attacks=attacks,
            seed=config.seed,
        ),
        search_precision=config.search_precision,
        costs=costs,
        checks=checks,
        covered=covered,
        curve=curve,
        stress=stress,
    )
    if accelerator.is_main_process:
        known = fingerprints_of(data, config.source.test_images)
        Evidence.of(perturbations, known, most=covered).save(config.output.folder / EVIDENCE)
        # Last, as it says that all that was measured is there.
        report.write(config.output.folder)
    return report


def finish(accelerator: Accelerator, output: Output, report: Report) -> None:
    """Draws what pictures of a finished evaluation are missing, and forgets what a killed run would go on from.

    Args:
        accelerator: of the run.
        output: its folder gets three pictures, or a warning for each that can't be drawn.
        report: what was measured; older ones have no curve, and get no picture of one.
    """
    if not accelerator.is_main_process:
        return
    folder, evaluation, threat = output.folder, report.evaluation, parse_threat(report.threat)
    shutil.rmtree(output.checkpoints, ignore_errors=True)
    after = {stage: Accuracy.of(mask) for stage, mask in evaluation.survivors.items()}
    survivors = {"clean": evaluation.clean_accuracy, **after}
    draw = {
        "survivors.png": lambda file: plot_survivors(file, survivors, threat=report.threat),
        "classes.png": lambda file: plot_classes(file, report.classes(), threat=report.threat),
    }
    if report.curve:
        curves = {report.architecture: report.curve}
        draw["accuracy_against_eps.png"] = lambda file: plot_accuracy_curves(
            file, curves, norm=threat.name, reported=threat.eps
        )
    if report.stress:
        stress = report.stress
        draw["stress.png"] = lambda file: plot_stress(file, stress)
    for name, draw_into in draw.items():
        if not (folder / name).is_file():
            with dispensable(name):
                draw_into(folder / name)


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
) -> Report:
    """Collects what every evaluation tells: the masks, on what they were measured, and how; see `Report`."""
    return Report(
        model=model,
        architecture=classifier.architecture,
        model_sha256=classifier.fingerprint(),
        source=source,
        data_sha256=tested_sha256(data, source.test_images),
        label_names=data.label_names,
        threat=str(threat),
        attacks=attacks,
        search_precision="float32",
        evaluation=evaluation,
        costs={},
        checks=[],
        seed=seed,
        command=told_command(),
        hardware=hardware(accelerator),
        versions=versions(),
        rule=data.rule,
        preprocessing=classifier.preprocessing,
        facts=data.facts.shown_to(classifier.input_size).without_notes(),
        format=FORMAT,
    )


def _few(accelerator: Accelerator, classifier: PixelClassifier, rows: Dataset) -> Images:
    """Gives every process the same few images."""
    few = rows.select(range(min(FEW, len(rows))))
    ((images, _),) = evaluation_loader(few, classifier.preprocessing, batch_size=FEW, device=accelerator.device)
    return images


def _first(loader: Loader, rows: Sequence[range], most: int) -> Iterator[Portion]:
    """Yields those images of this process that are among the first so many of the split."""
    for numbers, (images, labels) in zip(rows, loader, strict=False):
        if (wanted := most - numbers.start) <= 0:
            return
        yield Portion(numbers.start, images[:wanted], labels[:wanted])

"""Models that nobody needs, with their facts, reports and folders."""

import atexit
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from recipes import evaluate
from robust_hub.attacks import AutoAttack
from robust_hub.data import Source, evaluation_loader, fingerprints_of, load_data, subset, tested_sha256
from robust_hub.evaluation import Check, Cost, Evaluation, Evidence, Journal, Perturbations, Report, evaluate_in_stages
from robust_hub.hub import load
from robust_hub.launch import Output
from robust_hub.losses import cross_entropy
from robust_hub.model_folder import Provenance, TrainingCost, add_evaluation, describe, require_provenance, save
from robust_hub.model_folder.saving import PICTURES
from robust_hub.models import PixelClassifier, create_classifier
from robust_hub.names import DECIMALS, EVIDENCE
from robust_hub.threats import parse_threat

CNN = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 16]}
VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
NAMES = ["ant", 'bee: "striped"', "cat | dog"]
CLEAN, ROBUST = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)


def provenance(architecture: str) -> Provenance:
    return Provenance(
        name=f"{architecture}.plain_linf8_synthetic",
        architecture=architecture,
        parameters=10,
        method="Plain()",
        data="synthetic",
        threat="linf:8/255",
        eps=8 / 255,
        command="accelerate launch recipes/transfer.py",
        training=TrainingCost(
            seed=0,
            best_epoch=1,
            seconds=2.0,
            images=1000,
            peak_memory=2**30,
            passes={"student": {"forward": 4, "backward": 4}},
            hardware="a machine",
            versions={"timm": "1"},
        ),
    )


def report(classifier: PixelClassifier, label_names: list[str], *, flagged: bool = False) -> Report:
    """Four images, three of them right and one robust."""
    attack = "PGD(steps=50)"
    return Report(
        model="local-dir:student",
        architecture=classifier.architecture,
        model_sha256=classifier.fingerprint(),
        source=Source("synthetic"),
        data_sha256="0" * 64,
        label_names=label_names,
        threat="linf:8/255",
        attacks={"pgd": attack},
        search_precision="float32",
        evaluation=Evaluation(attack, np.zeros(4, dtype=int), CLEAN, {"pgd": ROBUST}, 1.5),
        costs={"pgd": Cost(3, 150, 150, 1.5)},
        checks=[Check("square", 0.5 if flagged else 0.0, 0.02, flagged, "share of images that Square fools")],
        seed=0,
        command="accelerate launch recipes/evaluate.py",
        hardware="a machine",
        versions={"timm": "1"},
    )


def told_in(file: Path) -> dict:
    """Reads JSON; older files tell intervals with more digits than versions of scipy agree on."""
    return json.loads(file.read_text(), parse_float=lambda number: round(float(number), DECIMALS))


def saved(folder: Path, classifier: PixelClassifier) -> Path:
    """Saves a classifier with made-up facts and a made-up report."""
    told = report(classifier, NAMES)
    save(folder, classifier, provenance(classifier.architecture), label_names=NAMES, report=told)
    return folder


def trained(place: Path, architecture: str, model_args: dict) -> Path:
    """Saves a classifier of the synthetic set, trained plainly until it is mostly right."""
    data = load_data(Source("synthetic"))
    torch.manual_seed(0)
    classifier = create_classifier(architecture, model_args, num_classes=4, image_shape=(3, 16, 16))
    loader = evaluation_loader(data.train, classifier.preprocessing, batch_size=64, device=torch.device("cpu"))
    optimizer = torch.optim.AdamW(classifier.train().parameters(), lr=0.01)
    for _ in range(4):
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(classifier(images), labels).mean().backward()
            optimizer.step()
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    known = replace(provenance(architecture), parameters=parameters)
    save(place, classifier.eval(), known, label_names=data.label_names)
    return place


def quick_evaluation(folder: Path, output: Path, **changes) -> evaluate.Config:
    """The settings of an evaluation that takes a second or two."""
    options = {
        "source": Source("synthetic", test_images=24),
        "threat": "linf:1/255",
        "version": "quick",
        "honesty_images": 6,
        "batch_size": 24,
        **changes,
    }
    return evaluate.Config(model=f"local-dir:{folder}", output=Output(output), **options)


def evaluated(place: Path, architecture: str, model_args: dict) -> Path:
    """Saves a classifier with a real evaluation by two attacks and its evidence; its checks are made up."""
    return Path(shutil.copytree(_evaluated(architecture, json.dumps(model_args)), place))


@cache
def _evaluated(architecture: str, model_args: str) -> Path:
    """Makes the folder that all tests of a process copy."""
    place = Path(mkdtemp()) / "model"
    atexit.register(shutil.rmtree, place.parent, ignore_errors=True)
    folder, source = trained(place, architecture, json.loads(model_args)), Source("synthetic", test_images=24)
    classifier, data, threat = load(f"local-dir:{folder}").eval(), load_data(source), parse_threat("linf:1/255")
    rows, attack = subset(data.test, source.test_images), AutoAttack(threat, "quick")
    loader = evaluation_loader(rows, classifier.preprocessing, batch_size=24, device=torch.device("cpu"))
    output = place.with_name("evaluation")
    output.mkdir()
    evaluation, costs, perturbations = evaluate_in_stages(
        Accelerator(), classifier, classifier, loader, [range(24)], attack, seed=0, journal=Journal(output / "journal")
    )
    made_up = report(classifier, data.label_names)
    told = replace(
        made_up,
        source=source,
        data_sha256=tested_sha256(data, source.test_images),
        threat=str(threat),
        attacks={name: repr(stage) for name, stage in attack.stages(4).items()},
        evaluation=evaluation,
        costs=costs,
    )
    known = fingerprints_of(data, source.test_images)
    Evidence.of(perturbations, known, most=24).save(output / EVIDENCE)
    for picture in PICTURES:
        Image.new("RGB", (8, 8)).save(output / picture)
    add_evaluation(folder, told, output)
    return folder


def raised(folder: Path, points: float, generator: np.random.Generator) -> Path:
    """Claims more than is true: forgets the perturbations of some images, in all files alike."""
    report = Report.read(folder)
    evaluation = report.evaluation
    evidence = Evidence.load(folder / EVIDENCE, len(evaluation.clean))
    fallen = np.flatnonzero(evaluation.clean & ~evaluation.robust)
    spared = generator.permutation(fallen)[: round(points * len(evaluation.clean))]
    survivors = {stage: mask.copy() for stage, mask in evaluation.survivors.items()}
    for mask in survivors.values():
        mask[spared] = True
    kept = evidence.perturbations.rows(torch.from_numpy(~np.isin(fallen, spared)))
    replace(evidence, perturbations=kept).save(folder / EVIDENCE)
    claim = replace(report, evaluation=replace(evaluation, survivors=survivors))
    describe(folder, require_provenance(folder), claim)
    return folder


def change_perturbations(folder: Path, change: Callable[[Perturbations], Perturbations]) -> None:
    """Writes other perturbations into the evidence of 24 images."""
    evidence = Evidence.load(folder / EVIDENCE, 24)
    replace(evidence, perturbations=change(evidence.perturbations)).save(folder / EVIDENCE)

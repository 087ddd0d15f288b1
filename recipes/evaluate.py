"""Measures clean and robust accuracy of any classifier on any data set, and whether the figures can be believed.

    accelerate launch recipes/evaluate.py --model local-dir:FOLDER --data FOLDER --threat linf:8/255 --update-card \
        --output runs/eval
    accelerate launch recipes/evaluate.py --verify runs/eval

The attack is AutoAttack's standard ensemble; `--version quick` is its first two attacks, an upper bound that must not
be called AutoAttack. Writes OUTPUT/evaluation.json, OUTPUT/evidence.safetensors and three pictures. A run that was
killed goes on with `--resume`. With `--verify` it classifies the images of a finished evaluation again, and the
perturbed ones that its evidence keeps: seconds, for anyone who doubts the figure.
Expected of resnet18_cifar.nfgsm_linf8_cifar10 (quick, n = 1,000, linf 8/255): 69.5 clean, 35.9 robust, no flag.
"""

import itertools
import shutil
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from torch import nn

from robust_hub.attacks import PGD, AutoAttack
from robust_hub.classifiers import PixelClassifier
from robust_hub.command_line import command_line
from robust_hub.data import Data, Loader, Shard, Source, evaluation_loader, load_data, split_sha256, subset
from robust_hub.evaluation import (
    Accuracy,
    Journal,
    SearchPrecision,
    accuracy_curve,
    check_honesty,
    evaluate_in_stages,
    search_classifier,
)
from robust_hub.facts import Facts
from robust_hub.folders import add_evaluation
from robust_hub.hub import check_label_names, fetch, load, pin, read_facts
from robust_hub.messages import public
from robust_hub.plots import plot_accuracy_curves, plot_classes, plot_survivors
from robust_hub.reports import EVIDENCE, FILE, Report
from robust_hub.results import CURVE_RADII, CURVE_STEPS, PACKAGES
from robust_hub.runs import Run, check_folder, claim_folder, hardware, identity_of, make_accelerator, told_command
from robust_hub.surrogates import train_surrogate
from robust_hub.threats import parse_threat
from robust_hub.verification import verify as confirm_evaluation


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        model: hf-hub:ORG/NAME, local-dir:FOLDER, or the name of weights that timm knows.
        source: the images; the test split is used.
        run: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units.
        version: standard is AutoAttack; quick is its first two attacks, which is not.
        search_precision: of the network the attacks search on; every verdict is float32's.
        surrogates: more classifiers whose adversarial images are tried on the model, besides its teacher where that
            can be loaded, and a plain one trained in passing.
        honesty_images: how many images the honesty checks use.
        batch_size: images at a time on each process; halved where they do not fit into memory.
        seed: of the random starts.
        update_card: puts the evaluation, its evidence and its card into the folder of the model, a local-dir:FOLDER.
    """

    model: str
    source: Source
    run: Run
    threat: str = "linf:8/255"
    version: Literal["standard", "quick"] = "standard"
    search_precision: SearchPrecision = "float32"
    surrogates: tuple[str, ...] = ()
    honesty_images: int = 200
    batch_size: int = 128
    seed: int = 0
    update_card: bool = False


def main(config: Config) -> None:
    """Evaluates a model and prints what came of it."""
    for option in ("honesty_images", "batch_size"):
        if getattr(config, option) < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be at least 1, got {getattr(config, option)}")
    if config.update_card and not config.model.startswith("local-dir:"):
        raise ValueError(f"--update-card writes into a folder; download {config.model} and evaluate local-dir:FOLDER")
    threat = parse_threat(config.threat)
    attack = AutoAttack(threat, config.version)
    accelerator = make_accelerator(config.run)
    model = pin(config.model)
    classifier, facts = load(model).to(accelerator.device).eval(), read_facts(model)
    data = load_data(config.source)
    check_label_names(classifier, data.label_names)
    rows = subset(data.test, config.source.test_images)
    model_sha256, data_sha256 = classifier.fingerprint(), split_sha256(rows)
    settings = replace(config, update_card=False)
    identity = identity_of(accelerator, repr(attack), settings, sha256={"model": model_sha256, "data": data_sha256})
    check_folder(config.run, identity)
    folder = config.run.output
    if (folder / FILE).is_file():
        _finish(accelerator, config, Report.read(folder))
        return
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    loader = evaluation_loader(
        rows, classifier.input_size, batch_size=config.batch_size, device=accelerator.device, shard=shard
    )
    claim_folder(accelerator, config.run, identity)

    none = torch.zeros(0, *classifier.input_size, device=accelerator.device)
    images, labels = _first(loader, -(-config.honesty_images // accelerator.num_processes), none)
    search = search_classifier(classifier, config.search_precision, images[:8])
    evaluation, costs, evidence = evaluate_in_stages(
        accelerator,
        classifier,
        search,
        loader,
        attack,
        seed=config.seed,
        journal=Journal(config.run.checkpoints),
        label=classifier.architecture,
    )
    # The last attack with gradients of each version; Square, where it runs, has none.
    white_box = evaluation.survivors["fab-t" if config.version == "standard" else "apgd-t"]
    mine = white_box[shard.rank :: shard.world][: len(images)]
    checks = check_honesty(
        accelerator,
        classifier,
        images,
        labels,
        threat,
        torch.from_numpy(mine).to(images.device),
        surrogates=_surrogates(accelerator, config, data, classifier, facts),
        seed=config.seed,
    )
    radii = [threat.eps * factor for factor in CURVE_RADII]
    curve = accuracy_curve(
        accelerator,
        classifier,
        images,
        labels,
        lambda eps: PGD.standard(type(threat)(eps), steps=CURVE_STEPS),
        radii,
    )
    report = Report(
        model=model,
        architecture=classifier.architecture,
        model_sha256=model_sha256,
        source=config.source,
        data_sha256=data_sha256,
        label_names=data.label_names,
        threat=str(threat),
        attacks={name: repr(stage) for name, stage in attack.stages(classifier.num_classes).items()},
        search_precision=config.search_precision,
        evaluation=evaluation,
        costs=costs,
        checks=checks,
        seed=config.seed,
        command=told_command(),
        hardware=hardware(accelerator),
        versions={package: version(package) for package in PACKAGES},
    )
    if accelerator.is_main_process:
        evidence.save(folder / EVIDENCE)
        _draw(report, radii, curve, folder)
        # Last, as it says that all the rest is there.
        report.write(folder)
        shutil.rmtree(config.run.checkpoints)
    _finish(accelerator, config, report)
    accelerator.end_training()


def _finish(accelerator: Accelerator, config: Config, report: Report) -> None:
    accelerator.print(report.table())
    if config.update_card and accelerator.is_main_process:
        add_evaluation(fetch(config.model), report, config.run.output)


def _draw(report: Report, radii: list[float], curve: list[float], folder: Path) -> None:
    threat, evaluation = parse_threat(report.threat), report.evaluation
    plot_accuracy_curves(
        folder / "accuracy_against_eps.png",
        radii,
        {report.architecture: curve},
        norm=threat.name,
        reported=threat.eps,
    )
    after = {stage: Accuracy.of(mask) for stage, mask in evaluation.survivors.items()}
    plot_survivors(folder / "survivors.png", {"clean": evaluation.clean_accuracy, **after}, threat=report.threat)
    plot_classes(folder / "classes.png", report.classes(), threat=report.threat)


def verify(verify: Path, *, data: str = "") -> None:
    """Confirms the evidence of a finished evaluation.

    Args:
        verify: the folder it was written to.
        data: the data set, where the evaluation calls it by a name that is not known here.
    """
    accelerator = Accelerator()
    accelerator.print(confirm_evaluation(verify, data=data, device=accelerator.device))


def _first(loader: Loader, count: int, empty: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Takes the first images of a share; fewer, or none, where there are no more."""
    images, labels = [empty], [torch.zeros(0, dtype=torch.int64, device=empty.device)]
    for batch in loader:
        if sum(map(len, labels)) >= count:
            break
        images.append(batch[0])
        labels.append(batch[1])
    return torch.cat(images)[:count], torch.cat(labels)[:count]


def _surrogates(
    accelerator: Accelerator, config: Config, data: Data, classifier: PixelClassifier, facts: Facts | None
) -> dict[str, nn.Module]:
    """Loads the classifiers to transfer from, and trains the plain one, where they take images of the same size."""
    teacher = facts.teacher.name if facts and facts.teacher else ""
    surrogates = {"a plain network": train_surrogate(data, config.source, accelerator.device, seed=config.seed)}
    for name in itertools.chain(filter(None, [teacher]), config.surrogates):
        try:
            surrogates[public(name)] = load(name).to(accelerator.device).eval()
        except ValueError as error:
            if name in config.surrogates:
                raise
            accelerator.print(f"the teacher is left out of the honesty checks: {error}; --surrogates names it")
    return {
        name: surrogate
        for name, surrogate in surrogates.items()
        if surrogate.input_size == classifier.input_size and surrogate.num_classes == classifier.num_classes
    }


if __name__ == "__main__":
    asked_to_verify = any(argument.startswith("--verify") for argument in sys.argv[1:])
    command_line({"verify": verify} if asked_to_verify else {"evaluate": main})

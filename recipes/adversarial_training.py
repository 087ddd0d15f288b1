"""Trains a robust teacher on adversarial examples."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from accelerate.utils import set_seed

from robust_hub.attacks import NFGSM, PGD
from robust_hub.classifiers import PixelClassifier
from robust_hub.command_line import Json, command_line
from robust_hub.data import Shard, Source, evaluation_loader, load_data, subset, training_loader
from robust_hub.evaluation import Scores, evaluate
from robust_hub.hub import open_student
from robust_hub.methods import TRADES, AdversarialTraining, Objective
from robust_hub.runs import Run, claim_folder, hardware, make_accelerator
from robust_hub.threats import Threat, parse_threat
from robust_hub.training import Training, fit


@dataclass(frozen=True)
class Config:
    source: Source
    training: Training
    run: Run
    student: str
    student_args: Json
    threat: str = "linf:8/255"


def n_fgsm(config: Config, *, noise: float = 2.0) -> None:
    """Single-step adversarial training from noisy images."""
    train(config, "n-fgsm", lambda student, threat: AdversarialTraining(student, NFGSM(threat, noise)))


def pgd(config: Config, *, steps: int = 7) -> None:
    """Multi-step adversarial training."""
    train(config, "pgd", lambda s, threat: AdversarialTraining(s, PGD.standard(threat, steps=steps)))


def train(config: Config, method: str, objective_for: Callable[[PixelClassifier, Threat], Objective]) -> None:
    threat = parse_threat(config.threat)
    identity = {"method": method, "student": config.student}
    accelerator = make_accelerator(config.run, identity)
    data = load_data(config.source.data)
    set_seed(config.training.seed)
    student = open_student(
        config.student, config.student_args, num_classes=data.num_classes, image_shape=data.image_shape
    )
    objective = objective_for(student, threat)
    objective.to(accelerator.device, memory_format=__import__("torch").channels_last)
    shard = Shard(accelerator.process_index, accelerator.num_processes, accelerator.gradient_accumulation_steps)
    loader = training_loader(
        data.train,
        student.input_size,
        batch_size=config.training.batch_size,
        augmentation=config.source.augmentation,
        seed=config.training.seed,
        device=accelerator.device,
        shard=shard,
    )
    val = evaluation_loader(
        subset(data.validation, 500), student.input_size, batch_size=250, device=accelerator.device, shard=shard
    )
    test = evaluation_loader(
        subset(data.test, config.source.test_images),
        student.input_size,
        batch_size=250,
        device=accelerator.device,
        shard=shard,
    )
    claim_folder(accelerator, config.run, identity)

    def validate(c):
        e = evaluate(accelerator, c, val, PGD.standard(threat, steps=10))
        return Scores(e.clean_accuracy.value, e.robust_accuracy.value)

    best, progress = fit(
        accelerator,
        objective,
        loader,
        config.training,
        validate=validate,
        checkpoints=config.run.checkpoints,
        resume=config.run.resume,
    )
    e = evaluate(accelerator, best, test, PGD.standard(threat, steps=50))
    print(e.clean_accuracy, e.robust_accuracy, e.attack, progress, hardware(accelerator), e.seconds)


if __name__ == "__main__":
    command_line({"n-fgsm": n_fgsm, "pgd": pgd})

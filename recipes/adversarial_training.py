"""Trains a robust teacher on the adversarial examples that an attack finds against it.

    accelerate launch recipes/adversarial_training.py pgd --student small_cnn_grey --data digits --threat linf:0.1 \
        --augmentation none --output runs/teacher

Sub-commands: `pgd` (Madry et al.), `n-fgsm` (de Jorge et al., a single step), `trades` (Zhang et al.).
Processes, devices and precision belong to `accelerate launch`. Writes OUTPUT/student.
Expected (seed 0, PGD-50, AMD EPYC): `trades` on digits, 40 epochs of AdamW without augmentation, 98.6 clean / 90.8
robust at linf 0.1, n = 359, 120 s on one core; `n-fgsm` on CIFAR-10, a resnet18_cifar of 1.2 M parameters, 20 epochs in
bf16, 69.5 / 39.9 at linf 8/255, n = 1,000, 42 minutes on one to two busy cores.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from robust_hub import hub, training
from robust_hub.data import Source
from robust_hub.launch import Json, Output, command_line
from robust_hub.methods import (
    TRADES,
    AdversarialTraining,
    NFGSMOptions,
    Objective,
    Options,
    PGDOptions,
    TRADESOptions,
)
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.training import TrainingConfig


@dataclass(frozen=True)
class Config:
    """What every method here needs.

    Attributes:
        source: the images.
        output: where the run writes.
        student: an architecture of timm's or ours, untrained (resnet18), or a model to start from: hf-hub:ORG/NAME,
            local-dir:FOLDER, a name of the catalogue, or of weights that timm knows, with its tag (resnet18.a1_in1k).
        student_args: arguments for timm's create_model, as JSON; with a model those that its weights can be adapted to.
        image_size: side in px of the images that an untrained student takes, where it takes any; 0 for that of the
            images or, where they are of several sizes, the median short side, at most the architecture's usual size.
        threat: linf:EPS or l2:EPS, in pixel units.
        training: how weights are learnt.
    """

    source: Source
    output: Output
    student: str
    student_args: Json = field(default_factory=dict)
    image_size: int = 0
    threat: str = "linf:8/255"
    training: TrainingConfig = field(default_factory=TrainingConfig)


def pgd(config: Config, options: PGDOptions = PGDOptions()):
    """Trains on PGD examples."""
    return train(config, options, lambda student, threat: AdversarialTraining(student, threat, options))


def n_fgsm(config: Config, options: NFGSMOptions = NFGSMOptions()):
    """Trains on single-step examples from noisy images."""
    return train(config, options, lambda student, threat: AdversarialTraining(student, threat, options))


def trades(config: Config, options: TRADESOptions = TRADESOptions()):
    """Trains on clean images and on those whose prediction diverges most from theirs."""
    return train(config, options, lambda student, threat: TRADES(student, threat, options))


def train(
    config: Config, options: Options, objective_for: Callable[[PixelClassifier, Threat], Objective]
) -> "training.Result":
    """Runs one method from the data to the teacher's folder."""
    run = training.open_run(config, options)
    student, starts_from = hub.open_student(config.student, config.student_args, run.data, image_size=config.image_size)
    return run.complete(student, objective_for(student, run.threat), starts_from=starts_from)


if __name__ == "__main__":
    command_line({"pgd": pgd, "n-fgsm": n_fgsm, "trades": trades})

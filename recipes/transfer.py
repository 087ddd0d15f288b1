"""Passes a robust teacher's robustness on to a student of any timm architecture, without adversarial training.

    accelerate launch recipes/transfer.py rrm --teacher hf-hub:ORG/NAME --student convnext_atto \
        --student-args '{"patch_size": 2}' --projection --data FOLDER --output runs/student

Sub-commands: `igam`, `mixacm`, `rrm` and `pag` (the methods), `kd` (clean distillation), `ard` (distillation under
attack) and `plain` (what an attack brings to zero) to compare them with, and `digits`, the demonstration, which is
meant when there is no argument at all. Processes, devices, precision and gradient accumulation belong to `accelerate
launch`. Writes OUTPUT/student; OUTPUT/checkpoints is there to resume from.
Expected of `digits` (n = 359, PGD-50, 108 s on 2 cores of an AMD EPYC): plain 96.4 clean / 0.0 robust at linf 0.1
(seed 0), IGAM 98.2 ± 0.4 / 82.2 ± 1.0 (seeds 0 to 2). For CIFAR-10 see the README.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tyro.conf import Suppress

from robust_hub.attacks import PGD
from robust_hub.catalogue import MODEL_CARDS
from robust_hub.classifiers import PixelClassifier
from robust_hub.command_line import Json, command_line
from robust_hub.data import Source
from robust_hub.hub import is_checkpoint, open_student, pin
from robust_hub.lessons import Lesson, open_lesson
from robust_hub.losses import cosine_distance, relative_distance
from robust_hub.messages import public
from robust_hub.methods import ARD, IGAM, KD, PAG, RRM, MixACM, Objective, Plain
from robust_hub.methods.base import check_same_task
from robust_hub.methods.igam import loss, probability, random_logits
from robust_hub.methods.pag_targets import make_targets
from robust_hub.results import Result
from robust_hub.runs import Run
from robust_hub.tasks import Task
from robust_hub.training import Training

DIGITS_TEACHER = "small_cnn_grey.trades_linf0.1_digits"


@dataclass(frozen=True)
class Config:
    """What every method needs.

    Attributes:
        teacher: hf-hub:ORG/NAME or local-dir:FOLDER.
        student: an architecture of timm's or ours, or a checkpoint to start from.
        source: the images.
        run: where the run writes.
        student_args: arguments for timm's create_model, as JSON.
        threat: linf:EPS or l2:EPS, in pixel units; used to choose the epoch and to test, never to train.
        training: how weights are learnt.
    """

    teacher: str
    student: str
    source: Source
    run: Run
    student_args: Json = field(default_factory=dict)
    threat: str = "linf:8/255"
    training: Training = field(default_factory=Training)


ObjectiveFor: TypeAlias = Callable[[PixelClassifier, Lesson], Objective]
GRADIENT_OF = {"loss": loss, "probability": probability, "random-logits": random_logits}
FEATURE_DISTANCE = {"cosine": cosine_distance, "relative-l2": relative_distance}


@dataclass(frozen=True)
class Alignment:
    """What IGAM compares; see `robust_hub.methods.IGAM`.

    Attributes:
        weight: of the gradient distance.
        gradient_of: the scalar whose input gradients are compared: the paper's, its authors' code's, or ours, which
            learns faster.
        logit_weight: of the distance between logits.
        adversarial_weight: of a discriminator between the gradients of student and teacher; 0 leaves it out.
        discriminator_period: the discriminator learns at every so manieth step.
        noise: radius of uniform noise on the images, in pixel units.
        start: steps trained with cross-entropy alone.
        ramp: steps over which the weights then grow from 0.
    """

    weight: float = 1.0
    gradient_of: Literal["loss", "probability", "random-logits"] = "loss"
    logit_weight: float = 0.0
    adversarial_weight: float = 0.0
    discriminator_period: int = 5
    noise: float = 8 / 255
    start: int = 0
    ramp: int = 500


def igam(config: Config, alignment: Alignment, *, compare_with: Suppress[Sequence[Result]] = ()) -> Result:
    """Makes the student's input gradients those of the teacher."""

    def objective(student: PixelClassifier, lesson: Lesson) -> Objective:
        options = {**vars(alignment), "gradient_of": GRADIENT_OF[alignment.gradient_of]}
        return IGAM(student, lesson.teacher, **options)

    return transfer(config, repr(alignment).replace("Alignment", "IGAM"), objective, compare_with=compare_with)


@dataclass(frozen=True)
class Maps:
    """What MixACM compares; see `robust_hub.methods.MixACM`.

    Attributes:
        stages: the student's stages by their names in timm's feature_info, or all.
        teacher_stages: the teacher's, in the same order, or all.
        weight: of the distances between channel maps.
        divergence_weight: of the divergence from the teacher's predictions.
        cross_entropy_weight: of the mixed labels.
        temperature: divides the logits of both before the softmax.
        mixup: the concentration of the Beta distribution of the mixed images' shares.
    """

    stages: tuple[str, ...] = ("all",)
    teacher_stages: tuple[str, ...] = ("all",)
    weight: float = 10.0
    divergence_weight: float = 1.0
    cross_entropy_weight: float = 0.1
    temperature: float = 1.0
    mixup: float = 1.0


def mixacm(config: Config, maps: Maps) -> Result:
    """Makes the student's channels active where the teacher's are, stage by stage, on mixed images."""
    return transfer(
        config,
        repr(maps).replace("Maps", "MixACM"),
        lambda student, lesson: MixACM(student, lesson.teacher, **vars(maps)),
    )


def pag(
    config: Config,
    *,
    targets: Literal["one-image", "class-mean", "nearest-neighbour", "teacher", "stored"] = "teacher",
    stored: Path = Path(),
    weight: float = 2.0,
    classes_per_image: int = 1,
) -> Result:
    """Makes the student's input gradients towards each class point where the class is.

    Args:
        config: what every method needs; without targets of the teacher, it is only compared with.
        targets: where gradients should point; those of the teacher are ours, the paper has none of a robust model.
        stored: for stored targets, a .npy of a gradient for each training image and class, n k c h w, row by row as
            they stand in the data.
        weight: of the cosine distances, summed over classes.
        classes_per_image: how many classes, drawn anew for each image, stand for all in one step.
    """
    if (targets == "stored") != (stored != Path()):
        raise ValueError("--targets stored and --stored FILE belong together; give both or neither")

    def objective(student: PixelClassifier, lesson: Lesson) -> Objective:
        chosen = make_targets(targets, student, lesson.teacher, lambda: lesson.training_images(student))
        return PAG(student, chosen, weight=weight, classes_per_image=classes_per_image)

    file = f", stored='{stored}'" if targets == "stored" else ""
    method = f"PAG({targets=}, {weight=}, {classes_per_image=}{file})"
    return transfer(config, method, objective, stored=stored if file else None)


def rrm(
    config: Config,
    *,
    cross_entropy_weight: float = 0.005,
    projection: bool = False,
    distance: Literal["cosine", "relative-l2"] = "cosine",
) -> Result:
    """Makes the student's features point where those of the teacher do.

    Args:
        config: what every method needs.
        cross_entropy_weight: of the labels, beside a feature term of weight 1.
        projection: a linear layer, not published, between features of different widths.
        distance: between the features.
    """
    options = {"cross_entropy_weight": cross_entropy_weight, "projection": projection}
    return transfer(
        config,
        f"RRM({cross_entropy_weight=}, {projection=}, {distance=})",
        lambda student, lesson: RRM(student, lesson.teacher, **options, distance=FEATURE_DISTANCE[distance]),
    )


def kd(config: Config, *, temperature: float = 4.0, cross_entropy_weight: float = 0.1) -> Result:
    """Makes the student's predictions on clean images those of the teacher: a baseline that is not robust.

    Args:
        config: what every method needs.
        temperature: divides the logits of both before the softmax.
        cross_entropy_weight: of the labels, beside the divergence times the squared temperature.
    """
    options = {"temperature": temperature, "cross_entropy_weight": cross_entropy_weight}
    return transfer(
        config,
        f"KD({temperature=}, {cross_entropy_weight=})",
        lambda student, lesson: KD(student, lesson.teacher, **options),
    )


def ard(config: Config, *, steps: int = 10, temperature: float = 30.0, cross_entropy_weight: float = 0.0) -> Result:
    """Makes the student's predictions under attack those of the teacher on clean images: strong, and expensive.

    Args:
        config: what every method needs.
        steps: gradients of the PGD attack; its step is 2.5 eps / steps.
        temperature: divides the logits of both before the softmax.
        cross_entropy_weight: of the labels of clean images, beside the divergence times the squared temperature.
    """
    options = {"temperature": temperature, "cross_entropy_weight": cross_entropy_weight}

    def objective(student: PixelClassifier, lesson: Lesson) -> Objective:
        return ARD(student, lesson.teacher, PGD.standard(lesson.threat, steps=steps), **options)

    return transfer(config, f"ARD({steps=}, {temperature=}, {cross_entropy_weight=})", objective)


def plain(config: Config) -> Result:
    """Trains the student on clean images and asks the teacher nothing."""
    return transfer(config, "Plain()", lambda student, _: Plain(student))


def digits(output: Path = Path("runs/digits"), *, resume: bool = False) -> None:
    """Shows the point in under three minutes on two CPU cores: a small vision transformer learns from a small CNN.

    Args:
        output: where the two runs write: OUTPUT/plain and OUTPUT/igam.
        resume: goes on with a run that was killed.
    """
    config = Config(
        teacher=f"local-dir:{os.path.relpath(MODEL_CARDS / DIGITS_TEACHER)}",
        student="vit_tiny_patch16_224",
        student_args={"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4},
        source=Source("digits", augmentation="none"),
        run=Run(output / "plain", resume),
        threat="linf:0.1",
        training=Training(epochs=20, batch_size=64, optimizer="adamw", lr=3e-3, weight_decay=0.05),
    )
    baseline = learn(config, "Plain()", lambda student, _: Plain(student)).student
    longer = replace(config, run=Run(output / "igam", resume), training=replace(config.training, epochs=60))
    alignment = Alignment(weight=0.3, gradient_of="random-logits", logit_weight=1.0, noise=0.1, ramp=100)
    igam(longer, alignment, compare_with=[baseline])


class Learnt(NamedTuple):
    """What is at hand once a student has learnt."""

    lesson: Lesson
    task: Task
    student: Result
    starts_from: str


def learn(config: Config, method: str, objective_for: ObjectiveFor, stored: Path | None = None) -> Learnt:
    """Trains a student and tests it."""
    lesson = open_lesson(config, method)
    data = lesson.data
    start = pin(config.student) if is_checkpoint(config.student) else ""
    student = open_student(
        start or config.student, config.student_args, num_classes=data.num_classes, image_shape=data.image_shape
    )
    check_same_task(student, lesson.teacher)
    objective = objective_for(student, lesson)
    task = lesson.open_task(student, stored)
    lesson.begin()
    lesson.teach_teacher()
    return Learnt(lesson, task, lesson.fit(objective, task), public(start))


def transfer(
    config: Config,
    method: str,
    objective_for: ObjectiveFor,
    *,
    stored: Path | None = None,
    compare_with: Sequence[Result] = (),
) -> Result:
    """Runs one method from the data to the student's folder, and prints the teacher, others, and the student."""
    lesson, task, student, starts_from = learn(config, method, objective_for, stored)
    lesson.finish(student, task, compare_with, starts_from=starts_from)
    return student


if __name__ == "__main__":
    methods = {"igam": igam, "mixacm": mixacm, "rrm": rrm, "pag": pag, "kd": kd, "ard": ard, "plain": plain}
    command_line({**methods, "digits": digits}, default="digits")

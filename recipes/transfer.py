"""Passes a robust teacher's robustness on to a student of any timm architecture.

    accelerate launch recipes/transfer.py rrm --teacher hf-hub:ORG/NAME --student convnext_atto \
        --student-args '{"patch_size": 2}' --projection --data FOLDER --output runs/student

Sub-commands: `igam`, `mixacm`, `rrm` and `pag` (the student sees natural images only), `rslad` and `two-point` (it sees
images moved by one step along a gradient: stronger, and about as cheap), `kd` (clean distillation), `ard` (distillation
under a whole attack) and `plain` (what an attack brings to zero) to compare them with, and `digits`, the demonstration,
which is meant when there is no argument at all. Processes, devices and precision belong to `accelerate launch`. Writes
OUTPUT/student; OUTPUT/checkpoints is there to resume from.
Expected of `digits` (n = 359, PGD-50, 125 s on 2 cores of an Intel Xeon, seed 0): plain 97.5 clean / 0.0 robust at linf
0.1, RSLAD 98.9 / 82.7. For CIFAR-10 see docs/results.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from robust_hub import hub, model_folder, training
from robust_hub.data import Source
from robust_hub.launch import Json, LabelNames, Output, command_line
from robust_hub.methods import (
    ARD,
    IGAM,
    KD,
    PAG,
    RRM,
    RSLAD,
    ARDOptions,
    IGAMOptions,
    KDOptions,
    MixACM,
    MixACMOptions,
    Objective,
    Options,
    PAGOptions,
    Plain,
    PlainOptions,
    RRMOptions,
    RSLADOptions,
    TwoPoint,
    TwoPointOptions,
    check_same_task,
    make_targets,
)
from robust_hub.models import PixelClassifier
from robust_hub.training import TrainingConfig

DIGITS_TEACHER = "small_cnn_grey.trades_linf0.1_digits"


@dataclass(frozen=True)
class Config:
    """What every method needs.

    Attributes:
        teacher: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or of weights that timm knows, with its tag
            (resnet18.a1_in1k); without it only plain, and pag by targets other than a teacher's, can do.
        student: an architecture of timm's or ours, untrained (resnet18), or a model to start from, by such a name.
        source: the images.
        output: where the run writes.
        student_args: arguments for timm's create_model, as JSON; with a model those that its weights can be adapted to.
        image_size: side in px of the images that an untrained student takes, where it takes any; 0 for that of the
            images or, where they are of several sizes, the median short side, at most the architecture's usual size.
        threat: linf:EPS or l2:EPS, in pixel units; used to choose the epoch and to test, and only by rslad and ard to
            train.
        label_names: what the teacher's logits stand for, in their order, where its folder does not tell it rightly:
            names of the data's classes, a JSON list of them, or a file with one on each line.
        training: how weights are learnt.
    """

    student: str
    source: Source
    output: Output
    teacher: str = ""
    student_args: Json = field(default_factory=dict)
    image_size: int = 0
    threat: str = "linf:8/255"
    label_names: LabelNames = ()
    training: TrainingConfig = field(default_factory=TrainingConfig)


def igam(config: Config, options: IGAMOptions = IGAMOptions()):
    """Makes the student's input gradients, features and predictions those of the teacher."""
    return transfer(config, options, lambda student, run: IGAM(student, run.require_teacher(), options))


def mixacm(config: Config, options: MixACMOptions = MixACMOptions()):
    """Makes the student's channels active where the teacher's are, stage by stage, on mixed images."""
    return transfer(config, options, lambda student, run: MixACM(student, run.require_teacher(), options))


def pag(config: Config, options: PAGOptions = PAGOptions()):
    """Makes the student's input gradients towards each class point where it is; only some targets ask a teacher."""

    def objective(student: PixelClassifier, run: "training.TrainingRun") -> Objective:
        targets = make_targets(options.targets, student, run.teacher, lambda: run.training_images(student))
        return PAG(student, targets, options)

    stored = options.stored if options.targets == "stored" else None
    return transfer(config, options, objective, needs_teacher=options.targets == "teacher", stored=stored)


def rrm(config: Config, options: RRMOptions = RRMOptions()):
    """Makes the student's features point where those of the teacher do."""
    return transfer(config, options, lambda student, run: RRM(student, run.require_teacher(), options))


def rslad(config: Config, options: RSLADOptions = RSLADOptions()):
    """Makes the student's predictions and features the teacher's one step up their divergence: strong, nearly cheap."""
    return transfer(config, options, lambda student, run: RSLAD(student, run.require_teacher(), run.threat, options))


def two_point(config: Config, options: TwoPointOptions = TwoPointOptions()):
    """Makes the student's input gradients those of the teacher by slopes between two perturbed images: first order."""
    return transfer(config, options, lambda student, run: TwoPoint(student, run.require_teacher(), options))


def kd(config: Config, options: KDOptions = KDOptions()):
    """Makes the student's predictions on clean images those of the teacher: a baseline that is not robust."""
    return transfer(config, options, lambda student, run: KD(student, run.require_teacher(), options))


def ard(config: Config, options: ARDOptions = ARDOptions()):
    """Makes the student's predictions under attack those of the teacher on clean images: strong, and expensive."""
    return transfer(config, options, lambda student, run: ARD(student, run.require_teacher(), run.threat, options))


def plain(config: Config):
    """Trains the student on clean images alone; a teacher is only shown beside it."""
    return transfer(config, PlainOptions(), lambda student, _: Plain(student), needs_teacher=False)


def digits(output: Path = Path("runs/digits"), *, resume: bool = False) -> None:
    """Shows the point in minutes on two CPU cores: a small vision transformer learns from a small CNN.

    Args:
        output: where the two runs write: OUTPUT/plain and OUTPUT/rslad.
        resume: goes on with a run that was killed.
    """
    # Of the two runs, the second may not have begun.
    second = Output(output / "rslad", resume and (output / "rslad").exists())
    config = Config(
        teacher=DIGITS_TEACHER,
        student="vit_tiny_patch16_224",
        student_args={"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4},
        source=Source("digits", augmentation="none"),
        output=Output(output / "plain", resume),
        threat="linf:0.1",
        training=TrainingConfig(epochs=20, batch_size=64, optimizer="adamw", lr=3e-3, weight_decay=0.05),
    )
    run, student, _ = open_transfer(config, PlainOptions())
    baseline = run.train(student, Plain(student))
    longer = replace(config, output=second, training=replace(config.training, epochs=60, batch_size=128, lr=5e-3))
    options = RSLADOptions(target="once", eps_warmup=0.5)
    transfer(
        longer,
        options,
        lambda student, run: RSLAD(student, run.require_teacher(), run.threat, options),
        compare_with=[baseline],
    )


def transfer(
    config: Config,
    options: Options,
    objective_for: Callable[[PixelClassifier, "training.TrainingRun"], Objective],
    *,
    needs_teacher: bool = True,
    stored: Path | None = None,
    compare_with: "Sequence[training.Result]" = (),
) -> "training.Result":
    """Runs one method from the data to the student's folder, and prints the teacher, others, and the student."""
    if needs_teacher and not config.teacher:
        raise ValueError(f"{options.method} learns from a teacher; give --teacher")
    run, student, starts_from = open_transfer(config, options)
    objective = objective_for(student, run)
    return run.complete(student, objective, starts_from=starts_from, stored=stored, compare_with=compare_with)


def open_transfer(
    config: Config, options: Options
) -> "tuple[training.TrainingRun, PixelClassifier, model_folder.ModelFolder | None]":
    """Opens the run, and its student with the folder of the model that it starts from, if any."""
    teacher = hub.open_folder(config.teacher) if config.teacher else None
    run = training.open_run(config, options, teacher, label_names=config.label_names)
    student, starts_from = hub.open_student(config.student, config.student_args, run.data, image_size=config.image_size)
    if run.teacher is not None:
        check_same_task(student, run.teacher)
    return run, student, starts_from


if __name__ == "__main__":
    methods = {"igam": igam, "mixacm": mixacm, "rrm": rrm, "pag": pag, "rslad": rslad, "two-point": two_point}
    baselines = {"kd": kd, "ard": ard, "plain": plain}
    command_line({**methods, **baselines, "digits": digits}, default="digits")

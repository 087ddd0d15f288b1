"""Trains a new head on a frozen robust classifier, for other classes or other images: seconds, not epochs.

    accelerate launch recipes/linear_probe.py --teacher hf-hub:ORG/NAME --data FOLDER --output runs/probe

The features are computed once and kept in OUTPUT/features while the head is trained on them. Robustness lives in the
features (Shafahi et al., ICLR 2020, arXiv 1905.08232, sections 3 and 4); `--retrain-stages` shows what is left of it as
more of the last stages are trained on natural images as well. Writes OUTPUT/student.
Expected: the CIFAR-10 teacher of model_cards/ on CIFAR-100 (25,000 images, a tenth held out), 30.5 clean, 11.1 robust
at linf 8/255 (n = 1,000, PGD-50, seed 0, 77 s on one core of an AMD EPYC in bf16).
"""

from dataclasses import dataclass, replace

from torch import nn

from robust_hub.architectures.mlp_headed import with_mlp_head
from robust_hub.classifiers import PixelClassifier
from robust_hub.command_line import command_line
from robust_hub.data import Source
from robust_hub.hub import load_with_new_head
from robust_hub.lessons import Lesson, open_lesson
from robust_hub.methods import Retraining
from robust_hub.probes import HEAD_TRAINING, linear_head
from robust_hub.results import Result
from robust_hub.runs import Run
from robust_hub.training import Progress, Training


@dataclass(frozen=True)
class Config:
    """What a probe needs.

    Attributes:
        teacher: the robust classifier, hf-hub:ORG/NAME or local-dir:FOLDER; its classes may be others.
        source: the images.
        run: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units; used to test, never to train.
        retrain_stages: how many of the last stages are trained after the head, on augmented natural images.
        mlp: width of a hidden layer in the head; 0 for a linear head, which is what timm alone can load.
        training: how the head is learnt, and the stages after it.
    """

    teacher: str
    source: Source
    run: Run
    threat: str = "linf:8/255"
    retrain_stages: int = 0
    mlp: int = 0
    training: Training = HEAD_TRAINING


def make_student(config: Config, lesson: Lesson) -> tuple[PixelClassifier, nn.Module]:
    """Gives the robust classifier with an untrained head, and that head, which takes features."""
    if config.mlp:
        student = with_mlp_head(lesson.teacher.classifier, config.mlp, lesson.data.num_classes)
        # The body is the teacher's, and so are the passes through it.
        student.passes = lesson.teacher.passes
        return student, nn.Sequential(student.model.hidden, student.model.head)
    student = load_with_new_head(lesson.checkpoint, lesson.data.num_classes)
    return student, linear_head(student)


def probe(config: Config) -> Result:
    """Trains a head on a frozen robust classifier, and the last stages where asked for."""
    if config.mlp < 0 or config.retrain_stages < 0:
        raise ValueError(f"mlp and retrain_stages must be at least 0, got {config.mlp} and {config.retrain_stages}")
    lesson = open_lesson(config, f"Probe(retrain_stages={config.retrain_stages}, mlp={config.mlp})")
    student, head = make_student(config, lesson)
    # Made before anything is written, so that it can refuse; what it freezes is what the head does not train.
    retraining = Retraining(student, stages=config.retrain_stages) if config.retrain_stages else None
    task = lesson.open_task(student)
    lesson.begin()
    lesson.fit_head(lesson.teacher.classifier if config.mlp else student, head, "features", config.training)
    lesson.warn_unless_robust(student, "probed teacher")
    if retraining:
        result = lesson.fit(retraining, task)
    else:
        passes = replace(student.passes)
        images = passes.forward * lesson.accelerator.num_processes
        progress = Progress(epoch=config.training.epochs, images=images, passes={"student": passes})
        result = lesson.tested(student, progress, task)
    lesson.finish(result, task, starts_from=lesson.lineage.name)
    return result


if __name__ == "__main__":
    command_line({"linear-probe": probe})

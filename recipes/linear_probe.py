"""Trains a new head on a frozen robust classifier, for other classes or other images: seconds, not epochs.

    accelerate launch recipes/linear_probe.py --teacher hf-hub:ORG/NAME --data FOLDER --output runs/probe

The features are computed once and kept in OUTPUT/features while the head is trained on them. Robustness lives in the
features (Shafahi et al., ICLR 2020, arXiv 1905.08232, sections 3 and 4); `--retrain-stages` shows what is left of it as
more of the last stages are trained on natural images as well. Writes OUTPUT/student.
Expected: the CIFAR-10 teacher of model_cards/ on CIFAR-100 (25,000 images, a tenth held out), 30.5 clean, 11.1 robust
at linf 8/255 (n = 1,000, PGD-50, seed 0, 77 s on one core of an AMD EPYC in bf16).
"""

from dataclasses import dataclass

from torch import nn

from robust_hub import hub, model_folder, models, training
from robust_hub.data import Source
from robust_hub.launch import LabelNames, Output, command_line
from robust_hub.methods import ProbeOptions, Retraining
from robust_hub.models import PixelClassifier
from robust_hub.training import HEAD_TRAINING, TrainingConfig


@dataclass(frozen=True)
class Config:
    """What a probe needs.

    Attributes:
        teacher: the robust classifier: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or of
            weights that timm knows, with its tag (resnet18.a1_in1k); its classes may be others.
        source: the images.
        output: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units; used to test, never to train.
        label_names: what the teacher's logits stand for, in their order, where its folder does not tell it rightly:
            names of the data's classes, a JSON list of them, or a file with one on each line. A teacher that knows the
            data's classes is shown beside the student.
        training: how the head is learnt, and the stages after it.
    """

    teacher: str
    source: Source
    output: Output
    threat: str = "linf:8/255"
    label_names: LabelNames = ()
    training: TrainingConfig = HEAD_TRAINING


def probe(config: Config, options: ProbeOptions = ProbeOptions()):
    """Trains a head on a frozen robust classifier, and the last stages where asked for."""
    if not options.retrain_stages:
        check_head_alone(config)
    teacher = hub.open_folder(config.teacher)
    run = training.open_run(config, options, teacher, label_names=config.label_names)
    student, head = make_student(run, teacher, options.mlp)
    # Made now, so that a bad --retrain-stages is refused before the run writes; what it freezes lies below the head.
    retraining = Retraining(student, stages=options.retrain_stages) if options.retrain_stages else None
    return run.complete(student, retraining, head=head, starts_from=teacher)


def check_head_alone(config: Config) -> None:
    """Checks that nothing is asked for that a head has no use for, as its features are computed once.

    Raises:
        ValueError: when something is.
    """
    if config.source.augmentation in ("crop", "resized-crop"):
        raise ValueError(
            f"--augmentation {config.source.augmentation} has no effect on a head alone, which sees each image whole; "
            "say crop-flip to show it mirrored as well, or none, or train more than the head with --retrain-stages"
        )
    if config.output.log_with != "none":
        raise ValueError(
            f"--log-with {config.output.log_with} has no effect on a head alone, which has no curves; leave it away, "
            "or train more than the head with --retrain-stages"
        )


def make_student(
    run: "training.TrainingRun", folder: "model_folder.ModelFolder", hidden: int
) -> "tuple[PixelClassifier, training.NewHead]":
    """Gives the robust classifier with an untrained head, and that head; one of two layers where `hidden` is not 0."""
    options = run.config.training
    if hidden:
        robust = run.require_teacher().classifier
        student = models.with_mlp_head(robust, hidden, run.data.num_classes)
        # The body is the teacher's, and so are the passes through it.
        student.passes = robust.passes
        module = nn.Sequential(student.model.get_submodule("hidden"), student.model.get_submodule("head"))
        return student, training.NewHead(module, robust, options)
    student = model_folder.load_with_new_head(folder, run.data.num_classes)
    return student, training.NewHead(training.linear_head(student), student, options)


if __name__ == "__main__":
    command_line({"linear-probe": probe})

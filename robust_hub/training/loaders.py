"""A data set's three splits as loaders, and how one classifier is trained and measured on them, on this process."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from robust_hub.attacks import PGD
from robust_hub.data import (
    Answers,
    AnswersInFile,
    Data,
    Loader,
    Shard,
    Source,
    batch_size_for,
    evaluation_loader,
    subset,
    training_loader,
    with_augmentation,
)
from robust_hub.evaluation import Evaluation, evaluate_loader
from robust_hub.launch import Output
from robust_hub.methods import Objective
from robust_hub.models import PixelClassifier, Teacher, check_channels
from robust_hub.threats import Threat
from robust_hub.training.config import TrainingConfig
from robust_hub.training.loop import Scores, TrainState, fit
from robust_hub.training.validation import STEPS

MOST_CLASSIFIED = 1024


@dataclass(frozen=True)
class Loaders:
    """The three splits as loaders, with what is asked of a classifier on each.

    Attributes:
        data: the whole data set.
        source: where it is from, and how its training images are augmented, which is never just the usual way here.
        threat: what a classifier should withstand.
        train: shuffled and augmented, this process's share.
        test: what is reported, and nothing is chosen by.
        validation: by which an epoch is chosen; None before it is known how many images, see `validated_on`.
    """

    data: Data
    source: Source
    threat: Threat
    train: Loader
    test: Loader
    validation: Loader | None = None

    def fit(
        self,
        accelerator: Accelerator,
        objective: Objective,
        training: TrainingConfig,
        output: Output,
        *,
        validations: int,
    ) -> tuple[PixelClassifier, TrainState]:
        """Trains the objective's student in a run's folder; see `training.fit`."""
        return fit(
            accelerator,
            objective,
            self.train,
            training,
            validate=self.validate,
            validations=validations,
            checkpoints=output.checkpoints,
            resume=output.resume,
        )

    def validate(self, accelerator: Accelerator, classifier: PixelClassifier) -> Scores:
        """Measures clean accuracy and that under PGD-10 on validation images."""
        assert self.validation is not None
        measured = evaluate_loader(
            accelerator, classifier, self.validation, PGD.standard(self.threat, steps=STEPS, stop_when_fooled=True)
        )
        return Scores(measured.clean_accuracy.value, measured.robust_accuracy.value)

    def validated_on(self, accelerator: Accelerator, classifier: PixelClassifier, images: int) -> "Loaders":
        """Adds a loader of the first `images` validation images, which are decoded here."""
        validation = share_of(accelerator, subset(self.data.validation, images), classifier)
        return replace(self, validation=validation)

    def evaluate(self, accelerator: Accelerator, classifier: nn.Module, name: str) -> Evaluation:
        """Measures clean accuracy and that under PGD-50 on test images."""
        attack = PGD.standard(self.threat, steps=50, stop_when_fooled=True)
        return evaluate_loader(accelerator, classifier, self.test, attack, label=name)


def open_loaders(
    accelerator: Accelerator,
    data: Data,
    source: Source,
    training: TrainingConfig,
    threat: Threat,
    classifier: PixelClassifier,
    stored: Path | None = None,
    answers: Sequence[Answers] = (),
) -> Loaders:
    """Makes the loaders for what a classifier takes, all but that of validation.

    Most sets are decoded here, so that bad images are found.

    Args:
        accelerator: of the run.
        data: the images.
        source: how they are augmented, and how many are tested.
        training: batch size and seed.
        threat: what is to be withstood.
        classifier: whose images and classes they should fit.
        stored: a .npy of a target gradient for each training image and class, which training batches then bring along.
        answers: a teacher's about each training image, n w or maps n k c h w, which training batches bring along; may
            be filled in later.

    Raises:
        ValueError: when the stored gradients do not fit, or a batch or the channels do not, or there are answers about
            a set that does not fit into memory or is shown by resized crops.
    """
    check_channels(classifier)
    source = with_augmentation(source, data, classifier.input_size)
    shard = Shard(accelerator.process_index, accelerator.num_processes, accelerator.gradient_accumulation_steps)
    return Loaders(
        data,
        source,
        threat,
        training_loader(
            data.train,
            batch_size=training.batch_size,
            augmentation=source.augmentation,
            seed=training.seed,
            answers=answers if stored is None else [_read_stored(stored, data, classifier), *answers],
            fit=classifier.preprocessing,
            device=accelerator.device,
            shard=shard,
        ),
        share_of(accelerator, subset(data.test, source.test_images), classifier),
    )


def share_of(accelerator: Accelerator, rows: Dataset, classifier: PixelClassifier | Teacher) -> Loader:
    """Makes this process's share of images as they are, of the size that a classifier takes."""
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    # A quarter of what could be classified at a time, as attacks keep what they go back through; and some for everyone.
    most = batch_size_for(classifier.input_size, most=MOST_CLASSIFIED) // 4
    batch_size = max(1, min(most, -(-len(rows) // shard.world)))
    return evaluation_loader(
        rows, classifier.preprocessing, batch_size=batch_size, device=accelerator.device, shard=shard
    )


def _read_stored(file: Path, data: Data, classifier: PixelClassifier) -> AnswersInFile:
    """Maps stored target gradients into memory; raises ValueError when they do not fit the data and the classifier."""
    try:
        stored = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file} is not a readable .npy of target gradients ({error}); check --stored") from error
    rows, wanted = np.asarray(data.train["row"][:]), (data.num_classes, *classifier.input_size)
    needed = int(rows.max()) + 1
    if stored.shape[1:] != wanted or len(stored) < needed or stored.dtype.kind != "f":
        raise ValueError(
            f"PAG targets must be floats of shape ({', '.join(map(str, (needed, *wanted)))}), for each row and class, "
            f"got {stored.dtype} of {stored.shape}; check --stored"
        )
    return AnswersInFile(stored, rows)

"""A lesson: a robust teacher, data and a threat, from the first check of a run to the student's folder."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from robust_hub.attacks import PGD
from robust_hub.classifiers import PixelClassifier, Teacher
from robust_hub.data import Data, Loader, Shard, Source, evaluation_loader, load_data, subset
from robust_hub.evaluation import evaluate
from robust_hub.facts import Lineage, TrainingRun
from robust_hub.hub import knows_label_names, lineage, load, load_with_new_head, pin, read_facts
from robust_hub.methods import Objective
from robust_hub.probes import HEAD_TRAINING, fit_head, linear_head
from robust_hub.results import Result, draw_pictures, published, save_result, table, trained
from robust_hub.runs import Run, check_folder, claim_folder, identity_of, make_accelerator
from robust_hub.tasks import EVALUATION_BATCH, Task, open_task
from robust_hub.threats import Threat, parse_threat
from robust_hub.training import Progress, Training

CHECKED_IMAGES = 128
CHECKED_STEPS = 10


@runtime_checkable
class Config(Protocol):
    """What every recipe with a teacher asks its user.

    Attributes:
        teacher: hf-hub:ORG/NAME or local-dir:FOLDER.
        source: the images.
        run: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units; used to choose the epoch and to test, never to train.
        training: how weights are learnt.
    """

    teacher: str
    source: Source
    run: Run
    threat: str
    training: Training


@dataclass
class Lesson:
    """What a recipe has at hand once everything it was given is checked.

    Attributes:
        config: what the user asked for.
        method: with its arguments.
        accelerator: of the run.
        identity: what decides the run's result.
        threat: what the student should withstand.
        data: the images.
        teacher: the robust classifier; with an untrained head for the data's classes where it knows others.
        teacher_knows: whether the teacher's head is for the data's classes.
        checkpoint: the teacher's name with its commit, so that it is the same all along.
        lineage: what the student's card tells of the teacher.
        teacher_run: what training the teacher took; None where that is not known.
        head_seconds: what training heads has taken so far.
    """

    config: Config
    method: str
    accelerator: Accelerator
    identity: dict
    threat: Threat
    data: Data
    teacher: Teacher
    teacher_knows: bool
    checkpoint: str
    lineage: Lineage
    teacher_run: TrainingRun | None
    head_seconds: float = 0.0

    def open_task(self, student: PixelClassifier, stored: Path | None = None) -> Task:
        """Makes the loaders for what the student takes; the training one gives stored target gradients as well."""
        config = self.config
        return open_task(self.accelerator, self.data, config.source, config.training, self.threat, student, stored)

    def training_images(self, student: PixelClassifier) -> Loader:
        """Yields every training image as it is, of the size the student takes, to each process all of them."""
        device = self.accelerator.device
        return evaluation_loader(self.data.train, student.input_size, batch_size=EVALUATION_BATCH, device=device)

    def begin(self) -> None:
        """Claims the output folder; from here on the run writes."""
        claim_folder(self.accelerator, self.config.run, self.identity)
        self.teacher.to(self.accelerator.device)

    def teach_teacher(self) -> None:
        """Trains the teacher a head for the data's classes where it knows others, and warns if it is not robust."""
        if not self.teacher_knows:
            self.accelerator.print("the teacher knows other classes: it is trained a head for these first")
            classifier = self.teacher.classifier
            head = linear_head(classifier).requires_grad_(True)
            self.fit_head(classifier, head, "teacher_features")
            head.requires_grad_(False)
            self.teacher_knows = True
        self.warn_unless_robust(self.teacher, "teacher")

    def fit_head(
        self, extractor: PixelClassifier, head: nn.Module, folder: str, training: Training = HEAD_TRAINING
    ) -> None:
        """Trains a head on the training images; the features are kept in a folder of the run."""
        data, source, place = self.data.train, self.config.source, self.config.run.output / folder
        self.head_seconds += fit_head(self.accelerator, extractor, head, data, source, training, place)

    def warn_unless_robust(self, classifier: PixelClassifier | Teacher, name: str) -> None:
        """Says in one line when a classifier withstands next to nothing: nobody can learn robustness from it."""
        shard = Shard(self.accelerator.process_index, self.accelerator.num_processes)
        device, rows = self.accelerator.device, subset(self.data.validation, CHECKED_IMAGES)
        loader = evaluation_loader(rows, classifier.input_size, batch_size=EVALUATION_BATCH, device=device, shard=shard)
        attack = PGD.standard(self.threat, steps=CHECKED_STEPS)
        # A copy, so that these passes are not counted as the lesson's.
        accuracy = evaluate(self.accelerator, deepcopy(classifier), loader, attack).robust_accuracy
        if accuracy.value < 1 / self.data.num_classes:
            self.accelerator.print(
                f"warning: the {name} withstands {self.threat} on {accuracy} % of {accuracy.n} validation images "
                f"(PGD-{CHECKED_STEPS}); a student can't learn robustness from it"
            )

    def fit(self, objective: Objective, task: Task) -> Result:
        """Trains the objective's student, tests it, and adds up what it has cost."""
        set_seed(self.config.training.seed, device_specific=True)
        return self.tested(*task.fit(self.accelerator, objective, self.config.training, self.config.run), task)

    def tested(self, student: PixelClassifier, progress: Progress, task: Task) -> Result:
        """Tests a trained student, and adds up what it has cost."""
        evaluation = task.evaluate(self.accelerator, student, self.method)
        result = trained(self.accelerator, self.method, student, evaluation, progress)
        return replace(result, seconds=result.seconds + self.head_seconds)

    def finish(
        self, student: Result, task: Task, compare_with: Sequence[Result] = (), *, starts_from: str = ""
    ) -> None:
        """Prints the teacher, others and the student, and writes the student's folder.

        Args:
            student: the student.
            task: what it was trained and tested on.
            compare_with: others to show beside it.
            starts_from: the checkpoint whose weights the student started from; empty for an untrained network.
        """
        results = [*compare_with, student]
        if self.teacher_knows:
            evaluation = task.evaluate(self.accelerator, self.teacher, "teacher")
            results.insert(0, published("teacher", self.teacher, evaluation, self.teacher_run))
        self.accelerator.print(table(results, task.data.name, task.threat))
        save_result(
            self.accelerator,
            self.config.run.output / "student",
            student,
            task,
            method=self.method,
            seed=self.config.training.seed,
            teacher=self.lineage if "teacher" in student.passes or starts_from == self.lineage.name else None,
            starts_from=starts_from,
            pictures=draw_pictures(self.accelerator, results, task, self.config.run.output / "pictures"),
        )
        self.accelerator.end_training()


def open_lesson(config: Config, method: str) -> Lesson:
    """Checks the output folder, loads data and teacher, and seeds what comes next; writes nothing.

    Raises:
        ValueError: when anything the user gave can't be used.
    """
    threat = parse_threat(config.threat)
    accelerator = make_accelerator(config.run)
    checkpoint = pin(config.teacher)
    taught_by, facts = lineage(checkpoint), read_facts(checkpoint)
    identity = identity_of(accelerator, method, config, sha256={"teacher": taught_by.sha256})
    check_folder(config.run, identity)
    data = load_data(config.source)
    set_seed(config.training.seed)
    classifier = load(checkpoint)
    knows = knows_label_names(classifier, data.label_names)
    if not knows:
        classifier = load_with_new_head(checkpoint, data.num_classes)
    # Again, so that the student's first weights do not depend on what was drawn for the teacher.
    set_seed(config.training.seed)
    run = facts.training if facts else None
    teacher = Teacher(classifier)
    return Lesson(config, method, accelerator, identity, threat, data, teacher, knows, checkpoint, taught_by, run)

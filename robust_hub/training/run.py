"""A training run: from the first check of what its user gave to the model's folder; all recipes that train share it."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from robust_hub.attacks import PGD
from robust_hub.data import Data, Loader, Source, batch_size_for, evaluation_loader, load_data, split_sha256, subset
from robust_hub.evaluation import evaluate_loader, find_class_order, reorder_logits
from robust_hub.launch import check_output, claim_output, end_training, identity_of, make_accelerator
from robust_hub.methods import AsksOnce, Objective
from robust_hub.model_folder import ModelFolder, load_folder, load_with_new_head, short_name
from robust_hub.models import PixelClassifier, Teacher, check_channels
from robust_hub.names import STUDENT
from robust_hub.threats import Threat, parse_threat
from robust_hub.training.answers import ask_once, room_for_answers
from robust_hub.training.estimate import estimate_cost
from robust_hub.training.head import NewHead, fit_head, linear_head
from robust_hub.training.loaders import MOST_CLASSIFIED, open_loaders, share_of
from robust_hub.training.loop import TrainState
from robust_hub.training.pictures import draw_pictures
from robust_hub.training.result import Result, published, save_result, table, trained
from robust_hub.training.run_config import RunConfig
from robust_hub.training.validation import plan_validation

CHECKED_IMAGES = 128
CHECKED_STEPS = 10
LEARNT_NOTHING = (
    "warning: the student is right on {} % of test images, no more than naming one class for all would be: it has "
    "learnt nothing. Lower --lr, train longer, or, where it is attacked in training, let eps grow (--eps-warmup 0.5)"
)


@dataclass
class TrainingRun:
    """What a recipe has at hand once everything it was given is checked.

    Attributes:
        config: what the user asked for.
        method: with its options, as cards name it.
        accelerator: of the run.
        identity: what decides the run's result.
        threat: what the student should withstand.
        data: the images.
        folder: of the teacher; None where there is none.
        teacher: the robust classifier; with an untrained head for the data's classes where it knows others.
        teacher_knows: whether the teacher's head is for the data's classes.
        seconds_before: what has been spent so far on what comes before the training: heads, and asking a teacher once.
    """

    config: RunConfig
    method: str
    accelerator: Accelerator
    identity: dict
    threat: Threat
    data: Data
    folder: ModelFolder | None = None
    teacher: Teacher | None = None
    teacher_knows: bool = False
    seconds_before: float = 0.0

    def require_teacher(self) -> Teacher:
        """Gives the teacher of a run that was opened with one."""
        assert self.teacher is not None
        return self.teacher

    def complete(
        self,
        student: PixelClassifier,
        objective: Objective | None,
        *,
        head: NewHead | None = None,
        starts_from: ModelFolder | None = None,
        stored: Path | None = None,
        compare_with: Sequence[Result] = (),
    ) -> Result:
        """Trains a student, tests it, and writes its folder; see `train` and `save`."""
        result = self.train(student, objective, head=head, starts_from=starts_from, stored=stored)
        self.save(result, starts_from=starts_from, compare_with=compare_with)
        return result

    def train(
        self,
        student: PixelClassifier,
        objective: Objective | None,
        *,
        head: NewHead | None = None,
        starts_from: ModelFolder | None = None,
        stored: Path | None = None,
    ) -> Result:
        """Trains a student and tests it; from here on the run writes.

        There are three ways: a head alone (no objective), a head and then the objective, or the objective alone. A
        teacher that knows other classes is trained a head for these before, unless the student starts from it.

        Args:
            student: the student.
            objective: holds it; None where nothing but the head is learnt.
            head: of the student, learnt first; found here where the student starts from a model of other classes.
            starts_from: the model whose weights the student starts from; None for an untrained network.
            stored: target gradients that training batches bring along.
        """
        config, accelerator = self.config, self.accelerator
        if head is None and objective is not None and starts_from is not None:
            head = self._head_to_learn(student)
        descent = config.training.descent(from_model=starts_from is not None)
        training = replace(config.training, **descent._asdict())
        # Filled in once the teacher is ready.
        answers = room_for_answers(objective, len(self.data.train), student.input_size)
        loaders = open_loaders(accelerator, self.data, config.source, training, self.threat, student, stored, answers)
        # Before anything is written, as a batch may be too small or too large.
        plan = estimate_cost(accelerator, objective, loaders.train, training) if objective else None
        validation = plan_validation(plan.passes, len(self.data.validation), training.epochs) if plan else None
        images = validation.images if validation else CHECKED_IMAGES
        loaders = loaders.validated_on(accelerator, student, images)
        facts = self.data.facts.shown_to(student.input_size)
        augmentation = loaders.source.augmentation
        told = {**asdict(facts), "augmentation": augmentation, "sha256": split_sha256(self.data)}
        claim_output(accelerator, config.output, self.identity, facts=told)
        accelerator.print(facts.describe_sizes())
        accelerator.print(f"the student starts {f'from {starts_from.described}' if starts_from else 'untrained'}")
        if self.teacher is not None:
            self.teacher.to(accelerator.device)
        if head is not None:
            accelerator.print("the student's new head is trained first, on features of the images as they are")
            self._fit_head(head, "features", loaders.source)
        if self.folder is not None and starts_from is self.folder:
            self._warn_unless_robust(student, "teacher with its new head")
        elif self.teacher is not None:
            self._prepare_teacher(self.teacher, loaders.source)
        if isinstance(objective, AsksOnce) and answers:
            accelerator.print("the teacher is asked once about each training image")
            teacher, fit, place = self.require_teacher(), student.preprocessing, config.output.folder / "answers"
            self.seconds_before += ask_once(
                accelerator, objective, teacher, self.data.train, fit, loaders.source, answers, place
            )
        if objective is None or validation is None:
            state = self._only_head(student)
        else:
            accelerator.print(f"training images are augmented: {augmentation}")
            accelerator.print(f"optimizer: {descent}")
            accelerator.print(plan)
            accelerator.print(validation)
            set_seed(training.seed, device_specific=True)
            times = validation.times
            student, state = loaders.fit(accelerator, objective, training, config.output, validations=times)
        evaluation = loaders.evaluate(accelerator, student, short_name(self.method))
        if evaluation.clean_accuracy.value <= evaluation.largest_class:
            accelerator.print(LEARNT_NOTHING.format(evaluation.clean_accuracy))
        result = trained(accelerator, self.method, student, evaluation, state)
        return replace(result, loaders=loaders, seconds=result.seconds + self.seconds_before)

    def save(
        self, result: Result, *, starts_from: ModelFolder | None = None, compare_with: Sequence[Result] = ()
    ) -> None:
        """Writes the student's folder, prints the teacher, others and the student, and draws them.

        The folder comes first, as of all this it alone can't be had again in a minute.

        Args:
            result: the student.
            starts_from: the model whose weights the student started from; None for an untrained network.
            compare_with: others to show beside it.
        """
        accelerator, loaders, results = self.accelerator, result.loaders, [*compare_with, result]
        assert loaders is not None
        student, provenance = self.config.output.folder / STUDENT, self.folder.provenance if self.folder else None
        lineage = self.folder.lineage() if self.folder else None
        # A student of the teacher is one that asked it in training, or that starts from its weights.
        place = starts_from.public_place if starts_from else ""
        taught = lineage is not None and ("teacher" in result.passes or place == lineage.name)
        save_result(
            accelerator,
            student,
            result,
            method=self.method,
            seed=self.config.training.seed,
            teacher=lineage if taught else None,
            starts_from=starts_from,
        )
        if self.teacher is not None and self.teacher_knows:
            evaluation = loaders.evaluate(accelerator, self.teacher, "teacher")
            cost = provenance.training if provenance else None
            results.insert(0, published("teacher", self.teacher, evaluation, cost))
        accelerator.print(table(results, self.data.name, self.threat))
        draw_pictures(accelerator, results, loaders, self.config.output.folder / "pictures", student)
        accelerator.print(f"\nwritten: timm.create_model('local-dir:{student}', pretrained=True)")
        end_training(accelerator)

    def training_images(self, student: PixelClassifier) -> Loader:
        """Yields every training image as it is, of the size the student takes, to each process all of them."""
        device = self.accelerator.device
        batch_size = batch_size_for(student.input_size, most=MOST_CLASSIFIED)
        return evaluation_loader(self.data.train, student.preprocessing, batch_size=batch_size, device=device)

    def _prepare_teacher(self, teacher: Teacher, source: Source) -> None:
        """Trains the teacher a head for the data's classes where it knows others, and warns if it is not robust."""
        if not self.teacher_knows:
            self.accelerator.print("the teacher knows other classes: it is trained a head for these first")
            head = linear_head(teacher.classifier).requires_grad_(True)
            self._fit_head(NewHead(head, teacher.classifier), "teacher_features", source)
            head.requires_grad_(False)
            self.teacher_knows = True
        self._warn_unless_robust(teacher, "teacher")

    def _head_to_learn(self, student: PixelClassifier) -> NewHead | None:
        """Gives the head that a student learns first as its model knew other classes; None of others, or not linear."""
        if student.label_names == self.data.label_names:
            return None
        try:
            return NewHead(linear_head(student), student)
        except ValueError as error:
            self.accelerator.print(f"the new head learns with all other weights: {error}")
            return None

    def _fit_head(self, head: NewHead, folder: str, source: Source) -> None:
        """Trains a head on the training images; the features are kept in a folder of the run."""
        place = self.config.output.folder / folder
        head = replace(head, training=replace(head.training, seed=self.config.training.seed))
        self.seconds_before += fit_head(self.accelerator, head, self.data.train, source, place)

    def _only_head(self, student: PixelClassifier) -> TrainState:
        """Tells what a run has cost in which nothing but a head was trained: the passes that computed its features."""
        passes = replace(student.passes)
        images = passes.forward * self.accelerator.num_processes
        return TrainState(epoch=self.config.training.epochs, images=images, passes={"student": passes})

    def _warn_unless_robust(self, classifier: PixelClassifier | Teacher, name: str) -> None:
        """Says in one line when a classifier withstands next to nothing: nobody can learn robustness from it."""
        loader = share_of(self.accelerator, subset(self.data.validation, CHECKED_IMAGES), classifier)
        attack = PGD.standard(self.threat, steps=CHECKED_STEPS)
        # A copy, so that these passes are not counted as the run's.
        accuracy = evaluate_loader(self.accelerator, deepcopy(classifier), loader, attack).robust_accuracy
        if accuracy.value < 1 / self.data.num_classes:
            self.accelerator.print(
                f"warning: the {name} withstands {self.threat} on {accuracy} % of {accuracy.n} validation images "
                f"(PGD-{CHECKED_STEPS}); a student can't learn robustness from it"
            )


def open_run(
    config: RunConfig, method: object, teacher: ModelFolder | None = None, *, label_names: Sequence[str] = ()
) -> TrainingRun:
    """Checks the output folder, loads data and teacher, and seeds what comes next; writes nothing.

    Args:
        config: what the user asked for.
        method: its options, which print themselves as cards name it.
        teacher: its folder.
        label_names: what the user calls the teacher's logits, in their order; none to take its own names.

    Raises:
        ValueError: when anything the user gave can't be used.
    """
    threat = parse_threat(config.threat)
    parts = config.training.fine_tuning.gradient_accumulation_steps
    accelerator = make_accelerator(config.output, gradient_accumulation_steps=parts)
    sha256 = {"teacher": teacher.sha256} if teacher else {}
    identity = identity_of(accelerator, str(method), config, sha256=sha256)
    check_output(config.output, identity)
    data = load_data(config.source)
    if data.num_classes < 2:
        raise ValueError(
            f"{data.name} must have two classes or more to learn from, got {data.num_classes} "
            f"({', '.join(data.label_names)}); check --data and its column of labels"
        )
    accelerator.print(data.description())
    run = TrainingRun(config, str(method), accelerator, identity, threat, data, teacher)
    set_seed(config.training.seed)
    if teacher is not None:
        classifier = load_folder(teacher).to(accelerator.device)
        check_channels(classifier)
        claimed = teacher.info.clean_accuracy.value if teacher.info else 0.0
        order = find_class_order(classifier, data, stated=label_names, claimed=claimed)
        if order.told:
            accelerator.print(f"teacher: {order.told}")
        run.teacher_knows = bool(order.label_names)
        if run.teacher_knows:
            reorder_logits(classifier, order.label_names, data.label_names)
        run.teacher = Teacher(classifier if run.teacher_knows else load_with_new_head(teacher, data.num_classes))
        # Again, so that the student's first weights do not depend on what was drawn for the teacher.
        set_seed(config.training.seed)
    return run

"""Trains any objective: the batch loop, weight averaging, selection on validation, and resume."""

import math
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from timm.utils import ModelEmaV3
from torch.optim.lr_scheduler import LRScheduler

from robust_hub.data import Loader
from robust_hub.launch import progress, track
from robust_hub.methods import Objective, mix_images
from robust_hub.models import Passes, PixelClassifier
from robust_hub.training.config import FineTuningConfig, TrainingConfig
from robust_hub.training.optimizer import make_optimizer
from robust_hub.training.resume import load_checkpoint, save_checkpoint
from robust_hub.training.validation import MOST_TIMES, is_due
from robust_hub.types import Images, Labels, Targets

STEPS_BETWEEN_CHECKS = 20
# A run is saved after so many of its epochs, or after all where it has fewer.
CHECKPOINTS = 30
# Robust accuracy that falls to this share of what it was before, and by more than the chance of 64 images, is a sudden
# failure.
FALLEN, LEAST_FALL = 0.5, 0.1
FELL = (
    "warning: after epoch {} the student withstands the attack of validation on {:.1f} % of images, where it was "
    "{:.1f} % before: it has learnt to fool the one step of training (catastrophic overfitting). The best epoch's "
    "weights are kept; --linearity-weight 100 guards against it, as more --noise does"
)

Mixing: TypeAlias = Callable[[Images, Labels], tuple[Images, Targets]]


@dataclass
class TrainState:
    """Where a run stands and what it has cost; a part of every checkpoint.

    Attributes:
        epoch: epochs finished.
        step: optimizer steps taken.
        seconds: training time, validation not counted.
        most_robust: the best robust validation accuracy so far; a fraction.
        best_score: the best mean of clean and robust validation accuracy so far.
        best_epoch: when that was.
        images: training images seen, on all processes.
        passes: what each network of the objective has been through in training, on this process.
        processes: how many there are.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    images: int = 0
    most_robust: float = 0.0
    best_score: float = -math.inf
    best_epoch: int = 0
    passes: dict[str, Passes] = field(default_factory=dict)
    processes: int = 1

    def state_dict(self) -> dict:
        """Returns plain values."""
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        """Takes them back, though there may have been more processes then, or fewer."""
        before = state.pop("processes", self.processes)
        for name, counts in state.pop("passes").items():
            here = {kind: count * before // self.processes for kind, count in counts.items()}
            vars(self.passes[name]).update(here)
        vars(self).update(state)


@dataclass(frozen=True)
class Scores:
    """Clean and robust accuracy on validation images, by which an epoch is chosen; fractions."""

    clean: float
    robust: float


def train_epoch(
    accelerator: Accelerator,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
    averaged: ModelEmaV3,
    loader: Loader,
    state: TrainState,
    *,
    clip_grad: float,
    mixing: Mixing,
) -> dict[str, float]:
    """Takes one pass over the training images.

    Args:
        accelerator: accumulates, synchronises and scales gradients.
        objective: as prepared by the accelerator.
        optimizer: likewise.
        scheduler: not prepared; stepped once an optimizer step.
        averaged: follows the student's weights, once an optimizer step.
        loader: this process's batches of the epoch.
        state: its step is counted on.
        clip_grad: largest norm of the gradient of a step; 0 for any.
        mixing: what is done to a batch, see `fine_tune`.

    Returns:
        The mean of the loss and of each of its terms on this process, by name.

    Raises:
        FloatingPointError: when the loss stops being a finite number.
    """
    objective.train()
    sums: dict[str, torch.Tensor] = {}
    bar = progress(loader, desc=f"epoch {state.epoch + 1}", mininterval=1)
    for index, (images, labels, *extras) in enumerate(bar):
        accelerator.unwrap_model(objective).step = state.step
        images, targets = mixing(images, labels)
        with accelerator.accumulate(objective):
            losses = objective(images, targets, *extras)
            accelerator.backward(losses.total)
            if accelerator.sync_gradients and clip_grad:
                accelerator.clip_grad_norm_(objective.parameters(), clip_grad)
            optimizer.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:
            scheduler.step()
            state.step += 1
            averaged.update(accelerator.unwrap_model(objective).student, state.step)
        state.images += len(images) * accelerator.num_processes
        for name, value in {"loss": losses.total.detach(), **losses.terms}.items():
            sums[name] = sums.get(name, 0.0) + value.float()
        if index % STEPS_BETWEEN_CHECKS == 0 or index == len(loader) - 1:
            _check_finite(accelerator, [sums["loss"]], state)
            bar.set_postfix(loss=f"{losses.total.item():.3f}")
    return {name: value.item() / len(loader) for name, value in sums.items()}


def fit(
    accelerator: Accelerator,
    objective: Objective,
    loader: Loader,
    training: TrainingConfig,
    *,
    validate: Callable[[Accelerator, PixelClassifier], Scores],
    validations: int = MOST_TIMES,
    checkpoints: Path,
    resume: bool,
) -> tuple[PixelClassifier, TrainState]:
    """Trains the objective's student and returns its averaged weights of the best epoch on validation.

    A run that was killed and is resumed ends with the same weights as one that was not, bit for bit on the CPU: the
    order and the augmentation depend on the seed and the epoch alone, and a checkpoint holds everything else.

    Args:
        accelerator: decides on device, precision, processes and accumulation.
        objective: the method; this, and not the student, is prepared.
        loader: training batches.
        training: how weights are learnt.
        validate: measures the averaged student on validation images.
        validations: after how many of the epochs, see `is_due`.
        checkpoints: the folder they are kept in.
        resume: whether to go on from the newest one.

    Returns:
        The classifier to publish, and what the run has cost.

    Raises:
        FloatingPointError: when the loss stops being a finite number; the last checkpoint is kept.
    """
    # Convolutions are faster so on both CPUs and GPUs, and no other layer minds.
    objective.to(accelerator.device).to(memory_format=torch.channels_last)
    steps = training.epochs * len(loader) // accelerator.gradient_accumulation_steps
    optimizer, scheduler = make_optimizer(objective, training, steps)
    state = TrainState(passes=objective.passes(), processes=accelerator.num_processes)
    objective.steps = steps
    objective, optimizer = accelerator.prepare(objective, optimizer)
    student = accelerator.unwrap_model(objective).student
    averaged = ModelEmaV3(student, decay=training.fine_tuning.ema_decay, use_warmup=True)
    best = deepcopy(averaged.module)
    attacks_in_one_step = accelerator.unwrap_model(objective).attacks_in_one_step
    # Of the copies nobody asks more than logits.
    mixing = fine_tune(accelerator.unwrap_model(objective), training.fine_tuning)
    clip_grad = training.fine_tuning.clip_grad
    accelerator.register_for_checkpointing(scheduler, averaged, best, state)
    if resume:
        load_checkpoint(accelerator, checkpoints)

    epochs = range(state.epoch, training.epochs)
    bar = progress(epochs, initial=state.epoch, total=training.epochs, desc="epochs", leave=True)
    for epoch in bar:
        start = time.perf_counter()
        loader.set_epoch(epoch)
        terms = train_epoch(
            accelerator, objective, optimizer, scheduler, averaged, loader, state, clip_grad=clip_grad, mixing=mixing
        )
        state.seconds += time.perf_counter() - start
        state.epoch = epoch + 1
        track(accelerator, {**terms, "lr": float(max(scheduler.get_last_lr()))}, step=state.epoch)
        validates = is_due(state.epoch, training.epochs, validations)
        if not validates and not is_due(state.epoch, training.epochs, CHECKPOINTS):
            continue

        _synchronise(averaged.module)
        _check_finite(accelerator, averaged.module.parameters(), state)
        if validates:
            scores = validate(accelerator, averaged.module)
            state.most_robust = max(state.most_robust, scores.robust)
            least = min(FALLEN * state.most_robust, state.most_robust - LEAST_FALL)
            if attacks_in_one_step and scores.robust < least:
                accelerator.print(FELL.format(state.epoch, 100 * scores.robust, 100 * state.most_robust))
            score = (scores.clean + scores.robust) / 2
            if score >= state.best_score:
                state.best_score, state.best_epoch = score, state.epoch
                best.load_state_dict(averaged.module.state_dict())
            bar.set_postfix(clean=f"{scores.clean:.3f}", robust=f"{scores.robust:.3f}")
            told = {f"validation_{name}": value for name, value in asdict(scores).items()}
            track(accelerator, told, step=state.epoch)
        save_checkpoint(accelerator, checkpoints, state.epoch)
    return best, deepcopy(state)


def check_compilation(accelerator: Accelerator, objective: Objective) -> None:
    """Checks that an objective can be compiled, where Accelerate is told to.

    Raises:
        ValueError: when it can't.
    """
    plugin = accelerator.state.dynamo_plugin
    backend = "no" if plugin is None else plugin.backend.value.lower()
    if backend != "no" and objective.needs_second_derivatives:
        raise ValueError(
            f"{type(objective).__name__} takes second derivatives, which torch does not compile; say --dynamo_backend "
            f"no instead of {backend} to accelerate launch"
        )


def fine_tune(objective: Objective, options: FineTuningConfig) -> Mixing:
    """Prepares an objective for what was chosen, and gives what is done to each of its batches.

    Raises:
        ValueError: when the objective, or its student's network, does not allow it.
    """
    if options.grad_checkpointing:
        _checkpoint_gradients(objective)
    if not options.softens_labels:
        return lambda images, labels: (images, labels)
    if not objective.takes_soft_labels:
        raise ValueError(
            f"{type(objective).__name__} needs one class an image; drop --mixup, --cutmix and --label-smoothing"
        )
    return partial(
        mix_images,
        num_classes=objective.student.num_classes,
        mixup=options.mixup,
        cutmix=options.cutmix,
        label_smoothing=options.label_smoothing,
    )


def _checkpoint_gradients(objective: Objective) -> None:
    """Lets the backward passes of a student compute activations again, which takes time and saves memory."""
    if objective.needs_second_derivatives:
        raise ValueError(
            f"{type(objective).__name__} takes second derivatives, for which activations can't be computed again; drop "
            "--grad-checkpointing"
        )
    objective.student.checkpoint_gradients()


def _synchronise(averaged: PixelClassifier) -> None:
    """Gives every process the main one's weights: BatchNorm statistics differ between processes."""
    for value in averaged.state_dict().values():
        value.copy_(broadcast(value.clone()))


def _check_finite(accelerator: Accelerator, values: Iterable[torch.Tensor], state: TrainState) -> None:
    """Stops every process as soon as one of them has met a value that is not finite."""
    finite = torch.stack([value.detach().isfinite().all() for value in values]).all()
    if accelerator.reduce(finite.float()) < accelerator.num_processes:
        raise FloatingPointError(
            f"the loss was not a finite number by step {state.step}; checkpoints of earlier epochs are kept: lower "
            "--lr, or the weight of the method's term, and start again in another --output"
        )

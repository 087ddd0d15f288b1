"""What a run will cost, told before it begins: two steps are taken on a copy, and the second is timed."""

import os
import time
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import psutil
import torch
from accelerate import Accelerator

from robust_hub.data import Loader
from robust_hub.launch import peak_memory
from robust_hub.methods import Objective
from robust_hub.training.config import TrainingConfig
from robust_hub.training.loop import check_compilation, fine_tune
from robust_hub.training.optimizer import make_optimizer

GIB = 2**30


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a training run, as a rehearsal foretells it.

    Attributes:
        steps: optimizer steps.
        batch_size: images a step, over all processes and accumulated gradients together.
        seconds: of training; at most so many where a method's dearest part begins late.
        memory: most bytes a process holds.
        fits: the bytes there are.
        passes: of all networks, forward and backward, an image each, over all processes.
    """

    steps: int
    batch_size: int
    seconds: float
    memory: int
    fits: int
    passes: int = 0

    def __str__(self) -> str:
        told = (
            f"plan: {self.steps:,} steps of {self.batch_size} images, about {_duration(self.seconds)} of training and "
            f"{self.memory / GIB:.1f} of {self.fits / GIB:.1f} GiB a process, by a rehearsal of two steps"
        )
        return told if self.memory < 0.9 * self.fits else f"{told}; this is tight: {ADVICE}"


# How torch begins its complaint about statistics of a single value.
OF_ONE_IMAGE = "Expected more than 1 value per channel"
ADVICE = (
    "lower --batch-size, divide each batch with --gradient-accumulation-steps 2, or let accelerate launch compute in "
    "--mixed_precision bf16"
)


def estimate_cost(
    accelerator: Accelerator, objective: Objective, loader: Loader, training: TrainingConfig
) -> CostEstimate:
    """Takes two optimizer steps on a copy of an objective and tells what the whole run will cost.

    Neither the objective nor the random numbers that follow are touched.

    Args:
        accelerator: decides on device and precision.
        objective: not prepared yet.
        loader: training batches of this process.
        training: how weights are learnt.

    Raises:
        ValueError: when a step does not fit into the accelerator's memory, leaves BatchNorm a single image, or the
            objective can't be trained as was chosen.
    """
    check_compilation(accelerator, objective)
    passes = training.epochs * len(loader)
    steps = passes // accelerator.gradient_accumulation_steps
    cuda = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        copy = deepcopy(objective).to(accelerator.device).to(memory_format=torch.channels_last).train()
        # The last step: there every part of the loss is in force, whatever its start and its period.
        copy.step = steps - 1
        copy.steps = steps
        mixing = fine_tune(copy, training.fine_tuning)
        before = _passes(copy)
        optimizer, _ = make_optimizer(copy, training, 2)
        loader.set_epoch(0)
        try:
            for images, labels, *extras in islice(loader, 2):
                images, targets = mixing(images, labels)
                start = time.perf_counter()
                with accelerator.autocast():
                    losses = copy(images, targets, *extras)
                losses.total.backward()
                optimizer.step()
                optimizer.zero_grad()
                # Reading the loss waits for the device.
                losses.total.item()
                seconds = time.perf_counter() - start
        except torch.OutOfMemoryError as error:
            raise ValueError(f"a step does not fit into the memory of {accelerator.device}; {ADVICE}") from error
        except ValueError as error:
            if not str(error).startswith(OF_ONE_IMAGE):
                raise
            parts = accelerator.num_processes * accelerator.gradient_accumulation_steps
            raise ValueError(
                f"BatchNorm needs at least 2 images at a time, and --batch-size {training.batch_size}, divided by "
                f"processes and accumulated steps, leaves it 1; say --batch-size {2 * parts} or more"
            ) from error
    memory = peak_memory(accelerator)
    fits = (
        torch.cuda.mem_get_info(accelerator.device)[1]
        if cuda
        else psutil.virtual_memory().total // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    )
    # A step is half of what was counted, and there is one at least.
    counted = (_passes(copy) - before) * passes // min(2, len(loader)) * accelerator.num_processes
    return CostEstimate(steps, training.batch_size, passes * seconds, memory, fits, counted)


def _passes(objective: Objective) -> int:
    """Counts the passes of all networks so far."""
    return sum(counts.total for counts in objective.passes().values())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""What a teacher says of each training image when it is asked once, before training."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor

from robust_hub.data import Fit, Source
from robust_hub.methods import AsksOnce, Objective
from robust_hub.models import Teacher
from robust_hub.training.outputs import compute_outputs, views_of


def room_for_answers(objective: Objective | None, images: int, input_size: tuple[int, int, int]) -> list[Tensor]:
    """Makes zeros for `ask_once` to fill in: n w, and n k c h w where maps are asked for; none where nothing is."""
    numbers, maps = objective.asked_once if isinstance(objective, AsksOnce) else (0, 0)
    room = torch.zeros(images, numbers), torch.zeros(images, maps, *input_size, dtype=torch.bfloat16)
    return [each for each in room if each.shape[1]]


def ask_once(
    accelerator: Accelerator,
    objective: AsksOnce,
    teacher: Teacher,
    rows: Dataset,
    fit: Fit,
    source: Source,
    answers: Sequence[Tensor],
    folder: Path,
) -> float:
    """Fills in the teacher's mean answer about each image, as it is and, where training mirrors images, mirrored.

    Args:
        accelerator: its processes share the images.
        objective: asks.
        teacher: is asked; its passes are counted.
        rows: the training images.
        fit: how they are brought to the size of those the student sees.
        source: says whether they are mirrored.
        answers: from `room_for_answers`.
        folder: where the answers are kept; those that are there already are used.

    Returns:
        The seconds it took, those of answers that are there already included.
    """
    begun, (numbers, *maps), views = time.perf_counter(), answers, views_of(source)
    width = sum(each[0].numel() for each in answers)
    file = folder / "answers.npy"
    outputs, earlier = compute_outputs(
        accelerator, teacher, objective.ask, rows, fit, width=width, views=views, file=file
    )
    # A view at a time, as maps are large.
    for view, output in enumerate(outputs):
        told, flat = torch.from_numpy(np.array(output)).tensor_split([numbers.shape[1]], dim=1)
        numbers += told / views
        for each in maps:
            seen = flat.reshape(each.shape)
            each += (seen.flip(4) if view else seen) / views
    return earlier + time.perf_counter() - begun

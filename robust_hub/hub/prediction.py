"""What a model sees on photos: labels with their probabilities, photo by photo, however many there are."""

import csv
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from robust_hub.attacks import eval_mode
from robust_hub.data import batch_size_for, find_photos, read_photo
from robust_hub.errors import first_line
from robust_hub.files import whole_file
from robust_hub.hub.loading import load
from robust_hub.models import PixelClassifier, Preprocessing, check_channels

BATCH = 64
LABELS = 5


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one photo.

    Attributes:
        path: of the photo.
        top: up to five labels, the likeliest first, with their probabilities; empty where it can't be read.
        problem: why it can't be read; empty where it can.
    """

    path: Path
    top: tuple[tuple[str, float], ...] = ()
    problem: str = ""

    @property
    def label(self) -> str:
        """The likeliest label; empty where the photo can't be read."""
        return self.top[0][0] if self.top else ""

    @property
    def probability(self) -> float:
        """Its probability; no number where the photo can't be read."""
        return self.top[0][1] if self.top else math.nan


@dataclass(frozen=True)
class Predictions:
    """Predictions, made a batch at a time while they are read; no more than a batch of photos is in memory.

    Attributes:
        classifier: whose they are.
        photos: what is labelled, in this order.
    """

    classifier: PixelClassifier
    photos: list[Path]

    def __len__(self) -> int:
        return len(self.photos)

    def __iter__(self) -> Iterator[Prediction]:
        fit, names = self.classifier.preprocessing, _label_names(self.classifier)
        batch_size = batch_size_for(fit.input_size, most=BATCH)
        with ThreadPoolExecutor() as threads:
            for start in range(0, len(self.photos), batch_size):
                files = self.photos[start : start + batch_size]
                pixels = list(threads.map(partial(_pixels, fit=fit), files))
                tops = iter(self._tops([photo for photo in pixels if isinstance(photo, Tensor)], names))
                for file, photo in zip(files, pixels, strict=True):
                    yield Prediction(file, problem=photo) if isinstance(photo, str) else Prediction(file, next(tops))

    def _tops(self, photos: list[Tensor], names: list[str]) -> list[tuple[tuple[str, float], ...]]:
        if not photos:
            return []
        images = torch.stack(photos).to(self.classifier.mean.device).float().div_(255)
        with torch.no_grad(), eval_mode(self.classifier):
            probabilities, labels = self.classifier(images).softmax(1).topk(min(LABELS, len(names)), dim=1)
        rows = zip(labels.tolist(), probabilities.tolist(), strict=True)
        return [tuple((names[label], share) for label, share in zip(*row, strict=True)) for row in rows]


def predict(model: str | PixelClassifier, paths: str | Path | Iterable[str | Path]) -> Predictions:
    """Labels photos, each brought to the model's size as the model wants it.

    Args:
        model: by name, see `load`, on a GPU where there is one; or a classifier, on its device.
        paths: files, and folders in which all photos are meant, those in folders below as well.

    Returns:
        A prediction for each photo, in their order. One that can't be read says so and stops no other.

    Raises:
        ValueError: when there is no such model or path, or a folder holds no photo.
    """
    photos = find_photos([paths] if isinstance(paths, str | Path) else paths)
    if isinstance(model, str):
        model = load(model).to("cuda" if torch.cuda.is_available() else "cpu")
    check_channels(model)
    return Predictions(model, photos)


def write_csv(predictions: Iterable[Prediction], file: Path) -> None:
    """Writes predictions as a table, whole or not at all, a row a photo: path, label, probability, and the next four.

    Args:
        predictions: of photos that could be read.
        file: put in place of what is there.
    """
    header = ["path", "label", "probability"]
    header += [f"{column}_{rank}" for rank in range(2, LABELS + 1) for column in ("label", "probability")]
    with (
        whole_file(file) as unfinished,
        # A name of a file need not be text; it comes out as it is.
        unfinished.open("w", newline="", encoding="utf-8", errors="surrogateescape") as table,
    ):
        writer = csv.DictWriter(table, header, restval="")
        writer.writeheader()
        for prediction in predictions:
            cells = [prediction.path, *(cell for pair in prediction.top for cell in pair)]
            writer.writerow(dict(zip(header, cells, strict=False)))


def _label_names(classifier: PixelClassifier) -> list[str]:
    """Gives the model's names of its classes, or their numbers where it tells none."""
    names = classifier.label_names
    return names if len(names) == classifier.num_classes else [str(label) for label in range(classifier.num_classes)]


def _pixels(file: Path, fit: Preprocessing) -> Tensor | str:
    """Reads a photo, or tells why it can't be."""
    try:
        return read_photo(file, fit)
    except Exception as error:  # whatever a broken file makes its decoder raise, the other photos are read
        told = first_line(error)
        # What is advised is about data sets.
        return told.rpartition(";")[0] or told

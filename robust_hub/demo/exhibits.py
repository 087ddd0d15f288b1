"""The models of a page: those that were asked for, and a plain one beside them, so that the difference is seen."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from robust_hub.data import Data, Source
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report, find_class_order, train_surrogate
from robust_hub.model_folder import ModelFolder
from robust_hub.models import PixelClassifier

PLAIN = "a plain network"
# Training a larger one takes too long for a page that is waited for.
LARGEST_IN_PASSING = 64


@dataclass(frozen=True)
class Exhibit:
    """A model that a page shows.

    Attributes:
        name: as the page calls it.
        classifier: in eval mode.
        label_names: in the order of its logits.
        report: what was measured of it; None where nobody has.
        folder: that it was loaded from; None for one that was trained here.
        data: what it was trained on here.
    """

    name: str
    classifier: PixelClassifier
    label_names: list[str]
    report: Report | None = None
    folder: Path | None = None
    data: str = ""


def exhibit_of(classifier: PixelClassifier, folder: ModelFolder, data: Data | None) -> Exhibit:
    """Makes an exhibit of a model.

    Args:
        classifier: that was loaded.
        folder: from which.
        data: a set whose classes its logits may stand for, where it does not tell them itself.
    """
    order = find_class_order(classifier, data).label_names if data and not classifier.label_names else []
    names = classifier.label_names or order or [f"class {number}" for number in range(classifier.num_classes)]
    report = None
    with suppress(CheckpointError):
        # Not every folder has an evaluation.
        report = Report.read(folder.path)
    name = folder.provenance.name if folder.provenance else folder.public_place
    return Exhibit(name, classifier.eval(), names, report, folder.path)


def plain_exhibit(data: Data) -> Exhibit | None:
    """Trains a small plain network on a data set; None where its images are large, or there is none to learn from."""
    if max(data.image_shape) > LARGEST_IN_PASSING or not len(data.train):
        return None
    network = train_surrogate(data, Source(data.name), torch.device("cpu"), seed=0)
    assert isinstance(network, PixelClassifier)
    return Exhibit(PLAIN, network.eval(), data.label_names, data=data.name)

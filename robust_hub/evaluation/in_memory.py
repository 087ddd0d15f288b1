"""Evaluates a classifier on images that are at hand, without a data set, a folder or an accelerator of the caller's."""

from pathlib import Path
from tempfile import TemporaryDirectory

from accelerate import Accelerator

from robust_hub.attacks import AutoAttack, Version
from robust_hub.data import WHOLE, batches_of
from robust_hub.evaluation.accuracy import Evaluation
from robust_hub.evaluation.journal import Journal
from robust_hub.evaluation.search import search_classifier
from robust_hub.evaluation.stages import evaluate_in_stages
from robust_hub.models import PixelClassifier
from robust_hub.threats import L2, Linf
from robust_hub.types import Images, Labels

BATCH = 128


def evaluate(
    classifier: PixelClassifier, images: Images, labels: Labels, threat: Linf | L2, version: Version = "quick"
) -> Evaluation:
    """Measures clean and robust accuracy.

    Args:
        classifier: on the device to attack on; returned to the mode it was in.
        images: in [0, 1], of the size it takes.
        labels: of these images.
        threat: what to withstand.
        version: quick is an upper bound that must not be called AutoAttack; standard is AutoAttack, and takes long.

    Raises:
        ValueError: when images and labels differ in number, images leave [0, 1], or several processes call it.
    """
    if len(images) != len(labels) or not len(images):
        raise ValueError(f"expected as many labels as images, and at least one, got {len(images)} and {len(labels)}")
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise ValueError("evaluate is for one process; accelerate launch recipes/evaluate.py divides the images")
    device = classifier.mean.device
    images, labels = images.to(device), labels.to(device)
    with TemporaryDirectory() as place:
        evaluation, _, _ = evaluate_in_stages(
            accelerator,
            classifier,
            search_classifier(classifier, "float32", images[:8]),
            batches_of(images, labels, batch_size=BATCH),
            WHOLE.batches(len(images), BATCH),
            AutoAttack(threat, version),
            seed=0,
            journal=Journal(Path(place)),
        )
    return evaluation

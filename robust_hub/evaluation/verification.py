"""Whether an evaluation says the truth: its images are classified once more, and those that its evidence perturbs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from robust_hub.data import (
    BUILTIN,
    Source,
    batch_size_for,
    data_sha256,
    evaluation_loader,
    find_images,
    load_test_data,
    sha256_in_order,
    subset,
)
from robust_hub.errors import CheckpointError
from robust_hub.evaluation.accuracy import Accuracy
from robust_hub.evaluation.class_order import in_order_of
from robust_hub.evaluation.evidence import Evidence
from robust_hub.evaluation.perturbations import confirm
from robust_hub.evaluation.report import Report
from robust_hub.evaluation.spot_check import SpotCheck, check_spots
from robust_hub.models import PixelClassifier, Preprocessing
from robust_hub.names import EVIDENCE, HUB_ID, WEIGHTS
from robust_hub.threats import parse_threat

BATCH = 256
# What another machine's rounding may change, as a share.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Verified:
    """What stands of an evaluation.

    Attributes:
        report: of the evaluation.
        images: how many images of which split they are, where that is known.
        clean: accuracy on its images, measured again.
        robust: accuracy on the images that the evidence covers that is left by the perturbations that were confirmed;
            an upper bound.
        confirmed: how many perturbations lie in the ball and fool the model.
        perturbations: how many there are.
        spot_check: an attack on images that the evaluation calls robust.
    """

    report: Report
    images: str
    clean: Accuracy
    robust: Accuracy
    confirmed: int
    perturbations: int
    spot_check: SpotCheck

    def __str__(self) -> str:
        """Writes what was found beside what is claimed."""
        evaluation, flagged = self.report.evaluation, [f"  {each.name}: {each.meaning}" for each in self.report.flagged]
        covered = f" of the first {self.robust.n:,} images" if self.robust.n < self.clean.n else ""
        bound = f"at most {self.robust} %{covered}, verified here" if self.perturbations else "confirmed by nothing"
        lines = [
            f"{self.report.model} on {self.report.source.data}, {self.report.threat}, {self.clean.n} test images",
            *([f"the images are {self.images}, as the evaluation chose them"] if self.images else []),
            f"clean accuracy: {self.clean} %, verified here; claimed: {evaluation.clean_accuracy} %",
            f"confirmed: {self.confirmed} of {self.perturbations} perturbations lie in the ball and fool the model",
            f"robust accuracy is {bound}; claimed: {evaluation.robust_accuracy} %, {self.report.protocol}",
            f"that no attack leaves less than this upper bound is unproven; spot check: {self.spot_check}",
            f"honesty, as claimed: {len(flagged)} of {len(self.report.checks)} checks flagged" + ":" * bool(flagged),
            *flagged,
        ]
        return "\n".join(lines)


def verify_evaluation(
    classifier: PixelClassifier,
    report: Report,
    folder: Path,
    *,
    data: str = "",
    spot_check: int,
    generator: np.random.Generator,
) -> Verified:
    """Confirms the evidence of a finished evaluation, and attacks a few of the images that it calls robust.

    Args:
        classifier: the model that the evaluation is about, on the device to classify on.
        report: of the evaluation.
        folder: that it was read from, of the model or of a run of evaluate.py, with its evidence.
        data: the data set, where the evaluation calls it by a name that is not known here.
        spot_check: attacks so many images.
        generator: draws them, so that nobody knows before which.

    Raises:
        CheckpointError: when weights, images or perturbations are not the evaluation's, or do not do what it says, or
            the attack fools what it says can't be fooled.
    """
    evaluation = report.evaluation
    evidence = Evidence.load(folder / EVIDENCE, len(evaluation.clean))
    if classifier.eval().fingerprint() != report.model_sha256:
        raise CheckpointError(
            f"the weights of {report.model} are not those that {folder} is about; evaluate them again"
        )
    preprocessing = report.preprocessing or Preprocessing.of_before(classifier.input_size)
    # Those of before were shown other images than the model's users show it, and say so by telling nothing.
    expected = classifier.preprocessing if report.preprocessing else Preprocessing.of_before(classifier.input_size)
    if preprocessing != expected:
        raise CheckpointError(
            f"{folder} is about images of {preprocessing}, and the model takes {classifier.preprocessing}; evaluate it "
            "again"
        )
    if report.covered not in (0, evidence.covered):
        raise CheckpointError(
            f"{folder / EVIDENCE} covers {evidence.covered:,} images, and the evaluation tells of {report.covered:,}; "
            "evaluate again"
        )
    fallen = np.flatnonzero((evaluation.clean & ~evaluation.robust)[: evidence.covered])
    stored = evidence.perturbations
    if not np.array_equal(stored.indices.numpy(), fallen) or stored.perturbation.shape[1:] != classifier.input_size:
        raise CheckpointError(
            f"{folder / EVIDENCE} must perturb each image that fell of the first {evidence.covered:,}, and no other; "
            "evaluate again"
        )
    # The output of a run is one's own, and names one's own folders.
    is_a_strangers = (folder / WEIGHTS).is_file()
    source = source_at(report, data) if is_a_strangers else replace(report.source, data=data or report.source.data)
    rows, images = _tested(source, report, evidence, folder)
    device, batch_size = classifier.mean.device, batch_size_for(classifier.input_size, most=BATCH)
    loader = evaluation_loader(rows, preprocessing, batch_size=batch_size, device=device)
    threat = parse_threat(report.threat)
    clean, confirmed = confirm(classifier, stored.to(device), loader, threat)
    robust = clean.copy()
    robust[fallen[confirmed]] = False
    if (clean != evaluation.clean).mean() > TOLERANCE:
        raise CheckpointError(f"{(clean != evaluation.clean).sum()} images are not judged as {folder} says")
    if (~confirmed).sum() > TOLERANCE * len(confirmed):
        raise CheckpointError(f"{(~confirmed).sum()} perturbations do not do what {folder} says")
    called_robust = np.flatnonzero(evaluation.robust & clean)
    chosen = np.sort(generator.permutation(called_robust)[:spot_check])
    # Its backward passes keep what forward passes forget.
    attacked = evaluation_loader(rows.select(chosen), preprocessing, batch_size=max(1, batch_size // 8), device=device)
    spots = check_spots(classifier, attacked, threat)
    if spots.contradicts:
        raise CheckpointError(f"{folder} claims too much: {spots}")
    return Verified(
        report,
        images,
        Accuracy.of(clean),
        Accuracy.of(robust[: evidence.covered]),
        int(confirmed.sum()),
        len(confirmed),
        spots,
    )


def source_at(report: Report, data: str) -> Source:
    """Tells where the tested images are, to whoever got an evaluation from a stranger, who names no folder here.

    Args:
        report: of the evaluation.
        data: the place where the reader has them; where empty, it is one that has the same name everywhere.

    Raises:
        CheckpointError: when there is no such place.
    """
    named = report.source.data
    if not data and named not in BUILTIN and (Path(named).exists() or not HUB_ID.fullmatch(named)):
        raise CheckpointError(f"the data set is called '{named}' where it was tested; say where that is with --data")
    return replace(report.source, data=data or named)


def _tested(source: Source, report: Report, evidence: Evidence, folder: Path) -> tuple[Dataset, str]:
    """Finds the images that were tested, in the order of the evaluation, and tells what they are of."""
    images, labels = evidence.images, report.evaluation.labels
    try:
        if images is None:
            if source.group_by:
                raise CheckpointError(f"{folder} divides its data by a pattern and keeps no hashes; evaluate again")
            known = in_order_of(load_test_data(source, rule=report.rule), report.label_names)
            rows = subset(known.test, source.test_images)
            if sha256_in_order(rows) != report.data_sha256 or len(rows) != len(labels):
                raise CheckpointError(f"the images of {source.data} are not those that {folder} is about")
            return rows, ""
        if data_sha256(images.pixels, [report.label_names[label] for label in labels]) != report.data_sha256:
            raise CheckpointError(f"{folder / EVIDENCE} is of other images than the evaluation; evaluate again")
        found = find_images(source, images, labels, report.label_names)
        return found.rows, found.told
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{error}; say where the data is with --data") from error

"""Whether an evaluation says the truth: its images are classified once more, and those that its evidence perturbs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robust_hub.data import BUILTIN, batch_size_for, evaluation_loader, load_test_data, split_sha256, subset
from robust_hub.errors import CheckpointError
from robust_hub.evaluation.accuracy import Accuracy
from robust_hub.evaluation.class_order import in_order_of
from robust_hub.evaluation.evidence import Evidence, confirm
from robust_hub.evaluation.report import Report
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
        clean: accuracy on its images, measured again.
        robust: accuracy that is left by the perturbations that were confirmed; no attack was run.
        confirmed: how many perturbations lie in the ball and fool the model.
        perturbations: how many there are.
    """

    report: Report
    clean: Accuracy
    robust: Accuracy
    confirmed: int
    perturbations: int

    def __str__(self) -> str:
        """Writes what was found beside what is claimed."""
        evaluation = self.report.evaluation
        flagged = [f"  {check.name}: {check.meaning}" for check in self.report.flagged]
        return "\n".join(
            [
                f"{self.report.model} on {self.report.source.data}, {self.report.threat}, {self.clean.n} test images",
                f"clean accuracy: {self.clean} %; claimed: {evaluation.clean_accuracy} %",
                f"confirmed: {self.confirmed} of {self.perturbations} perturbations lie in the ball and fool the model",
                f"robust accuracy is at most {self.robust} %; claimed: {evaluation.robust_accuracy} %, "
                f"{self.report.protocol}",
                f"honesty: {len(flagged)} of {len(self.report.checks)} checks flagged" + (":" if flagged else ""),
                *flagged,
            ]
        )


def verify_evaluation(classifier: PixelClassifier, folder: Path, *, data: str = "") -> Verified:
    """Confirms the evidence of a finished evaluation, without running an attack.

    Args:
        classifier: the model that the evaluation is about, on the device to classify on.
        folder: of the model with its evaluation, or the one that evaluate.py wrote.
        data: the data set, where the evaluation calls it by a name that is not known here.

    Raises:
        CheckpointError: when weights, images or perturbations are not the evaluation's, or do not do what it says.
    """
    report, evidence = Report.read(folder), Evidence.load(folder / EVIDENCE)
    if classifier.eval().fingerprint() != report.model_sha256:
        raise CheckpointError(
            f"the weights of {report.model} are not those that {folder} is about; evaluate them again"
        )
    if (folder / WEIGHTS).is_file() and not data and report.source.data not in BUILTIN and not _is_of_the_hub(report):
        raise CheckpointError(f"{folder} calls its data set '{report.source.data}'; say where that is with --data")
    source = replace(report.source, data=data) if data else report.source
    try:
        known = in_order_of(load_test_data(source, rule=report.rule), report.label_names)
        rows = subset(known.test, source.test_images)
    except ValueError as error:
        raise CheckpointError(f"{error}; say where the data is with --data") from error
    if split_sha256(rows) != report.data_sha256 or len(rows) != len(report.evaluation.clean):
        raise CheckpointError(f"the images of {source.data} are not those that {folder} is about")
    evaluation = report.evaluation
    fallen = np.flatnonzero(evaluation.clean & ~evaluation.robust)
    preprocessing = report.preprocessing or Preprocessing.of_before(classifier.input_size)
    if preprocessing.input_size != classifier.input_size:
        raise CheckpointError(
            f"{folder} is about images of {preprocessing}, and the model takes {classifier.preprocessing}; evaluate it "
            "again"
        )
    if not np.array_equal(evidence.indices.numpy(), fallen) or evidence.perturbation.shape[1:] != classifier.input_size:
        raise CheckpointError(f"{folder / EVIDENCE} must perturb each image that fell, and no other; evaluate again")
    batch_size = batch_size_for(classifier.input_size, most=BATCH)
    loader = evaluation_loader(rows, preprocessing, batch_size=batch_size, device=classifier.mean.device)
    clean, confirmed = confirm(classifier, evidence.to(classifier.mean.device), loader, parse_threat(report.threat))
    robust = clean.copy()
    robust[fallen[confirmed]] = False
    if (clean != evaluation.clean).mean() > TOLERANCE:
        raise CheckpointError(f"{(clean != evaluation.clean).sum()} images are not judged as {folder} says")
    if (~confirmed).sum() > TOLERANCE * len(confirmed):
        raise CheckpointError(f"{(~confirmed).sum()} perturbations do not do what {folder} says")
    return Verified(report, Accuracy.of(clean), Accuracy.of(robust), int(confirmed.sum()), len(confirmed))


def _is_of_the_hub(report: Report) -> bool:
    """Tells whether a data set can only be one on the Hub: no stranger's evaluation names a folder of this machine."""
    return bool(HUB_ID.fullmatch(report.source.data)) and not Path(report.source.data).exists()

"""What a model claims, in a few plain values: what lists, filters and tables need, and the Hub keeps in a card."""

from dataclasses import asdict, dataclass
from itertools import pairwise

from robust_hub import models
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Accuracy, Report
from robust_hub.files import as_record
from robust_hub.model_folder.provenance import Provenance

# Of a text, in characters; the command line of a method is some hundred.
LONGEST = 1_000
# Of anything counted, weights or seconds: no model comes near.
MOST = 10**13


@dataclass(frozen=True)
class ModelInfo:
    """What a model is and withstands.

    Attributes:
        name: architecture.method_threat_data.
        architecture: timm's name of the network.
        stock: whether timm alone knows the architecture (tier 1), or robust_hub has to be imported first (tier 2).
        parameters: number of weights.
        method: the training objective, as it prints itself.
        data: the data set it was tested on.
        threat: as `parse_threat` reads it.
        protocol: how robust accuracy was measured; AutoAttack only where it was that.
        clean_accuracy: on the test split.
        robust_accuracy: on the same images.
        flagged: how many honesty checks give a reason to doubt it.
        checks: how many were made.
        seconds: of training; None where it is not known.
        seconds_with_teacher: of training, and what the teacher took; None where it is not known.
        hardware: where it was trained; empty where that is not known.
        license: an identifier that the Hub knows; empty where nobody stated it.
        measured_by: who measured its accuracies; empty where it was their publisher.
    """

    name: str
    architecture: str
    stock: bool
    parameters: int
    method: str
    data: str
    threat: str
    protocol: str
    clean_accuracy: Accuracy
    robust_accuracy: Accuracy
    flagged: int
    checks: int
    seconds: float | None
    seconds_with_teacher: float | None
    hardware: str
    license: str
    measured_by: str = ""

    @classmethod
    def of(cls, provenance: Provenance, report: Report) -> "ModelInfo":
        """Takes it from what a run and an evaluation wrote."""
        return cls(
            name=provenance.name,
            architecture=provenance.architecture,
            stock=models.is_stock(provenance.architecture),
            parameters=provenance.parameters,
            method=provenance.method,
            data=report.data,
            threat=report.threat,
            protocol=report.protocol,
            clean_accuracy=report.evaluation.clean_accuracy,
            robust_accuracy=report.evaluation.robust_accuracy,
            flagged=len(report.flagged),
            checks=len(report.checks),
            seconds=provenance.training.seconds if provenance.training else None,
            seconds_with_teacher=provenance.seconds_with_teacher,
            hardware=provenance.training.hardware if provenance.training else "",
            license=provenance.license,
            measured_by=report.by,
        )

    @classmethod
    def read(cls, told: object, where: str) -> "ModelInfo":
        """Reads what `plain` wrote.

        Raises:
            CheckpointError: when it is something else.
        """
        info = as_record(cls, told, where)
        accuracies = (info.clean_accuracy, info.robust_accuracy)
        # From the lower end of each interval to the upper.
        ranges = [(0, accuracy.low, accuracy.value, accuracy.high, 1) for accuracy in accuracies]
        counts = (info.parameters, info.checks - info.flagged, info.flagged, *(accuracy.n for accuracy in accuracies))
        times = [seconds for seconds in (info.seconds, info.seconds_with_teacher) if seconds is not None]
        texts = [value for value in asdict(info).values() if isinstance(value, str)]
        if (
            not all(low <= high for bounds in ranges for low, high in pairwise(bounds))
            or not all(0 <= count <= MOST for count in counts)
            or not all(0 <= seconds <= MOST for seconds in times)
            or not all(text.isprintable() and len(text) <= LONGEST for text in texts)
        ):
            raise CheckpointError(
                f"{where} claims what can't be: shares outside [0, 1] or their intervals, counts or seconds that are "
                "negative or beyond belief, odd characters, or words without end"
            )
        return info

    def plain(self) -> dict:
        """Gives all of it as plain values; claims of before do not tell who measured."""
        plain = asdict(self)
        if not self.measured_by:
            del plain["measured_by"]
        return plain

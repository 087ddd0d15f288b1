"""Where a model comes from: what it is, who taught it and what that cost; all but what an evaluation measures."""

from dataclasses import asdict, dataclass, field

from robust_hub.evaluation import Accuracy
from robust_hub.files import as_record
from robust_hub.threats import Threat


@dataclass(frozen=True)
class Lineage:
    """The model that another one learnt from.

    Attributes:
        name: hf-hub:ORG/NAME@COMMIT, or local-dir:FOLDER.
        sha256: of its weights file.
        license: as its card states it; empty where it states none.
        protocol: how its robustness was measured; empty where its card tells no measurement.
        clean_accuracy: as its card tells.
        robust_accuracy: as its card tells.
        seconds: what training it took, with its own teacher's; None where that is not known.
    """

    name: str
    sha256: str
    license: str = ""
    protocol: str = ""
    clean_accuracy: Accuracy | None = None
    robust_accuracy: Accuracy | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class TrainingCost:
    """What training took.

    Attributes:
        seed: of the run.
        best_epoch: which epoch's averaged weights these are, chosen on validation; 0 where none was chosen.
        seconds: training time, validation not counted, nor what a teacher took.
        images: training images seen, on all processes.
        peak_memory: most bytes that the main process held; None where nobody measured it.
        passes: forward and backward passes of each network, on all processes.
        hardware: where.
        versions: of the packages that matter.
    """

    seed: int
    best_epoch: int
    seconds: float
    images: int
    peak_memory: int | None
    passes: dict[str, dict[str, int]]
    hardware: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Provenance:
    """What a card tells beside an evaluation; a run writes it, and people only licence and repository.

    Attributes:
        name: architecture.method_threat_data.
        architecture: timm's name of the network.
        parameters: number of weights.
        method: the training objective, as it prints itself.
        data: the data set.
        threat: what it should withstand, as `parse_threat` reads it; empty for a model that nobody made robust.
        eps: radius of the threat in pixel units; 0 without one.
        command: what made it.
        teacher: who taught it; None when nobody did.
        starts_from: the model whose weights it starts from; empty for an untrained network.
        training: what it cost; None where others trained it.
        origin: where it comes from, where others trained it.
        license: an identifier that the Hub knows; empty until somebody states it.
        repository: ORG/NAME on the Hub; empty until it is published.
        pictures: file names of plots in the same folder, with what they show.
        starts_from_sha256: of the weights file that it starts from; empty where nobody kept it.
    """

    name: str
    architecture: str
    parameters: int
    method: str
    data: str
    threat: str
    eps: float
    command: str
    teacher: Lineage | None = None
    starts_from: str = ""
    training: TrainingCost | None = None
    origin: str = ""
    license: str = ""
    repository: str = ""
    pictures: dict[str, str] = field(default_factory=dict)
    starts_from_sha256: str = ""

    @classmethod
    def read(cls, told: dict, where: str) -> "Provenance":
        """Reads what `plain` wrote.

        Raises:
            CheckpointError: when it is something else.
        """
        return as_record(cls, told, where)

    def plain(self) -> dict:
        """Gives all of it as plain values, for config.json as older folders have it where it is no more than that."""
        plain = asdict(self)
        if not self.starts_from_sha256:
            del plain["starts_from_sha256"]
        return plain

    @property
    def seconds_with_teacher(self) -> float | None:
        """Training time with what the teacher took; None where one of them is not known."""
        own = self.training.seconds if self.training else None
        if own is None or (self.starts_from and not self.teacher):
            return None
        if self.teacher is None:
            return own
        return None if self.teacher.seconds is None else own + self.teacher.seconds


def short_name(method: str) -> str:
    """Gives a method's name without its arguments, as in tables and in a model's name."""
    return method.split("(")[0].lower()


def model_name(architecture: str, method: str, threat: Threat | None, data: str) -> str:
    """Makes a model's name: architecture.method_threat_data, without a threat where nobody made it robust."""
    withstands = f"{threat}_".replace(":", "").replace("/255", "") if threat else ""
    return f"{architecture}.{short_name(method)}_{withstands}{data}"

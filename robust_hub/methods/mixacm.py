"""MixACM: the student's channels are active where the robust teacher's are, stage by stage, on mixed images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_hub.attacks import eval_mode
from robust_hub.errors import close_names, first_line
from robust_hub.losses import cross_entropy, distillation
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_has_effect, check_same_task
from robust_hub.methods.mixing import mix_images
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Features, Images, Labels, PerExample

ALL = ("all",)


@dataclass(frozen=True)
class MixACMOptions(Options):
    """What MixACM compares.

    Attributes:
        stages: the student's stages that are matched, by their names in timm's feature_info; "all" takes as many as
            both networks have, spread evenly over the one that has more, the last always with the last.
        teacher_stages: the teacher's, in the same order.
        weight: of the distances between activated channel maps, summed over stages.
        divergence_weight: of the divergence from the teacher's predictions.
        cross_entropy_weight: of the mixup cross-entropy.
        temperature: divides the logits of both before the softmax.
        concentration: of the Beta distribution that the share of the first image is drawn from.
    """

    method: ClassVar[str] = "MixACM"
    stages: tuple[str, ...] = ALL
    teacher_stages: tuple[str, ...] = ALL
    weight: float = 10.0
    divergence_weight: float = 1.0
    cross_entropy_weight: float = 0.1
    temperature: float = 1.0
    concentration: float = 1.0


class MixACM(Objective):
    """Distances between activated channel maps, a divergence and a mixup cross-entropy, all on mixed images.

    Args:
        student: the classifier to train.
        teacher: the robust classifier, which sees the same mixed images.
        options: what is compared.

    Raises:
        ValueError: when the tasks differ, a network gives no stage maps, stages do not match or an option is out of its
            range.

    Source: Awais et al., NeurIPS 2021, arXiv 2111.05073, figure 1.
    Deviations: the paper's weights, and what it measures between channel maps, could not be read. Here a map is the
        spatial mean of each channel, both are divided by their L2 norms, and the squared distance is summed over
        channels; an adaptor is one Linear without bias, trained with the student and not published, and there is none
        where widths agree. All defaults are ours.
    """

    # It mixes images itself.
    takes_soft_labels = False

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: MixACMOptions = MixACMOptions()):
        super().__init__()
        check_same_task(student, teacher)
        weights = {"weight": options.weight, "divergence_weight": options.divergence_weight}
        check_at_least(0, "MixACM", **weights, cross_entropy_weight=options.cross_entropy_weight)
        check_at_least(0.01, "MixACM", temperature=options.temperature, concentration=options.concentration)
        if not options.divergence_weight:
            check_has_effect(options, "temperature", needs="a --divergence-weight above 0")
        for name in ("stages", "teacher_stages") if not options.weight else ():
            check_has_effect(options, name, needs="a --weight above 0")
        self.student, self.teacher, self.options = student, teacher, options
        self.stages, self.teacher_stages = match_stages(
            student.stages, teacher.classifier.stages, options.stages, options.teacher_stages
        )
        widths = zip(_widths(student, self.stages), _widths(teacher.classifier, self.teacher_stages), strict=True)
        self.adaptors = nn.ModuleList(
            nn.Identity() if own == wanted else nn.Linear(own, wanted, bias=False) for own, wanted in widths
        )

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        classes, concentration = self.student.num_classes, self.options.concentration
        mixed, soft_labels = mix_images(images, labels, num_classes=classes, mixup=concentration)
        with torch.no_grad():
            target, target_maps = self.teacher.forward_intermediates(mixed)
        logits, maps = self.student.forward_intermediates(mixed)
        own, wanted = self._chosen(maps, self.stages), self._chosen(target_maps, self.teacher_stages)
        distances = (
            channel_distance(adaptor(channel_means(learnt)), channel_means(taught)).mean()
            for adaptor, learnt, taught in zip(self.adaptors, own, wanted, strict=True)
        )
        map_term = sum(distances, start=images.new_zeros(()))
        divergence = distillation(logits, target, self.options.temperature).mean()
        label_term = cross_entropy(logits, soft_labels).mean()
        terms = {"map_distance": map_term, "divergence": divergence, "cross_entropy": label_term}
        weighted = self.options.weight * map_term + self.options.divergence_weight * divergence
        total = weighted + self.options.cross_entropy_weight * label_term
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    @staticmethod
    def _chosen(maps: list[Tensor], stages: Sequence[int]) -> list[Tensor]:
        return [maps[stage] for stage in stages]


def channel_means(maps: Tensor) -> Features:
    """Averages a stage's map over its places: the activated channel map, n c."""
    # Channels last, as training keeps them: the gradient of mean((2, 3)) is not, which costs a fifth of a step.
    precision = torch.promote_types(maps.dtype, torch.float32)
    return maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1, dtype=precision)


def channel_distance(channels: Features, reference: Features) -> PerExample:
    """Computes the squared L2 distance between two channel vectors that are divided by their norms, in [0, 4]."""
    own, wanted = (F.normalize(vector, dim=1, eps=1e-8) for vector in (channels.to(reference.dtype), reference))
    return (own - wanted).square().sum(1)


def match_stages(
    student: Sequence[str], teacher: Sequence[str], wanted: Sequence[str], wanted_of_teacher: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Finds which stage of the student goes with which of the teacher.

    Args:
        student: the names of the student's stages.
        teacher: those of the teacher's.
        wanted: names among the student's, or the one word "all".
        wanted_of_teacher: names among the teacher's, or the one word "all".

    Returns:
        The numbers of the student's stages, and of the teacher's, of the same length.

    Raises:
        ValueError: when a network has no stages, a name is unknown, or there are not as many of one as of the other.
    """
    own, taught = _numbers("student", student, wanted), _numbers("teacher", teacher, wanted_of_teacher)
    if tuple(wanted) == ALL:
        own = _spread(own, min(len(own), len(taught)))
    if tuple(wanted_of_teacher) == ALL:
        taught = _spread(taught, min(len(own), len(taught)))
    if len(own) != len(taught):
        raise ValueError(f"stages of student and teacher must be as many, got {len(own)} and {len(taught)}; name each")
    return own, taught


def _numbers(network: str, stages: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if not stages:
        raise ValueError(f"the {network} tells no stages; choose an architecture with timm's feature_info")
    if tuple(wanted) == ALL:
        return list(range(len(stages)))
    for name in wanted:
        if name not in stages:
            near = close_names(name, stages) or f"; it has {', '.join(stages)}"
            raise ValueError(f"the {network} has no stage '{name}'{near}")
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"stages of the {network} must be named once each, got {', '.join(wanted) or 'none'}")
    return [stages.index(name) for name in wanted]


def _spread(numbers: list[int], count: int) -> list[int]:
    """Takes that many of them, evenly from the last one backwards."""
    return [numbers[len(numbers) * (place + 1) // count - 1] for place in range(count)]


def _widths(classifier: PixelClassifier, stages: Sequence[int]) -> list[int]:
    """Counts the channels of stages' maps by looking at one pair of grey images."""
    passes = replace(classifier.passes)
    images = torch.full((2, *classifier.input_size), 0.5, device=classifier.mean.device)
    try:
        with torch.no_grad(), eval_mode(classifier):
            _, maps = classifier.forward_intermediates(images)
        return [maps[stage].shape[1] for stage in stages]
    except Exception as error:  # whatever a foreign architecture raises, the user needs the one sentence
        raise ValueError(
            f"{classifier.architecture} gives no stage maps ({first_line(error)}); choose another one or method"
        ) from error
    finally:
        classifier.passes = passes

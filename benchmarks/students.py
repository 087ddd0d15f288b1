"""Which of timm's families can be the student of which method.

    python benchmarks/students.py [FAMILY ...]

Takes the architecture with the fewest parameters of each file in timm.models, cut to two blocks where it has a
depth, at the smallest image it accepts, and three optimizer steps, clipped as in training, with each method on two
images. The teacher is tiny and of another architecture, in lifelong a copy. Prints a table family x method as it goes:
works, refused or broken; and then the sentence of each refusal and the error of each failure.
"""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy

import timm
import torch
import tyro
from tqdm import tqdm

from robust_hub.errors import first_line
from robust_hub.methods import (
    ARD,
    IGAM,
    KD,
    PAG,
    RRM,
    ARDOptions,
    IGAMOptions,
    Lifelong,
    MixACM,
    Objective,
    RRMOptions,
    TeacherGradients,
)
from robust_hub.models import PixelClassifier, Teacher, create_classifier, is_stock
from robust_hub.threats import Linf
from robust_hub.training import FineTuningConfig

CLASSES, IMAGES, STEPS = 4, 2, 3
SIZES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)

METHODS: dict[str, Callable[[PixelClassifier, Teacher], Objective]] = {
    "rrm": lambda student, teacher: RRM(student, teacher, RRMOptions(projection=True)),
    "kd": KD,
    "ard": lambda student, teacher: ARD(student, teacher, Linf(8 / 255), ARDOptions(steps=1)),
    "lifelong": lambda student, _: Lifelong(student, Teacher(deepcopy(student))),
    "igam": lambda student, teacher: IGAM(
        student,
        teacher,
        IGAMOptions(weight=0.1, feature_weight=0.0, adversarial_weight=1.0, noise=0.0, start=0.0, ramp=0.0),
    ),
    "pag": lambda student, teacher: PAG(student, TeacherGradients(teacher, student)),
    "mixacm": MixACM,
}


def main(families: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Tries the families and prints the table.

    Args:
        families: files in timm.models; all of timm's own where none is given.
    """
    print("| " + " | ".join(["family", "student", "px", *METHODS]) + " |")
    print("|---" * (3 + len(METHODS)) + "|")
    counts: dict[str, Counter] = {method: Counter() for method in METHODS}
    reasons = []
    for family in tqdm(families or timms_own()):
        torch.manual_seed(0)
        architecture = smallest(family)
        student = build(architecture)
        if isinstance(student, str):
            verdicts, size = dict.fromkeys(METHODS, student), "-"
        else:
            verdicts = {method: verdict(student, objective_for) for method, objective_for in METHODS.items()}
            size = student.input_size[-1]
        short = {method: told.split(":")[0] for method, told in verdicts.items()}
        print("| " + " | ".join([family, architecture, str(size), *short.values()]) + " |", flush=True)
        reasons += [f"- {family}, {method}: {told}" for method, told in verdicts.items() if told != "works"]
        for method, told in short.items():
            counts[method][told] += 1
    print("", *reasons, "", sep="\n")
    for method, count in counts.items():
        print(f"{method}: " + ", ".join(f"{number} {told}" for told, number in count.items()))


def timms_own() -> list[str]:
    """Lists the files in timm.models; ours register themselves beside them."""
    return [family for family in timm.list_modules() if is_stock(timm.list_models(module=family)[0])]


def smallest(family: str) -> str:
    """Finds the architecture of a file in timm.models that has the fewest parameters, without making any weights."""
    sizes = {}
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            try:
                model = timm.create_model(name, num_classes=CLASSES)
            except Exception as error:  # some can't be made without data; others of their family can
                tqdm.write(f"{name}: {first_line(error)}")
                continue
        if hasattr(model, "get_classifier"):  # encoders have none
            sizes[name] = sum(parameter.numel() for parameter in model.parameters())
    return min(sizes, key=sizes.__getitem__)


def build(architecture: str) -> PixelClassifier | str:
    """Makes the classifier at the smallest image it accepts, or tells why it can't be made."""
    told = ""
    for size in SIZES:
        for arguments in ({"img_size": size, "depth": 2}, {"img_size": size}, {"depth": 2}, {}):
            try:
                student = create_classifier(architecture, arguments, num_classes=CLASSES, image_shape=(3, size, size))
                student(torch.zeros(IMAGES, *student.input_size))
                return student
            except ValueError as error:
                told = f"refused: {error}"
            except Exception as error:  # a smaller image than the architecture stands; the next one is tried
                told = f"broken: {first_line(error)}"
    return told


def verdict(classifier: PixelClassifier, objective_for: Callable[[PixelClassifier, Teacher], Objective]) -> str:
    """Takes three steps with one method on a copy of the classifier."""
    torch.manual_seed(0)
    tiny = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)}
    teacher = Teacher(create_classifier("resnet18_cifar", tiny, num_classes=CLASSES, image_shape=(3, 16, 16)))
    images = torch.rand(IMAGES, *classifier.input_size)
    labels = torch.arange(IMAGES) % CLASSES
    try:
        objective = objective_for(deepcopy(classifier), teacher).train()
    except ValueError as error:
        return f"refused: {error}"
    except Exception as error:  # an error of our own, which the table is there to show
        return f"broken: {type(error).__name__}: {first_line(error)}"
    optimizer = torch.optim.SGD([weight for weight in objective.parameters() if weight.requires_grad], lr=1e-4)
    try:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = objective(images, labels).total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(objective.parameters(), FineTuningConfig().clip_grad)
            optimizer.step()
            if not loss.isfinite():
                return "broken: the loss is not finite"
        return "works" if _same_logits(objective, images) else "broken: stage maps come with other logits"
    except Exception as error:  # whatever a foreign architecture raises, the table tells it
        return f"broken: {type(error).__name__}: {first_line(error)}"


def _same_logits(objective: Objective, images: torch.Tensor) -> bool:
    if not isinstance(objective, MixACM):
        return True
    student = objective.student.eval()
    with torch.no_grad():
        return torch.allclose(student.forward_intermediates(images)[0], student(images), rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

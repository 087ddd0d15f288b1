"""Run by `accelerate launch` on one or two processes: trains with every method and saves what came out.

accelerate launch --num_processes 2 tests/two_processes.py OUTPUT ACCUMULATED_STEPS RUN...
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object, set_seed

from robust_hub.attacks import PGD
from robust_hub.data import Shard, Source, evaluation_loader, load_data, training_loader
from robust_hub.evaluation import evaluate_loader
from robust_hub.methods import (
    ARD,
    IGAM,
    KD,
    PAG,
    RRM,
    RSLAD,
    TRADES,
    AdversarialTraining,
    ARDOptions,
    IGAMOptions,
    Lifelong,
    MixACM,
    NFGSMOptions,
    PAGOptions,
    PGDOptions,
    Plain,
    RSLADOptions,
    TeacherGradients,
    TRADESOptions,
    TwoPoint,
)
from robust_hub.models import Teacher, create_classifier
from robust_hub.threats import Linf
from robust_hub.training import TrainingConfig
from robust_hub.training.loop import Scores, fit

SHAPE = (3, 16, 16)
THREAT = Linf(4 / 255)
STUDENTS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}),
    "resnet": ("resnet18_cifar", {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 16]}),
}
METHODS = {
    "plain": lambda student, teacher: Plain(student),
    "rrm": RRM,
    "igam": lambda student, teacher: IGAM(
        student, teacher, IGAMOptions(weight=0.1, gradient_of="loss", start=0.25, ramp=0.5, noise=0.0)
    ),
    "pgd": lambda student, teacher: AdversarialTraining(student, THREAT, PGDOptions(steps=2)),
    "n-fgsm": lambda student, teacher: AdversarialTraining(student, THREAT, NFGSMOptions()),
    "trades": lambda student, teacher: TRADES(student, THREAT, TRADESOptions(weight=6.0, steps=2)),
    "igam with discriminator": lambda student, teacher: IGAM(
        student,
        teacher,
        IGAMOptions(weight=0.1, adversarial_weight=2.0, discriminator_period=2, start=0.25, noise=0.0, ramp=0.0),
    ),
    "kd": KD,
    "ard": lambda student, teacher: ARD(student, teacher, THREAT, ARDOptions(steps=2, cross_entropy_weight=0.5)),
    "rslad": lambda student, teacher: RSLAD(student, teacher, THREAT, RSLADOptions()),
    "two-point": TwoPoint,
    "mixacm": MixACM,
    "pag": lambda student, teacher: PAG(student, TeacherGradients(teacher, student), PAGOptions(classes_per_image=2)),
    "lifelong": Lifelong,
}
# For the sake of time the ResNet is trained with those methods only whose parts or statistics differ from others'.
RUNS = [("vit", method) for method in METHODS] + [
    ("resnet", method) for method in METHODS if method not in ("kd", "ard", "pag", "lifelong")
]


def main(output: str, parts: str, *chosen: str) -> None:
    data = load_data(Source("synthetic"))
    results = {}
    for name, method in map(RUNS.__getitem__, map(int, chosen)):
        (architecture, arguments), objective_for = STUDENTS[name], METHODS[method]
        # As robust_hub.launch makes it: a discriminator rests at times.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=int(parts), kwargs_handlers=[unused])
        shard = Shard(accelerator.process_index, accelerator.num_processes, accelerator.gradient_accumulation_steps)
        set_seed(0)
        student, teacher = (
            create_classifier(architecture, arguments, num_classes=4, image_shape=SHAPE) for _ in range(2)
        )
        training = TrainingConfig(epochs=1, batch_size=64, lr=0.05)
        loader = training_loader(
            data.train,
            student.preprocessing,
            batch_size=64,
            augmentation="crop-flip",
            seed=0,
            device=accelerator.device,
            shard=shard,
        )
        test = evaluation_loader(
            data.test, student.preprocessing, batch_size=32, device=accelerator.device, shard=shard
        )
        set_seed(0, device_specific=True)
        fit(
            accelerator,
            objective_for(student, Teacher(teacher)),
            loader,
            training,
            validate=lambda accelerator, classifier: Scores(0.0, 0.0),
            checkpoints=Path(output) / f"{name}-{method}",
            resume=False,
        )
        weights = torch.cat([parameter.detach().flatten() for parameter in student.parameters()])
        everyone = gather_object([weights])
        evaluation = evaluate_loader(accelerator, student, test, PGD.standard(Linf(0.0), steps=1))
        results[f"{name}-{method}"] = {
            "processes": torch.tensor(accelerator.num_processes),
            "weights": weights,
            "spread": max((weights - other).abs().max().item() for other in everyone),
            "clean": torch.from_numpy(evaluation.clean),
            "robust": torch.from_numpy(evaluation.robust),
        }
    if accelerator.is_main_process:
        torch.save(results, f"{output}/results.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])

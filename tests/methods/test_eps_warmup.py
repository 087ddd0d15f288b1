"""An attack in training may grow to its full strength over the first part of a run."""

import pytest
import torch

from robust_hub.methods import (
    ARD,
    RSLAD,
    TRADES,
    AdversarialTraining,
    ARDOptions,
    NFGSMOptions,
    PGDOptions,
    RSLADOptions,
    TRADESOptions,
)
from robust_hub.models import Teacher
from robust_hub.threats import L2, Linf

WARM = {"eps_warmup": 0.5}
METHODS = {
    "pgd": lambda student, teacher, threat: AdversarialTraining(student, threat, PGDOptions(steps=2, **WARM)),
    "n-fgsm": lambda student, teacher, threat: AdversarialTraining(student, threat, NFGSMOptions(**WARM)),
    "trades": lambda student, teacher, threat: TRADES(student, threat, TRADESOptions(steps=2, **WARM)),
    "rslad": lambda student, teacher, threat: RSLAD(student, teacher, threat, RSLADOptions(**WARM)),
    "ard": lambda student, teacher, threat: ARD(student, teacher, threat, ARDOptions(steps=2, **WARM)),
}
# How far from an image each of them may go, in radii.
FARTHEST = {"pgd": 1, "n-fgsm": 3, "trades": 1, "rslad": 3, "ard": 1}


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_images_are_moved_by_the_share_of_eps_that_the_run_has_come_to(create_smooth, labels, name, threat):
    student, images = create_smooth(), torch.full((6, 3, 8, 8), 0.5)
    objective = METHODS[name](student, Teacher(create_smooth()), threat)
    seen = []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    objective.steps = 20
    reached = []
    for step in (0, 5, 10, 19):
        seen.clear()
        objective.step = step
        objective(images, labels)
        moved = threat.norm(seen[-1][-6:] - images).max().item()
        reached.append(moved / (FARTHEST[name] * threat.eps))
    assert 0 < reached[0] <= 0.1 + 1e-4
    assert 0.2 < reached[1] <= 0.6 + 1e-4
    assert 0.5 < reached[2] <= 1 + 1e-4
    assert 0.5 < reached[3] <= 1 + 1e-4


def test_a_loop_that_counts_no_steps_has_the_whole_eps(create_smooth, labels):
    student, images, threat = create_smooth(), torch.full((6, 3, 8, 8), 0.5), Linf(0.1)
    objective = RSLAD(student, Teacher(create_smooth()), threat, RSLADOptions(eps_warmup=0.3, noise=0.0))
    seen = []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    objective(images, labels)
    assert threat.norm(seen[-1] - images).max().item() == pytest.approx(0.1)


def test_a_share_beyond_the_run_is_refused():
    with pytest.raises(ValueError, match=r"NFGSM needs eps_warmup in \[0, 1\], a share of the run, got 1\.5"):
        NFGSMOptions(eps_warmup=1.5)

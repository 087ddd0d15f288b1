"""Weights are grouped as timm groups them, and every option of fine-tuning does what it says."""

from copy import deepcopy

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from robust_hub.methods import IGAM, KD, PAG, RRM, Plain, RRMOptions, TeacherGradients
from robust_hub.models import Teacher, create_classifier
from robust_hub.training import FineTuningConfig, TrainingConfig, make_optimizer
from robust_hub.training.loop import fine_tune

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}


def vit():
    return create_classifier("vit_tiny_patch16_224", VIT, num_classes=4, image_shape=(3, 16, 16))


def settings(optimizer) -> dict[nn.Parameter, tuple[float, float]]:
    """Decay and share of the learning rate of each weight."""
    return {
        weight: (group["weight_decay"], group.get("lr_scale", 1.0))
        for group in optimizer.param_groups
        for weight in group["params"]
    }


@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_the_students_weights_are_grouped_as_timm_groups_the_network_itself(layer_decay):
    student = vit()
    training = TrainingConfig(optimizer="adamw", weight_decay=0.05, fine_tuning=FineTuningConfig(layer_decay))
    ours, _ = make_optimizer(Plain(student), training, 10)
    decay = {"layer_decay": layer_decay} if layer_decay < 1 else {}
    timms = create_optimizer_v2(student.model, opt="adamw", lr=0.2, weight_decay=0.05, **decay)
    assert settings(ours) == settings(timms)
    # What was lost where the objective was handed over: these have two axes or more, and timm exempts them.
    assert settings(ours)[student.model.pos_embed][0] == 0.0
    assert settings(ours)[student.model.cls_token][0] == 0.0


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_what_an_objective_adds_learns_as_fast_as_the_last_layer(weight_decay):
    student, teacher = vit(), Teacher(create_classifier("resnet10t", {}, num_classes=4, image_shape=(3, 16, 16)))
    objective = RRM(student, teacher, RRMOptions(projection=True))
    fine_tuning = FineTuningConfig(layer_decay=0.5)
    training = TrainingConfig(optimizer="adamw", weight_decay=weight_decay, fine_tuning=fine_tuning)
    optimizer, _ = make_optimizer(objective, training, 10)
    told = settings(optimizer)
    assert told[objective.projection.weight] == (weight_decay, 1.0)
    assert set(told) == {weight for weight in objective.parameters() if weight.requires_grad}


@pytest.mark.parametrize(("schedule", "halfway"), [("cosine", 0.5), ("linear", 0.5)])
def test_the_rate_rises_in_the_warmup_and_falls_in_the_rest_each_layer_by_its_own_share(schedule, halfway):
    fine_tuning = FineTuningConfig(layer_decay=0.5, warmup=0.5, schedule=schedule)
    optimizer, scheduler = make_optimizer(Plain(vit()), TrainingConfig(lr=0.1, fine_tuning=fine_tuning), 40)
    highest = [0.0] * len(optimizer.param_groups)
    seen = []
    for _ in range(40):
        seen.append(scheduler.get_last_lr()[-1])
        highest = [max(pair) for pair in zip(highest, scheduler.get_last_lr(), strict=True)]
        optimizer.step()
        scheduler.step()
    # 41 steps are planned, so the top lies between two of them.
    shares = [group["lr_scale"] for group in optimizer.param_groups]
    assert highest == pytest.approx([0.1 * share for share in shares], rel=0.03)
    assert seen.index(max(seen)) in (19, 20)
    assert seen[30] == pytest.approx(halfway * max(seen), rel=0.1)


def test_activations_that_are_computed_again_give_the_same_gradients():
    student, teacher = vit(), Teacher(vit())
    images, labels = torch.rand(3, 3, 16, 16), torch.tensor([0, 1, 2])
    gradients = []
    for chosen in (FineTuningConfig(), FineTuningConfig(grad_checkpointing=True)):
        objective = KD(deepcopy(student), teacher).train()
        fine_tune(objective, chosen)
        objective(images, labels).total.backward()
        gradients.append([weight.grad for weight in objective.student.parameters()])
    for once, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, once)


@pytest.mark.parametrize("method", [IGAM, lambda student, teacher: PAG(student, TeacherGradients(teacher, student))])
def test_what_takes_second_derivatives_can_not_compute_them_again(method):
    with pytest.raises(ValueError, match="takes second derivatives, for which activations can't be computed again"):
        fine_tune(method(vit(), Teacher(vit())), FineTuningConfig(grad_checkpointing=True))


def test_a_network_that_can_not_compute_them_again_says_so():
    student = create_classifier("small_cnn_grey", {}, num_classes=4, image_shape=(1, 16, 16))
    with pytest.raises(ValueError, match="small_cnn_grey knows no --grad-checkpointing; drop it"):
        student.checkpoint_gradients()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 0.0}, r"--layer-decay must be in \(0, 1\], got 0\.0"),
        ({"warmup": 1.5}, r"--warmup must be in \(0, 1\], got 1\.5"),
        ({"ema_decay": -0.1}, r"--ema-decay must be in \(0, 1\], got -0\.1"),
        ({"clip_grad": -1.0}, r"--clip-grad must be at least 0, got -1\.0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FineTuningConfig(**options)


@pytest.mark.parametrize(
    ("chosen", "from_model", "expected"),
    [
        ({}, False, ("sgd", 0.2, 5e-4)),
        ({}, True, ("adamw", 5e-4, 0.05)),
        ({"optimizer": "adamw"}, False, ("adamw", 1e-3, 0.05)),
        ({"optimizer": "sgd", "weight_decay": 0.0}, True, ("sgd", 0.01, 0.0)),
        ({"optimizer": "lamb", "lr": 0.3}, True, ("lamb", 0.3, 0.0)),
    ],
)
def test_what_nobody_chose_follows_from_where_the_student_starts(chosen, from_model, expected):
    assert tuple(TrainingConfig(**chosen).descent(from_model=from_model)) == expected


def test_an_optimizer_of_unknown_rates_needs_one():
    with pytest.raises(ValueError, match="no usual learning rate of lamb is known here; say --lr as well"):
        TrainingConfig(optimizer="lamb").descent()

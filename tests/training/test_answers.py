"""What a teacher is asked once is the mean over an image and its mirror image, turned back where it is a map."""

import json

import pytest
import torch
from accelerate import Accelerator

from robust_hub.data import Source, evaluation_loader, load_data
from robust_hub.methods import IGAM, KD, RSLAD, IGAMOptions, Objective, RSLADOptions
from robust_hub.models import Teacher, create_classifier
from robust_hub.threats import Linf
from robust_hub.training.answers import ask_once, room_for_answers
from tests.made_up import CNN


@pytest.fixture
def rows():
    return load_data(Source("synthetic")).train.select(range(70))


def networks() -> tuple:
    torch.manual_seed(0)
    student, teacher = (
        create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(3, 16, 16)) for _ in range(2)
    )
    return student, Teacher(teacher)


@pytest.mark.parametrize(("augmentation", "views"), [("crop-flip", 2), ("crop", 1)])
def test_maps_of_mirrored_images_are_turned_back(tmp_path, rows, augmentation, views):
    student, teacher = networks()
    objective = IGAM(student, teacher, IGAMOptions(target="once"))
    answers = room_for_answers(objective, len(rows), student.input_size)
    source, fit = Source("synthetic", augmentation=augmentation), student.preprocessing
    accelerator = Accelerator(cpu=True)
    assert ask_once(accelerator, objective, teacher, rows, fit, source, answers, tmp_path) > 0
    passes = (teacher.passes.forward, teacher.passes.backward)
    assert passes == (views * len(rows), views * len(rows))
    # The last six images are a batch of their own.
    images = torch.cat([each for each, _ in evaluation_loader(rows, fit, batch_size=64, device=torch.device("cpu"))])
    for index in (0, 5, 69):
        image, direction = images[index], answers[0][index, 4:8]
        assert direction.sum().abs() < 1e-5
        expected = torch.zeros_like(image)
        for view in range(views):
            shown = image.flip(2) if view else image
            jacobian = torch.autograd.functional.jacobian(lambda pixels: teacher(pixels[None])[0], shown)
            gradient = torch.einsum("k,kchw->chw", direction, jacobian)
            expected += (gradient.flip(2) if view else gradient) / views
        # bfloat16 keeps 8 bits of each view.
        torch.testing.assert_close(answers[1][index, 0].float(), expected, rtol=2e-2, atol=1e-2 * expected.abs().max())


def test_answers_that_a_killed_run_left_cost_what_they_have_cost_it(tmp_path, rows):
    student, teacher = networks()
    objective = IGAM(student, teacher, IGAMOptions(target="once", feature_weight=0.0))
    source, fit, accelerator = Source("synthetic", augmentation="crop"), student.preprocessing, Accelerator(cpu=True)
    for asked in (1, 2):
        answers = room_for_answers(objective, len(rows), student.input_size)
        spent = ask_once(accelerator, objective, teacher, rows, fit, source, answers, tmp_path)
        assert (teacher.passes.forward, teacher.passes.backward) == (asked * len(rows), asked * len(rows))
        assert spent >= json.loads((tmp_path / "spent.json").read_text())["seconds"]
        assert answers[1].any()


def objectives() -> list[tuple[Objective, list[tuple[int, ...]]]]:
    student, teacher = networks()
    wide = 4 + teacher.classifier.num_features
    return [
        (KD(student, teacher), []),
        (IGAM(student, teacher), []),
        (RSLAD(student, teacher, Linf(0.1)), []),
        (RSLAD(student, teacher, Linf(0.1), RSLADOptions(target="once")), [(5, wide)]),
        (RSLAD(student, teacher, Linf(0.1), RSLADOptions(target="once", feature_weight=0.0)), [(5, 4)]),
        (IGAM(student, teacher, IGAMOptions(target="once")), [(5, 4 + wide), (5, 1, 3, 16, 16)]),
        (IGAM(student, teacher, IGAMOptions(target="once", feature_weight=0.0)), [(5, 8), (5, 1, 3, 16, 16)]),
    ]


def test_there_is_room_for_what_is_asked_and_for_nothing_else():
    for objective, shapes in objectives():
        assert [tuple(each.shape) for each in room_for_answers(objective, 5, (3, 16, 16))] == shapes
    assert room_for_answers(None, 5, (3, 16, 16)) == []

"""What every method must keep, whatever it computes."""

from collections import Counter

import pytest
import torch
from accelerate.utils import set_seed

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
    Losses,
    MixACM,
    MixACMOptions,
    NFGSMOptions,
    PAGOptions,
    PGDOptions,
    Plain,
    Retraining,
    RRMOptions,
    RSLADOptions,
    TeacherGradients,
    TRADESOptions,
    TwoPoint,
    check_same_task,
)
from robust_hub.methods.pag_targets import Representatives
from robust_hub.models import Passes, PixelClassifier, Teacher, create_classifier
from robust_hub.threats import L2, Linf

METHODS = {
    "plain": lambda student, teacher: Plain(student),
    "pgd": lambda student, teacher: AdversarialTraining(student, L2(0.5), PGDOptions(steps=2)),
    "nfgsm": lambda student, teacher: AdversarialTraining(student, Linf(8 / 255), NFGSMOptions()),
    "trades": lambda student, teacher: TRADES(student, Linf(8 / 255), TRADESOptions(weight=6.0, steps=2)),
    "rrm": lambda student, teacher: RRM(student, teacher),
    "rrm with projection": lambda student, teacher: RRM(student, teacher, RRMOptions(projection=True)),
    "igam": lambda student, teacher: IGAM(
        student, teacher, IGAMOptions(weight=1.0, noise=8 / 255, start=0.0, ramp=0.0)
    ),
    "igam with discriminator": lambda student, teacher: IGAM(
        student, teacher, IGAMOptions(weight=1.0, adversarial_weight=2.0, noise=0.0, start=0.0, ramp=0.0)
    ),
    "kd": lambda student, teacher: KD(student, teacher),
    "ard": lambda student, teacher: ARD(student, teacher, Linf(8 / 255), ARDOptions(steps=2)),
    "ard with labels": lambda student, teacher: ARD(
        student, teacher, Linf(8 / 255), ARDOptions(steps=2, cross_entropy_weight=0.5)
    ),
    "rslad": lambda student, teacher: RSLAD(student, teacher, Linf(8 / 255)),
    "rslad at the perturbed image": lambda student, teacher: RSLAD(
        student, teacher, L2(0.5), RSLADOptions(target="perturbed", clean_weight=0.2)
    ),
    "rslad by labels": lambda student, teacher: RSLAD(
        student, teacher, Linf(8 / 255), RSLADOptions(direction="labels", target="perturbed")
    ),
    "two-point": lambda student, teacher: TwoPoint(student, teacher),
    "rrm with the teacher's head": lambda student, teacher: RRM(
        student, teacher, RRMOptions(projection=True, head="teacher", noise=0.1)
    ),
    "mixacm of maps": lambda student, teacher: MixACM(student, teacher, MixACMOptions(side=4)),
    "mixacm": lambda student, teacher: MixACM(student, teacher),
    "pag": lambda student, teacher: PAG(student, Representatives(torch.linspace(0, 1, 576).view(3, 3, 8, 8))),
    "pag of a teacher": lambda student, teacher: PAG(
        student, TeacherGradients(teacher, student), PAGOptions(classes_per_image=3)
    ),
    "lifelong": lambda student, teacher: Lifelong(student, teacher),
    "retraining": lambda student, teacher: Retraining(student, stages=1),
}
TAUGHT = [
    "rrm",
    "rrm with projection",
    "igam",
    "igam with discriminator",
    "kd",
    "ard",
    "ard with labels",
    "rslad",
    "rslad at the perturbed image",
    "rslad by labels",
    "two-point",
    "rrm with the teacher's head",
    "mixacm of maps",
    "mixacm",
    "pag of a teacher",
    "lifelong",
]
# Those whose student keeps its norms and dropout in eval mode on purpose.
FROZEN_STATISTICS = ["lifelong", "retraining"]

# Images that go forward through each network, a training image: attack steps, what they compare with, and the loss.
FORWARD = {
    "plain": {"student": 1},
    "pgd": {"student": 2 + 1},
    "nfgsm": {"student": 1 + 1},
    "trades": {"student": 1 + 2 + 2},
    "rrm": {"student": 1, "teacher": 1},
    "rrm with projection": {"student": 1, "teacher": 1},
    "igam": {"student": 1, "teacher": 1},
    "igam with discriminator": {"student": 1, "teacher": 1},
    "kd": {"student": 1, "teacher": 1},
    "ard": {"student": 2 + 1, "teacher": 1},
    "ard with labels": {"student": 2 + 2, "teacher": 1},
    "rslad": {"student": 1 + 1, "teacher": 1},
    "rslad at the perturbed image": {"student": 1 + 2, "teacher": 3},
    "rslad by labels": {"student": 1 + 1, "teacher": 1},
    "two-point": {"student": 1 + 2, "teacher": 1},
    "rrm with the teacher's head": {"student": 1, "teacher": 1},
    "mixacm of maps": {"student": 1, "teacher": 1},
    "mixacm": {"student": 1, "teacher": 1},
    "pag": {"student": 1},
    "pag of a teacher": {"student": 1, "teacher": 1},
    "lifelong": {"student": 1, "teacher": 1},
    "retraining": {"student": 1},
}

# The same for gradients that come back: IGAM's loss takes one for the input gradient, one back through that one, and
# one through the network; PAG's takes the first two of these for each class.
BACKWARD = {
    "plain": {"student": 1},
    "pgd": {"student": 2 + 1},
    "nfgsm": {"student": 1 + 1},
    "trades": {"student": 2 + 2},
    "rrm": {"student": 1, "teacher": 0},
    "rrm with projection": {"student": 1, "teacher": 0},
    "igam": {"student": 3, "teacher": 1},
    "igam with discriminator": {"student": 3, "teacher": 1},
    "kd": {"student": 1, "teacher": 0},
    "ard": {"student": 2 + 1, "teacher": 0},
    "ard with labels": {"student": 2 + 2, "teacher": 0},
    "rslad": {"student": 1 + 1, "teacher": 0},
    "rslad at the perturbed image": {"student": 1 + 2, "teacher": 0},
    "rslad by labels": {"student": 1 + 1, "teacher": 0},
    "two-point": {"student": 1 + 2, "teacher": 1},
    "rrm with the teacher's head": {"student": 1, "teacher": 0},
    "mixacm of maps": {"student": 1, "teacher": 0},
    "mixacm": {"student": 1, "teacher": 0},
    "pag": {"student": 2 + 1},
    "pag of a teacher": {"student": 3 * 2 + 1, "teacher": 3},
    "lifelong": {"student": 1, "teacher": 0},
    "retraining": {"student": 1},
}


@pytest.fixture(params=["cnn", "vit"])
def create(request, create_cnn, create_vit):
    return {"cnn": create_cnn, "vit": create_vit}[request.param]


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def objective(method, create):
    return METHODS[method](create(), Teacher(create())).train()


def test_forward_returns_a_scalar_to_go_back_from_and_detached_terms(objective, images, labels):
    losses = objective(images, labels)
    assert isinstance(losses, Losses)
    assert losses.total.shape == ()
    assert losses.total.isfinite()
    assert losses.total.grad_fn is not None
    assert losses.terms
    assert all(term.shape == () and not term.requires_grad and term.isfinite() for term in losses.terms.values())


def test_every_trainable_parameter_gets_a_finite_gradient(objective, images, labels):
    for _ in range(2):  # a weight may rise from 0
        objective(images, labels).total.backward()
    trainable = {name: one for name, one in objective.named_parameters() if one.requires_grad}
    assert [name for name, one in trainable.items() if one.grad is None or not one.grad.isfinite().all()] == []


def test_a_small_step_down_the_gradient_lowers_the_loss(method, objective, images, labels):
    if method == "igam with discriminator":
        # Student and discriminator want opposite signs of its term: without a weight the student lowers the rest.
        objective.adversarial_weight, objective.step = 0.0, 1
    objective.student.eval()  # without batch statistics
    objective(images, labels)
    trainable = [one for one in objective.parameters() if one.requires_grad]

    def total() -> torch.Tensor:
        set_seed(3)  # the same noise and starts
        losses = objective(images, labels)
        return losses.total - losses.terms.get("discriminator", 0.0)

    before = total()
    gradients = torch.autograd.grad(before, trainable, allow_unused=True)
    slope = sum(gradient.square().sum() for gradient in gradients if gradient is not None)
    with torch.no_grad():
        for parameter, gradient in zip(trainable, gradients, strict=True):
            if gradient is not None:
                # So small a step meets few kinks of ReLUs, where input gradients jump.
                parameter -= 1e-4 * gradient / slope.sqrt()
    assert total() < before


def test_the_mode_of_every_part_of_the_student_is_left_as_it_was(objective, images, labels):
    next(iter(objective.student.model.children())).eval()
    before = [module.training for module in objective.student.modules()]
    objective(images, labels).total.backward()
    assert [module.training for module in objective.student.modules()] == before


@pytest.mark.parametrize("method", METHODS)
def test_batch_statistics_of_the_student_see_one_batch(method, create_cnn, images, labels):
    objective = METHODS[method](create_cnn(), Teacher(create_cnn())).train()
    objective(images, labels).total.backward()
    assert objective.student.model.bn1.num_batches_tracked == (0 if method in FROZEN_STATISTICS else 1)


@pytest.mark.parametrize("method", METHODS)
def test_the_students_norms_are_in_the_mode_that_is_asked_for_unless_its_statistics_are_frozen(method, create_cnn):
    objective = METHODS[method](create_cnn(), Teacher(create_cnn())).train()
    norms = [module for module in objective.student.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.training for norm in norms} == {method not in FROZEN_STATISTICS}
    objective.eval()
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("method", TAUGHT)
def test_the_teacher_learns_nothing_and_keeps_its_batch_statistics(method, create, images, labels):
    teacher = Teacher(create())
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    objective = METHODS[method](create(), teacher).train()
    objective(images, labels).total.backward()
    assert not any(module.training for module in teacher.classifier.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_the_images_are_left_as_they_were(objective, images, labels):
    before = images.clone()
    objective(images, labels).total.backward()
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert images.grad is None


def count(classifier: PixelClassifier, counted: Counter) -> None:
    """Counts images that go forward through a network, and those whose gradient comes back, by hooks of the test."""

    def after_forward(_module, _inputs, logits):
        counted["forward"] += len(logits)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: counted.update(backward=len(gradient)))

    # The classifier layer: a pass that also gives the stages' maps does not call the model itself.
    (layer,) = classifier.classifier_layers
    layer.register_forward_hook(after_forward)


def test_passes_are_those_that_hooks_see(method, objective, images, labels):
    networks = {"student": objective.student}
    for teacher in (module for module in objective.modules() if isinstance(module, Teacher)):
        networks["teacher"] = teacher.classifier
    counted = {name: Counter(forward=0, backward=0) for name in networks}
    for name, classifier in networks.items():
        count(classifier, counted[name])
    objective(images, labels).total.backward()
    seen = {name: Passes(forward=one["forward"], backward=one["backward"]) for name, one in counted.items()}
    # The loss goes back through the first backward of each gradient as well, which no logits see.
    gradients = {IGAM: 1, PAG: objective.options.classes_per_image if method.startswith("pag") else 0}.get(
        type(objective), 0
    )
    seen["student"].backward += gradients * len(images)
    assert objective.passes() == seen


def test_forward_passes_are_those_of_the_algorithm(method, objective, images, labels):
    objective(images, labels)
    assert {name: one.forward for name, one in objective.passes().items()} == {
        name: times * len(images) for name, times in FORWARD[method].items()
    }


def test_backward_passes_are_those_of_the_algorithm(method, objective, images, labels):
    objective(images, labels).total.backward()
    assert {name: one.backward for name, one in objective.passes().items()} == {
        name: times * len(images) for name, times in BACKWARD[method].items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_student_is_all_that_most_methods_train(method, create_cnn):
    objective = METHODS[method](create_cnn(), Teacher(create_cnn()))
    others = {
        name.split(".")[0]
        for name, one in objective.named_parameters()
        if one.requires_grad and not name.startswith("student.")
    }
    assert others == {
        "rrm with projection": {"projection"},
        "rrm with the teacher's head": {"projection"},
        "igam": {"projection"},
        "igam with discriminator": {"discriminator", "projection"},
        "rslad": {"projection"},
        "rslad at the perturbed image": {"projection"},
        "rslad by labels": {"projection"},
    }.get(method, set())


def test_adaptors_are_trained_where_widths_differ(create_cnn):
    model_args = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 12)}
    student = create_classifier("resnet18_cifar", model_args, num_classes=3, image_shape=(3, 8, 8))
    objective = METHODS["mixacm"](student, Teacher(create_cnn()))
    others = [name for name, one in objective.named_parameters() if one.requires_grad and "student" not in name]
    assert others == ["adaptors.4.weight"]


def test_student_and_teacher_must_know_the_same_number_of_classes(create_smooth):
    message = r"teacher and student differ in classes \(4 and 3\); choose a teacher of this data set"
    with pytest.raises(ValueError, match=message):
        check_same_task(create_smooth(num_classes=3), Teacher(create_smooth(num_classes=4)))


@pytest.mark.parametrize("method", [method for method in TAUGHT if method != "lifelong"])
def test_every_teacher_must_know_the_students_classes_but_that_of_lifelong_learning(method, create_cnn):
    teacher = create_cnn()
    teacher.model.num_classes = 5
    with pytest.raises(ValueError, match=r"teacher and student differ in classes \(5 and 3\)"):
        METHODS[method](create_cnn(), Teacher(teacher))


@pytest.mark.parametrize("method", TAUGHT)
@pytest.mark.parametrize("taken", [(1, 8, 8), (3, 16, 16), (1, 5, 7)], ids=["grey", "larger", "grey and smaller"])
def test_a_teacher_of_other_images_teaches_all_the_same(method, create_cnn, images, labels, taken):
    objective = METHODS[method](create_cnn(), Teacher(create_cnn(taken))).train()
    losses = objective(images, labels)
    losses.total.backward()
    assert losses.total.isfinite()
    assert objective.student.model.conv1.weight.grad.isfinite().all()


@pytest.mark.parametrize("channels", [(4, 3), (3, 2), (1, 4)], ids=str)
def test_images_that_are_neither_grey_nor_in_colour_are_refused_unless_both_take_them(create_cnn, channels):
    taught, learnt = (create_cnn((count, 8, 8)) for count in channels)
    message = f"teacher and student must take grey or colour images, got {channels[0]} and {channels[1]} channels"
    with pytest.raises(ValueError, match=f"^{message}; set in_chans in --student-args$"):
        check_same_task(learnt, Teacher(taught))
    check_same_task(taught, Teacher(create_cnn((channels[0], 8, 8))))

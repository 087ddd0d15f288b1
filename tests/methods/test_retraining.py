import pytest
import torch

from robust_hub.methods import Retraining
from robust_hub.models import create_classifier

NETWORKS = {
    "resnet": ("resnet18_cifar", {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16)}, 5),
    "preact": ("preact_resnet18_cifar", {"layers": (1, 1, 1), "channels": (8, 8, 16), "stem_chs": 8}, 4),
    "vit": ("vit_tiny_patch16_224", {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2}, 3),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 8)}, 4),
    "densenet": ("densenet121", {"growth_rate": 4, "block_config": (1, 1, 1, 1)}, 5),
}
SPLITS = {f"{name}-{stages}": (name, stages) for name, (_, _, count) in NETWORKS.items() for stages in range(1, count)}


def create(network: str):
    architecture, model_args, _ = NETWORKS[network]
    size = 32 if network in ("convnext", "densenet") else 8
    return create_classifier(architecture, model_args, num_classes=3, image_shape=(3, size, size))


@pytest.mark.parametrize(("network", "stages"), SPLITS.values(), ids=SPLITS.keys())
def test_frozen_is_all_that_the_last_frozen_stage_depends_on(network, stages):
    student = create(network).eval()
    weights = dict(student.named_parameters())
    _, maps = student.forward_intermediates(torch.rand(2, *student.input_size))
    # What the map before the first retrained stage depends on has a gradient, and nothing else.
    last_frozen = maps[len(maps) - stages - 1]
    gradients = torch.autograd.grad(last_frozen.square().sum(), list(weights.values()), allow_unused=True)
    needed = {name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None}
    Retraining(student, stages=stages)
    assert {name for name, weight in weights.items() if not weight.requires_grad} == needed


@pytest.mark.parametrize("network", NETWORKS)
def test_all_stages_are_the_whole_network(network):
    student = create(network)
    Retraining(student, stages=NETWORKS[network][2])
    assert all(weight.requires_grad for weight in student.parameters())


def test_retraining_is_the_cross_entropy_of_the_student_as_it_is_evaluated(create_cnn, images, labels):
    student = create_cnn()
    for norm in (module for module in student.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_()  # other than those of the batch
    expected = torch.nn.functional.cross_entropy(student.eval()(images), labels)
    losses = Retraining(student, stages=2).train()(images, labels)
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-6)  # the same float32 operations
    assert losses.terms == {"cross_entropy": losses.total}


def test_frozen_weights_and_statistics_stay_bit_by_bit_over_steps(create_cnn, images, labels):
    student = create_cnn()
    objective = Retraining(student, stages=1).train()
    frozen = {name: tensor.clone() for name, tensor in student.state_dict().items() if "layer4" not in name}
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        objective(images, labels).total.backward()
        optimizer.step()
    after = student.state_dict()
    assert {name for name, before in frozen.items() if not torch.equal(after[name], before)} == {
        "model.fc.weight",
        "model.fc.bias",
    }


def test_norms_and_dropout_of_the_student_stay_in_eval_mode_when_told_to_train(create_cnn):
    objective = Retraining(create_cnn().train(), stages=2).train()
    assert objective.training
    assert not any(module.training for module in objective.student.modules() if not list(module.children()))


@pytest.mark.parametrize("stages", [0, -1, 6])
def test_a_number_of_stages_that_the_student_has_not_is_refused(create_cnn, stages):
    message = (
        r"^resnet18_cifar has 5 stages \(act1, layer1, layer2, layer3, layer4\); between 1 and that many can be "
        f"retrained, got {stages}$"
    )
    with pytest.raises(ValueError, match=message):
        Retraining(create_cnn(), stages=stages)


def test_a_student_without_stages_is_refused(create_smooth):
    with pytest.raises(ValueError, match="headed has 0 stages"):
        Retraining(create_smooth(), stages=1)

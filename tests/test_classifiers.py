import copy

import pytest
import timm
import torch
from torch import nn

from robust_hub.architectures import create_classifier
from robust_hub.classifiers import PixelClassifier, Teacher

PREACT_ARGS = {"layers": (1, 1, 1), "channels": (8, 8, 16), "stem_chs": 8}


@pytest.fixture(params=["cnn", "vit", "preact", "mlp"])
def classifier(request, create_cnn, create_vit, create_smooth):
    """Heads of timm's two kinds: Linear, and the 1x1 convolution of the pre-activation ResNets."""
    create = {
        "cnn": create_cnn,
        "vit": create_vit,
        "preact": lambda: create_classifier("preact_resnet18_cifar", PREACT_ARGS, num_classes=3, image_shape=(3, 8, 8)),
        "mlp": create_smooth,
    }
    return create[request.param]().eval()


def test_logits_are_those_of_the_model_on_images_normalised_by_hand(classifier, images):
    cfg = classifier.model.pretrained_cfg
    normalised = torch.empty_like(images)
    for channel in range(3):
        normalised[:, channel] = (images[:, channel] - cfg["mean"][channel]) / cfg["std"][channel]
    # The same float32 operations in the same order, but for vectorisation.
    torch.testing.assert_close(classifier(images), classifier.model(normalised), rtol=1e-5, atol=1e-6)


def test_a_stock_timm_model_gives_the_same_logits_as_with_timms_own_transform(images):
    classifier = create_classifier("resnet18_cifar", {"channels": (4, 4, 4, 8)}, num_classes=3, image_shape=(3, 8, 8))
    classifier.eval()
    config = timm.data.resolve_data_config({}, model=classifier.model)
    normalise = timm.data.create_transform(**config).transforms[-1]
    # Both divide float32 differences by std; the order of the operations is torchvision's on one side.
    torch.testing.assert_close(classifier(images), classifier.model(normalise(images)), rtol=1e-5, atol=1e-6)


def test_features_are_what_enters_the_classifier_layer(classifier, images):
    logits, features = classifier.forward_with_features(images)
    head = classifier.model.get_classifier()
    # A 1x1 convolution on a 1x1 map is a linear layer.
    again = nn.functional.linear(features, head.weight.flatten(1), head.bias)
    torch.testing.assert_close(again, logits, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_features_are_as_wide_as_num_features_says(classifier, images):
    _, features = classifier.forward_with_features(images)
    assert features.shape == (len(images), classifier.num_features)


def test_forward_with_features_gives_the_logits_of_forward(classifier, images):
    logits, _ = classifier.forward_with_features(images)
    assert torch.equal(logits, classifier(images))


def test_forward_with_features_leaves_no_hook_behind(classifier, images):
    classifier.forward_with_features(images)
    assert not classifier.model.get_classifier()._forward_pre_hooks


def test_the_gradient_in_pixels_is_that_of_the_model_over_std(create_linear, images):
    classifier = create_linear()
    pixels = images.requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(pixels)[:, 0].sum(), pixels)
    weight = classifier.model.head.weight[0].view(3, 8, 8)
    expected = torch.stack([weight[channel] / classifier.model.pretrained_cfg["std"][channel] for channel in range(3)])
    torch.testing.assert_close(gradient, expected.expand(6, 3, 8, 8))


def test_mean_and_std_are_no_part_of_the_weights(create_linear):
    assert set(create_linear().state_dict()) == {"model.head.weight", "model.head.bias"}


def test_a_forward_pass_is_counted_once_an_image(create_linear, images):
    classifier = create_linear()
    classifier(images)
    with torch.no_grad():
        classifier(images[:2])
    assert (classifier.passes.forward, classifier.passes.backward) == (8, 0)


def test_a_backward_pass_is_counted_once_an_image(create_linear, images, labels):
    classifier = create_linear()
    nn.functional.cross_entropy(classifier(images), labels).backward()
    assert (classifier.passes.forward, classifier.passes.backward) == (6, 6)


def test_a_double_backward_counts_two_backward_passes(create_smooth, images, labels):
    classifier = create_smooth()
    pixels = images.requires_grad_()
    loss = nn.functional.cross_entropy(classifier(pixels), labels)
    (gradient,) = torch.autograd.grad(loss, pixels, create_graph=True)
    gradient.square().sum().backward()
    assert (classifier.passes.forward, classifier.passes.backward) == (6, 12)


def test_a_copy_counts_for_itself(create_linear, images):
    classifier = create_linear()
    twin = copy.deepcopy(classifier)
    twin(images)
    assert (classifier.passes.forward, twin.passes.forward) == (0, 6)


def test_a_classifier_knows_its_shape(create_vit):
    classifier = create_vit()
    assert classifier.architecture == "vit_tiny_patch16_224"
    assert classifier.input_size == (3, 8, 8)
    assert (classifier.num_classes, classifier.num_features) == (3, 8)
    assert classifier.label_names == []


def test_label_names_are_read_from_the_checkpoint(create_linear):
    model = create_linear().model
    model.pretrained_cfg["label_names"] = ["cat", "dog", "owl"]
    assert PixelClassifier(model, {}).label_names == ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    ("head", "kind"), [(nn.Identity(), "Identity"), (nn.Sequential(nn.Linear(2, 2)), "Sequential")]
)
def test_a_model_that_does_not_end_in_a_linear_layer_is_refused(create_linear, head, kind):
    model = create_linear().model
    model.head = head
    with pytest.raises(ValueError, match=f"headed must end in one linear classifier layer, got {kind}"):
        PixelClassifier(model, {})


def test_a_teacher_stays_in_eval_mode_when_told_to_train(create_cnn):
    teacher = Teacher(create_cnn().train())
    nn.ModuleList([teacher]).train()
    assert not any(module.training for module in teacher.classifier.modules())


def test_a_teacher_has_no_trainable_parameter(create_cnn):
    assert not any(parameter.requires_grad for parameter in Teacher(create_cnn()).parameters())


def test_a_teacher_passes_the_gradient_through_to_the_images(create_cnn, images):
    pixels = images.requires_grad_()
    Teacher(create_cnn())(pixels).square().sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_a_teacher_answers_like_its_classifier_in_eval_mode(create_cnn, images):
    classifier = create_cnn().eval()
    logits, features = classifier.forward_with_features(images)
    teacher = Teacher(classifier).train()
    assert torch.equal(teacher(images), logits)
    assert torch.equal(teacher.forward_with_features(images)[1], features)


def test_a_teacher_shares_the_counters_of_its_classifier(create_cnn, images):
    teacher = Teacher(create_cnn())
    teacher(images)
    teacher.forward_with_features(images)
    assert (teacher.passes.forward, teacher.passes.backward) == (12, 0)

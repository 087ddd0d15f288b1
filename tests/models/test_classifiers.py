import copy

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from robust_hub.attacks import eval_mode
from robust_hub.models import PixelClassifier, Teacher, create_classifier
from robust_hub.models.teacher import fit_pixels

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
    with pytest.raises(ValueError, match=f"headed must end in a linear classifier layer, got {kind}"):
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


TINY_VIT = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2}
# Heads of timm's other kinds: two linear layers, a map before pooling, and hook fallbacks.
STAGED = {
    "cnn": ("resnet18_cifar", {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16)}, (3, 8, 8)),
    "preact": ("preact_resnet18_cifar", PREACT_ARGS, (3, 8, 8)),
    "vit": ("vit_tiny_patch16_224", TINY_VIT, (3, 8, 8)),
    "two heads": ("deit_tiny_distilled_patch16_224", TINY_VIT, (3, 8, 8)),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (4, 4, 8, 8)}, (3, 32, 32)),
    "mlp-headed cnn": ("mlp_headed", {"body": "resnet18_cifar", "hidden": 6, "channels": (4, 4, 4, 8)}, (3, 8, 8)),
    "mlp-headed vit": ("mlp_headed", {"body": "vit_tiny_patch16_224", "hidden": 6, **TINY_VIT}, (3, 8, 8)),
}


def staged(name: str) -> PixelClassifier:
    architecture, model_args, image_shape = STAGED[name]
    return create_classifier(architecture, model_args, num_classes=3, image_shape=image_shape).eval()


def test_a_model_of_two_heads_has_two_classifier_layers(images):
    classifier = staged("two heads")
    head, distilled = classifier.classifier_layers
    logits, features = classifier.forward_with_features(images)
    assert classifier.num_features == features.shape[1] == 16
    # timm's distilled DeiT answers with the mean of both heads; float32 sums in another order.
    first, second = (features[:, :8] @ head.weight.T + head.bias, features[:, 8:] @ distilled.weight.T + distilled.bias)
    torch.testing.assert_close(logits, (first + second) / 2, rtol=1e-5, atol=1e-6)


def test_a_model_of_one_head_has_one_classifier_layer(classifier):
    assert classifier.classifier_layers == [classifier.model.get_classifier()]


class LateMean(nn.Module):
    """A head that classifies every place and averages its logits afterwards."""

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        super().__init__()
        self.layer, self.num_classes = layer, 3
        self.pretrained_cfg = {"architecture": "late", "input_size": (3, 8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3}

    def get_classifier(self) -> nn.Module:
        return self.layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layer, nn.Conv2d):
            return self.layer(x).mean((2, 3))
        return self.layer(x.movedim(1, -1)).mean((1, 2))


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_features_with_places_are_averaged_over_them(images, kind):
    classifier = PixelClassifier(LateMean(nn.Linear(3, 3) if kind == "linear" else nn.Conv2d(3, 3, 1)), {})
    _, features = classifier.forward_with_features(images)
    expected = [[sum(channel.flatten().tolist()) / 64 for channel in image] for image in images]
    torch.testing.assert_close(features, torch.tensor(expected))


@pytest.mark.parametrize("name", STAGED)
def test_there_is_one_map_a_stage_with_places_that_shrink(name):
    classifier = staged(name)
    _, maps = classifier.forward_intermediates(torch.rand(2, *classifier.input_size))
    assert len(maps) == len(classifier.stages)
    assert all(one.ndim == 4 and len(one) == 2 for one in maps)
    sizes = [one.shape[2] * one.shape[3] for one in maps]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["cnn", "preact", "convnext", "mlp-headed cnn"])
def test_a_stages_map_is_what_the_module_of_its_name_gives(name):
    classifier = staged(name)
    given = {}
    for stage in classifier.stages:
        classifier.model.get_submodule(stage).register_forward_hook(
            lambda _module, _inputs, output, stage=stage: given.update({stage: output})
        )
    _, maps = classifier.forward_intermediates(torch.rand(2, *classifier.input_size))
    assert all(torch.equal(one, given[stage]) for stage, one in zip(classifier.stages, maps, strict=True))


def test_a_vits_map_is_its_patch_tokens_in_their_places(images):
    classifier = staged("vit")
    given = []
    classifier.model.blocks[0].register_forward_hook(lambda _module, _inputs, output: given.append(output))
    _, maps = classifier.forward_intermediates(images)
    for row in range(2):
        for column in range(2):
            # Token 0 is the class token.
            assert torch.equal(maps[0][:, :, row, column], given[0][:, 1 + 2 * row + column])


@pytest.mark.parametrize("name", STAGED)
def test_forward_intermediates_gives_the_logits_of_forward_in_one_counted_pass(name):
    classifier = staged(name)
    images = torch.rand(2, *classifier.input_size)
    logits, _ = classifier.forward_intermediates(images)
    assert classifier.passes.forward == 2
    torch.testing.assert_close(logits, classifier(images))


def test_the_hook_fallback_gives_the_maps_of_timms_own_method_and_leaves_no_hook(create_cnn, images, monkeypatch):
    classifier = create_cnn().eval()
    expected, maps = classifier.forward_intermediates(images)
    monkeypatch.delattr(timm.models.resnet.ResNet, "forward_intermediates")
    logits, hooked = classifier.forward_intermediates(images)
    assert torch.equal(logits, expected)
    assert all(torch.equal(one, other) for one, other in zip(hooked, maps, strict=True))
    assert not any(module._forward_hooks for module in classifier.modules())


def test_a_model_without_stages_gives_no_intermediates(create_smooth, images):
    assert create_smooth().stages == []
    with pytest.raises(ValueError, match=r"^headed tells no stages; choose an architecture with timm's feature_info$"):
        create_smooth().forward_intermediates(images)


def test_images_that_fit_are_left_as_they_are(images):
    assert fit_pixels(images, (3, 8, 8)) is images


def test_colour_becomes_grey_by_the_luma_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).convert("L")) / 255
    grey = fit_pixels(torch.tensor(pixels).permute(2, 0, 1)[None] / 255, (1, 8, 8))
    assert grey.shape == (1, 1, 8, 8)
    # Pillow rounds to whole levels of 1/255.
    assert np.abs(grey[0, 0].numpy() - expected).max() <= 0.51 / 255


def test_grey_becomes_three_equal_channels():
    grey = torch.rand(2, 1, 8, 8)
    assert torch.equal(fit_pixels(grey, (3, 8, 8)), torch.cat([grey, grey, grey], 1))


@pytest.mark.parametrize(
    ("height", "width"), [(4, 4), (16, 16), (5, 12), (12, 5)], ids=["smaller", "larger", "wide", "high"]
)
def test_size_changes_as_pillows_bilinear_resize_changes_it(height, width):
    images = torch.rand(2, 3, 8, 8)
    resized = fit_pixels(images, (3, height, width))
    assert resized.shape == (2, 3, height, width)
    for image, other in zip(images.numpy(), resized.numpy(), strict=True):
        for channel, found in zip(image, other, strict=True):
            # Pillow's size is width, height; in mode F it computes in floating point.
            expected = np.asarray(Image.fromarray(channel, mode="F").resize((width, height), Image.Resampling.BILINEAR))
            assert np.abs(found - expected).max() < 1e-5  # float32 sums of a few pixels


def test_pixels_stay_in_the_unit_interval_when_they_are_fitted():
    extremes = (torch.rand(4, 3, 8, 8) > 0.5).float()
    for input_size in [(1, 8, 8), (3, 5, 5), (3, 13, 13), (1, 12, 6)]:
        fitted = fit_pixels(extremes, input_size)
        assert fitted.min() >= -1e-6  # float32 weights that add up to one
        assert fitted.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("given", "wanted"), [((3, 6, 6), (1, 4, 4)), ((1, 4, 4), (3, 6, 6))], ids=["colour to grey", "grey to colour"]
)
def test_fitting_differentiates_like_its_finite_differences(given, wanted):
    images = torch.rand(1, *given, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda pixels: fit_pixels(pixels, wanted), (images,))


@pytest.mark.parametrize("given", [(3, 8, 8), (1, 8, 8), (3, 5, 5), (1, 12, 12)], ids=str)
@pytest.mark.parametrize("taken", [(3, 8, 8), (1, 16, 16)], ids=str)
def test_a_teacher_takes_images_of_other_sizes_and_channels(create_cnn, given, taken):
    classifier = create_cnn(taken).eval()
    teacher = Teacher(classifier)
    images = torch.rand(2, *given).requires_grad_()
    fitted = fit_pixels(images, taken)
    assert torch.equal(teacher(images), classifier(fitted))
    assert torch.equal(teacher.forward_with_features(images)[1], classifier.forward_with_features(fitted)[1])
    for one, other in zip(
        teacher.forward_intermediates(images)[1], classifier.forward_intermediates(fitted)[1], strict=True
    ):
        assert torch.equal(one, other)
    (gradient,) = torch.autograd.grad(teacher(images).square().sum(), images)
    assert gradient.shape == images.shape
    assert gradient.abs().sum() > 0


def test_weights_that_change_between_evaluations_are_seen_by_attentions_that_keep_their_biases():
    # timm's LeViT computes its attention biases once and keeps them for as long as it is in eval mode.
    student = create_classifier("levit_128s", {"img_size": 64}, num_classes=3, image_shape=(3, 64, 64)).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad(), eval_mode(student):
        student(images)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith("attention_biases"):
                parameter += torch.randn_like(parameter)
    fresh = copy.deepcopy(student).train().eval()
    with torch.no_grad(), eval_mode(student):
        assert torch.equal(student(images), fresh(images))

import pytest
import timm
import torch

from robust_hub.models import create_classifier

TINY = {
    "resnet18_cifar": {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)},
    "resnet50_cifar": {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)},
    "preact_resnet18_cifar": {"layers": (1, 1, 1), "channels": (8, 8, 16), "stem_chs": 8},
    "wide_resnet28_10_cifar": {"layers": (1, 1, 1), "channels": (8, 8, 16)},
    "wide_resnet34_10_cifar": {"layers": (1, 1, 1), "channels": (8, 8, 16)},
}


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        # kuangliu/pytorch-cifar and the repositories of the adversarial-training papers print these.
        ("resnet18_cifar", 11.17),
        ("preact_resnet18_cifar", 11.17),
        ("resnet50_cifar", 23.52),
        # Zagoruyko and Komodakis, arXiv 1605.07146, table 4: WRN-28-10 has 36.5 M.
        ("wide_resnet28_10_cifar", 36.48),
        # RobustBench's WideResNet-34-10 has 46.16 M.
        ("wide_resnet34_10_cifar", 46.16),
    ],
)
def test_an_architecture_has_the_published_number_of_parameters(architecture, millions):
    with torch.device("meta"):
        model = timm.create_model(architecture, num_classes=10)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_the_small_cnn_has_the_parameters_of_its_layers():
    model = timm.create_model("small_cnn_grey")
    convolutions = (1 * 32 + 32 * 64 + 64 * 128) * 9 + 32 + 64 + 128
    assert sum(parameter.numel() for parameter in model.parameters()) == convolutions + (4 * 128 + 1) * 10


@pytest.mark.parametrize("architecture", TINY)
def test_an_architecture_keeps_the_resolution_in_its_first_maps(architecture):
    model = timm.create_model(architecture, **TINY[architecture]).eval()
    stem, stage = model.forward_intermediates(torch.rand(1, 3, 32, 32), intermediates_only=True)[:2]
    assert stem.shape[2:] == stage.shape[2:] == (32, 32)


@pytest.mark.parametrize("architecture", TINY)
def test_feature_maps_have_the_announced_sizes(architecture):
    model = timm.create_model(architecture, **TINY[architecture]).eval()
    maps = model.forward_intermediates(torch.rand(1, 3, 32, 32), intermediates_only=True)
    announced = [(info["num_chs"], 32 // info["reduction"], 32 // info["reduction"]) for info in model.feature_info]
    assert [tuple(one.shape[1:]) for one in maps] == announced


@pytest.mark.parametrize("architecture", TINY)
def test_timm_makes_a_feature_extractor_of_an_architecture(architecture):
    model = timm.create_model(architecture, features_only=True, **TINY[architecture]).eval()
    assert len(model(torch.rand(1, 3, 32, 32))) == len(model.feature_info.reduction())


@pytest.mark.parametrize("architecture", TINY)
def test_the_configured_head_and_stem_exist(architecture):
    model = timm.create_model(architecture, **TINY[architecture])
    cfg = model.pretrained_cfg
    assert model.get_submodule(cfg["first_conv"]).in_channels == 3
    assert model.get_submodule(cfg["classifier"]) is model.get_classifier()


@pytest.mark.parametrize("architecture", [*TINY, "small_cnn_grey"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_architecture_takes_grey_and_colour_and_learns(architecture, channels):
    classifier = create_classifier(
        architecture, TINY.get(architecture, {}), num_classes=4, image_shape=(channels, 16, 16)
    )
    logits = classifier(torch.rand(2, channels, 16, 16))
    logits.square().sum().backward()
    assert logits.shape == (2, 4)
    assert all(parameter.grad.isfinite().all() for parameter in classifier.parameters())


@pytest.mark.parametrize("architecture", TINY)
def test_weights_of_a_registered_architecture_survive_a_change_of_the_number_of_classes(architecture):
    model = timm.create_model(architecture, **TINY[architecture])
    model.reset_classifier(7)
    assert model.eval()(torch.rand(2, 3, 16, 16)).shape == (2, 7)


def test_a_resnet_is_torchvisions_but_for_the_stem():
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        ours = timm.create_model("resnet18_cifar", num_classes=10)
        theirs = torchvision.models.resnet18(num_classes=10)
    shapes = {name: tuple(parameter.shape) for name, parameter in theirs.named_parameters()}
    shapes["conv1.weight"] = (64, 3, 3, 3)
    assert {name: tuple(parameter.shape) for name, parameter in ours.named_parameters()} == shapes


def test_an_unknown_architecture_is_met_with_close_names():
    with pytest.raises(
        ValueError, match=r"timm knows no architecture 'resnet18_cifra'; close names are .*resnet18_cifar"
    ):
        create_classifier("resnet18_cifra", {}, num_classes=3, image_shape=(3, 8, 8))


def test_an_architecture_like_no_other_is_met_with_where_to_look():
    with pytest.raises(ValueError, match=r"timm knows no architecture '0'; timm.list_models\(\) lists what it knows"):
        create_classifier("0", {}, num_classes=3, image_shape=(3, 8, 8))


def test_an_image_size_the_architecture_can_not_take_is_named():
    small = {"depths": (1, 1, 1, 1), "dims": (4, 4, 4, 4)}
    with pytest.raises(ValueError, match=r"convnext_atto can't be built for 3x8x8 images .*give it other arguments"):
        create_classifier("convnext_atto", small, num_classes=3, image_shape=(3, 8, 8))


def test_an_argument_the_architecture_does_not_know_is_named():
    with pytest.raises(ValueError, match=r"resnet18_cifar can't be built .*flavour"):
        create_classifier("resnet18_cifar", {"flavour": "sweet"}, num_classes=3, image_shape=(3, 8, 8))


def test_a_fixed_image_size_wins_over_that_of_the_data(create_vit):
    assert create_vit().input_size == (3, 8, 8)
    model_args = {"img_size": 12, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2}
    classifier = create_classifier("vit_tiny_patch16_224", model_args, num_classes=3, image_shape=(3, 8, 8))
    assert classifier.input_size == (3, 12, 12)


def test_any_image_size_is_that_of_the_data():
    classifier = create_classifier("resnet18_cifar", TINY["resnet18_cifar"], num_classes=3, image_shape=(3, 20, 12))
    assert classifier.input_size == (3, 20, 12)


@pytest.mark.parametrize(
    ("architecture", "channels", "mean", "std"),
    [
        ("resnet18_cifar", 3, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        # The mean over the channels: (0.4914 + 0.4822 + 0.4465) / 3 and (0.2470 + 0.2435 + 0.2616) / 3.
        ("resnet18_cifar", 1, (0.4733667,), (0.2507,)),
        ("small_cnn_grey", 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_mean_and_std_have_one_value_a_channel(architecture, channels, mean, std):
    classifier = create_classifier(
        architecture, TINY.get(architecture, {}), num_classes=3, image_shape=(channels, 16, 16)
    )
    assert classifier.mean.flatten().tolist() == pytest.approx(mean, abs=1e-6)
    assert classifier.std.flatten().tolist() == pytest.approx(std, abs=1e-6)


def test_in_chans_wins_over_the_channels_of_the_data():
    model_args = {**TINY["resnet18_cifar"], "in_chans": 1}
    classifier = create_classifier("resnet18_cifar", model_args, num_classes=3, image_shape=(3, 16, 16))
    assert classifier.input_size == (1, 16, 16)


def test_the_recorded_arguments_build_the_same_network_again():
    classifier = create_classifier("resnet18_cifar", TINY["resnet18_cifar"], num_classes=3, image_shape=(1, 16, 16))
    twin = timm.create_model("resnet18_cifar", num_classes=3, **classifier.model_args)
    twin.load_state_dict(classifier.model.state_dict())
    assert classifier.model_args["in_chans"] == 1


def test_a_new_classifier_is_in_train_mode_with_fresh_batch_statistics(create_cnn):
    classifier = create_cnn()
    assert classifier.training
    assert all(int(count) == 0 for name, count in classifier.named_buffers() if name.endswith("num_batches_tracked"))

"""A student starts from what its name says, can be kept before it is trained, or is refused in one sentence."""

import json

import pytest
import timm
import torch
from accelerate import Accelerator
from huggingface_hub import constants
from PIL import Image
from timm.models import build_model_with_cfg, register_model
from timm.models.resnet import BasicBlock, ResNet

from robust_hub import hub
from robust_hub.data import Source, load_data
from robust_hub.models import create_classifier
from robust_hub.models.arguments import NO_NETWORK
from robust_hub.threats import Linf
from robust_hub.training import TrainingConfig
from robust_hub.training.loaders import open_loaders
from tests.made_up import CNN, VIT


@pytest.fixture(scope="module")
def data():
    return load_data(Source("synthetic"))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A cache that knows nothing, and no Hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_tag_that_timm_does_not_know_is_told_with_close_ones(data):
    with pytest.raises(ValueError, match=r"timm knows no weights 'resnet18.a1'; close names are .*resnet18.a1_in1k"):
        hub.open_student("resnet18.a1", {}, data)
    with pytest.raises(ValueError, match=r"no weights 'resnet18.nope'.*; resnet18 alone is an untrained network"):
        hub.open_student("resnet18.nope", {}, data)
    with pytest.raises(ValueError, match=r"no weights 'resnt18.a1_in1k'; close names are .*resnet18"):
        hub.open_student("resnt18.a1_in1k", {}, data)


def test_a_tag_that_timm_does_not_know_is_told_where_images_differ_in_size_too(data, monkeypatch):
    monkeypatch.setattr(type(data), "has_one_size", False)
    with pytest.raises(ValueError, match=r"timm knows no weights 'resnet18.nope'"):
        hub.open_student("resnet18.nope", {}, data)


def test_an_untrained_network_never_has_a_name_of_weights():
    with pytest.raises(
        ValueError, match=r"resnet18.a1_in1k names weights, not an untrained network; resnet18 alone is"
    ):
        create_classifier("resnet18.a1_in1k", {}, num_classes=3, image_shape=(3, 32, 32))


def test_a_name_of_the_catalogue_is_never_an_untrained_network(data, offline):
    with pytest.raises(ValueError, match=r"the Hub did not give config\.json"):
        hub.open_student("resnet18_cifar.pgd_linf8_nowhere", {}, data)


def test_an_untrained_student_starts_from_nothing_and_is_what_create_classifier_makes(data):
    torch.manual_seed(0)
    student, starts_from = hub.open_student("resnet18_cifar", CNN, data)
    following = torch.rand(3)
    torch.manual_seed(0)
    alone = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=data.image_shape)
    assert starts_from is None
    assert student.fingerprint() == alone.fingerprint()
    # What is drawn next is what it would have been.
    assert torch.equal(following, torch.rand(3))


NO_NETWORKS = """pretrained pretrained_cfg pretrained_cfg_overlay pretrained_strict checkpoint_path cache_dir scriptable
exportable no_jit features_only feature_cfg kwargs_filter device dtype"""


@pytest.mark.parametrize("argument", NO_NETWORKS.split())
def test_an_argument_that_is_no_network_is_refused_before_anything_is_built(data, argument, monkeypatch):
    assert NO_NETWORK.fullmatch(argument)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(ValueError, match=f"the argument '{argument}' does not describe a network.*leave it away"):
        hub.open_student("resnet18_cifar", {**CNN, argument: False}, data)


def test_what_can_not_be_read_back_is_refused_before_training(data):
    # timm takes any number; our own reader takes plain values up to 32,768.
    with pytest.raises(ValueError, match=r"be saved and read back \(config.json: model_args\['init_values'\] must"):
        hub.open_student("vit_tiny_patch16_224", {**VIT, "init_values": 1e5}, data)


def test_a_student_that_is_another_when_it_is_loaded_is_refused(data, monkeypatch):
    monkeypatch.setattr("robust_hub.model_folder.saving.gives_same_logits", lambda *_: False)
    with pytest.raises(ValueError, match=r"can't be saved and read back \(its logits are others\)"):
        hub.open_student("resnet18_cifar", CNN, data)


def test_a_student_of_four_channels_is_told_before_training(data):
    student, _ = hub.open_student("resnet18_cifar", {**CNN, "in_chans": 4}, data)
    with pytest.raises(
        ValueError, match="must take grey or colour images, of 1 or 3 channels, got 4; leave in_chans away"
    ):
        open_loaders(Accelerator(cpu=True), data, Source("synthetic"), TrainingConfig(), Linf(8 / 255), student)


def test_a_folder_whose_channels_contradict_each_other_is_told(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["model_args"]["in_chans"] == 1
    size = config["pretrained_cfg"]["input_size"]
    config["pretrained_cfg"].update(input_size=[3, *size[1:]], mean=[0.5] * 3, std=[0.5] * 3)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="in_chans is 1 and input_size has 3 channels; write that number"):
        hub.load(f"local-dir:{folder}")


@pytest.mark.parametrize("name", ["local-dir:{run}", "{run}"])
def test_the_folder_of_a_run_is_told_with_that_of_its_model(folder, name):
    with pytest.raises(ValueError, match=f"the model is in {folder}; say local-dir:{folder}$"):
        hub.open_folder(name.format(run=folder.parent))


def test_a_size_that_is_asked_for_is_what_an_untrained_student_takes(data):
    student, _ = hub.open_student("resnet18_cifar", CNN, data, image_size=24)
    assert student.input_size == (3, 24, 24)


def test_a_size_that_has_no_effect_is_refused(data):
    with pytest.raises(ValueError, match=r"takes images of 16x16 px, whatever --image-size says"):
        hub.open_student("vit_tiny_patch16_224", VIT, data, image_size=24)
    with pytest.raises(ValueError, match=r"of its own size; leave --image-size away, .*say .*img_size.: 24"):
        hub.open_student("hf-hub:org/net", {}, data, image_size=24)


def test_photos_of_several_sizes_are_never_taken_larger_than_the_architecture_is_for(tmp_path, monkeypatch):
    for number in range(12):
        place = tmp_path / ("ab"[number % 2]) / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (300 + number, 500)).save(place)
    student, _ = hub.open_student("test_resnet", {}, load_data(Source(str(tmp_path))))
    assert student.input_size == (3, 160, 160)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("org/net", "for the repository on the Hub say hf-hub:org/net"),
        ("https://huggingface.co/org/net", "for the repository on the Hub say hf-hub:org/net"),
        ("resnet18", "resnet18 is an untrained network, which only a student can be"),
        ("{place}/weights.pth", "recipes/convert.py makes the folder of a model of a checkpoint"),
        ("local-dir:{place}/weights.pth", "must name the folder of a model, got the file .*convert.py makes one of a"),
        ("local-dir:{folder}/model.safetensors", "got the file .*model.safetensors; say local-dir:{folder}"),
        ("{folder}", "for this folder say local-dir:{folder}"),
        ("local-dir:", "must name the folder of a model, got nothing; write its path behind it"),
    ],
)
def test_what_is_no_name_of_a_model_is_told_with_what_was_meant(folder, tmp_path, name, meant):
    (tmp_path / "weights.pth").touch()
    with pytest.raises(ValueError, match=f"{meant.format(folder=folder)}[^;]*$"):
        hub.open_folder(name.format(place=tmp_path, folder=folder))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"drop_rate": None}, "timm leaves the argument 'drop_rate' out where it has no value; give it one"),
        ({"nonsense": None}, "timm leaves the argument 'nonsense' out where it has no value; give it one"),
        ({"num_classes": 7}, "the number of classes is that of the data; leave 'num_classes' away"),
        ({"in_chans": "3"}, "in_chans must be a number of channels, got '3'"),
        ({"img_size": [1, 2, 3]}, r"img_size must be a side in px, or height and width, got \[1, 2, 3\]"),
    ],
)
def test_an_argument_that_timm_would_not_read_is_refused_before_anything_is_built(data, argument, message, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(ValueError, match=f"^{message}$"):
        hub.open_student("resnet18_cifar", {**CNN, **argument}, data)


def test_an_argument_that_a_network_swallows_is_refused_with_close_ones(data):
    class TakesAnything(ResNet):
        def __init__(self, block, layers, drop_path_rate=0.0, **kwargs):
            super().__init__(block, layers, channels=(4, 4, 4, 8), in_chans=3, num_classes=kwargs["num_classes"])

    def takes_anything(pretrained=False, **kwargs):
        return build_model_with_cfg(
            TakesAnything, "takes_anything", pretrained, block=BasicBlock, layers=(1, 1), **kwargs
        )

    takes_anything.__module__ = __name__
    register_model(takes_anything)
    with pytest.raises(
        ValueError, match="takes any argument, and would not read 'drop_paths'; close names are drop_path_r"
    ):
        hub.open_student("takes_anything", {"drop_paths": 0.2}, data)


def test_an_argument_that_a_network_does_not_know_is_not_recommended(data):
    with pytest.raises(ValueError, match=r"unexpected keyword argument 'img_size'.*; leave what it does not know away"):
        hub.open_student("resnet10t", {"img_size": 32}, data)


def test_weights_that_do_not_fit_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["embed_dim"] = 24
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"size mismatch|does not fit|shape"):
        hub.load(f"local-dir:{folder}")

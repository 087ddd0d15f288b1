"""A name that timm knows, with a tag, is a model on the Hub like any other: student, teacher, evaluated, asked."""

import hashlib
import json
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from timm.models import save_for_hf
from torch import nn

from recipes import evaluate, linear_probe, transfer
from robust_hub import hub
from robust_hub.data import Source, load_data
from robust_hub.launch import Output
from robust_hub.model_folder import files_of, require_provenance, save
from robust_hub.models import create_classifier
from robust_hub.names import CARD, CONFIG, WEIGHTS
from robust_hub.training import TrainingConfig
from tests.loopback_hub.server import File, Repository
from tests.made_up import CNN, provenance

RESNET, GREY, OF_1000, PICKLED = (
    "test_resnet.r160_in1k",
    "test_byobnet.r160_in1k",
    "test_vit.r160_in1k",
    "test_nfnet.r160_in1k",
)
NAMES = ["vertical", "horizontal", "diagonal", "antidiagonal"]
SYNTHETIC = Source("synthetic", test_images=4)
TRAINING = TrainingConfig(epochs=1, batch_size=96, lr=0.01)


def by_timm(name: str, place: Path, channels: int = 3) -> Path:
    """Writes weights as timm does; all but those of a thousand classes are of the synthetic set's, and small."""
    torch.manual_seed(0)
    told = {"input_size": (channels, 16, 16), "mean": (0.5,) * channels, "std": (0.5,) * channels}
    small = {} if name == OF_1000 else {"num_classes": 4, "in_chans": channels, "pretrained_cfg_overlay": told}
    names = {} if name == OF_1000 else {"label_names": NAMES}
    model = timm.create_model(name.partition(".")[0], **small)
    save_for_hf(model, str(place), model_config=names, safe_serialization=name != PICKLED)
    return place


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("timm")
    return {name: by_timm(name, place / name, 1 if name == GREY else 3) for name in (RESNET, GREY, OF_1000, PICKLED)}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> None:
    """A cache that knows nothing."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


@pytest.fixture
def on_the_hub(cache, empty_hub, folders):
    """The Hub with timm's weights on it."""
    for name, folder in folders.items():
        repository = empty_hub.add(Repository("models", f"timm/{name}", private=False), author="writer")
        contents = {file: File((folder / file).read_bytes(), lfs=file != CONFIG) for file in files_of(folder)}
        repository.commit(contents, "Weights.", author="writer")
    return empty_hub


@pytest.fixture(scope="module")
def data():
    return load_data(SYNTHETIC)


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr("robust_hub.training.run.draw_pictures", lambda *_: None)


def pinned(on_the_hub, name: str) -> str:
    return f"hf-hub:timm/{name}@{on_the_hub.repository(f'timm/{name}').refs['refs/heads/main']}"


def sha256_of(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def body(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("fc.", "head."))}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_it_is_the_repository_that_timm_fetches_it_from_at_its_commit(on_the_hub, folders, tmp_path):
    folder = hub.open_folder(RESNET)
    assert hub.open_folder(folder.place).place == folder.place
    assert (folder.name, folder.place, folder.sha256) == (
        RESNET,
        pinned(on_the_hub, RESNET),
        sha256_of(folders[RESNET]),
    )
    assert hub.resolve(RESNET) == f"hf-hub:timm/{RESNET}"
    hub.download(RESNET, tmp_path / "copy")
    assert {file: (tmp_path / "copy" / file).read_bytes() for file in files_of(tmp_path / "copy")} == {
        file: (folders[RESNET] / file).read_bytes() for file in (CONFIG, WEIGHTS)
    }


def test_a_student_starts_from_these_weights_with_a_head_for_the_datas_classes(on_the_hub, data):
    student, starts_from = hub.open_student(OF_1000, {}, data)
    assert starts_from.place == pinned(on_the_hub, OF_1000)
    assert student.num_classes == 4
    # As timm itself reads them.
    assert same(body(student.model), body(timm.create_model(OF_1000, pretrained=True)))


def test_a_teacher_teaches_and_the_card_tells_which_weights_both_are(
    on_the_hub, no_pictures, folders, tmp_path, capsys
):
    place, sha256 = pinned(on_the_hub, RESNET), sha256_of(folders[RESNET])
    transfer.kd(transfer.Config(RESNET, SYNTHETIC, Output(tmp_path / "run"), RESNET, training=TRAINING))
    printed = capsys.readouterr().out
    assert f"the student starts from {place}, weights of sha256 {sha256[:12]}\n" in printed
    told = require_provenance(tmp_path / "run" / "student")
    assert (told.teacher.name, told.teacher.sha256) == (place, sha256)
    assert (told.starts_from, told.starts_from_sha256) == (place, sha256)
    card = (tmp_path / "run" / "student" / CARD).read_text()
    assert f"Its weights start from `{place}`, weights of sha256 `{sha256[:12]}`." in card
    assert f"Teacher: `{place}`, weights of sha256 `{sha256[:12]}`" in card
    assert f"base_model: timm/{RESNET}" in card


@pytest.mark.slow
def test_a_probe_starts_from_it(on_the_hub, no_pictures, folders, tmp_path):
    settings = linear_probe.Config(
        RESNET, Source("synthetic", augmentation="none", test_images=4), Output(tmp_path / "run")
    )
    linear_probe.probe(settings)
    told = require_provenance(tmp_path / "run" / "student")
    assert (told.starts_from, told.starts_from_sha256) == (pinned(on_the_hub, RESNET), sha256_of(folders[RESNET]))


def test_it_is_evaluated_by_its_commit_and_is_a_surrogate(on_the_hub, tmp_path, monkeypatch):
    class Measured(Exception):
        """Everything is at hand, and nothing was attacked yet."""

    def measure(_accelerator, classifier, *_, model, surrogates):
        assert model == pinned(on_the_hub, RESNET)
        assert surrogates.keys() == {RESNET}
        # Its own names of the classes are in the order that the evaluation takes.
        assert surrogates[RESNET].fingerprint() == classifier.fingerprint()
        raise Measured

    monkeypatch.setattr(evaluate, "passing_surrogates", lambda *_: [])
    monkeypatch.setattr("robust_hub.evaluation.measure", measure)
    settings = evaluate.Config(RESNET, SYNTHETIC, Output(tmp_path / "run"), version="quick", surrogates=(RESNET,))
    with pytest.raises(Measured):
        evaluate.main(settings)


def test_it_says_what_is_on_photos(on_the_hub, tmp_path):
    Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / "red.png")
    (prediction,) = hub.predict(RESNET, tmp_path / "red.png")
    assert prediction.label in NAMES


def test_an_untrained_architecture_is_no_model(data):
    message = "resnet18 is an untrained network, which only a student can be, and its weights are resnet18.a1_in1k, "
    with pytest.raises(ValueError, match=message):
        hub.open_folder("resnet18")


@pytest.mark.parametrize("name", ["resnet18.a1", "resnt18.a1_in1k"])
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_a_tag_that_does_not_exist_is_told_with_close_ones(data, name, kind):
    with pytest.raises(ValueError, match=rf"'{name}'; close names are .*resnet18[^;\n]*$"):
        _ = hub.open_folder(name) if kind == "teacher" else hub.open_student(name, {}, data)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_weights_that_timm_knows_by_an_address_alone_are_refused_with_close_ones_of_the_hub(data, kind):
    message = (
        r"the weights gcvit_tiny\.in1k are not on the Hub, timm knows them by an address alone; close names are \w+"
    )
    with pytest.raises(ValueError, match=message) as refused:
        _ = hub.open_folder("gcvit_tiny.in1k") if kind == "teacher" else hub.open_student("gcvit_tiny.in1k", {}, data)
    assert "gcvit_tiny.in1k" not in str(refused.value).partition("close names")[2]


def test_weights_that_are_a_pickle_alone_are_refused(on_the_hub):
    message = rf"timm/{PICKLED} has its weights in pytorch_model\.bin alone, a pickle, .* recipes/convert\.py makes"
    with pytest.raises(ValueError, match=message):
        hub.load(PICKLED)
    assert not on_the_hub.seen("GET", "pytorch_model.bin")


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_weights_that_are_not_at_hand_without_a_network_are_told_in_one_sentence(cache, data, monkeypatch, kind):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = (
        rf"the Hub did not give config\.json of timm/{RESNET} \([^\n]*the cache has none\); check name and network$"
    )
    with pytest.raises(ValueError, match=message):
        _ = hub.open_folder(RESNET) if kind == "teacher" else hub.open_student(RESNET, {}, data)


def test_what_timm_itself_has_fetched_needs_no_network(on_the_hub, folders, monkeypatch):
    timms = timm.create_model(OF_1000, pretrained=True).eval()
    assert not on_the_hub.seen("GET", "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder, ours = hub.open_folder(OF_1000), hub.load(OF_1000).eval()
    assert (folder.place, folder.sha256) == (pinned(on_the_hub, OF_1000), sha256_of(folders[OF_1000]))
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(ours.model(images), timms(images))
    assert ours.preprocessing == hub.load(f"local-dir:{folders[OF_1000]}").preprocessing


@pytest.mark.parametrize(
    ("name", "model_args", "shape"),
    [
        (OF_1000, {"img_size": [32, 32]}, (3, 32, 32)),
        (OF_1000, {"img_size": [32, 48], "in_chans": 1, "drop_path_rate": 0.2, "drop_rate": 0.1}, (1, 32, 48)),
        (RESNET, {"in_chans": 1, "output_stride": 16}, (1, 16, 16)),
        (RESNET, {"act_layer": "silu", "drop_path_rate": 0.1}, (3, 16, 16)),
        (GREY, {"in_chans": 3}, (3, 16, 16)),
    ],
)
def test_weights_are_adapted_to_arguments_that_the_students_folder_keeps(
    on_the_hub, data, tmp_path, name, model_args, shape
):
    student, _ = hub.open_student(name, model_args, data)
    assert student.input_size == shape
    assert len(student.mean.flatten()) == len(student.std.flatten()) == shape[0]
    save(tmp_path / "student", student, provenance(student.architecture), label_names=data.label_names)
    kept = json.loads((tmp_path / "student" / CONFIG).read_text())["model_args"]
    assert {argument: kept[argument] for argument in model_args} == model_args
    # By timm alone, and to be trained on once more.
    images = torch.rand(2, *shape)
    with torch.no_grad():
        wanted = student.model.eval()(images)
        assert torch.equal(
            timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True).eval()(images), wanted
        )
    again = hub.load(f"local-dir:{tmp_path / 'student'}")
    assert same(again.model.state_dict(), student.model.state_dict())
    assert again.preprocessing == student.preprocessing


def test_the_first_convolution_of_a_grey_student_is_the_sum_over_the_colours(on_the_hub, data):
    grey, _ = hub.open_student(RESNET, {"in_chans": 1}, data)
    colour = hub.load(RESNET).model.state_dict()
    (first,) = [name for name, weight in colour.items() if weight.ndim == 4 and weight.shape[1] == 3]
    torch.testing.assert_close(grey.model.state_dict()[first], colour[first].sum(1, keepdim=True))
    others = {name: weight for name, weight in body(grey.model).items() if name != first}
    assert same(others, {name: colour[name] for name in others})


def test_a_folder_of_ours_is_adapted_too(tmp_path, data):
    teacher = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(1, 16, 16))
    save(tmp_path / "teacher", teacher, provenance("resnet18_cifar"), label_names=NAMES)
    student, _ = hub.open_student(f"local-dir:{tmp_path / 'teacher'}", {"in_chans": 3}, data)
    torch.testing.assert_close(student.model.conv1.weight, teacher.model.conv1.weight.expand(-1, 3, -1, -1) / 3)
    assert student.model_args == {**CNN, "in_chans": 3, "global_pool": "avg"}


@pytest.mark.parametrize(
    ("name", "model_args", "message"),
    [
        (
            RESNET,
            {"depth": 2},
            r"has weights, and beside them only drop_path_rate, .*, act_layer can be chosen, got 'depth'",
        ),
        (RESNET, {"img_size": 64}, r"can't be loaded with .* \(.*unexpected keyword argument 'img_size'\); leave the "),
        (
            OF_1000,
            {"act_layer": "prelu"},
            r"can't adapt the weights .*: they have none for blocks\.0\S*act\.weight; leave the arg",
        ),
        (OF_1000, {"img_size": "large"}, r"img_size must be a side in px, or height and width, got 'large'"),
        (OF_1000, {"in_chans": 0}, r"in_chans must be a number of channels, got 0"),
        (OF_1000, {"drop_rate": None}, r"timm leaves the argument 'drop_rate' out where it has no value; give it one"),
    ],
)
def test_what_weights_can_not_be_adapted_to_is_refused(on_the_hub, data, name, model_args, message):
    with pytest.raises(ValueError, match=message):
        hub.open_student(name, model_args, data)


def test_an_argument_that_leaves_layers_to_chance_is_refused(on_the_hub, data, monkeypatch):
    def draw(*given, **named):
        raise NotImplementedError("an odd layer")

    # As timm does with a first layer that it can't adapt.
    monkeypatch.setattr("timm.models._builder.adapt_input_conv", draw)
    with pytest.raises(ValueError, match=r"timm can't adapt the weights of .*: they have none for conv1\S*\.weight;"):
        hub.open_student(RESNET, {"in_chans": 1}, data)


def test_an_argument_is_checked_before_anything_is_fetched(cache, empty_hub, data):
    with pytest.raises(ValueError, match="got 'depth'"):
        hub.open_student(RESNET, {"depth": 2}, data)
    assert not empty_hub.requests


def test_grey_weights_for_images_in_colour_are_told_with_the_ways(on_the_hub, data):
    assert data.image_shape[0] == 3
    ways = r"""say --student-args '\{"in_chans": 1\}' to show it grey ones, or '\{"in_chans": 3\}' to adapt its first"""
    with pytest.raises(ValueError, match=f"{GREY} takes grey images and those of synthetic are in colour; {ways}"):
        hub.open_student(GREY, {}, data)
    student, _ = hub.open_student(GREY, {"in_chans": 1}, data)
    assert student.input_size == (1, 16, 16)


def test_weights_without_a_head_are_a_start_for_students_and_know_nothing_to_teach(cache, empty_hub, tmp_path):
    """As those of DINO, CLIP and MAE are, of which timm knows hundreds."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0)
    save_for_hf(model, str(tmp_path / "headless"), safe_serialization=True)
    repository = empty_hub.add(Repository("models", f"timm/{OF_1000}", private=False), author="writer")
    files = {name: File((tmp_path / "headless" / name).read_bytes(), lfs=name != CONFIG) for name in (CONFIG, WEIGHTS)}
    repository.commit(files, "Weights.", author="writer")
    student, folder = hub.open_student(OF_1000, {}, load_data(SYNTHETIC))
    assert student.num_classes == 4
    assert folder.place.startswith(f"hf-hub:timm/{OF_1000}@")
    assert torch.equal(student.model.pos_embed, model.pos_embed)
    with pytest.raises(ValueError, match="must end in a linear classifier layer"):
        hub.load(OF_1000)

"""Logits are never taken for classes that they are not: their order is stated, told by names, found, or unknown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_dataset
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.models._meta import _IMAGENET_CATEGORIES as WORDS

from robust_hub.data import Source, load_data
from robust_hub.evaluation import find_class_order, in_order_of, reorder_logits
from robust_hub.models import PixelClassifier, imagenet_synsets, lacking, order_by_name
from tests.conftest import HeadedModel

NAMES = [str(number) for number in range(12)]


def grey_of(name: str) -> int:
    """The level of all pixels of a class: 20 apart."""
    return 20 * int(name) + 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folders called 0 to 11, of images of one grey each, but for noise by which no two are the same."""
    rng = np.random.default_rng(0)
    place = tmp_path_factory.mktemp("sets") / "numbers"
    for name in NAMES:
        for split, count in (("train", 30), ("test", 2)):
            (place / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = grey_of(name) + rng.integers(-5, 6, (8, 8, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(place / split / name / f"{number}.png")
    return place


@pytest.fixture(scope="module")
def data(folder):
    return load_data(Source(str(folder)))


def classifier_of(order: list[str], label_names=()) -> PixelClassifier:
    """Answers with the class of the nearest grey: |m - c|^2 is m^2, the same for all, less 2 c m, plus c^2."""
    levels = torch.tensor([grey_of(name) / 255 for name in order])
    head = nn.Linear(192, len(order))
    head.weight.data = (2 * levels[:, None] / 192).expand(-1, 192).clone()
    head.bias.data = -levels.square()
    model = HeadedModel(nn.Identity(), head, (3, 8, 8))
    model.pretrained_cfg |= {"mean": (0.0,) * 3, "std": (1.0,) * 3, "label_names": list(label_names)}
    return PixelClassifier(model, {})


def order_of(class_to_idx: dict[str, int]) -> list[str]:
    return sorted(class_to_idx, key=lambda name: class_to_idx[name])


@pytest.fixture(params=["timm", "torchvision"])
def trained_on(request, folder) -> list[str]:
    """The classes as the loader of another library numbers them."""
    if request.param == "timm":
        return order_of(create_dataset("", root=str(folder / "train")).reader.class_to_idx)
    return order_of(ImageFolder(folder / "train").class_to_idx)


def test_folders_called_by_numbers_are_ordered_otherwise_elsewhere(folder, data):
    assert order_of(create_dataset("", root=str(folder / "train")).reader.class_to_idx) != data.label_names


def test_a_model_without_names_has_the_order_of_the_loader_it_was_trained_with(data, trained_on):
    classifier = classifier_of(trained_on)
    order = find_class_order(classifier, data)
    assert order.label_names == trained_on
    assert f"in the order {', '.join(trained_on[:3])}, ... it is right on 100.0 % of 36 validation images" in order.told
    assert "\n" not in order.told
    assert classifier.passes.forward == 0


def test_the_labels_follow_the_model(data, folder, trained_on):
    ordered = in_order_of(data, trained_on)
    assert ordered.label_names == trained_on
    for split in ("train", "validation", "test"):
        before, after = getattr(data, split), getattr(ordered, split)
        assert before["where"][:] == after["where"][:]
        assert [data.label_names[label] for label in before["label"]] == [trained_on[label] for label in after["label"]]


def test_an_order_is_never_chosen_by_the_images_that_are_tested(data):
    other = [*NAMES[6:], *NAMES[:6]]
    numbers = np.array([other.index(name) for name in data.label_names])
    wrong = data.test.remove_columns("label").add_column("label", numbers[data.test["label"][:]])
    assert find_class_order(classifier_of(NAMES), replace(data, test=wrong)).label_names == NAMES
    none = data.train.select([])
    assert find_class_order(classifier_of(NAMES), replace(data, validation=none)).told.count("training images") == 1
    order = find_class_order(classifier_of(NAMES), replace(data, validation=none, train=none))
    assert order.label_names == []
    assert "no images but the tested ones" in order.told


@pytest.mark.parametrize(
    ("order", "claimed", "known"),
    [
        # A third are right, of which three times chance, a quarter, are needed; or half of what the card tells.
        ([*NAMES[:4], *reversed(NAMES[4:])], 0.6, True),
        ([*NAMES[:4], *reversed(NAMES[4:])], 0.8, False),
        ([*NAMES[:2], *NAMES[3:], "2"], 0.0, False),
        ([*NAMES[6:], *NAMES[:6]], 0.0, False),
    ],
)
def test_an_order_that_images_do_not_speak_for_is_not_believed(data, order, claimed, known):
    found = find_class_order(classifier_of(order), data, claimed=claimed)
    assert bool(found.label_names) == known
    assert ("clearly above chance, would be needed" in found.told) != known


def test_two_orders_that_too_few_images_tell_apart_are_neither_believed(data):
    two = [next(row for row, label in enumerate(data.validation["label"]) if label == wanted) for wanted in (0, 1, 2)]
    few = replace(data, validation=data.validation.select(two))
    found = find_class_order(classifier_of(NAMES), few)
    assert found.label_names == []
    assert found.told.endswith("too few images tell them apart")


def test_names_are_matched_whatever_their_order(data):
    shuffled = NAMES[::-1]
    order = find_class_order(classifier_of(shuffled, shuffled), data)
    assert (order.label_names, order.told) == (
        shuffled,
        "the model lists the data's classes in another order: they are matched by name",
    )


def test_a_model_that_names_the_data_s_classes_in_their_order_says_nothing(data):
    order = find_class_order(classifier_of(data.label_names, data.label_names), data)
    assert (order.label_names, order.told) == (data.label_names, "")


def test_what_is_stated_is_believed_before_names_and_images(data):
    stated = [*NAMES[6:], *NAMES[:6]]
    assert find_class_order(classifier_of(NAMES, NAMES), data, stated=stated).label_names == stated
    with pytest.raises(ValueError, match="--label-names must name the 12 logits of headed in their order, got 3"):
        find_class_order(classifier_of(NAMES), data, stated=NAMES[:3])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([*NAMES, "12"], "the data lacks 1 of the 13 classes of the model (12)"),
        (
            [f"class {name}" for name in NAMES],
            "the model knows 12 classes (class 0, class 1, class 2, ...) and the data",
        ),
    ],
)
def test_other_classes_are_told(data, names, told):
    found = find_class_order(classifier_of([*NAMES, "12"][: len(names)], names), data)
    assert found.label_names == []
    assert told in found.told


def test_reordered_logits_are_the_same_logits(create_smooth, images):
    classifier = create_smooth()
    before = classifier(images)
    forward = classifier.passes.forward
    reorder_logits(classifier, ["a", "b", "c"], ["c", "a", "b"])
    assert classifier.passes.forward == forward
    torch.testing.assert_close(classifier(images), before[:, [2, 0, 1]])


def test_logits_that_are_not_rows_of_a_linear_layer_are_not_reordered(create_linear, monkeypatch):
    classifier = create_linear()
    forward = classifier.model.forward
    monkeypatch.setattr(classifier.model, "forward", lambda pixels: forward(pixels) + torch.arange(3.0))
    with pytest.raises(ValueError, match="the logits of headed can't be put into the order of the data's classes"):
        reorder_logits(classifier, ["a", "b", "c"], ["c", "a", "b"])


def test_words_and_wordnet_ids_of_imagenet_are_the_same_classes():
    synsets = imagenet_synsets()
    shuffled = [synsets[place] for place in torch.randperm(1000).tolist()]
    order = order_by_name(WORDS, shuffled)
    assert order == synsets
    # By the folders of ImageNet, as everybody knows them.
    known = {"n01440764": "tench", "n02102040": "English springer", "n03000684": "chain saw", "n03888257": "parachute"}
    assert {synset: WORDS[order.index(synset)] for synset in known} == known
    assert order_by_name(synsets, WORDS) == list(WORDS)


def test_ten_of_imagenets_classes_are_told_as_such():
    imagenette = [imagenet_synsets()[place] for place in (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)]
    absent = lacking(WORDS, imagenette)
    assert (len(absent), absent[0]) == (990, "goldfish")
    assert lacking(imagenette, WORDS) == []

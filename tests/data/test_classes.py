"""Every class has the name and the order that its owner meant, in all splits; healthy sets bring no note."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from robust_hub.data import Source, load_data

KINDS = ("red", "green", "blue")


RANDOM = np.random.default_rng(0)


def picture(kind: int) -> PILImage.Image:
    """An image unlike all others, whose colour tells its class, whatever number that has."""
    pixels = RANDOM.integers(100, size=(4, 4, 3), dtype=np.uint8)
    pixels[..., kind] = 200
    return PILImage.fromarray(pixels)


def write(folder, split: str, labels: list, feature, kinds: list[int]) -> None:
    features = Features({"image": Image(), "label": feature})
    rows = Dataset.from_dict({"image": [picture(kind) for kind in kinds], "label": labels}, features=features)
    rows.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def names_by_colour(data) -> set[tuple[str, str]]:
    """Pairs of the name that an image's label has, and the colour that it shows, over all splits."""
    pairs = set()
    for rows in data.splits.values():
        for cell, label in zip(rows.cast_column("image", Image())["image"], rows["label"][:], strict=True):
            pairs.add((data.label_names[label], KINDS[int(np.asarray(cell)[0, 0].argmax())]))
    return pairs


def load(folder, **options):
    return load_data(Source(str(folder), label_column="label", **options))


def test_classes_that_splits_list_in_another_order_are_matched_by_name(tmp_path):
    write(tmp_path, "train", [0, 1, 2] * 4, ClassLabel(names=["red", "green", "blue"]), [0, 1, 2] * 4)
    write(tmp_path, "test", [0, 1, 2], ClassLabel(names=["blue", "green", "red"]), [2, 1, 0])
    data = load(tmp_path)
    assert names_by_colour(data) == {("red", "red"), ("green", "green"), ("blue", "blue")}
    assert any("split test lists its classes in another order" in note for note in data.notes)


@pytest.mark.parametrize("numbers", [(1, 2, 3), (5, 15, 25), (0, 2, 7)])
def test_class_numbers_with_gaps_are_the_classes_that_exist(tmp_path, numbers):
    write(tmp_path, "train", list(numbers) * 6, Value("int64"), [0, 1, 2] * 6)
    data = load(tmp_path)
    assert data.label_names == list(map(str, numbers))
    assert names_by_colour(data) == set(zip(map(str, numbers), KINDS, strict=True))
    assert "class numbers are not 0 to 2" in data.notes[0]


def test_names_as_labels_are_the_classes_in_order(tmp_path):
    write(tmp_path, "train", ["red", "green", "blue"] * 6, Value("string"), [0, 1, 2] * 6)
    data = load(tmp_path)
    assert data.label_names == ["blue", "green", "red"]
    assert names_by_colour(data) == {(kind, kind) for kind in KINDS}


def test_a_class_of_test_that_train_lacks_is_refused(tmp_path):
    write(tmp_path, "train", ["red", "green"] * 6, Value("string"), [0, 1] * 6)
    write(tmp_path, "test", ["red", "blue"], Value("string"), [0, 2])
    with pytest.raises(ValueError, match=r"class 'blue' is in split test of .* and not in train, so nobody can learn"):
        load(tmp_path)


def test_a_class_of_train_that_test_lacks_is_told(tmp_path):
    write(tmp_path, "train", [0, 1, 2] * 6, ClassLabel(names=list(KINDS)), [0, 1, 2] * 6)
    write(tmp_path, "test", [0, 1], ClassLabel(names=list(KINDS)), [0, 1])
    assert load(tmp_path).notes == ["split test has no image of 1 of the classes, for example 'blue'"]


def test_a_test_split_of_hidden_labels_leaves_validation_to_be_tested(tmp_path):
    write(tmp_path, "train", [0, 1] * 10, ClassLabel(names=["red", "green"]), [0, 1] * 10)
    write(tmp_path, "validation", [0, 1] * 3, ClassLabel(names=["red", "green"]), [0, 1] * 3)
    write(tmp_path, "test", [-1] * 4, ClassLabel(names=["red", "green"]), [0, 1] * 2)
    data = load(tmp_path)
    assert len(data.test) == 6
    assert data.origins["test"] == "split validation"
    assert "the labels of split test are hidden, so it is not used" in data.notes


@pytest.mark.parametrize("feature", [ClassLabel(names=list(KINDS)), Value("int64")], ids=["named", "numbered"])
def test_a_healthy_set_brings_no_note(tmp_path, feature):
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        write(tmp_path, split, [0, 1, 2] * count, feature, [0, 1, 2] * count)
    assert load(tmp_path).notes == []


def test_bytes_and_paths_as_pandas_writes_them_are_images(tmp_path):
    pandas = pytest.importorskip("pandas")
    for number in range(18):
        picture(number % 3).save(tmp_path / f"{number}.png")
    folder = tmp_path / "set"
    folder.mkdir()
    files = [tmp_path / f"{number}.png" for number in range(18)]
    cells = [{"bytes": file.read_bytes(), "path": None} for file in files]
    pandas.DataFrame({"image": cells, "label": [0, 1, 2] * 6}).to_parquet(folder / "train.parquet")
    assert len(names_by_colour(load(folder, image_column="image"))) == 3


def test_one_grey_image_does_not_make_a_set_grey(tmp_path):
    images = [picture(0).convert("L"), *(picture(number % 2) for number in range(1, 12))]
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "green"])})
    rows = Dataset.from_dict({"image": images, "label": [0, 1] * 6}, features=features)
    rows.to_parquet(str(tmp_path / "train.parquet"))
    data = load(tmp_path)
    assert data.image_shape == (3, 4, 4)
    assert "colour, 1 of them grey" in data.describe_sizes(data.image_shape)


def test_the_first_image_does_not_decide_the_size(tmp_path):
    images = [picture(0).resize((40, 30)), *(picture(number % 2) for number in range(1, 12))]
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "green"])})
    rows = Dataset.from_dict({"image": images, "label": [0, 1] * 6}, features=features)
    rows.to_parquet(str(tmp_path / "train.parquet"))
    data = load(tmp_path)
    assert data.image_shape == (3, 4, 4)
    assert not data.has_one_size
    assert "of 2 sizes, short sides 4 to 30 px, median 4" in data.describe_sizes(data.image_shape)

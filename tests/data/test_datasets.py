from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from sklearn.datasets import load_digits

from robust_hub.data import Source, evaluation_loader, load_data, subset
from robust_hub.data.images import fit_image, image_to_tensor, read_image
from robust_hub.data.splitting import HELD_OUT, TEST_HELD_OUT
from robust_hub.models import Preprocessing

MNIST = Path(__file__).parents[2] / "../shared/data/mnist"
NAMES = ["cat", "dog"]


def pictures(n: int, start: int = 0, mode: str = "RGB") -> list[PILImage.Image]:
    """Images of 6x5 px that all differ."""
    shape = (n, 5, 6, 3) if mode == "RGB" else (n, 5, 6)
    pixels = np.random.default_rng(start).integers(256, size=shape, dtype=np.uint8)
    return [PILImage.fromarray(one) for one in pixels]


def write_parquet(
    file: Path, images: list, labels: list[int], *, image: str = "image", label: str = "label", kind=None
) -> None:
    features = Features({image: Image(), label: kind or ClassLabel(names=NAMES)})
    written = Dataset.from_dict({image: images, label: labels}, features=features)
    # Older releases of datasets divide by the number of rows where they write a file.
    pa.parquet.write_table(written.data.table.cast(features.arrow_schema), file)


def write_splits(folder: Path, **sizes: int) -> Path:
    for start, (split, n) in enumerate(sizes.items()):
        write_parquet(folder / f"{split}.parquet", pictures(n, start), [index % 2 for index in range(n)])
    return folder


def decoded(rows: Dataset) -> list[bytes]:
    """The pixels of every image, decoded by PIL alone."""
    cells = rows["image"]
    files = [BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"] for cell in cells]
    return [PILImage.open(file).tobytes() for file in files]


@pytest.mark.parametrize(("name", "n"), [("digits", 1797), ("synthetic", 400)])
def test_a_built_in_set_is_split_into_three_disjoint_parts(name, n):
    data = load_data(Source(name))
    test, validation = round(TEST_HELD_OUT * n), round(HELD_OUT * (n - round(TEST_HELD_OUT * n)))
    assert [len(data.train), len(data.validation), len(data.test)] == [n - test - validation, validation, test]
    # Every image of both sets is unlike all others, so equal pixels would be one image in two parts.
    assert len({*decoded(data.train), *decoded(data.validation), *decoded(data.test)}) == n


def test_the_same_seed_splits_alike_and_another_does_not():
    first, again, other = (load_data(Source("synthetic"), seed=seed) for seed in (3, 3, 4))
    for split in ("train", "validation", "test"):
        assert decoded(getattr(first, split)) == decoded(getattr(again, split))
        assert decoded(getattr(first, split)) != decoded(getattr(other, split))


@pytest.mark.parametrize(
    ("name", "names", "shape"),
    [
        ("digits", list("0123456789"), (1, 32, 32)),
        ("synthetic", ["vertical", "horizontal", "diagonal", "antidiagonal"], (3, 16, 16)),
    ],
)
def test_a_built_in_set_knows_its_classes_and_shape(name, names, shape):
    data = load_data(Source(name))
    assert (data.name, data.label_names, data.num_classes, data.image_shape) == (name, names, len(names), shape)


def test_digits_have_the_pixels_of_scikit_learn():
    data = load_data(Source("digits"))
    brightness = {label: [] for label in range(10)}
    for cell, label in zip(data.test["image"], data.test["label"], strict=True):
        brightness[label].append(np.asarray(PILImage.open(BytesIO(cell["bytes"]))).mean() / 255)
    bunch = load_digits()
    for label in range(10):
        expected = bunch.images[bunch.target == label].mean() / 16
        # The mean over about 36 held-out digits of a class against that over 180, each with deviation 0.03.
        assert np.mean(brightness[label]) == pytest.approx(expected, abs=0.03)


def test_a_folder_of_parquet_files_is_read(tmp_path):
    images = pictures(4)
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 1, 0])
    write_parquet(tmp_path / "validation.parquet", pictures(2, 1), [0, 1])
    write_parquet(tmp_path / "test.parquet", pictures(3, 2), [1, 1, 0])
    data = load_data(Source(str(tmp_path)))
    assert data.name == tmp_path.name
    assert (data.label_names, data.image_shape) == (NAMES, (3, 5, 6))
    assert data.train.column_names == ["image", "label", "row", "where"]
    assert decoded(data.train) == [image.tobytes() for image in images]
    assert [list(rows["label"]) for rows in (data.train, data.validation, data.test)] == [
        [0, 1, 1, 0],
        [0, 1],
        [1, 1, 0],
    ]


def test_a_folder_of_images_is_read(tmp_path):
    written = {}
    for split, n in (("train", 4), ("test", 2)):
        for label, name in enumerate(["owl", "bat"]):
            (tmp_path / split / name).mkdir(parents=True)
            for index, image in enumerate(pictures(n, start=n + label)):
                image.save(tmp_path / split / name / f"{index}.png")
                written[image.tobytes()] = (split, name)
    data = load_data(Source(str(tmp_path)))
    assert data.label_names == ["bat", "owl"]
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 4)
    for split, rows in {"train": data.train, "train too": data.validation, "test": data.test}.items():
        for pixels, label in zip(decoded(rows), rows["label"], strict=True):
            assert written[pixels] == (split.removesuffix(" too"), data.label_names[label])


def test_unusual_column_names_are_found_by_type(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", pictures(4), [0, 1, 0, 1], image="photo", label="species")
    data = load_data(Source(str(tmp_path)))
    assert data.train.column_names == ["image", "label", "row", "where"]
    assert data.label_names == NAMES


@pytest.mark.parametrize("kind", ["image", "label"])
def test_columns_that_can_not_be_told_apart_ask_for_the_flag(tmp_path, kind):
    features = {"photo": Image(), "species": ClassLabel(names=NAMES)}
    values = {"photo": pictures(4), "species": [0, 1, 0, 1]}
    twin = {"image": ("photo", "mask"), "label": ("species", "breed")}[kind]
    features[twin[1]], values[twin[1]] = features[twin[0]], values[twin[0]]
    Dataset.from_dict(values, features=Features(features)).to_parquet(str(tmp_path / "train.parquet"))
    name = {"image": "Image", "label": "ClassLabel"}[kind]
    message = rf"must have one {name} column, found 2 \({twin[0]}, {twin[1]}\); name it with --{kind}-column"
    with pytest.raises(ValueError, match=message):
        load_data(Source(str(tmp_path)))


def test_a_named_column_decides_between_two(tmp_path):
    features = Features({"photo": Image(), "fine": ClassLabel(names=list("abcd")), "coarse": ClassLabel(names=NAMES)})
    values = {"photo": pictures(4), "fine": [0, 1, 2, 3], "coarse": [0, 0, 1, 1]}
    for split in ("train", "test"):
        Dataset.from_dict(values, features=features).to_parquet(str(tmp_path / f"{split}.parquet"))
    data = load_data(Source(str(tmp_path), label_column="coarse"))
    assert data.label_names == NAMES
    assert list(data.test["label"]) == [0, 0, 1, 1]


@pytest.mark.parametrize("column", ["image_column", "label_column"])
def test_a_named_column_that_is_absent_is_met_with_those_that_are_there(tmp_path, column):
    write_splits(tmp_path, train=4)
    with pytest.raises(ValueError, match="has no column 'species'; its columns are image, label"):
        load_data(Source(str(tmp_path), **{column: "species"}))


def test_plain_class_numbers_are_labels_when_named(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", pictures(4), [0, 2, 1, 2], label="species", kind=Value("int64"))
    assert load_data(Source(str(tmp_path), label_column="species")).label_names == ["0", "1", "2"]


def test_labels_that_are_neither_numbers_nor_names_are_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", pictures(2), [0.5, 1.5], label="species", kind=Value("float64"))
    with pytest.raises(ValueError, match=r"column 'species' of .* must hold class numbers or names, got Value"):
        load_data(Source(str(tmp_path), label_column="species"))


@pytest.mark.parametrize("kind", [None, Value("int64")], ids=["class label", "plain number"])
def test_a_label_out_of_range_names_its_row_and_split(tmp_path, kind):
    write_parquet(tmp_path / "train.parquet", pictures(4), [0, 1, 0, 1], kind=kind)
    write_parquet(tmp_path / "test.parquet", pictures(4), [0, 1, -1, 1], kind=kind)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), got -1 at row 2 of .*, split test"):
        load_data(Source(str(tmp_path), label_column="label"))


def test_a_corrupt_parquet_file_is_named(tmp_path):
    write_splits(tmp_path, train=4, test=4)
    whole = (tmp_path / "test.parquet").read_bytes()
    (tmp_path / "test.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"test\.parquet is not a readable parquet file; fetch it again"):
        load_data(Source(str(tmp_path)))


def corrupt(rows: Dataset, row: int) -> Dataset:
    cells = [
        {"bytes": cell["bytes"] if index != row else b"no image", "path": None}
        for index, cell in enumerate(rows["image"])
    ]
    features = Features({"image": Image(decode=False), "label": rows.features["label"], "where": Value("string")})
    columns = {"image": cells, "label": rows["label"][:], "where": rows["where"][:]}
    return Dataset.from_dict(columns, features=features)


def test_a_corrupt_first_image_is_named_at_once(tmp_path):
    write_splits(tmp_path, test=2)
    rows = corrupt(load_data(Source("synthetic")).test.select(range(4)), 0)
    rows = rows.map(lambda row: {"label": row["label"] % 2})
    rows.cast_column("label", ClassLabel(names=["cat", "dog"])).to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(ValueError, match=r"the image at row 0 of split train of .* can't be decoded"):
        load_data(Source(str(tmp_path), label_column="label"))


def test_a_corrupt_image_is_named_by_its_row():
    rows = corrupt(load_data(Source("synthetic")).test.select(range(4)), 3)
    with pytest.raises(
        ValueError, match=rf"the image at {rows['where'][3]} can't be decoded; replace it or drop the row"
    ):
        evaluation_loader(rows, Preprocessing((3, 16, 16)), batch_size=2, device=torch.device("cpu"))


def test_an_image_file_that_can_not_be_read_is_named(tmp_path):
    file = tmp_path / "torn.png"
    pictures(1)[0].save(file)
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"the image at row 7 \(.*torn\.png\) can't be decoded"):
        read_image({"bytes": None, "path": str(file)}, "row 7")


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_named(tmp_path, split):
    write_splits(tmp_path, **{"train": 4, "validation": 2, "test": 2, split: 0})
    with pytest.raises(ValueError, match=f"split {split} of .* is empty; every split needs at least one image"):
        load_data(Source(str(tmp_path)))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_folder_with_an_empty_split_is_refused(tmp_path, split):
    write_splits(tmp_path, **{"train": 4, "validation": 2, "test": 2, split: 0})
    with pytest.raises(ValueError, match=split):
        load_data(Source(str(tmp_path)))


def test_a_train_split_of_one_image_is_too_small_to_hold_any_out(tmp_path):
    write_splits(tmp_path, train=1, test=2)
    with pytest.raises(ValueError, match=r"split train of .* has 1 images, too few to hold any out"):
        load_data(Source(str(tmp_path)))


def test_a_set_without_a_train_split_is_refused(tmp_path):
    write_splits(tmp_path, test=4)
    with pytest.raises(ValueError, match="must have a split named train, got test"):
        load_data(Source(str(tmp_path)))


def test_a_folder_that_is_not_there_is_met_with_close_names(tmp_path):
    (tmp_path / "flowers").mkdir()
    (tmp_path / "cars").mkdir()
    with pytest.raises(ValueError, match=r"there is no folder .*flower; close names are flowers$"):
        load_data(Source(str(tmp_path / "flower")))


def test_an_unknown_name_is_met_with_close_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digests").mkdir()
    with pytest.raises(
        ValueError, match=r"'digitz' is neither digits, synthetic nor a folder .* close names are digits"
    ):
        load_data(Source("digitz"))


def test_given_splits_are_taken_as_they_are(tmp_path):
    write_splits(tmp_path, train=6, validation=3, test=2)
    data = load_data(Source(str(tmp_path)))
    for start, rows in enumerate((data.train, data.validation, data.test)):
        assert decoded(rows) == [image.tobytes() for image in pictures(len(rows), start)]


def test_validation_is_held_out_of_train_where_it_is_not_given(tmp_path):
    write_splits(tmp_path, train=20, test=4)
    data = load_data(Source(str(tmp_path)))
    train, validation = decoded(data.train), decoded(data.validation)
    assert (len(train), len(validation)) == (18, 2)
    assert sorted(train + validation) == sorted(image.tobytes() for image in pictures(20, 0))
    assert decoded(data.test) == [image.tobytes() for image in pictures(4, 1)]


def test_the_validation_split_is_the_test_where_no_test_is_given(tmp_path):
    write_splits(tmp_path, train=20, validation=4)
    data = load_data(Source(str(tmp_path)))
    assert decoded(data.test) == [image.tobytes() for image in pictures(4, 1)]
    assert (len(data.train), len(data.validation)) == (18, 2)


def test_test_and_validation_are_held_out_where_only_train_is_given(tmp_path):
    write_splits(tmp_path, train=20)
    data = load_data(Source(str(tmp_path)))
    parts = [decoded(rows) for rows in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [14, 2, 4]
    assert sorted(parts[0] + parts[1] + parts[2]) == sorted(image.tobytes() for image in pictures(20, 0))


def test_subset_is_drawn_without_repeats_and_always_the_same():
    rows = load_data(Source("synthetic")).test
    once, again = subset(rows, 10), subset(rows, 10)
    assert len(set(decoded(once))) == 10
    assert set(decoded(once)) <= set(decoded(rows))
    assert decoded(once) == decoded(again)


def test_subset_of_more_than_there_is_is_all():
    rows = load_data(Source("synthetic")).test
    assert decoded(subset(rows, 1000)) == decoded(rows)


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("L", 1), ("1", 1), ("I;16", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("CMYK", 3)],
)
def test_image_shape_tells_grey_from_colour(tmp_path, mode, channels):
    cells = []
    for number, image in enumerate(pictures(20)):
        levels = np.full((5, 6), 1000 * number, dtype=np.uint16)
        buffer = BytesIO()
        converted = PILImage.fromarray(levels) if mode == "I;16" else image.convert(mode)
        converted.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    features = Features({"image": Image(decode=False), "label": ClassLabel(names=NAMES)})
    rows = Dataset.from_dict({"image": cells, "label": [0, 1] * 10}, features=features)
    rows.cast_column("image", Image()).to_parquet(str(tmp_path / "train.parquet"))
    assert load_data(Source(str(tmp_path))).image_shape == (channels, 5, 6)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_fit_image_leaves_the_right_size_untouched(mode):
    image = pictures(1, mode=mode)[0]
    fitted = fit_image(image, Preprocessing((len(mode), 5, 6)))
    assert fitted.mode == mode
    assert fitted.tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (10, 12), (7, 3), (1, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fit_image_gives_the_asked_channels_and_size(size, channels):
    for mode in ("RGB", "L"):
        tensor = image_to_tensor(fit_image(pictures(1, mode=mode)[0], Preprocessing((channels, *size))))
        assert tensor.shape == (channels, *size)


def test_fit_image_makes_colour_of_grey_by_repeating_it():
    image = pictures(1, mode="L")[0]
    tensor = image_to_tensor(fit_image(image, Preprocessing((3, 5, 6))))
    np.testing.assert_array_equal(tensor.numpy(), np.repeat(np.asarray(image)[None], 3, axis=0))


def test_fit_image_makes_grey_of_colour_by_luma():
    image = pictures(1)[0]
    # ITU-R 601-2, which PIL rounds in integers.
    luma = np.asarray(image) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(image_to_tensor(fit_image(image, Preprocessing((1, 5, 6))))[0].numpy(), luma, atol=1)


def test_fit_image_crops_the_centre_of_what_is_too_wide():
    columns = np.arange(0, 240, 20, dtype=np.uint8)
    image = PILImage.fromarray(np.repeat(columns[None], 4, axis=0))
    fitted = np.asarray(fit_image(image, Preprocessing((1, 4, 4))))
    np.testing.assert_array_equal(fitted, np.repeat(columns[None, 4:8], 4, axis=0))


def test_fit_image_keeps_the_proportions_when_it_resizes():
    # A white square in the middle of a wide black image stays a square.
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[2:6, 6:10] = 255
    fitted = np.asarray(fit_image(PILImage.fromarray(pixels), Preprocessing((1, 16, 16))))
    bright = np.argwhere(fitted > 127)
    assert (bright.max(0) - bright.min(0) + 1).tolist() == [8, 8]


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    PILImage.fromarray(np.array([[0, 256 * 64, 256 * 128, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    image = read_image({"bytes": (tmp_path / "deep.png").read_bytes(), "path": None}, "row 0")
    assert image_to_tensor(fit_image(image, Preprocessing((1, 1, 4))))[0, 0].tolist() == pytest.approx(
        [0, 64, 128, 255], abs=1
    )


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_image_to_tensor_is_torchvisions_pil_to_tensor(mode):
    transforms = pytest.importorskip("torchvision.transforms.functional")
    image = pictures(1, mode=mode)[0]
    assert torch.equal(image_to_tensor(image), transforms.pil_to_tensor(image))


@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST as parquet is not beside the repository")
def test_the_first_images_of_mnist_are_those_of_pil_and_pyarrow(tmp_path):
    # The file as it is, and as much of train as the test needs.
    table = pa.parquet.read_table(MNIST / "test.parquet").slice(0, 8)
    pa.parquet.write_table(pa.parquet.read_table(MNIST / "train.parquet").slice(0, 20), tmp_path / "train.parquet")
    pa.parquet.write_table(table, tmp_path / "test.parquet")
    data = load_data(Source(str(tmp_path)))
    ((images, labels),) = evaluation_loader(
        data.test, Preprocessing((1, 28, 28)), batch_size=8, device=torch.device("cpu")
    )
    encoded = table["image"].combine_chunks().field("bytes").to_pylist()
    expected = np.stack([np.asarray(PILImage.open(BytesIO(one))) for one in encoded])
    np.testing.assert_array_equal((images[:, 0] * 255).round().numpy().astype(np.uint8), expected)
    assert labels.tolist() == table["label"].to_pylist() == [7, 2, 1, 0, 4, 1, 4, 9]  # MNIST's well-known first labels
    assert data.image_shape == (1, 28, 28)

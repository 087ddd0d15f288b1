"""Images that stand twice are found in any encoding, what was found is kept, and scales are those of the whole set."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, config
from PIL import Image as PILImage

from robust_hub.data import Source, content, evaluation_loader, load_data
from robust_hub.data.content import Contents, look_at
from robust_hub.data.source import Rule
from robust_hub.models import Preprocessing

PIXELS = np.random.default_rng(0).integers(256, size=(40, 5, 6, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own, so that nothing is known before."""
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "robust_hub"


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """Which images were looked at."""
    looked = []

    def look(cell, where):
        looked.append(where)
        return look_at(cell, where)

    monkeypatch.setattr(content, "look_at", look)
    return looked


def put(folder: Path, *images, suffix: str = "png", first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=first):
        (PILImage.fromarray(image) if isinstance(image, np.ndarray) else image).save(folder / f"{number:02d}.{suffix}")
    return folder


def in_classes(split: Path, images) -> None:
    put(split / "a", *images[::2])
    put(split / "b", *images[1::2])


def write_parquet(file: Path, images) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    labels = [number % 2 for number in range(len(images))]
    rows = Dataset.from_dict({"image": list(map(PILImage.fromarray, images)), "label": labels}, features=features)
    file.parent.mkdir(exist_ok=True)
    rows.to_parquet(str(file))


def pixels_of(rows: Dataset) -> set[bytes]:
    """The pixels of images, by PIL alone."""
    files = (BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"] for cell in rows["image"])
    return {PILImage.open(file).convert("RGB").tobytes() for file in files}


def hash_of(image: PILImage.Image, kind: str = "PNG", **options) -> int:
    file = BytesIO()
    image.save(file, kind, **options)
    return look_at({"bytes": file.getvalue(), "path": None}, "row 0")[0]


def turned() -> dict:
    exif = PILImage.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


GREY = PILImage.fromarray(PIXELS[0, ..., 0])
SAME = {
    "another format": (PILImage.fromarray(PIXELS[0]), {"kind": "TIFF"}),
    "an opaque alpha channel": (PILImage.fromarray(PIXELS[0]).convert("RGBA"), {}),
    "turned by its tag": (PILImage.fromarray(np.rot90(PIXELS[0])), turned()),
}


@pytest.mark.parametrize("way", SAME)
def test_one_image_has_one_hash_whatever_its_encoding(way):
    image, options = SAME[way]
    assert hash_of(image, **options) == hash_of(PILImage.fromarray(PIXELS[0]))


@pytest.mark.parametrize(
    "other", [GREY.convert("RGB"), GREY.convert("P"), GREY.convert("LA")], ids=lambda one: one.mode
)
def test_a_grey_image_has_one_hash_in_all_modes(other):
    assert hash_of(other) == hash_of(GREY)


def test_images_of_equal_bytes_and_other_sides_differ():
    assert hash_of(PILImage.new("RGB", (4, 6))) != hash_of(PILImage.new("RGB", (6, 4)))


def test_equal_hashes_are_equal_pixels(tmp_path):
    images = [*PIXELS, *PIXELS[:7]]
    rows = Dataset.from_dict({"image": [str(tmp_path / "x" / f"{number:02d}.png") for number in range(47)]})
    put(tmp_path / "x", *images)
    table = Contents("set", {"train": rows.cast_column("image", Image(decode=False))}).table
    equal = np.array([[np.array_equal(one, other) for other in images] for one in images])
    assert np.array_equal(table["pixels"][:, None] == table["pixels"][None], equal)
    assert {(row["height"], row["width"], row["mode"]) for row in table} == {(5, 6, b"RGB")}


def test_an_image_is_looked_at_once_and_again_when_it_changes(tmp_path, looks):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:20])
    in_classes(folder / "test", PIXELS[20:30])
    before = load_data(Source(str(folder)))
    assert len(looks) == 30
    again = load_data(Source(str(folder)))
    assert len(looks) == 30
    assert again.contents.table.tobytes() == before.contents.table.tobytes()
    put(folder / "test" / "b", PIXELS[39], first=4)
    os.utime(folder / "test" / "b" / "04.png", ns=(1, 1))
    load_data(Source(str(folder)))
    assert looks[30:] == [f"row 9 of split test of {folder}"]


def test_a_table_is_looked_at_once_and_again_when_it_changes(tmp_path, looks):
    folder = tmp_path / "set"
    write_parquet(folder / "train.parquet", PIXELS[:20])
    write_parquet(folder / "test.parquet", PIXELS[20:30])
    load_data(Source(str(folder)))
    load_data(Source(str(folder)))
    assert len(looks) == 30
    write_parquet(folder / "test.parquet", PIXELS[25:32])
    assert load_data(Source(str(folder))).content["test"].shape == (7,)
    assert len(looks) == 37


def flip_a_bit(whole: bytes) -> bytes:
    at = len(whole) // 2
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


@pytest.mark.parametrize("damage", [lambda whole: whole[:-40], lambda whole: b"", flip_a_bit])
def test_what_is_kept_is_found_again_when_it_is_damaged(tmp_path, cache, looks, damage):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:30])
    before = load_data(Source(str(folder)))
    for file in cache.glob("*.npz"):
        file.write_bytes(damage(file.read_bytes()))
    assert load_data(Source(str(folder))).contents.table.tobytes() == before.contents.table.tobytes()
    assert len(looks) == 60


def test_where_nothing_can_be_kept_it_is_found_anew(tmp_path, cache, looks):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    in_classes(tmp_path / "set" / "train", PIXELS[:20])
    for _ in range(2):
        assert len(load_data(Source(str(tmp_path / "set"))).facts.splits) == 3
    assert len(looks) == 40


def test_after_a_torn_image_the_others_are_not_looked_at_again(tmp_path, looks, monkeypatch):
    monkeypatch.setattr(content, "CHUNK", 4)
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:20])
    torn = folder / "train" / "b" / "09.png"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=rf"row 19 of split train of .* \({torn}\) can't be decoded; replace it"):
        load_data(Source(str(folder)))
    torn.write_bytes(whole)
    load_data(Source(str(folder)))
    # But for the three that a thread took together with the torn one.
    assert len(looks) == 24


def test_of_two_at_once_one_looks_and_the_other_finds_it(tmp_path, looks):
    folder = put(tmp_path / "x", *PIXELS)
    rows = Dataset.from_dict({"image": sorted(map(str, folder.iterdir()))}).cast_column("image", Image(decode=False))
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: Contents("set", {"train": rows}).table.tobytes(), range(4)))
    assert len(set(found)) == 1
    assert len(looks) == 40


def test_no_thread_is_left_behind(tmp_path):
    in_classes(tmp_path / "set" / "train", PIXELS[:20])
    before = set(threading.enumerate())
    load_data(Source(str(tmp_path / "set")))
    assert set(threading.enumerate()) <= before


def test_by_the_rule_of_before_nothing_is_looked_at(tmp_path, looks):
    in_classes(tmp_path / "set" / "train", PIXELS[:20])
    load_data(Source(str(tmp_path / "set")), rule=Rule())
    assert looks == []


def test_images_of_a_folder_that_are_in_train_are_not_tested(tmp_path):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:30])
    in_classes(folder / "test", PIXELS[26:36])
    data = load_data(Source(str(folder)))
    assert pixels_of(data.test) == {pixels.tobytes() for pixels in PIXELS[30:36]}
    assert data.notes == ["4 images of test are in train as well: left out of test"]
    assert (data.rule.duplicates, data.left_out) == ("left out", {"test": 4})


def test_another_encoding_of_a_training_image_is_not_tested(tmp_path):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:30])
    put(folder / "test" / "a", *PIXELS[28:34:2], suffix="tiff")
    put(folder / "test" / "b", *PIXELS[29:35:2], suffix="bmp")
    assert pixels_of(load_data(Source(str(folder))).test) == {pixels.tobytes() for pixels in PIXELS[30:34]}


def test_a_test_split_that_a_table_brings_is_kept_and_told(tmp_path):
    folder = tmp_path / "set"
    write_parquet(folder / "train.parquet", PIXELS[:30])
    write_parquet(folder / "test.parquet", PIXELS[26:36])
    data = load_data(Source(str(folder)))
    assert len(data.test) == 10
    assert data.notes == ["4 images of test are in train as well: kept, as the set brings test so"]
    assert (data.rule.duplicates, data.facts.splits["test"].again) == ("kept", 4)


def test_what_is_held_out_of_a_table_stands_nowhere_else(tmp_path):
    write_parquet(tmp_path / "set" / "train.parquet", [*PIXELS, *PIXELS[:10]])
    data = load_data(Source(str(tmp_path / "set")))
    parts = [pixels_of(rows) for rows in data.splits.values()]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    # Twins may come to lie on both sides of a split, and are left out then.
    assert len(data.validation) + len(data.test) + sum(data.left_out.values()) == 5 + 10 - 1
    assert data.rule.duplicates == "left out"


def test_a_test_split_of_training_images_is_refused(tmp_path):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:30])
    in_classes(folder / "test", PIXELS[24:34])
    with pytest.raises(ValueError, match=r"6 of the 10 images of split test of .* are the same images as in train, so"):
        load_data(Source(str(folder)))


def test_the_rule_that_an_evaluation_kept_finds_its_images(tmp_path):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:30])
    in_classes(folder / "test", PIXELS[26:36])
    assert len(load_data(Source(str(folder)), rule=Rule()).test) == 10
    rule = load_data(Source(str(folder))).rule
    assert len(load_data(Source(str(folder)), rule=rule).test) == 6


def test_one_image_under_two_classes_is_told(tmp_path):
    folder = tmp_path / "set"
    in_classes(folder / "train", PIXELS[:38])
    put(folder / "train" / "b", PIXELS[0], first=30)
    (note,) = (note for note in load_data(Source(str(folder))).notes if "class" in note)
    files = f"{folder}/train/a/00.png as a and {folder}/train/b/30.png as b"
    assert note == f"2 images stand under more than one class, for example {files}"


def test_many_copies_within_a_split_are_told(tmp_path):
    folder = tmp_path / "set"
    in_classes(folder / "train", [*PIXELS[:20], *PIXELS[:6]])
    in_classes(folder / "validation", PIXELS[20:28])
    in_classes(folder / "test", PIXELS[28:36])
    assert load_data(Source(str(folder))).notes == ["6 of the 26 images of train are copies of others of it"]


def floats(folder: Path, *tops: float) -> Path:
    """Folders of grey images of floats from 0 to each of these."""
    for number, top in enumerate(tops):
        values = np.linspace(0, top, 30, dtype=np.float32).reshape(5, 6)
        put(folder / "ab"[number % 2], PILImage.fromarray(values), suffix="tiff", first=number)
    return folder


def read_all(data) -> np.ndarray:
    """All images of a set by the brightness that they reach, in [0, 1], as they are trained on."""
    fit, cpu = Preprocessing((1, 5, 6)), torch.device("cpu")
    batches = [next(iter(evaluation_loader(rows, fit, batch_size=99, device=cpu)))[0] for rows in data.splits.values()]
    return np.sort(torch.cat(batches).amax((1, 2, 3)).numpy())


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_floats_are_read_on_the_scale_of_the_whole_set(tmp_path, white):
    # The darkest of them would be on the other scale, by itself.
    tops = np.linspace(0.2 / 255, 1, 20) * white
    data = load_data(Source(str(floats(tmp_path / "set", *tops))))
    # Rounding to one of 255 levels.
    np.testing.assert_allclose(read_all(data), tops / white, atol=0.51 / 255)
    assert f"of which {white:g} is white" in data.describe_sizes((1, 5, 6))


@pytest.mark.parametrize(
    ("tops", "message"),
    [((3.0, 300.0), r"floats in \[0, 1\] or \[0, 255\], got 0 to 300"), ((-1.0, 0.5), "got -1 to 0.5")],
)
def test_floats_beyond_both_scales_are_refused_with_their_range(tmp_path, tops, message):
    with pytest.raises(ValueError, match=message):
        load_data(Source(str(floats(tmp_path / "set", *(tops * 4)))))


def test_splits_of_floats_on_two_scales_are_refused(tmp_path):
    floats(tmp_path / "set" / "train", *np.linspace(100, 255, 20))
    floats(tmp_path / "set" / "test", *np.linspace(0.1, 1, 8))
    with pytest.raises(ValueError, match=r"one scale, got \[0, 255\] in split train and \[0, 1\] in split test"):
        load_data(Source(str(tmp_path / "set")))


@pytest.mark.parametrize(("top", "is_told"), [(4095, True), (60000, False)])
def test_integers_that_would_look_black_are_told(tmp_path, top, is_told):
    rng = np.random.default_rng(0)
    in_classes(tmp_path / "set", [rng.integers(top + 1, size=(5, 6), dtype=np.uint16) for _ in range(20)])
    notes = load_data(Source(str(tmp_path / "set"))).notes
    assert any("the images look black" in note for note in notes) == is_told

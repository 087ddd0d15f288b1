"""Decoded images are kept for the next run, whole or not at all; whatever becomes of them, batches are the same."""

import os
import shutil
import signal
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value, config
from filelock import FileLock
from PIL import Image as PILImage

from robust_hub.__main__ import main
from robust_hub.data import decoding, evaluation_loader, kept_images, loaders, training_loader
from robust_hub.data.decoded import read, write
from robust_hub.data.decoding import AsShown, Photo, decode
from robust_hub.models import Preprocessing

FIT = Preprocessing((3, 12, 12), 0.8, "center", "bicubic")
ANY = ["none", "crop-flip", "resized-crop-flip"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own that keeps whatever is decoded."""
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoding, "LEAST_KEPT", 0)
    return tmp_path / "cache" / "robust_hub"


def photo(number: int) -> PILImage.Image:
    """One of several sizes, some with a longer short side than twice the 12 px that are shown."""
    size = (11 + 6 * number, 50 - 3 * number, 3)
    return PILImage.fromarray(np.random.default_rng(number).integers(256, size=size, dtype=np.uint8))


def rows_of(cells: list) -> Dataset:
    columns = {"image": cells, "label": list(range(len(cells))), "where": [f"row {row}" for row in range(len(cells))]}
    features = Features({"image": Image(decode=False), "label": Value("int64"), "where": Value("string")})
    return Dataset.from_dict(columns, features=features)


@pytest.fixture
def rows(tmp_path) -> Dataset:
    """Eight photos in files."""
    for number in range(8):
        photo(number).save(tmp_path / f"{number}.png")
    return rows_of([str(tmp_path / f"{number}.png") for number in range(8)])


def batches(rows: Dataset, augmentation: str = "resized-crop-flip") -> list[torch.Tensor]:
    """What is shown in two epochs, and in testing."""
    loader = training_loader(rows, FIT, batch_size=3, augmentation=augmentation, seed=0, device=torch.device("cpu"))
    shown = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        shown += [each for batch in loader for each in batch]
    tested = evaluation_loader(rows, FIT, batch_size=5, device=torch.device("cpu"))
    return shown + [each for batch in tested for each in batch]


def same(shown: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, shown, others)) and len(shown) == len(others)


@pytest.fixture
def never_decoded(monkeypatch):
    """Makes it an error to decode an image; call it to begin."""

    def refuse(row):
        raise AssertionError(f"{row['where']} is decoded again")

    def begin():
        monkeypatch.setattr(decoding, "read_row", refuse)
        monkeypatch.setattr(decoding, "read_fitted", lambda row, _: refuse(row))
        monkeypatch.setattr(decoding, "_size_of", lambda *_: 1)

    return begin


@pytest.mark.parametrize("most", [0, 2**20], ids=["too large for memory", "in memory"])
@pytest.mark.parametrize("augmentation", ANY)
def test_what_is_kept_is_shown_as_what_is_decoded(rows, monkeypatch, never_decoded, augmentation, most):
    monkeypatch.setattr(loaders, "IN_MEMORY_BYTES", most)
    with monkeypatch.context() as nothing_kept:
        nothing_kept.setattr(decoding, "LEAST_KEPT", 2**40)
        fresh = batches(rows, augmentation)
        assert kept_images() == []
    assert same(batches(rows, augmentation), fresh)
    assert len(kept_images()) == (2 if augmentation.startswith("resized") else 1)
    never_decoded()
    assert same(batches(rows, augmentation), fresh)


def test_images_inside_a_table_are_kept_as_well(rows, never_decoded):
    inside = rows_of([{"bytes": Path(cell["path"]).read_bytes(), "path": None} for cell in rows["image"]])
    shown = batches(inside.select([5, 1, 3, 2]))
    assert same(shown, batches(rows.select([5, 1, 3, 2]).remove_columns("label").add_column("label", [5, 1, 3, 2])))
    never_decoded()
    assert same(batches(inside.select([5, 1, 3, 2])), shown)
    with pytest.raises(AssertionError, match="row 4 is decoded again"):
        batches(inside.select([4, 1, 3, 2]))


def test_a_photo_that_is_replaced_is_decoded_anew(rows, tmp_path):
    before = batches(rows)
    photo(9).save(tmp_path / "3.png")
    after = batches(rows)
    assert not same(before, after)
    shutil.rmtree(tmp_path / "cache")
    assert same(batches(rows), after)


@pytest.mark.parametrize("fit", [FIT, Preprocessing((3, 12, 12), 0.8), Preprocessing((1, 12, 12))], ids=str)
def test_what_another_model_wants_is_kept_beside_it(rows, fit):
    decode(rows, AsShown(Preprocessing((3, 12, 12), 1.0, "center", "bicubic")), most_in_memory=0)
    decoded = decode(rows, AsShown(fit), most_in_memory=0)
    assert len(kept_images()) == 2
    for number in range(8):
        np.testing.assert_array_equal(decoded[number], AsShown(fit)(rows[number]))


def test_of_a_photo_twice_the_side_that_a_network_takes_is_kept_and_never_more_than_it_has(rows):
    photos = decode(rows, Photo(3, 24, "bicubic"), most_in_memory=0)
    for number in range(8):
        whole = photo(number)
        if min(whole.size) <= 24:
            np.testing.assert_array_equal(photos[number], np.asarray(whole))
        else:
            assert min(photos[number].shape[:2]) == 24
            assert max(photos[number].shape[:2]) == round(24 * max(whole.size) / min(whole.size))
    assert sum(min(photo(number).size) > 24 for number in range(8)) >= 3


def spoil_a_pixel(folder: Path) -> None:
    with (folder / "pixels").open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        pixel = file.read(1)
        file.seek(-9, os.SEEK_END)
        file.write(bytes([pixel[0] ^ 1]))


def truncate(name: str):
    def spoil(folder: Path) -> None:
        os.truncate(folder / name, (folder / name).stat().st_size // 2)

    return spoil


def other_index(folder: Path) -> None:
    np.savez(folder / "index.npz", index=np.zeros(0))


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_a_pixel,
        truncate("pixels"),
        truncate("index.npz"),
        other_index,
        lambda folder: (folder / "pixels").unlink(),
        lambda folder: (folder / "index.npz").unlink(),
    ],
    ids=["a bit", "half of the pixels", "half of the index", "another index", "no pixels", "no index"],
)
def test_what_is_damaged_is_noticed_and_made_anew(rows, never_decoded, spoil):
    fresh = batches(rows, "crop")
    (kept,) = kept_images()
    spoil(kept.place)
    assert read(kept.place) is None
    assert same(batches(rows, "crop"), fresh)
    never_decoded()
    assert same(batches(rows, "crop"), fresh)


def test_two_runs_at_once_end_with_one_whole_cache(rows, monkeypatch):
    written = []

    def count(place, *given):
        written.append(place)
        write(place, *given)

    monkeypatch.setattr(decoding, "write", count)
    with ThreadPoolExecutor(2) as runs:
        first, second = runs.map(batches, [rows, rows])
    assert same(first, second)
    assert len(written) == len(set(written)) == len(kept_images()) == 2
    assert all(read(kept.place) for kept in kept_images())


def test_a_killed_writer_leaves_nothing_that_is_read_and_the_next_one_clears_up(rows, monkeypatch, cache):
    fresh = batches(rows, "crop")
    (kept,) = kept_images()
    shutil.rmtree(kept.place)

    def images():
        yield np.zeros((3, 12, 12), np.uint8), 0
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        write(kept.place, "of a run that is killed", images(), 8)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (unfinished,) = kept_images()
    assert unfinished.told == "what a run has begun, and not finished"
    assert read(kept.place) is None
    assert same(batches(rows, "crop"), fresh)
    assert [each.place for each in kept_images()] == [kept.place]


def test_an_image_that_is_torn_leaves_nothing(rows, tmp_path):
    (tmp_path / "6.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"the image at row 6 .* can't be decoded"):
        batches(rows, "crop")
    assert kept_images() == []


def test_what_is_kept_is_told_before_it_is_written_and_never_fills_the_disk(rows, monkeypatch, capsys):
    fresh = batches(rows, "crop")
    (kept,) = kept_images()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"the 8 images from row 0 on are decoded once and kept in {kept.place}, about 0.0 GB" in told
    shutil.rmtree(kept.place)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(4 * 8 * 432 - 1))
    assert same(batches(rows, "crop"), fresh)
    assert "more than a quarter of the" in capsys.readouterr().err
    assert kept_images() == []


def test_photos_that_turn_out_larger_than_they_seemed_are_not_kept(rows, monkeypatch, capsys):
    fresh = batches(rows)
    for kept in kept_images():
        shutil.rmtree(kept.place)
    monkeypatch.setattr(decoding, "_size_of", lambda *_: 1)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(4000))
    assert same(batches(rows), fresh)
    assert "they take more than a quarter of the free disk" in capsys.readouterr().err
    assert kept_images() == []


def test_a_cache_that_can_not_be_written_is_no_reason_to_end(rows, cache, capsys):
    fresh = batches(rows, "crop")
    shutil.rmtree(cache.parent)
    cache.parent.write_text("where the folder should be")
    assert same(batches(rows, "crop"), fresh)
    assert "can't be kept decoded" in capsys.readouterr().err


def command(monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", ["robust_hub", "forget"])
    main()
    return capsys.readouterr().out


def test_one_command_tells_and_removes_what_is_kept(rows, monkeypatch, capsys):
    assert command(monkeypatch, capsys) == "no decoded images are kept\n"
    batches(rows)
    places = [kept.place for kept in kept_images()]
    told = command(monkeypatch, capsys).splitlines()
    assert len(told) == 3
    for line, place in zip(told, places, strict=False):
        assert line.startswith("removed: the 8 images from row 0 on, 0.00 GB in ")
        assert line.endswith(str(place))
    assert told[-1] == "0.00 GB are free again"
    assert kept_images() == []


def test_what_a_run_is_writing_is_left_to_it(rows, monkeypatch, capsys):
    batches(rows, "crop")
    (kept,) = kept_images()
    with FileLock(f"{kept.place}.lock"):
        assert command(monkeypatch, capsys).startswith("left, as a run is writing it: ")
    assert [each.place for each in kept_images()] == [kept.place]

"""Batches that threads make hold what a plan says, whoever else works beside them."""

import random
import threading

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from robust_hub.data import Shard, evaluation_loader, loaders, mix, training_loader
from robust_hub.data.in_threads import in_order
from robust_hub.data.streaming import Ordered, Shuffled, Streamed
from robust_hub.models import Preprocessing

CPU = torch.device("cpu")
SIZE = (3, 8, 8)
FIT = Preprocessing(SIZE)
PIXELS = np.random.default_rng(0).integers(256, size=(9, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def rows() -> Dataset:
    """Nine images; each image's label is its number."""
    features = Features({"image": Image(), "label": Value("int64")})
    images = [PILImage.fromarray(one) for one in PIXELS]
    dataset = Dataset.from_dict({"image": images, "label": list(range(9))}, features=features)
    return dataset.cast_column("image", Image(decode=False)).add_column("where", [f"row {row}" for row in range(9)])


@pytest.fixture
def streamed(monkeypatch):
    """Makes every set too large for memory."""
    monkeypatch.setattr(loaders, "IN_MEMORY_BYTES", 0)


def load(rows, augmentation: str, shard: Shard, epoch: int = 1) -> list:
    loader = training_loader(rows, FIT, batch_size=4, augmentation=augmentation, seed=0, device=CPU, shard=shard)
    assert isinstance(loader, Streamed)
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def joined(batches: list) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("augmentation", ["crop-flip", "resized-crop-flip"])
def test_what_is_streamed_does_not_depend_on_processes_or_accumulated_steps(rows, augmentation):
    images, labels = joined(load(rows, augmentation, Shard()))
    shards = [load(rows, augmentation, Shard(rank, world=2, accumulate=2)) for rank in range(2)]
    parts = [shard[step] for step in range(4) for shard in shards]
    assert all(len(part) == 1 for _, part in parts)
    assert torch.equal(joined(parts)[0], images)
    assert torch.equal(joined(parts)[1], labels)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("augmentation", ["crop-flip", "resized-crop-flip"])
def test_a_streamed_epoch_repeats_exactly_and_leaves_torchs_generator_as_it_was(rows, augmentation):
    random.seed(1)
    torch.manual_seed(1)
    images, labels = joined(load(rows, augmentation, Shard()))
    random.seed(2)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again, labels_again = joined(load(rows, augmentation, Shard()))
    assert torch.equal(again, images)
    assert torch.equal(labels_again, labels)
    # That of Python is drawn from by beartype.
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("augmentation", ["crop-flip", "resized-crop-flip"])
def test_one_streamed_loader_changes_with_the_epoch_and_comes_back(rows, augmentation):
    loader = training_loader(rows, FIT, batch_size=4, augmentation=augmentation, seed=0, device=CPU)
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        epochs.append(joined(list(loader)))
    assert not torch.equal(epochs[0][1], epochs[1][1])
    assert torch.equal(epochs[0][0], epochs[2][0])
    assert torch.equal(epochs[0][1], epochs[2][1])


@pytest.mark.usefixtures("streamed")
def test_streamed_images_without_augmentation_are_the_images(rows):
    batches = load(rows, "none", Shard())
    assert [len(labels) for _, labels in batches] == [4, 4]
    images, labels = joined(batches)
    assert len(set(labels.tolist())) == 8
    expected = torch.from_numpy(PIXELS[labels].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert torch.equal(images, expected)


@pytest.mark.usefixtures("streamed")
def test_streamed_evaluation_yields_every_image_once_in_order(rows):
    loader = evaluation_loader(rows, FIT, batch_size=2, device=CPU, shard=Shard(1, 2))
    assert isinstance(loader, Streamed)
    images, labels = joined(list(loader))
    assert len(loader) == 2
    assert labels.tolist() == [2, 3, 6, 7]
    expected = torch.from_numpy(PIXELS[[2, 3, 6, 7]].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    assert torch.equal(images, expected)


@pytest.mark.usefixtures("streamed")
def test_a_streamed_corrupt_image_is_named_by_its_row(rows):
    cells = [
        {"bytes": b"no image" if index == 3 else cell["bytes"], "path": None}
        for index, cell in enumerate(rows["image"])
    ]
    torn = Dataset.from_dict(
        {"image": cells, "label": rows["label"][:], "where": rows["where"][:]}, features=rows.features
    )
    with pytest.raises(ValueError, match=r"^the image at row 3 can't be decoded"):
        list(evaluation_loader(torn, FIT, batch_size=2, device=CPU))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["crop-flip", "resized-crop-flip"])
def test_augmentation_keeps_the_shape_and_the_unit_interval(rows, channels, augmentation):
    fit = Preprocessing((channels, 12, 12))
    ((images, _),) = training_loader(rows, fit, batch_size=9, augmentation=augmentation, seed=0, device=CPU)
    assert (images.shape, images.dtype) == ((9, channels, 12, 12), torch.float32)
    assert images.min() >= 0
    assert 0.5 < images.max() <= 1


def test_a_loader_that_is_left_early_leaves_no_thread_behind(rows):
    before = threading.active_count()
    loader = training_loader(rows, FIT, batch_size=1, augmentation="resized-crop", seed=0, device=CPU)
    for _ in loader:
        break
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_what_threads_make_comes_in_order_and_little_is_made_ahead(threads):
    asked = []

    def jobs():
        for number in range(20):
            asked.append(number)
            yield number

    for place, made in enumerate(in_order(lambda number: number**2, jobs(), threads)):
        assert made == place**2
        assert len(asked) <= place + threads + 1
    assert len(asked) == 20


def test_slices_of_all_processes_cover_every_position_once():
    # Two batches of 8, in 2 accumulated steps of 2 processes: 2 positions at a time.
    positions = {rank: list(Shard(rank, 2, 2).slices(2, 8)) for rank in range(2)}
    assert positions[0] == [slice(0, 2), slice(4, 6), slice(8, 10), slice(12, 14)]
    assert positions[1] == [slice(2, 4), slice(6, 8), slice(10, 12), slice(14, 16)]


def test_shuffled_gives_every_row_its_seed_wherever_it_stands():
    whole = Shuffled(9, 4, seed=0, shard=Shard())
    parts = [Shuffled(9, 4, seed=0, shard=Shard(rank, 2)) for rank in range(2)]
    together = [a + b for a, b in zip(*parts, strict=True)]
    assert together == list(whole)
    assert [len(one) for one in (whole, *parts)] == [2, 2, 2]


@pytest.mark.parametrize("n", [1, 4, 9])
def test_ordered_covers_every_row_once_in_order(n):
    batches = list(Ordered(n, 4, Shard()))
    assert [index for batch in batches for index in batch] == list(range(n))
    assert len(batches) == len(Ordered(n, 4, Shard()))


def test_mix_tells_seeds_and_epochs_apart():
    assert len({mix(seed, epoch) for seed in range(20) for epoch in range(20)}) == 400

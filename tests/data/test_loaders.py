from io import BytesIO

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from timm.data import create_transform

from robust_hub.data import AnswersInFile, Shard, evaluation_loader, training_loader
from robust_hub.data.augmentation import all_crops, crop_and_flip
from robust_hub.models import Preprocessing

CPU = torch.device("cpu")
SIZE = (3, 8, 8)
FIT = Preprocessing(SIZE)
PIXELS = np.random.default_rng(0).integers(1, 256, size=(11, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def rows() -> Dataset:
    """Eleven images without a black pixel; each image's label is its number."""
    features = Features({"image": Image(), "label": Value("int64")})
    images = [PILImage.fromarray(one) for one in PIXELS]
    dataset = Dataset.from_dict({"image": images, "label": list(range(11))}, features=features)
    return dataset.cast_column("image", Image(decode=False)).add_column("where", [f"row {row}" for row in range(11)])


def load(rows, *, batch_size=4, augmentation="crop-flip", seed=0, shard=Shard(), epoch=0) -> list:  # noqa: B008
    loader = training_loader(
        rows, FIT, batch_size=batch_size, augmentation=augmentation, seed=seed, device=CPU, shard=shard
    )
    loader.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def same(batches: list, others: list) -> bool:
    pairs = zip(batches, others, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


def joined(batches: list) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def raw(index: int) -> np.ndarray:
    return PIXELS[index].transpose(2, 0, 1)


def levels(image: torch.Tensor) -> np.ndarray:
    """Pixels back in 0 to 255; float32 holds k / 255 to 6e-8, so rounding is exact."""
    return (image * 255).round().numpy().astype(np.uint8)


def naive_crop(image: np.ndarray, top: int, left: int, flip: bool) -> np.ndarray:
    """Pads by an eighth with zeros, cuts at (top, left) and mirrors, pixel by pixel."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                source_row = row + top - height // 8
                source_column = (width - 1 - column if flip else column) + left - width // 8
                if 0 <= source_row < height and 0 <= source_column < width:
                    out[channel, row, column] = image[channel, source_row, source_column]
    return out


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8), (9, 17), (4, 4)])
def test_crop_and_flip_agrees_with_a_naive_loop(height, width):
    images = torch.randint(256, (8, 2, height, width), dtype=torch.uint8)
    top = torch.randint(height // 8 * 2 + 1, (8,))
    left = torch.randint(width // 8 * 2 + 1, (8,))
    flip = torch.arange(8) % 2 == 0
    expected = [
        naive_crop(images[index].numpy(), int(top[index]), int(left[index]), bool(flip[index])) for index in range(8)
    ]
    chosen = torch.arange(8)
    np.testing.assert_array_equal(crop_and_flip(all_crops(images), chosen, top, left, flip).numpy(), np.stack(expected))


def test_crop_and_flip_from_the_middle_without_a_flip_changes_nothing():
    images = torch.randint(256, (3, 3, 16, 8), dtype=torch.uint8)
    chosen, flip = torch.tensor([2, 0, 1]), torch.zeros(3, dtype=torch.bool)
    same_place = crop_and_flip(all_crops(images), chosen, torch.full((3,), 2), torch.full((3,), 1), flip)
    assert torch.equal(same_place, images[chosen])


def test_training_images_are_floats_in_the_unit_interval_with_their_labels(rows):
    for images, labels in load(rows, augmentation="none"):
        assert (images.dtype, images.shape, labels.dtype) == (torch.float32, (4, *SIZE), torch.int64)
        for image, label in zip(images, labels, strict=True):
            np.testing.assert_array_equal(levels(image), raw(int(label)))
            assert torch.equal(image, torch.from_numpy(raw(int(label)).astype(np.float32) / np.float32(255)))


@pytest.mark.parametrize(("augmentation", "flips"), [("crop-flip", (False, True)), ("crop", (False,))])
def test_an_augmented_image_is_one_of_the_crops_of_its_own(rows, augmentation, flips):
    for images, labels in load(rows, augmentation=augmentation):
        for image, label in zip(images, labels, strict=True):
            crops = [
                naive_crop(raw(int(label)), top, left, flip) for top in range(3) for left in range(3) for flip in flips
            ]
            assert any(np.array_equal(levels(image), crop) for crop in crops)


def test_all_crops_and_flips_occur_about_equally_often(rows):
    counts = np.zeros((3, 3, 2))
    for epoch in range(60):
        for images, labels in load(rows.select(range(8)), batch_size=8, epoch=epoch):
            for image, label in zip(images, labels, strict=True):
                # A pixel-exact look-up: the bytes of the crop say where it was cut.
                counts[CROPS[levels(image).tobytes()][1:]] += 1
                assert CROPS[levels(image).tobytes()][0] == label
    # 480 draws over 18 kinds: 26.7 each, with a deviation of 5.0; four of them.
    assert abs(counts - 480 / 18).max() < 20


CROPS = {
    naive_crop(raw(index), top, left, bool(flip)).tobytes(): (index, top, left, flip)
    for index in range(8)
    for top in range(3)
    for left in range(3)
    for flip in range(2)
}


def test_training_drops_the_last_incomplete_batch(rows):
    batches = load(rows, batch_size=4)
    assert [len(labels) for _, labels in batches] == [4, 4]
    assert len(set(joined(batches)[1].tolist())) == 8


def test_an_epoch_holds_every_image_once(rows):
    _, labels = joined(load(rows, batch_size=11))
    assert sorted(labels.tolist()) == list(range(11))


def test_the_same_seed_and_epoch_repeat_exactly(rows):
    assert same(load(rows, seed=3, epoch=5), load(rows, seed=3, epoch=5))


@pytest.mark.parametrize("other", [{"epoch": 6}, {"seed": 4}], ids=str)
def test_another_epoch_or_seed_has_another_order_and_augmentation(rows, other):
    images, labels = joined(load(rows, batch_size=11, **{"seed": 3, "epoch": 5}))
    other_images, other_labels = joined(load(rows, batch_size=11, **{"seed": 3, "epoch": 5, **other}))
    assert not torch.equal(labels, other_labels)
    assert not torch.equal(images[labels.argsort()], other_images[other_labels.argsort()])


def test_one_loader_reads_epochs_in_any_order(rows):
    loader = training_loader(rows, FIT, batch_size=4, augmentation="crop-flip", seed=0, device=CPU)
    epochs = {}
    for epoch in (2, 0, 2):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert same(batches, epochs.setdefault(epoch, batches))


def test_the_global_seed_plays_no_part(rows):
    torch.manual_seed(1)
    first = load(rows)
    torch.manual_seed(2)
    assert same(load(rows), first)
    assert torch.initial_seed() == 2


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_processes_and_accumulated_steps_together_take_the_batches_of_one_process(rows, world, accumulate):
    whole = load(rows, batch_size=4, epoch=1)
    shards = [load(rows, batch_size=4, epoch=1, shard=Shard(rank, world, accumulate)) for rank in range(world)]
    # Step by step, and within a step process by process.
    parts = [shard[step] for step in range(2 * accumulate) for shard in shards]
    each = world * accumulate
    together = [joined(parts[start : start + each]) for start in range(0, len(parts), each)]
    assert all(len(labels) == 4 // each for _, labels in parts)
    assert same(together, whole)


@pytest.mark.parametrize(
    ("batch_size", "shard", "message"),
    [
        (12, Shard(), "the batch size must be at most the 11 training images, got 12; lower it"),
        (9, Shard(0, 2, 1), r"multiple of 2 \(2 processes, 1 accumulated steps\), got 9"),
        (6, Shard(0, 2, 2), r"multiple of 4 \(2 processes, 2 accumulated steps\), got 6"),
    ],
)
def test_a_batch_size_that_does_not_fit_is_refused(rows, batch_size, shard, message):
    with pytest.raises(ValueError, match=message):
        load(rows, batch_size=batch_size, shard=shard)


@pytest.mark.parametrize("batch_size", [4, 11, 20])
def test_evaluation_yields_every_image_once_in_order_as_it_is(rows, batch_size):
    loader = evaluation_loader(rows, FIT, batch_size=batch_size, device=CPU)
    batches = list(loader)
    images, labels = joined(batches)
    assert len(batches) == len(loader) == -(-11 // batch_size)
    assert labels.tolist() == list(range(11))
    np.testing.assert_array_equal(levels(images), PIXELS.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_evaluate_every_image_once(rows, world):
    seen = {}
    for rank in range(world):
        images, labels = joined(list(evaluation_loader(rows, FIT, batch_size=2, device=CPU, shard=Shard(rank, world))))
        assert labels.tolist() == [row for row in range(11) if row // 2 % world == rank]
        for image, label in zip(images, labels.tolist(), strict=True):
            assert label not in seen
            seen[label] = levels(image)
    np.testing.assert_array_equal(np.stack([seen[label] for label in range(11)]), PIXELS.transpose(0, 3, 1, 2))


def test_a_process_without_images_evaluates_no_batch(rows):
    loader = evaluation_loader(rows.select(range(1)), FIT, batch_size=2, device=CPU, shard=Shard(1, 2))
    assert len(list(loader)) == len(loader) == 0


def test_a_corrupt_image_of_another_process_is_named_by_its_row_of_the_split(rows):
    cells = [
        {"bytes": b"no image" if index == 9 else cell["bytes"], "path": None}
        for index, cell in enumerate(rows["image"])
    ]
    torn = Dataset.from_dict(
        {"image": cells, "label": rows["label"][:], "where": rows["where"][:]}, features=rows.features
    )
    with pytest.raises(ValueError, match="the image at row 9 can't be decoded"):
        evaluation_loader(torn, FIT, batch_size=2, device=CPU, shard=Shard(1, 2))


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 4, 4), (1, 16, 12)])
def test_images_have_the_channels_and_size_asked_for(rows, size):
    images, _ = next(iter(evaluation_loader(rows, Preprocessing(size), batch_size=2, device=CPU)))
    assert images.shape == (2, *size)
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.fixture
def numbered(rows):
    """The rows as they are left when others were held out: their numbers are not their places."""
    return rows.add_column("row", [3 * row + 1 for row in range(11)])


def in_file(stored: np.ndarray, rows: Dataset) -> AnswersInFile:
    return AnswersInFile(stored, np.asarray(rows["row"][:]))


@pytest.mark.parametrize("augmentation", ["crop-flip", "crop", "none"])
def test_stored_maps_go_the_way_of_the_image_of_their_row(numbered, augmentation):
    # The maps of a row are its image and the negative of it, so they must come out as the image does.
    stored = np.zeros((40, 2, *SIZE), np.float32)
    for index in range(11):
        stored[3 * index + 1] = np.stack([raw(index), -raw(index).astype(np.float32)]) / np.float32(255)
    loader = training_loader(
        numbered, FIT, batch_size=4, augmentation=augmentation, seed=0, device=CPU, answers=[in_file(stored, numbered)]
    )
    for images, _, maps in loader:
        # 255 divides on either side of a float32 rounding.
        torch.testing.assert_close(maps, torch.stack([images, -images], 1), rtol=1e-6, atol=1e-6)


def test_answers_come_third_however_the_image_is_cropped(numbered):
    answers = torch.zeros(len(numbered), 2)
    loader = training_loader(
        numbered, FIT, batch_size=4, augmentation="crop-flip", seed=0, device=CPU, answers=[answers]
    )
    # Whoever makes them may do so after the loader is made.
    answers += torch.tensor(numbered["label"])[:, None]
    for _, labels, answered in loader:
        assert answered.tolist() == [[label, label] for label in labels.tolist()]


def test_stored_maps_need_a_set_that_fits_into_memory(numbered, monkeypatch):
    monkeypatch.setattr("robust_hub.data.loaders.IN_MEMORY_BYTES", 0)
    stored = np.zeros((40, 2, *SIZE), np.float32)
    with pytest.raises(
        ValueError, match="answers about each image need a set that fits into memory, got 11 images; drop"
    ):
        training_loader(
            numbered, FIT, batch_size=4, augmentation="none", seed=0, device=CPU, answers=[in_file(stored, numbered)]
        )


def test_answers_about_a_whole_image_are_none_for_a_resized_crop(numbered):
    with pytest.raises(ValueError, match=r"--target once, --stored\) can't follow a resized crop, .*; say crop-flip"):
        training_loader(
            numbered, FIT, batch_size=4, augmentation="resized-crop", seed=0, device=CPU, answers=[torch.zeros(11, 2)]
        )


def test_stored_maps_can_not_follow_a_resized_crop(numbered):
    stored = np.zeros((40, 2, *SIZE), np.float32)
    with pytest.raises(ValueError, match="can't follow a resized crop, got --augmentation resized-crop; say crop-flip"):
        training_loader(
            numbered,
            FIT,
            batch_size=4,
            augmentation="resized-crop",
            seed=0,
            device=CPU,
            answers=[in_file(stored, numbered)],
        )


def photos() -> Dataset:
    """Eleven photos of several sizes, as files hold them; each one's label is its number."""
    rng = np.random.default_rng(1)
    sizes = [(9 + 5 * row, 40 - 2 * row) for row in range(11)]
    images = [PILImage.fromarray(rng.integers(256, size=(*size, 3), dtype=np.uint8)) for size in sizes]
    features = Features({"image": Image(), "label": Value("int64")})
    dataset = Dataset.from_dict({"image": images, "label": list(range(11))}, features=features)
    return dataset.cast_column("image", Image(decode=False)).add_column("where", [f"row {row}" for row in range(11)])


def by_timm(rows: Dataset) -> np.ndarray:
    """What timm's validation shows of each photo, for 16 px, a crop of 0.8 and bicubic interpolation."""
    transform = create_transform((3, 16, 16), interpolation="bicubic", crop_pct=0.8, normalize=False)
    return np.stack([transform(PILImage.open(BytesIO(cell["bytes"]))).numpy() for cell in rows["image"]])


CROPPED = Preprocessing((3, 16, 16), 0.8, "center", "bicubic")


@pytest.mark.parametrize("bytes_in_memory", [0, 2**20], ids=["streamed", "in memory"])
def test_evaluation_shows_what_timms_validation_shows(monkeypatch, bytes_in_memory):
    monkeypatch.setattr("robust_hub.data.loaders.IN_MEMORY_BYTES", bytes_in_memory)
    images, labels = joined(list(evaluation_loader(photos(), CROPPED, batch_size=11, device=CPU)))
    assert labels.tolist() == list(range(11))
    np.testing.assert_array_equal(levels(images), by_timm(photos()))


def test_training_augments_what_evaluation_shows():
    loader = training_loader(photos(), CROPPED, batch_size=11, augmentation="none", seed=0, device=CPU)
    ((images, labels),) = loader
    np.testing.assert_array_equal(levels(images), by_timm(photos())[labels])


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip", "resized-crop", "resized-crop-flip"])
def test_training_shows_the_same_whether_the_photos_fit_into_memory_or_not(monkeypatch, augmentation):
    shown = {}
    for most in (0, 2**20):
        monkeypatch.setattr("robust_hub.data.loaders.IN_MEMORY_BYTES", most)
        loader = training_loader(photos(), CROPPED, batch_size=4, augmentation=augmentation, seed=0, device=CPU)
        loader.set_epoch(3)
        shown[most] = list(loader)
    assert same(*shown.values())
    assert len(shown[0]) == 2

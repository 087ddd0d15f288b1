"""What is told of a data set is true, as counted by numpy and PIL; a healthy set brings no note."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from accelerate import Accelerator
from datasets import config
from PIL import Image as PILImage

from robust_hub.data import DataFacts, Source, load_data
from robust_hub.data.facts import are_imbalanced
from robust_hub.files import as_record, read_json
from robust_hub.launch import Output, check_output, claim_output

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def put(folder, count: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RANDOM.integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
        PILImage.fromarray(pixels).convert(mode).save(folder / f"{mode}-{size[0]}-{number:02d}.png")


def in_splits(folder, **counts: tuple[int, ...]):
    for split, of_class in counts.items():
        for name, count in zip("abc", of_class, strict=False):
            put(folder / split / name, count)
    return load_data(Source(str(folder)))


def test_splits_and_classes_are_counted(tmp_path):
    facts = in_splits(tmp_path / "set", train=(12, 10), validation=(3, 4), test=(5, 6)).facts
    assert {split: (one.images, one.origin, one.classes) for split, one in facts.splits.items()} == {
        "train": (22, "split train", {"a": 12, "b": 10}),
        "validation": (7, "split validation", {"a": 3, "b": 4}),
        "test": (11, "split test", {"a": 5, "b": 6}),
    }


def test_held_out_images_are_told_with_their_origin(tmp_path):
    facts = in_splits(tmp_path / "set", train=(20, 20)).facts
    assert sum(one.images for one in facts.splits.values()) == 40
    assert facts.splits["test"].origin == "a fifth of each class of train, held out by seed"


def test_sizes_and_modes_are_those_of_pil(tmp_path):
    folder = tmp_path / "set" / "train"
    for name in "ab":
        put(folder / name, 8)
        put(folder / name, 5, (40, 30))
        put(folder / name, 4, (9, 50), mode="L")
        put(folder / name, 3, (7, 7), mode="P")
    images = [PILImage.open(file) for file in folder.rglob("*.png")]
    facts = load_data(Source(str(tmp_path / "set"))).facts
    assert facts.modes == Counter(image.mode for image in images)
    assert facts.sizes == len({image.size for image in images})
    assert facts.median_side == int(np.median([min(image.size) for image in images]))
    assert (facts.smallest, facts.largest) == ((5, 6), (30, 40))
    # Of one size for all: the median of their short sides; in colour, as some are.
    assert facts.image_shape == (3, 7, 7)


def test_all_is_told_in_a_few_lines(tmp_path):
    data = in_splits(tmp_path / "set", train=(12, 10), validation=(3, 4), test=(5, 6))
    assert data.description() == (
        "set: 22 train (split train), 7 validation (split validation), 11 test (split test)\n"
        "2 classes in train: a 12, b 10"
    )
    assert data.describe_sizes((3, 5, 6)) == (
        "images: 6x5 px, colour (40 RGB); the network takes 6x5 px, the size that all images have, and 3 channels, as "
        "images are in colour"
    )
    own = "32x32 px, its own size, and 1 channel, which are its own"
    assert data.facts.shown_to((1, 32, 32)).reason == own


def test_of_many_classes_first_last_and_extremes_are_told(tmp_path):
    for number in range(21):
        put(tmp_path / "set" / f"class-{number:02d}", {4: 9, 9: 6}.get(number, 8), (2, 2))
    # A fifth of each class is held out, and a tenth of what is left; at least one.
    told = "class-00 5, ..., class-20 5, fewest 4 (class-09), most 6 (class-04)"
    assert load_data(Source(str(tmp_path / "set"))).description().endswith(f"21 classes in train: {told}")


@pytest.mark.parametrize(("counts", "wanted"), [((15, 10), False), ((16, 10), True), ((10, 0, 10), False), ((), False)])
def test_classes_are_imbalanced_beyond_one_and_a_half(counts, wanted):
    assert are_imbalanced(counts) == wanted


def test_imbalance_is_told(tmp_path):
    data = in_splits(tmp_path / "set", train=(4, 12), validation=(3, 3), test=(3, 3))
    assert data.notes == [
        "classes of train differ in size, from 4 images of a to 12 of b: accuracy tells most of the large ones"
    ]
    assert data.facts.splits["train"].is_imbalanced
    assert not data.facts.splits["test"].is_imbalanced


def test_a_healthy_set_brings_no_note(tmp_path):
    assert in_splits(tmp_path / "set", train=(20, 20)).notes == []


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_built_in_set_brings_no_note(name):
    data = load_data(Source(name))
    assert data.notes == []
    assert data.rule.duplicates == "kept"
    assert not any(one.again or one.copies for one in data.facts.splits.values())


def test_facts_are_read_from_json_as_they_were_written(tmp_path):
    facts = in_splits(tmp_path / "set", train=(4, 12), test=(3, 3)).facts.shown_to((3, 5, 6))
    assert as_record(DataFacts, json.loads(json.dumps(asdict(facts))), "facts") == facts


def test_facts_stand_in_run_json_and_make_no_other_run(tmp_path):
    accelerator, output = Accelerator(cpu=True), Output(tmp_path / "run", resume=True)
    facts = in_splits(tmp_path / "set", train=(4, 12), test=(3, 3)).facts
    output.folder.mkdir()
    claim_output(accelerator, output, {"method": "PGD()"}, facts=asdict(facts))
    kept = read_json(output.folder / "run.json")
    assert as_record(DataFacts, kept["data_facts"], "facts") == facts
    check_output(output, {"method": "PGD()"})
    with pytest.raises(ValueError, match="holds another run: its method is"):
        check_output(output, {"method": "TRADES()"})

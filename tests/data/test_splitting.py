"""What is held out is drawn as the rule says, objects stay whole, and a set without train can be tested whole."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from robust_hub.data import Rule, Source, load_data, load_test_data
from robust_hub.data.objects import objects_of
from robust_hub.data.splitting import TODAY, in_three, to_test

BY_CLASS = Rule(held_out="by class")


def rows(labels: list[int]) -> Dataset:
    return Dataset.from_dict({"label": labels, "row": list(range(len(labels)))})


def divided(labels: list[int], rule: Rule = BY_CLASS, objects: list[int] | None = None, seed: int = 0):
    numbers = np.arange(len(labels)) if objects is None else np.array(objects)
    return in_three("set", {"train": rows(labels)}, numbers, seed=seed, rule=rule)


def numbers_of(division) -> dict[str, list[int]]:
    return {split: own["row"][:] for split, own in division.splits.items()}


@pytest.mark.parametrize("seed", [0, 7])
def test_at_random_draws_what_evaluations_of_before_drew(seed):
    """A fifth by numpy's permutation of the rows, then a tenth of what is left by the same seed's."""
    order = np.random.default_rng(seed).permutation(40)
    left = np.sort(order[8:])
    again = np.random.default_rng(seed).permutation(32)
    found = numbers_of(divided([0, 1] * 20, Rule(), seed=seed))
    assert found["test"] == sorted(order[:8].tolist())
    assert found["validation"] == np.sort(left[again[:3]]).tolist()
    assert found["train"] == np.sort(left[again[3:]]).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_by_class_holds_out_of_each_class_in_proportion(seed):
    labels = [0] * 40 + [1] * 20 + [2] * 5
    division = divided(labels, seed=seed)
    counts = {split: Counter(own["label"]) for split, own in division.splits.items()}
    # A fifth of 40, 20 and 5; then a tenth of 32, 16 and 4, at least one.
    assert counts["test"] == {0: 8, 1: 4, 2: 1}
    assert counts["validation"] == {0: 3, 1: 2, 2: 1}
    assert sorted(number for own in numbers_of(division).values() for number in own) == list(range(65))
    assert division.notes == []


def test_by_class_draws_at_random_within_a_class():
    drawn = {tuple(numbers_of(divided([0] * 10 + [1] * 10, seed=seed))["test"]) for seed in range(4)}
    assert len(drawn) == 4
    assert numbers_of(divided([0] * 10 + [1] * 10)) == numbers_of(divided([0] * 10 + [1] * 10))


def test_a_single_image_of_a_class_stays_in_train_and_is_told():
    division = divided([0] * 10 + [1] + [2] * 2)
    found = numbers_of(division)
    assert 10 in found["train"]
    assert {11, 12} == {*found["train"][-1:], *found["test"][-1:]}
    assert division.notes == [
        "no image of 1 class is held out for test, as train would have none of them",
        "no image of 2 classes is held out for validation, as train would have none of them",
    ]


def test_a_set_of_single_images_is_refused():
    with pytest.raises(ValueError, match="must have a class with two images or objects to hold one out, got 3 in 3"):
        divided([0, 1, 2])


@pytest.mark.parametrize("rule", [Rule(), BY_CLASS])
@pytest.mark.parametrize("seed", range(4))
def test_images_of_one_object_are_never_on_two_sides(rule, seed):
    labels = [0] * 12 + [1] * 12
    # Objects of one to four photos, the last of them of both classes.
    objects = [0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 9, 6, 6, 6, 7, 7, 7, 8, 8, 10, 11, 12, 9]
    found = numbers_of(divided(labels, rule, objects, seed))
    sides = [{objects[number] for number in own} for own in found.values()]
    assert all(not (first & second) for first in sides for second in sides if first is not second)
    assert sum(map(len, found.values())) == 24


def test_a_share_is_one_of_objects():
    # Ten objects of two photos in each class: two of them are a fifth, and one is a tenth of the eight that are left.
    objects = np.repeat(np.arange(20), 2).tolist()
    found = numbers_of(divided([0] * 20 + [1] * 20, objects=objects))
    assert [len(own) for own in found.values()] == [28, 4, 8]


def test_a_class_that_shares_its_only_object_keeps_it():
    # Object 0 is all there is of class 0, and one of four of class 1.
    for seed in range(6):
        found = numbers_of(divided([0, 1, 1, 1, 1], objects=[0, 0, 1, 2, 3], seed=seed))
        assert {0, 1} <= set(found["train"])


def test_one_object_alone_can_not_be_divided():
    with pytest.raises(ValueError, match="all images of split train of set show one object; name another --group-by"):
        divided([0, 1] * 4, objects=[0] * 8)


def photos(folder: Path, files: list[str]) -> Path:
    for red, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        PILImage.new("RGB", (4, 4), (red, 0, 0)).save(folder / file)
    return folder


VIEWS = [f"{name}/{name}{number}_{view}.png" for name in ("cat", "dog") for number in range(6) for view in "lr"]


def files_of(data) -> list[set[str]]:
    return [{Path(cell["path"]).name for cell in own["image"]} for own in data.splits.values()]


@pytest.mark.parametrize("pattern", [r"^(\w+?)_", r"^[a-z]+\d", r"^[^/]+/(\w+\d)_"])
def test_a_pattern_over_names_of_files_keeps_objects_whole(tmp_path, pattern):
    data = load_data(Source(str(photos(tmp_path, VIEWS)), group_by=pattern))
    sides = files_of(data)
    assert [len(side) for side in sides] == [16, 4, 4]
    assert all(f"{file[:4]}_{view}.png" in side for side in sides for file in side for view in "lr")
    assert data.notes == []


def test_files_that_a_pattern_does_not_match_are_objects_of_their_own_and_told(tmp_path):
    source = Source(str(photos(tmp_path, [*VIEWS, "dog/x.png"])), group_by=r"(\w+)_")
    assert load_data(source).notes == [
        r"1 image has a name that '(\w+)_' does not match, and each counts as an object of its own"
    ]


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("(", r"--group-by must be a column of .* \(image, label\) or a regular expression, got '\(' \(missing"),
        (
            "patient",
            r"must be a column of .* or match names of its files, but 'patient' matches none, for example cat0_l",
        ),
    ],
)
def test_what_is_no_column_and_matches_nothing_is_refused(tmp_path, group_by, message):
    with pytest.raises(ValueError, match=message):
        load_data(Source(str(photos(tmp_path, VIEWS)), group_by=group_by))


def test_a_column_numbers_objects_and_its_empty_cells_are_their_own():
    cells = {"image": ["a.png"] * 5, "patient": ["x", "y", None, "x", None]}
    table = Dataset.from_dict(cells).cast_column("image", Image())
    objects, notes = objects_of("set", table, "image", "patient")
    assert objects[0] == objects[3]
    assert len(set(objects.tolist())) == 4
    assert notes == ["2 images have no patient, and each counts as an object of its own"]


def test_images_without_names_of_files_can_not_be_grouped_by_them():
    with pytest.raises(ValueError, match=r"synthetic keeps no names of files that --group-by 'x' could match"):
        load_data(Source("synthetic", group_by="x"))


def test_group_by_without_anything_held_out_is_refused(tmp_path):
    files = [f"{split}/{file}" for split in ("train", "val", "test") for file in VIEWS[::4]]
    with pytest.raises(ValueError, match=r"no image of .* is held out, so --group-by has no effect; drop it"):
        load_data(Source(str(photos(tmp_path, files)), group_by=r"(\w+)_"))


@pytest.mark.parametrize(("folder", "origin"), [("test", "split test"), ("val", "split validation")])
def test_a_set_of_one_split_is_tested_whole_and_not_trained_on(tmp_path, folder, origin):
    source = Source(str(photos(tmp_path, [f"{folder}/{file}" for file in VIEWS])))
    data = load_test_data(source)
    assert [len(own) for own in data.splits.values()] == [0, 0, 24]
    assert data.origins == {"train": "none", "validation": "none", "test": origin}
    assert data.train.features == data.validation.features == data.test.features
    assert data.image_shape == (3, 4, 4)
    assert "0 train" not in data.description()
    assert "2 classes in test: cat 12, dog 12" in data.description()
    with pytest.raises(
        ValueError, match=r"must have a split named train, got .*; without one it can only be evaluated"
    ):
        load_data(source)


def test_what_a_model_was_not_trained_on_is_tested_by_default_and_told(tmp_path):
    source = Source(str(photos(tmp_path, VIEWS)))
    data = load_test_data(source)
    assert files_of(data) == files_of(load_data(source))
    assert data.notes == [
        "only the held-out images are tested, as a model may have learnt from the rest; --tested all tests all"
    ]


def test_all_images_are_tested_where_that_is_asked_for(tmp_path):
    data = load_test_data(Source(str(photos(tmp_path, VIEWS)), tested="all"))
    assert files_of(data) == [set(), set(), {Path(file).name for file in VIEWS}]
    assert data.notes == []


def test_training_on_what_is_tested_whole_is_refused():
    with pytest.raises(ValueError, match="--tested all leaves no image to train on; drop it, or evaluate"):
        load_data(Source("synthetic", tested="all"))


def test_splits_that_are_given_are_tested_without_a_note(tmp_path):
    files = [f"{split}/{file}" for split in ("train", "test") for file in VIEWS]
    data = load_test_data(Source(str(photos(tmp_path, files))))
    assert (len(data.test), data.notes) == (24, [])


def test_nothing_to_test_is_refused_with_what_is_there():
    splits = {"extra": rows([0, 1])}
    with pytest.raises(ValueError, match="must have a split named test, validation or train, got extra; --tested all"):
        to_test("set", splits, np.zeros(0, np.int64), seed=0, rule=TODAY, tested="test")


def test_built_in_sets_are_divided_as_ever_and_say_so():
    data = load_data(Source("synthetic"), rule=BY_CLASS)
    assert data.rule == Rule()
    order = np.random.default_rng(0).permutation(400)
    assert data.test["row"][:] == sorted(order[:80].tolist())


def test_the_rule_of_an_older_evaluation_draws_its_images(tmp_path):
    source = Source(str(photos(tmp_path, VIEWS)))
    order = np.random.default_rng(0).permutation(24)
    data = load_test_data(source, rule=Rule())
    assert data.rule == Rule()
    assert data.test["row"][:] == sorted(order[:5].tolist())


def test_a_test_split_without_the_labels_leaves_validation_to_be_tested(tmp_path):
    kinds = {"image": Image(), "label": ClassLabel(names=["a", "b"])}
    images = [PILImage.new("RGB", (2, 2), (red, 0, 0)) for red in range(8)]
    for split, n in (("train", 8), ("validation", 2)):
        cells = {"image": images[:n], "label": [0, 1] * (n // 2)}
        Dataset.from_dict(cells, features=Features(kinds)).to_parquet(str(tmp_path / f"{split}.parquet"))
    cells = {"image": images[:2], "name": ["x", "y"]}
    unlabelled = Features({"image": Image(), "name": Value("string")})
    Dataset.from_dict(cells, features=unlabelled).to_parquet(str(tmp_path / "test.parquet"))
    data = load_test_data(Source(str(tmp_path)))
    assert (len(data.test), data.origins["test"]) == (2, "split validation")
    assert "the labels of split test are hidden, so it is not used" in data.notes

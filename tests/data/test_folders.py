import os
from pathlib import Path

import pytest
from datasets import ClassLabel, Image, load_dataset
from PIL import Image as PILImage

from robust_hub.data.folders import read_class_folders
from robust_hub.data.listing import list_folder

# What people call folders, and what splits "a", "a b" and "a-1" differently as strings and as paths.
AWKWARD = ["a", "a b", "a-1", "B", "10", "9", "[x]", "é", "*"]


def read_image_folder(folder: Path):
    return read_class_folders(list_folder(folder))


def write(folder: Path, *files: str) -> Path:
    """Writes one pixel into each image, and a word into all other files."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".gif"):
            PILImage.new("RGB", (1, 1)).save(path, {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), "PNG"))
        else:
            path.write_text("word")
    return folder


def images_of(folder: Path) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """The path below the folder and the class name of every row of each split, and the notes."""
    found = read_image_folder(folder)
    assert found is not None
    splits, notes = found
    names = {}
    for split, rows in splits.items():
        paths = [cell["path"] for cell in rows.cast_column("image", Image(decode=False))["image"]]
        label_names = [rows.features["label"].int2str(label) for label in rows["label"]]
        names[split] = [
            (Path(path).relative_to(folder).as_posix(), name) for path, name in zip(paths, label_names, strict=True)
        ]
    return names, notes


def assert_equals_load_dataset(folder: Path) -> None:
    found, today = read_image_folder(folder), load_dataset(str(folder))
    assert found is not None
    splits, notes = found
    assert notes == []
    assert list(splits) == list(today)
    for split, rows in splits.items():
        assert rows.features == today[split].features
        undecoded = [one.cast_column("image", Image(decode=False)) for one in (rows, today[split])]
        assert undecoded[0]["image"][:] == undecoded[1]["image"][:]
        assert rows["label"][:] == today[split]["label"][:]


def test_healthy_splits_equal_those_of_load_dataset_and_need_no_note(tmp_path):
    folder = write(
        tmp_path, *(f"{split}/{name}/{i}.png" for split in ("train", "test") for name in "ab" for i in range(3))
    )
    assert_equals_load_dataset(folder)


def test_healthy_class_folders_equal_those_of_load_dataset_and_need_no_note(tmp_path):
    assert_equals_load_dataset(write(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(12))))


@pytest.mark.parametrize("above", ["", "train/", "validation/"])
def test_awkward_names_are_in_the_order_of_load_dataset(tmp_path, above):
    files = [f"{above}{name}/{file}" for name in AWKWARD for file in ("10.png", "9.png", "1 2.JPG", "1.jpeg", "ü.png")]
    assert_equals_load_dataset(write(tmp_path, *files))


def test_a_row_is_an_undecoded_path_and_a_class_number(tmp_path):
    splits, _ = read_image_folder(write(tmp_path, "a/1.png", "b/2.png"))
    rows = splits["train"]
    assert rows.features == {"image": Image(), "label": ClassLabel(names=["a", "b"])}
    assert rows[1]["image"].size == (1, 1)
    cell = rows.cast_column("image", Image(decode=False))[1]["image"]
    assert cell == {"bytes": None, "path": str(tmp_path / "b/2.png")}


def test_class_numbers_are_ordered_as_strings(tmp_path):
    splits, _ = read_image_folder(write(tmp_path, "9/1.png", "10/1.png"))
    assert splits["train"].features["label"].names == ["10", "9"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "Train", "TRAIN", "training")),
        *((name, "validation") for name in ("val", "Valid", "Validation", "dev")),
        *((name, "test") for name in ("test", "Testing")),
    ],
)
def test_a_split_is_told_by_the_name_of_its_folder_in_any_case(tmp_path, name, split):
    folder = write(tmp_path, f"{name}/a/1.png", f"{name}/b/1.png")
    assert images_of(folder) == ({split: [(f"{name}/a/1.png", "a"), (f"{name}/b/1.png", "b")]}, [])


def test_words_of_splits_in_names_of_files_and_classes_do_not_matter(tmp_path):
    folder = write(tmp_path, "a/1.png", "a/toy_train_1.png", "a/test_2.png", "test/train.png", "test/1.png")
    splits, notes = images_of(folder)
    assert [name for _, name in splits["train"]] == ["a", "a", "a", "test", "test"]
    assert (list(splits), notes) == (["train"], [])


def test_two_folders_for_one_split_are_refused(tmp_path):
    folder = write(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "dev/a/1.png")
    with pytest.raises(ValueError, match="two folders for split validation, dev and val; merge or rename one"):
        read_image_folder(folder)


def test_images_in_no_split_are_counted(tmp_path):
    folder = write(tmp_path, "train/a/1.png", "train/b/1.png", "extra/1.png", "extra/a/2.png", "more/1.png")
    assert images_of(folder)[1] == [
        "2 images in extra/ are in no split and are left out",
        "1 image in more/ is in no split and is left out",
    ]


def test_the_class_is_the_first_level_and_deeper_ones_are_read_and_told(tmp_path):
    folder = write(tmp_path, "train/a/left/1.png", "train/a/2.png", "train/b/x/y/3.png")
    splits, notes = images_of(folder)
    assert splits == {"train": [("train/a/2.png", "a"), ("train/a/left/1.png", "a"), ("train/b/x/y/3.png", "b")]}
    assert notes == ["classes are the first level of folders; 2 images lie deeper, for example train/a/left/1.png"]


@pytest.mark.parametrize(
    "files", [("data/train/a/1.png", "data/test/a/2.png"), ("train/all/a/1.png", "train/all/b/1.png")]
)
def test_one_class_with_all_images_further_down_is_refused(tmp_path, files):
    with pytest.raises(ValueError, match=r"the only class of .* name the folder that holds the folders of the classes"):
        read_image_folder(write(tmp_path, *files))


def test_images_beside_the_class_folders_are_counted_and_named(tmp_path):
    folder = write(tmp_path, "a/1.png", "b/1.png", "overview.png")
    splits, notes = images_of(folder)
    assert len(splits["train"]) == 2
    assert notes == ["1 image beside the class folders is left out: overview.png"]


def test_a_split_without_class_folders_is_told_as_images_beside_them(tmp_path):
    folder = write(tmp_path, "train/a/1.png", "train/b/1.png", *(f"test/{i}.png" for i in range(7)))
    splits, notes = images_of(folder)
    assert list(splits) == ["train"]
    assert notes == [
        "7 images beside the class folders are left out: test/0.png, test/1.png, test/2.png, test/3.png, test/4.png "
        "and 2 more"
    ]


def test_files_that_are_no_images_are_counted_by_extension(tmp_path):
    files = ("a/x.txt", "a/deep/y.TXT", "b/z.mov", "b/labels.csv", "b/LICENSE", "README.md")
    assert images_of(write(tmp_path, "a/1.png", "b/1.png", *files))[1] == [
        "5 files that are no images are left out: .txt (2), no extension (1), .csv (1), .mov (1)"
    ]


def test_a_file_whose_header_alone_can_be_read_is_no_image(tmp_path):
    folder = write(tmp_path, "a/1.png", "b/1.png", "b/2.mpg")
    assert images_of(folder)[1] == ["1 file that is no image is left out: .mpg (1)"]


def test_class_folders_without_images_are_no_classes_and_are_named(tmp_path):
    folder = write(tmp_path, "a/1.png", "b/1.png", "c/notes.txt")
    (folder / "d").mkdir()
    splits, notes = images_of(folder)
    assert {name for _, name in splits["train"]} == {"a", "b"}
    assert notes == ["folders without any image are no classes: c, d"]


def test_hidden_files_and_leavings_of_desktops_are_passed_over_in_silence(tmp_path):
    leavings = (".cache/1.png", "a/.ipynb_checkpoints/1.png", "__MACOSX/a/1.png", "a/._1.png", "a/Thumbs.db")
    folder = write(tmp_path, "a/1.png", "b/1.png", *leavings, "b/desktop.ini", ".DS_Store", ".git/x.csv")
    assert images_of(folder) == ({"train": [("a/1.png", "a"), ("b/1.png", "b")]}, [])


@pytest.mark.parametrize(
    "files",
    [
        (),
        ("1.png", "2.png"),
        ("train/1.png", "test/2.png"),
        ("notes/x.txt",),
        ("data/train-00000-of-00001.parquet", "assets/example.png"),
        ("train/rows.jsonl", "train/a/1.png"),
        ("data.arrow", "a/1.png", "b/1.png"),
        ("data.zip", "a/1.png"),
        ("data.tar.gz", "a/1.png"),
    ],
)
def test_what_holds_images_itself_and_folders_without_classes_are_not_read_here(tmp_path, files):
    assert read_image_folder(write(tmp_path, *files)) is None


@pytest.mark.parametrize("file", ["labels.csv", "old.zip", "rows.jsonl", "photos.tar.gz"])
def test_what_lies_about_beside_two_classes_is_left_out_and_told(tmp_path, file):
    splits, notes = images_of(write(tmp_path, "a/1.png", "b/1.png", file, "README.txt"))
    assert splits == {"train": [("a/1.png", "a"), ("b/1.png", "b")]}
    assert notes == [f"{file} beside the class folders is left out"]


def test_links_to_folders_and_files_are_followed(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", "cats/1.png", "one.png")
    folder = write(tmp_path / "data", "train/b/1.png")
    (folder / "train/a").symlink_to(elsewhere / "cats")
    (folder / "train/b/2.png").symlink_to(elsewhere / "one.png")
    files = [("train/a/1.png", "a"), ("train/b/1.png", "b"), ("train/b/2.png", "b")]
    assert images_of(folder) == ({"train": files}, [])


def test_a_link_to_a_sibling_is_no_loop(tmp_path):
    folder = write(tmp_path, "train/a/1.png", "train/b/1.png")
    (folder / "test").symlink_to(folder / "train")
    assert [len(rows) for rows in images_of(folder)[0].values()] == [2, 2]


@pytest.mark.parametrize("links", [{"a/x": "."}, {"a/x": "a"}, {"a/x": "b", "b/y": "a"}])
def test_a_loop_of_links_is_refused(tmp_path, links):
    folder = write(tmp_path, "a/1.png", "b/1.png")
    for link, target in links.items():
        (folder / link).symlink_to(folder / target)
    with pytest.raises(ValueError, match=r"leads back to .*, which it is in; remove the link"):
        read_image_folder(folder)


def test_the_same_class_numbers_hold_for_all_splits(tmp_path):
    folder = write(
        tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "val/b/1.png", "test/a/1.png", "test/c/1.png"
    )
    splits, notes = read_image_folder(folder)
    assert list(splits) == ["train", "validation", "test"]
    assert all(rows.features["label"].names == ["a", "b", "c"] for rows in splits.values())
    assert splits["test"]["label"][:] == [0, 2]
    assert notes == []


def test_a_class_that_train_lacks_is_refused(tmp_path):
    folder = write(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/Dog/1.png")
    with pytest.raises(ValueError, match="class 'Dog' of split test is not in train; close names are dog; rename"):
        read_image_folder(folder)


def test_splits_without_train_are_read_over_the_classes_that_they_have(tmp_path):
    splits, notes = read_image_folder(write(tmp_path, "test/b/1.png", "test/c/1.png", "val/a/1.png"))
    assert list(splits) == ["validation", "test"]
    assert splits["test"].features["label"].names == ["a", "b", "c"]
    assert notes == []


@pytest.mark.parametrize("name", ["set [v2]", "*", "a b", "données 图", "train", "{x,y}?"])
def test_any_name_of_the_folder_works(tmp_path, name):
    folder = write(tmp_path / name, "train/[a]/1 *.png", "train/b/é.png")
    assert images_of(folder) == ({"train": [("train/[a]/1 *.png", "[a]"), ("train/b/é.png", "b")]}, [])


def test_an_unreadable_folder_is_refused_in_a_sentence(tmp_path, monkeypatch):
    folder, scandir = write(tmp_path, "a/1.png", "b/1.png"), os.scandir

    def refuse_b(place):
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    # Rights do not bind root, as whom containers run tests.
    monkeypatch.setattr(os, "scandir", refuse_b)
    with pytest.raises(ValueError, match=r"b can't be read \(Permission denied\); give yourself the right to"):
        read_image_folder(folder)


def test_a_name_that_is_not_utf8_is_refused_in_a_sentence(tmp_path):
    folder = write(tmp_path, "a/1.png", "b/1.png")
    (folder / "a/1.png").rename(os.fsdecode(os.fsencode(folder) + b"/a/\xff.png"))
    with pytest.raises(ValueError, match="is not UTF-8; rename it"):
        read_image_folder(folder)

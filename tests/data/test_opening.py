"""Tables beside images, and parquet files as people write them: each image has the class that its row says."""

import glob
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset
from PIL import Image as PILImage

from robust_hub.data import Source, load_data
from robust_hub.data.columns import find_image_column, find_label_column, with_images
from robust_hub.data.opening import Opened, open_splits

# Of each file its red, by which it is known again, and its class.
FILES = {f"{name}{number}.png": (10 * number + shift, name) for shift, name in enumerate("ab") for number in range(3)}


def picture(red: int) -> PILImage.Image:
    return PILImage.new("RGB", (2, 2), (red, 0, 0))


def png(red: int) -> bytes:
    file = BytesIO()
    picture(red).save(file, "PNG")
    return file.getvalue()


def images(folder: Path, above: str = "") -> Path:
    for file, (red, _) in FILES.items():
        (folder / above).mkdir(parents=True, exist_ok=True)
        picture(red).save(folder / above / file)
    return folder


def csv(file: Path, rows: list[tuple], header: tuple = ("file_name", "label"), separator: str = ",") -> Path:
    lines = [separator.join(map(str, line)) for line in (header, *rows)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file.parent


def rows(above: str = "") -> list[tuple[str, str]]:
    return [(above + file, name) for file, (_, name) in FILES.items()]


def open_(folder: Path, **options) -> Opened:
    return open_splits(Source(str(folder), **options))


def found(opened: Opened, label: str = "label") -> dict[str, list[tuple[int, object]]]:
    """Of each split the red and the label of every row."""
    told = {}
    for split, own in opened.splits.items():
        own = with_images("set", own, find_image_column("set", own.features), opened.places)
        cells = own[find_image_column("set", own.features)]
        told[split] = [(cell.getpixel((0, 0))[0], name) for cell, name in zip(cells, own[label][:], strict=True)]
    return told


EXPECTED = {"train": list(FILES.values())}


def test_metadata_csv_is_read_as_load_dataset_reads_it(tmp_path):
    folder = csv(images(tmp_path) / "metadata.csv", rows())
    opened = open_(folder)
    theirs = load_dataset(str(folder), split="train")
    assert found(opened) == EXPECTED
    assert [
        (cell.getpixel((0, 0))[0], label) for cell, label in zip(theirs["image"], theirs["label"], strict=True)
    ] == (EXPECTED["train"])
    assert opened.notes == []


def test_metadata_jsonl_is_read(tmp_path):
    lines = [json.dumps({"file_name": file, "label": name, "boxes": [[1, 2]]}) for file, name in rows()]
    (images(tmp_path) / "metadata.jsonl").write_text("\n".join(lines))
    assert found(open_(tmp_path)) == EXPECTED


@pytest.mark.parametrize("label", ["label", "Class", "target"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_any_name_and_separator_is_read_by_the_column_that_holds_paths(tmp_path, label, separator):
    lines = [(number, file, name) for number, (file, name) in enumerate(rows())]
    opened = open_(csv(images(tmp_path) / "my labels.csv", lines, ("id", "photo", label), separator))
    assert found(opened, label) == EXPECTED
    assert opened.notes == []


def test_a_table_is_read_to_the_end_of_load_data_without_a_note(tmp_path):
    data = load_data(Source(str(csv(images(tmp_path) / "labels.csv", rows()))))
    told = [(row["image"]["path"], data.label_names[row["label"]]) for own in data.splits.values() for row in own]
    assert sorted((Path(path).name, name) for path, name in told) == rows()
    assert data.notes == []


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    csv(images(tmp_path) / "labels.csv", rows())
    text = (tmp_path / "labels.csv").read_bytes()
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert found(open_(tmp_path)) == EXPECTED


def test_backslashes_of_windows_are_slashes(tmp_path):
    folder = csv(images(tmp_path, "img/all") / "labels.csv", rows("img\\all\\"))
    assert found(open_(folder)) == EXPECTED


def test_a_column_that_is_named_holds_the_labels(tmp_path):
    folder = csv(images(tmp_path) / "labels.csv", rows(), ("file", "species"))
    assert found(open_(folder, label_column="species"), "species") == EXPECTED
    with pytest.raises(
        ValueError, match=r"labels.csv does not tell them \(no column of it \(file, species\) is called"
    ):
        open_(folder)


@pytest.mark.parametrize(
    ("spelled", "labels"),
    [
        (("3", "10"), (3, 10)),
        (("0.0", "1.0"), (0, 1)),
        (("01", "2"), ("01", "2")),
        (("NA", "null"), ("NA", "null")),
        (("1", "x"), ("1", "x")),
    ],
)
def test_labels_are_numbers_only_where_all_are(tmp_path, spelled, labels):
    folder = csv(images(tmp_path) / "labels.csv", [(file, spelled["ab".index(name)]) for file, name in rows()])
    expected = [(red, labels["ab".index(name)]) for red, name in FILES.values()]
    assert found(open_(folder)) == {"train": expected}


def test_a_row_without_a_label_is_refused(tmp_path):
    folder = csv(images(tmp_path) / "labels.csv", [*rows()[:-1], ("b2.png", "")])
    with pytest.raises(ValueError, match="split train has rows without a label; drop them"):
        load_data(Source(str(folder)))


def test_files_that_are_missing_and_images_without_a_row_are_told(tmp_path):
    picture(99).save(tmp_path / "extra.png")
    opened = open_(csv(images(tmp_path) / "labels.csv", [*rows(), ("x.png", "a"), ("", "b")]))
    assert found(opened) == EXPECTED
    assert opened.notes == [
        "2 images are in labels.csv and not in the folder: x.png, a row without a file",
        "1 image has no row with a class and is left out: extra.png",
    ]


def test_a_table_most_of_whose_files_are_missing_is_refused(tmp_path):
    folder = csv(images(tmp_path) / "labels.csv", [*rows("img/"), ("a0.png", "a")])
    with pytest.raises(ValueError, match=r"but 6 of the 7 it names are missing \(img/a0\.png, .*\); write their paths"):
        open_(folder)


def test_a_file_in_two_rows_is_one_image(tmp_path):
    opened = open_(csv(images(tmp_path) / "labels.csv", [*rows(), rows()[0]]))
    assert found(opened) == EXPECTED
    assert opened.notes == ["1 row repeats another of split train and are left out"]


def test_a_file_of_two_classes_is_refused(tmp_path):
    folder = csv(images(tmp_path) / "labels.csv", [*rows(), ("a0.png", "b")])
    with pytest.raises(
        ValueError, match=r"must have one class, got 'a' and 'b' for .*a0\.png in split train; keep one"
    ):
        open_(folder)


BY_NUMBER = {
    "train": [each for each in FILES.values() if each[0] < 20],
    "test": [each for each in FILES.values() if each[0] >= 20],
}


def test_a_column_split_tells_the_splits(tmp_path):
    lines = [(*row, "Test" if "2" in row[0] else "training") for row in rows()]
    folder = csv(images(tmp_path) / "labels.csv", lines, ("file_name", "label", "split"))
    assert found(open_(folder)) == BY_NUMBER


def test_a_column_split_that_holds_something_else_is_refused(tmp_path):
    folder = csv(images(tmp_path) / "labels.csv", [(*row, 1) for row in rows()], ("file_name", "label", "split"))
    with pytest.raises(ValueError, match=r"column split of labels\.csv must hold train, validation or test, got '1'"):
        open_(folder)


def test_tables_that_are_called_by_splits_are_these(tmp_path):
    images(tmp_path)
    csv(tmp_path / "Train.csv", [row for row in rows() if "2" not in row[0]])
    csv(tmp_path / "TEST.csv", [row for row in rows() if "2" in row[0]], ("path", "class"))
    csv(tmp_path / "Meta.csv", rows()[:1])
    opened = open_(tmp_path)
    assert found(opened) == BY_NUMBER
    assert opened.notes == ["Meta.csv is called by no split and is not used"]


def test_a_table_without_labels_is_told_and_left_out(tmp_path):
    images(tmp_path)
    csv(tmp_path / "train.csv", [row for row in rows() if "2" not in row[0]])
    csv(tmp_path / "test.csv", [row[:1] for row in rows() if "2" in row[0]], ("file_name",))
    opened = open_(tmp_path)
    assert found(opened) == {"train": BY_NUMBER["train"]}
    assert opened.notes[0].startswith(
        "test.csv is not used: no column of it (file_name) is called label, class or target"
    )


def test_images_in_folders_of_splits_are_these(tmp_path):
    images(images(tmp_path, "train"), "test")
    assert found(open_(csv(tmp_path / "labels.csv", rows("train/") + rows("test/")))) == {
        "train": EXPECTED["train"],
        "test": EXPECTED["train"],
    }


def test_tables_in_folders_of_splits_are_read_from_there(tmp_path):
    for split in ("train", "test"):
        csv(images(tmp_path, split) / split / "metadata.csv", rows())
    assert found(open_(tmp_path)) == {"train": EXPECTED["train"], "test": EXPECTED["train"]}


def test_some_images_in_folders_of_splits_and_some_elsewhere_are_refused(tmp_path):
    images(images(tmp_path, "test"))
    with pytest.raises(ValueError, match="lie in folders of splits and some do not; add a column split"):
        open_(csv(tmp_path / "labels.csv", rows("test/") + rows()))


def test_two_tables_of_the_same_images_are_refused(tmp_path):
    images(tmp_path)
    csv(tmp_path / "a.csv", rows())
    with pytest.raises(ValueError, match=r"must have one table of its images, .*, got a\.csv, b\.csv; keep one"):
        open_(csv(tmp_path / "b.csv", rows()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("when,who\n1,2\n", r"no column of it \(when, who\) holds paths of images"),
        ("file_name,label\nz.png,a\n", r"no file is where its column file_name says, for example z\.png"),
        ("file_name,x\na/a0.png,1\n", r"no column of it \(file_name, x\) is called label, class or target"),
        ("file_name,label\na/a0.png,a,b\n", "it can't be read as a table: row 1 has 3 cells and its header 2"),
        ("file_name,label\na/a0.png,\xe9\n", "it can't be read as a table: it is not UTF-8; save it so"),
        ("", "it can't be read as a table: it is empty"),
    ],
)
def test_a_table_that_does_not_tell_classes_is_left_out_with_the_reason(tmp_path, text, why):
    folder = images(images(tmp_path / "set", "a"), "b")
    (folder / "notes.csv").write_bytes(text.encode("latin1"))
    opened = open_(folder)
    assert (len(opened.splits["train"]), len(opened.notes)) == (12, 1)
    assert re.match(rf"notes\.csv beside the class folders is left out \({why}", opened.notes[0])


@pytest.mark.parametrize(
    ("make", "told"), [(Path.mkdir, "is empty"), (images, "holds 6 images and no folders of classes")]
)
def test_a_folder_without_classes_is_told_the_way_out(tmp_path, make, told):
    make(tmp_path / "set")
    with pytest.raises(ValueError, match=f"{told}; put the images into a folder for each class, or add a labels.csv"):
        open_(tmp_path / "set")


def test_a_file_is_refused_with_the_way_out(tmp_path):
    folder = csv(images(tmp_path) / "labels.csv", rows())
    with pytest.raises(ValueError, match=r"labels\.csv must be a folder or an archive; name the folder that it is in"):
        open_(folder / "labels.csv")


def parquet(file: Path, cells: list, labels: list | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    names = labels or [name for _, name in FILES.values()]
    pandas.DataFrame({"image": cells, "label": names}).to_parquet(file)
    return file.parent


REDS = [red for red, _ in FILES.values()]
PIXELS = [np.asarray(picture(red)) for red in REDS]


@pytest.mark.parametrize(
    "cells",
    [
        [png(red) for red in REDS],
        [{"bytes": png(red), "path": None} for red in REDS],
        list(FILES),
        [{"bytes": None, "path": file} for file in FILES],
        [pixels.tolist() for pixels in PIXELS],
    ],
    ids=["bytes", "bytes and path", "paths", "paths in cells", "pixels"],
)
def test_what_pandas_writes_into_parquet_is_images(tmp_path, cells):
    folder = parquet(images(tmp_path) / "train.parquet", cells)
    assert found(open_(folder)) == EXPECTED
    data = load_data(Source(str(folder)))
    assert (data.label_names, data.image_shape, data.notes) == (["a", "b"], (3, 2, 2), [])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_are_kept_to_the_last_bit(channels):
    pixels = np.random.default_rng(0).integers(256, size=(2, 3, 5, channels))
    own = Dataset.from_dict({"image": pixels.tolist()})
    seen = [np.asarray(image) for image in with_images("set", own, "image")["image"]]
    np.testing.assert_array_equal(np.stack(seen).reshape(pixels.shape), pixels)


def test_pixels_of_several_sizes_are_kept():
    own = Dataset.from_dict({"image": [np.full(shape, 7).tolist() for shape in ((2, 3), (4, 2))]})
    assert [image.size for image in with_images("set", own, "image")["image"]] == [(3, 2), (2, 4)]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (np.zeros(12, int), r"got int64 of shape \(12,\), 0 to 0"),
        (np.zeros((3, 5, 6), int), r"got int64 of shape \(3, 5, 6\)"),
        (np.full((4, 4, 3), 256), r"0 to 255 by height, width and channels, got .*, 256 to 256"),
        (np.full((4, 4, 3), 0.5), r"got float\d+ of shape \(4, 4, 3\), 0\.5 to 0\.5"),
    ],
)
def test_numbers_that_are_no_image_are_refused_with_the_way_out(cell, told):
    own = Dataset.from_dict({"image": [cell.tolist()]})
    with pytest.raises(ValueError, match=rf"{told}.* at row 0 of column 'image' of set; write it so, or bytes of PNG"):
        with_images("set", own, "image")


def test_paths_that_lead_nowhere_are_refused_with_where_they_start(tmp_path):
    folder = parquet(tmp_path / "train.parquet", list(FILES))
    with pytest.raises(ValueError, match=rf"must hold paths of images from {tmp_path}, but 6 files are not there \(a0"):
        load_data(Source(str(folder)))


def test_numbers_are_no_images():
    with pytest.raises(
        ValueError, match=r"must hold images, bytes of image files, paths to them or arrays of pixels, got"
    ):
        with_images("set", Dataset.from_dict({"image": [1, 2]}), "image")


def test_paths_start_from_the_file_of_rows_or_from_the_folder_of_the_set(tmp_path):
    cells = [f"img/{file}" for file in FILES]
    parquet(images(tmp_path / "a", "data/img") / "data/train.parquet", cells)
    parquet(images(tmp_path / "b", "img") / "data/train.parquet", cells)
    assert found(open_(tmp_path / "a")) == found(open_(tmp_path / "b")) == EXPECTED


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (("Train.parquet", "TEST-00000.parquet"), ["test", "train"]),
        (("train-00000-of-00001-0a1b2c3d4e5f6a7b.parquet", "val_0.parquet"), ["train", "validation"]),
        (("toy_train_1.parquet", "toy-test.parquet"), ["test", "train"]),
        (("data/Training/0000.parquet", "data/DEV/0000.parquet"), ["train", "validation"]),
        (("latest.parquet", "contested.parquet"), ["train"]),
        (("test_of_training.parquet", "train.parquet"), ["test", "train"]),
    ],
)
def test_a_split_is_told_by_the_name_of_a_file_of_rows_in_any_case(tmp_path, files, splits):
    for file in files:
        parquet(tmp_path / file, [png(red) for red in REDS])
    opened = open_(tmp_path)
    assert (sorted(opened.splits), opened.notes) == (splits, [])
    assert sum(map(len, opened.splits.values())) == 12


def test_files_of_rows_in_no_split_are_told(tmp_path):
    for file in ("train.parquet", "extra.parquet"):
        parquet(tmp_path / file, [png(red) for red in REDS])
    opened = open_(tmp_path)
    assert (list(opened.splits), len(opened.splits["train"])) == (["train"], 6)
    assert opened.notes == ["1 file is called by no split and is left out: extra.parquet"]


def test_a_file_of_rows_that_is_called_by_two_splits_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"toy_train_test\.parquet is called by the splits test and train; begin its name"
    ):
        open_(parquet(tmp_path / "toy_train_test.parquet", [png(red) for red in REDS]))


@pytest.mark.parametrize("name", ["set [v2]", "*", "a b", "données 图", "{x,y}?"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_any_name_of_a_folder_works(tmp_path, name, kind):
    if kind == "csv":
        folder = csv(images(tmp_path / name, "[img] *") / "labels [1].csv", rows("[img] */"))
    else:
        folder = parquet(tmp_path / name / "train [1].parquet", [png(red) for red in REDS])
    assert glob.has_magic(str(folder)) or name in ("a b", "données 图")
    assert found(open_(folder)) == EXPECTED


def hub_rows() -> Dataset:
    kinds = Features({"image": Image(), "label": ClassLabel(names=["x", "y"])})
    return Dataset.from_dict({"image": [picture(red) for red in (1, 2)], "label": [0, 1]}, features=kinds)


def test_a_card_of_the_hub_tells_the_splits_of_its_files(tmp_path):
    for name in ("one", "two"):
        hub_rows().to_parquet(str(tmp_path / f"{name}.parquet"))
    splits = "".join(f"  - split: {split}\n    path: {name}*\n" for split, name in (("train", "one"), ("test", "two")))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n")
    assert found(open_(tmp_path)) == {"train": [(1, 0), (2, 1)], "test": [(1, 0), (2, 1)]}


def test_what_datasets_saved_to_disk_is_read(tmp_path):
    hub_rows().save_to_disk(tmp_path / "set")
    assert found(open_(tmp_path / "set")) == {"train": [(1, 0), (2, 1)]}


@pytest.mark.parametrize("columns", [("image", "label"), ("IMG", "Target"), ("path", "class")])
def test_columns_whose_type_tells_nothing_are_found_by_their_names(columns):
    kinds = {"id": Value("int64"), columns[0]: Value("binary"), columns[1]: Value("int64")}
    assert (find_image_column("set", kinds), find_label_column("set", kinds)) == columns

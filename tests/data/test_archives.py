"""An archive gives the images that its folders held, and nothing of it lands elsewhere; a trap is refused at once."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image as PILImage

from robust_hub.data.archives import HARMLESS, LARGEST_READ, unpack
from robust_hub.data.opening import open_splits
from robust_hub.data.source import Source

FILES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(2)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def png(red: int = 0) -> bytes:
    file = io.BytesIO()
    PILImage.new("RGB", (1, 1), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def zipped(place: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(place, "w") as archive:
        for red, name in enumerate(names):
            # Not to the constructor, which would mend backslashes.
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, png(red))
    return place


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, linkname, size
    return info


def tarred(place: Path, names: list[str], *more: tarfile.TarInfo) -> Path:
    suffix = place.suffix[1:].replace("tgz", "gz")
    with tarfile.open(place, f"w:{suffix if suffix in ('gz', 'xz', 'bz2') else ''}") as archive:
        for red, name in enumerate(names):
            content = png(red)
            archive.addfile(member(name, size=len(content)), io.BytesIO(content))
        for info in more:
            archive.addfile(info, io.BytesIO(bytes(info.size)) if info.isreg() else None)
    return place


def reds(archive: Path) -> tuple[dict[str, list[tuple[int, str]]], list[str]]:
    """Of each image its red, which tells where it stood in the archive, and its class; and the notes."""
    opened = open_splits(Source(str(archive)))
    found = {}
    for split, rows in opened.splits.items():
        names = rows.features["label"].int2str(rows["label"][:])
        found[split] = [(image.getpixel((0, 0))[0], name) for image, name in zip(rows["image"], names, strict=True)]
    return found, opened.notes


CLASSES = {"train": [(0, "cat"), (1, "cat"), (2, "dog"), (3, "dog")]}


@pytest.mark.parametrize(
    "name", ["photos.zip", "photos.tar", "photos.tgz", "photos.tar.xz", "Photos.TAR.bz2", "[v2] é.zip"]
)
def test_an_archive_of_class_folders_is_read_and_told_where(tmp_path, cache, name):
    archive = (zipped if name.endswith("zip") else tarred)(tmp_path / name, FILES)
    found, notes = reds(archive)
    assert found == CLASSES
    (place,) = (cache / "unpacked").iterdir()
    assert notes == [f"{name} is unpacked in {place}"]


def test_splits_in_an_archive_are_splits(tmp_path):
    found, _ = reds(zipped(tmp_path / "a.zip", ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"]))
    assert found == {"train": [(0, "cat"), (1, "dog")], "test": [(2, "cat")]}


@pytest.mark.parametrize("above", ["photos/", "a/b/", "./", "My Photos\\"])
def test_folders_around_all_others_are_no_class(tmp_path, above):
    assert reds(zipped(tmp_path / "a.zip", [above + file for file in FILES]))[0] == CLASSES


def test_the_only_split_is_no_folder_around_all_others(tmp_path):
    assert list(reds(zipped(tmp_path / "a.zip", ["test/cat/1.png", "test/dog/1.png"]))[0]) == ["test"]


def test_an_archive_that_is_alone_in_a_folder_is_read(tmp_path):
    (tmp_path / "set").mkdir()
    zipped(tmp_path / "set/data.zip", FILES)
    (tmp_path / "set/README.md").write_text("word")
    assert reds(tmp_path / "set")[0] == CLASSES


def test_an_archive_is_unpacked_once_and_anew_when_it_has_changed(tmp_path, cache):
    archive = zipped(tmp_path / "a.zip", FILES)
    first = unpack(archive)
    (first / "cat/0.png").unlink()
    assert unpack(archive) == first
    assert not (first / "cat/0.png").exists()
    assert unpack(zipped(archive, [*FILES, "cat/x.png"])) != first


def test_leavings_of_desktops_are_not_unpacked(tmp_path):
    archive = zipped(tmp_path / "a.zip", [*FILES, "__MACOSX/cat/._1.png", "cat/.DS_Store"])
    assert reds(archive)[0] == CLASSES


def test_names_in_utf8_that_do_not_say_so_are_read(tmp_path):
    archive = tmp_path / "a.zip"
    zipped(archive, ["cat/1.png", "k\u00e4fer/1.png"])
    flagged = archive.read_bytes()
    # The flag of UTF-8 is bit 11 of the flags, at 6 in each local header and at 8 in the directory.
    for signature, at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        start = flagged.rindex(signature)
        flagged = flagged[: start + at] + b"\0" + flagged[start + at + 1 :]
    archive.write_bytes(flagged)
    assert reds(archive)[0] == {"train": [(0, "cat"), (1, "käfer")]}


@pytest.mark.parametrize(
    "link",
    [
        member("cat/x.png", tarfile.LNKTYPE, "cat/1.png"),
        member("cat/x.png", tarfile.SYMTYPE, "1.png"),
        member("cat/x.png", tarfile.SYMTYPE, "../cat/./1.png"),
    ],
    ids=["hard", "soft", "soft through its parent"],
)
def test_a_link_to_another_member_is_that_file_and_no_link(tmp_path, link):
    archive = tarred(tmp_path / "a.tar", FILES, link)
    assert reds(archive)[0]["train"][2] == (1, "cat")
    assert not (unpack(archive) / "cat/x.png").is_symlink()


OUTSIDE = "must keep to its own folder, got a member or a link to .*; do not trust it"


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (member("../evil.png", size=3), OUTSIDE),
        (member("cat/../../evil.png", size=3), OUTSIDE),
        (member("/tmp/evil.png", size=3), OUTSIDE),
        (member("C:/evil.png", size=3), OUTSIDE),
        (member("cat/x.png", tarfile.SYMTYPE, "/etc/passwd"), OUTSIDE),
        (member("cat/x.png", tarfile.SYMTYPE, "../../passwd"), OUTSIDE),
        (member("cat/x.png", tarfile.LNKTYPE, "../passwd"), OUTSIDE),
        (member("cat/x.png", tarfile.SYMTYPE, "x.png"), r"cat/x\.png of .* leads to no file in it; unpack it"),
        (member("cat/x.png", tarfile.SYMTYPE, "../cat"), r"cat/x\.png of .* leads to no file in it; unpack it"),
        (member("cat/x.png", tarfile.CHRTYPE), r"cat/x\.png of .* is neither a file nor a folder; unpack it"),
        (member("cat/x.png", tarfile.FIFOTYPE), r"cat/x\.png of .* is neither a file nor a folder; unpack it"),
        (member("cat/1.png", size=3), r"holds cat/1\.png twice; unpack it and name its folder"),
        (member("rows.csv", size=3), r"holds a table, rows\.csv, which is read from a folder; unpack it and name that"),
        (member("train.parquet", size=3), r"holds a table, train\.parquet"),
        (member("more/b.zip", size=3), r"holds another archive, more/b\.zip; unpack both and name their folder"),
    ],
)
def test_what_an_archive_must_not_hold_is_refused_and_nothing_is_left(tmp_path, cache, info, message):
    archive = tarred(tmp_path / "a.tar", FILES, info)
    with pytest.raises(ValueError, match=message):
        unpack(archive)
    assert list((cache / "unpacked").iterdir()) == []
    assert not list(tmp_path.rglob("evil.png"))


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "..\\evil.png"])
def test_a_zip_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=OUTSIDE):
        unpack(zipped(tmp_path / "a.zip", [*FILES, name]))


def test_what_grows_far_beyond_its_size_is_refused_before_it_does(tmp_path, cache):
    content = bytes(2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", content)
    whole = (tmp_path / "a.zip").read_bytes()
    # What the directory says of its size, at 24: there the one byte that makes it more than is harmless.
    start = whole.index(b"PK\1\2") + 24
    (tmp_path / "a.zip").write_bytes(whole[:start] + (HARMLESS + 1).to_bytes(4, "little") + whole[start + 4 :])
    with gzip.open(tmp_path / "a.tar.gz", "wb") as stream:
        stream.write(member("cat/1.png", size=HARMLESS + 1).tobuf())
    for name in ("a.zip", "a.tar.gz"):
        with pytest.raises(ValueError, match="must not grow beyond 256 MiB, as images hardly do, and holds more"):
            unpack(tmp_path / name)
    assert list((cache / "unpacked").iterdir()) == []


def test_more_small_files_than_a_small_archive_can_hold_are_refused(tmp_path, monkeypatch):
    # A file takes a block of 4 KiB however small it is.
    monkeypatch.setattr("robust_hub.data.archives.HARMLESS", 8 * 4096)
    monkeypatch.setattr("robust_hub.data.archives.MOST_GROWTH", 0)
    assert unpack(tarred(tmp_path / "a.tar", [f"cat/{number}.png" for number in range(8)]))
    with pytest.raises(ValueError, match="must not grow beyond"):
        unpack(tarred(tmp_path / "b.tar", [f"cat/{number}.png" for number in range(9)]))


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.tar.gz", "wb") as stream:
        stream.write(member("x", tarfile.XHDTYPE, size=LARGEST_READ + 512).tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ValueError, match="can't be unpacked"):
        unpack(tmp_path / "a.tar.gz")


def test_an_encrypted_zip_is_refused(tmp_path):
    whole = zipped(tmp_path / "a.zip", ["cat/1.png"]).read_bytes()
    flags = whole.index(b"PK\1\2") + 8
    (tmp_path / "a.zip").write_bytes(whole[:flags] + b"\1" + whole[flags + 1 :])
    with pytest.raises(ValueError, match="is encrypted; unpack it with its password and name its folder"):
        unpack(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_half_an_archive_is_refused_and_nothing_is_left(tmp_path, cache, name):
    archive = (zipped if name.endswith("zip") else tarred)(tmp_path / name, FILES)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 4])
    with pytest.raises(ValueError, match=r"can't be unpacked .*; fetch it again"):
        unpack(archive)
    assert list((cache / "unpacked").iterdir()) == []


@pytest.mark.parametrize("names", [[], ["cat/notes.txt"]])
def test_an_archive_without_an_image_is_refused(tmp_path, names):
    with pytest.raises(ValueError, match="must hold folders of images, a class each, and holds no image"):
        unpack(zipped(tmp_path / "a.zip", names))


def test_an_archive_of_images_without_folders_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(
        ValueError, match="holds 2 images and no folders of classes; put the images into a folder for each"
    ):
        open_splits(Source(str(zipped(tmp_path / "a.zip", ["1.png", "2.png"]))))


def test_an_archive_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.7z").write_text("word")
    with pytest.raises(ValueError, match="must be a zip or a tar to be read; unpack it and name its folder"):
        open_splits(Source(str(tmp_path / "a.7z")))


def test_an_archive_that_is_not_there_is_met_with_close_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zipped(tmp_path / "photos.zip", FILES)
    with pytest.raises(ValueError, match=r"there is no file photo\.zip; close names are photos\.zip"):
        open_splits(Source("photo.zip"))

"""Small files that would take all memory or all day: each is refused in one sentence, in a child that is watched."""

import json
import os
import pickle
import struct
import time
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Value
from PIL import Image as PILImage
from safetensors.torch import save_file
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from robust_hub import hub
from robust_hub.conversion import count_classes, find_mapping, read_checkpoint
from robust_hub.data import Source, load_test_data
from robust_hub.data.images import MOST_PIXELS, read_image, read_mode
from tests.confined import confined

MOST_BYTES = 2**30
# Many times what any of it takes on a slow machine that does something else as well.
HANGS = 60


def refusal(use) -> str:
    """Gives the sentence by which something is refused, in a child that is ended where it takes memory or hangs."""
    outcome = confined(use, memory=MOST_BYTES, seconds=HANGS)
    assert outcome.end == "refused", outcome
    return outcome.told


def network(place: Path, architecture: str, model_args: dict, side: int = 224) -> str:
    """Writes a folder of 300 small tensors and any configuration."""
    save_file({f"layer.{number}": torch.zeros(4) for number in range(300)}, place / "model.safetensors")
    told = {"input_size": [3, side, side], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 3}
    config = {"architecture": architecture, "num_classes": 3, "model_args": model_args, "pretrained_cfg": told}
    (place / "config.json").write_text(json.dumps(config))
    return f"local-dir:{place}"


@pytest.mark.parametrize(
    ("architecture", "model_args", "side", "message"),
    [
        ("res2net50_26w_4s", {"block_args": {"scale": 32768}, "base_width": 1}, 224, "has more than 4,112 modules"),
        ("res2net50_26w_4s", {"block_args": {"scale": 32768}}, 224, "bytes"),
        ("resnet18", {"layers": [290, 1, 1, 1]}, 224, "has more than 4,112 modules"),
        ("vit_tiny_patch16_224", {"img_size": 1024, "patch_size": 1}, 1024, "has more than"),
        (
            "vit_tiny_patch16_224",
            {"img_size": 1024, "patch_size": 1, "pos_embed": "none", "embed_dim": 8, "num_heads": 2, "depth": 50},
            1024,
            "operations on one image",
        ),
        ("swin_tiny_patch4_window7_224", {"window_size": 32768}, 224, "has more than"),
        ("tiny_vit_5m_224", {"window_sizes": [7, 7, 32768, 7]}, 224, "has more than"),
        ("levit_128s", {"img_size": 32768}, 224, "bytes"),
        ("convnext_atto", {"kernel_sizes": 32767}, 224, "bytes"),
        ("mixer_b16_224", {"img_size": 32768}, 224, "has more than"),
    ],
)
def test_a_configuration_of_absurd_arguments_is_refused_before_it_is_built(
    tmp_path, architecture, model_args, side, message
):
    name = network(tmp_path, architecture, model_args, side)
    told = refusal(lambda: hub.load(name))
    assert told.count("\n") == 0
    assert message in told


def test_patches_that_would_be_brought_to_another_size_for_hours_are_refused(tmp_path):
    name = network(
        tmp_path, "vit_tiny_patch16_224", {"img_size": 48, "patch_size": 48, "embed_dim": 8, "num_heads": 2}, 48
    )
    save_file({"patch_embed.proj.weight": torch.zeros(1, 1, 44, 44)}, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"]["depth"] = 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "brings large patches to another size" in refusal(lambda: hub.load(name))


def pickled(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def as_archive(place: Path, content: bytes, kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(place, "w", kind) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", bytes(2**20))
    return place


def doubled(times: int) -> bytes:
    """A tuple of a tuple twice, of a tuple twice and so on."""
    return b")" + b"q\x01h\x01\x86" * times


ORDERED = b"ccollections\nOrderedDict\n"
PAIRS = b"](" + b"".join(b"K" + bytes([number]) + b"N\x86" for number in range(250)) + b"e"
INSIDE = b"}(" + b"".join(b"X\1\0\0\0" + bytes([97 + number]) + b"h\1" for number in range(25)) + b"uq\1"
PICKLES = {
    "a bytearray of a number": (
        pickled(b"cbuiltins\nbytearray\nJ", struct.pack("<i", 2**31 - 1), b"\x85R"),
        "without running code (builtins.bytearray)",
    ),
    "a text that is encoded again and again": (
        pickled(b"X\1\0\0\0a", b"q\1c_codecs\nencode\nh\1X\3\0\0\0hex\x86R" * 40),
        "without running code (_codecs.encode)",
    ),
    "a tensor of a size": (pickled(b"ctorch\nFloatTensor\nJ\0\0\0\x40\x85R"), "running code (torch.FloatTensor)"),
    "a key of billions of tuples": (pickled(b"}", doubled(60), b"Ns"), "it nests far more tuples than a checkpoint"),
    "a tuple as deep as the sea": (pickled(b")", b"\x85" * 100_000), "it nests far more tuples than a checkpoint"),
    "one list for many dictionaries": (
        pickled(PAIRS, b"q\1]", (b"(" + (ORDERED + b"h\1\x85R") * 100 + b"e") * 4),
        "it makes far more than it holds",
    ),
    "more steps than there is time": (pickled(b"](", b"N" * 30_000, b"e"), "it takes more than 20,000 steps"),
    "one dictionary in many places": (pickled(b"}q\1", INSIDE * 6), "holds more than 250,000 names"),
    "a text that is not there": (pickled(b"X\xff\xff\xff\x7fa"), "can't be read"),
    "nothing where something is taken": (pickled(b"R"), "can't be read"),
}


@pytest.mark.parametrize("case", PICKLES)
def test_a_pickle_that_makes_much_of_little_is_refused(tmp_path, monkeypatch, case):
    monkeypatch.setattr("robust_hub.conversion.caution.MOST_STEPS", 20_000)
    monkeypatch.setattr("robust_hub.conversion.caution.MOST_GIVEN", 100_000)
    content, message = PICKLES[case]
    told = refusal(lambda: read_checkpoint(as_archive(tmp_path / "a.pt", content)))
    assert message in told
    before = b"".join(pickle.dumps(value, 2) for value in (MAGIC_NUMBER, PROTOCOL_VERSION, {}))
    (tmp_path / "b.pt").write_bytes(before + content + pickle.dumps([], 2))
    assert message in refusal(lambda: read_checkpoint(tmp_path / "b.pt"))


def saved(place: Path) -> bytes:
    torch.save({"fc.weight": torch.rand(4, 4)}, place)
    return place.read_bytes()


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    as_archive(tmp_path / "a.pt", pickle.dumps({}, 2), zipfile.ZIP_DEFLATED)
    told = refusal(lambda: read_checkpoint(tmp_path / "a.pt"))
    assert "can't be read (its parts are compressed, which torch.save never does); expected a whole file" in told


@pytest.mark.parametrize("size", [2**31, 2**32 - 2])
def test_an_archive_that_claims_absurd_sizes_is_refused(tmp_path, size):
    whole = saved(tmp_path / "a.pt")
    # What the directory says of a part's size, at 20 as it is stored and at 24 as it is.
    start = whole.rindex(b"PK\1\2") + 20
    (tmp_path / "a.pt").write_bytes(whole[:start] + struct.pack("<II", size, size) + whole[start + 8 :])
    assert "can't be read (its parts are larger than the file)" in refusal(lambda: read_checkpoint(tmp_path / "a.pt"))


@pytest.mark.parametrize("content", [b"PK\3\4" + bytes(8), b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8", bytes(12)])
def test_a_file_of_twelve_bytes_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert "can't be read (" in refusal(lambda: read_checkpoint(tmp_path / "a.pt"))


def test_tensors_that_are_all_one_are_refused(tmp_path):
    one = torch.rand(512, 512)
    torch.save({f"layer{number}.weight": one for number in range(4000)}, tmp_path / "a.pt")
    assert "as if all were copies" in refusal(lambda: read_checkpoint(tmp_path / "a.pt"))


def test_names_without_end_in_a_safetensors_file_are_refused(tmp_path):
    for name in ("a.safetensors", "model.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.write(struct.pack("<Q", 2**26) + b"{" + b" " * 64)
            file.truncate(2**26 + 8)
    assert "67,108,864 bytes of names" in refusal(lambda: read_checkpoint(tmp_path / "a.safetensors"))
    name = network(tmp_path / ".", "resnet18", {})
    os.replace(tmp_path / "a.safetensors", tmp_path / "model.safetensors")
    assert "67,108,864 bytes of names" in refusal(lambda: hub.load(name))


def test_a_layer_of_more_classes_than_there_are_is_refused():
    with pytest.raises(ValueError, match="has 100,000 outputs, more than 65,536 classes"):
        count_classes({"fc.weight": torch.empty(100_000, 8, device="meta")})


@pytest.mark.parametrize("name", ["\x1b[2J", "a" * 301, ".".join("a" * 60), "a\u202eb", "a\nb"])
def test_names_that_steer_a_terminal_or_have_no_end_are_refused(tmp_path, name):
    torch.save({"model": {f"{name}.weight": torch.rand(2, 2)}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="must name its tensors so that they can be shown") as told:
        read_checkpoint(tmp_path / "a.pt")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 400


def many(count: int, stage: str) -> dict[str, torch.Tensor]:
    """Layers of one shape and of many, alone and in blocks."""
    blocks = {
        f"{stage}.{n // 9}.{n % 9}.weight": torch.empty(n % 7 + 1, n % 5 + 1, device="meta") for n in range(count)
    }
    return blocks | {f"{stage}{n}.weight": torch.empty(n + 8, 3, device="meta") for n in range(count)}


def test_three_thousand_tensors_find_their_partners():
    source, target = many(1_500, "blocks"), many(1_500, "layers")
    start = time.process_time()
    found = find_mapping(source, target, ordered=True)
    assert len(found.pairs) == 3_000
    assert all(names[0][6:] == names[1][6:] for names in found.names.items())
    assert len(found.table()) < 2**20
    # Minutes before, as it grew with the square; a fraction of a second on a slow core.
    assert time.process_time() - start < HANGS


def claiming(kind: str, side: int) -> bytes:
    """Writes the smallest file of a kind whose header claims to be that wide and high."""
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">II5B", side, side, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + struct.pack(">I", 13)
            + header
            + struct.pack(">I", zlib.crc32(header))
            + bytes(4)
            + b"IDAT"
            + bytes(4)
        )
    file = BytesIO()
    PILImage.new("RGB", (1, 1)).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    whole = bytearray(file.getvalue())
    if kind == "GIF":
        whole[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        whole[18:26] = struct.pack("<ii", side, side)
    elif kind == "WEBP":
        place = whole.index(b"\x2f") + 1
        whole[place : place + 4] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    else:
        for tag in (256, 257):
            for entry in (struct.pack("<HHIHH", tag, 3, 1, 1, 0), struct.pack("<HHII", tag, 4, 1, 1)):
                at = whole.find(entry)
                if at >= 0:
                    whole[at : at + 12] = struct.pack("<HHII", tag, 4, 1, side)
    return bytes(whole)


SIDES = {"PNG": 60_000, "TIFF": 60_000, "GIF": 60_000, "BMP": 60_000, "WEBP": 16_383}


@pytest.mark.parametrize("kind", SIDES)
def test_an_image_that_claims_to_be_larger_than_any_camera_takes_is_refused_undecoded(tmp_path, kind, folder):
    place, side = tmp_path / "set", SIDES[kind]
    for split in ("train/cat", "train/dog", "test/cat"):
        (place / split).mkdir(parents=True)
        PILImage.new("RGB", (8, 8), "red" if "cat" in split else "blue").save(place / split / "a.png")
    bomb = place / f"test/cat/b.{kind.lower()}"
    bomb.write_bytes(claiming(kind, side))
    told = refusal(lambda: load_test_data(Source(str(place))))
    assert f"({bomb}) has {side:,} x {side:,} px" in told
    assert "more than the 225,000,000 that are read; shrink it or drop the row" in told
    (prediction,) = hub.predict(f"local-dir:{folder}", bomb)
    assert f"has {side:,} x {side:,} px" in prediction.problem


def test_a_photo_of_two_hundred_megapixels_is_opened_without_a_warning(recwarn):
    assert MOST_PIXELS > 200e6
    assert read_mode({"bytes": claiming("PNG", 14_142), "path": None}, "row 0") == "RGB"
    assert list(recwarn) == []
    assert PILImage.MAX_IMAGE_PIXELS is not None


def rows_of(place: Path, cells: list[dict | None]) -> str:
    # As pandas writes them; what knows images would look for the files.
    cell = {"bytes": Value("binary"), "path": Value("string")}
    rows = Dataset.from_dict(
        {"image": cells, "label": [0] * len(cells)}, features=Features({"image": cell, "label": Value("int64")})
    )
    rows.to_parquet(place / "train.parquet")
    return str(place)


def png() -> bytes:
    file = BytesIO()
    PILImage.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("where", ["", "/dev/zero", "pipe", "folder", "gone.png"])
def test_a_row_without_an_image_is_named_before_anything_is_read(tmp_path, where):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "set").mkdir()
    path = str(tmp_path / where) if where else None
    name = rows_of(tmp_path / "set", [{"bytes": png(), "path": None}, {"bytes": None, "path": path} if path else None])
    told = refusal(lambda: load_test_data(Source(name)))
    wanted = f"({path}) must be in a file, and there is none" if where else "there is no image at"
    assert wanted in told
    assert "row 1 of split train" in told
    with pytest.raises(ValueError, match=r"must be in a file|there is no image"):
        read_image({"bytes": None, "path": path}, "row 1")


def test_a_class_whose_name_steers_a_terminal_is_refused(tmp_path):
    for name in ("cat", "d\x1b[31mog"):
        (tmp_path / name).mkdir()
        PILImage.new("RGB", (8, 8), "red" if name == "cat" else "blue").save(tmp_path / name / "a.png")
    with pytest.raises(ValueError, match=r"must name its classes so that they can be shown, got 'd\\x1b\[31mog'"):
        load_test_data(Source(str(tmp_path), tested="all"))

"""A stranger's folder, spoilt in one of many ways: whatever is done with it ends soon, in little memory, in a sentence.

python -m tests.test_fuzz 2000    # seeds 0 to 1999, and a table of how they ended
"""

import json
import os
import random
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from recipes.compare import compare
from robust_hub import hub
from robust_hub.__main__ import list_, show
from robust_hub.hub import check_folder, load, verify
from robust_hub.launch import tell
from tests.confined import Outcome, confined
from tests.made_up import CNN, evaluated

FILES = ["config.json", "README.md", "evaluation.json", "evidence.safetensors", "model.safetensors"]
HOSTILE = [
    *(None, True, -1, 0, 2**63, 1e308, -1e-300, "", "x" * 10**6, "\x1b[2J\x07", "../../etc/passwd", "hf-hub:a/b"),
    *([], {}, [[]] * 1000, {"a": {"b": {}}}, ["\ud800"], "linf:nan", "linf:8/0", [1e9] * 64, "NaN"),
]
USES: dict[str, Callable[[Path], object]] = {
    "load": lambda folder: load(f"local-dir:{folder}"),
    "show": lambda folder: show(f"local-dir:{folder}"),
    "list": lambda folder: list_(folder=folder.parent),
    "verify": lambda folder: verify(f"local-dir:{folder}", spot_check=2),
    "publish": lambda folder: check_folder(folder),
    "compare": lambda folder: compare(folder.parent, html=folder.parent / "page.html"),
    "download": lambda folder: hub.download(f"local-dir:{folder}", folder.parent / "downloaded"),
}


def spoil(folder: Path, seed: int) -> None:
    """Changes one file of a folder, or two."""
    chance = random.Random(seed)
    for _ in range(chance.choice([1, 1, 2])):
        file = folder / chance.choice(FILES)
        ways = [_truncate, _flip, _replace]
        ways += {".json": [_change_json] * 8, ".md": [_change_text] * 5}.get(file.suffix, [_change_header] * 5)
        if file.is_file() and not file.is_symlink():
            chance.choice(ways)(file, chance)


def _truncate(file: Path, chance: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])


def _flip(file: Path, chance: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice([1, 10, 1000])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    file.write_bytes(bytes(content))


def _replace(file: Path, chance: random.Random) -> None:
    """Puts something else there: nothing, a folder, a link, a pipe, a device, or another file of the folder."""
    file.unlink()
    chance.choice(
        [
            lambda: None,
            file.touch,
            file.mkdir,
            lambda: file.symlink_to("/etc/hostname"),
            lambda: file.symlink_to(file.name),
            lambda: file.symlink_to("/dev/zero"),
            lambda: os.mkfifo(file),
            lambda: shutil.copy(Path(__file__), file),
        ]
    )()


def _change_json(file: Path, chance: random.Random) -> None:
    told = json.loads(file.read_text())
    place, parent, key = told, None, None
    while isinstance(place, dict | list) and place and (parent is None or chance.random() < 0.7):
        parent, key = place, chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place = parent[key]
    way = chance.randrange(4)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, dict):
        parent[chance.choice(["block_args", "pretrained", "\x1b[31m", "n" * 10**5])] = chance.choice(HOSTILE)
    elif way == 2 and isinstance(place, str | list):
        parent[key] = place * chance.choice([2, 1000])
    else:
        parent[key] = chance.choice(HOSTILE)
    file.write_text(json.dumps(told))


def _change_text(file: Path, chance: random.Random) -> None:
    lines = file.read_text().splitlines()
    at = chance.randrange(len(lines))
    odd = chance.choice(
        [
            *(
                "- item\n" * 10**5,
                "\x1b[2J",
                "\0",
                "[" * 10**5,
                "> " * 10**4,
                "<script>alert(1)</script>",
                "![x](../../x)",
            ),
            *("---", "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]", "`" * 10**5, "| a " * 10**4, "\u202e", "{{ 7 * 7 }}"),
            *("| **robust** | **99.9 [99.0, 100.0]** | 24 | x |", "![" * 10**4, "  " * 10**5, "*" * 10**5),
        ]
    )
    lines[at : at + chance.choice([0, 1, 5])] = [odd]
    file.write_text("\n".join(lines))


def _change_header(file: Path, chance: random.Random) -> None:
    """Changes what a safetensors file tells of its tensors."""
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = chance.choice([name for name in header if name != "__metadata__"])
    way = chance.randrange(6)
    if way == 0:
        del header[name]
    elif way == 1:
        header[chance.choice(["fc.weight2", "\x1b[2J", "n" * 10**5])] = header[name]
    elif way == 2:
        header[name]["shape"] = chance.choice([[], [0], [2**31, 2**31], [1] * 100, header[name]["shape"][::-1], [-1]])
    elif way == 3:
        header[name]["dtype"] = chance.choice(["F64", "BF16", "I8", "BOOL", "F8_E4M3", "X"])
    elif way == 4:
        header["__metadata__"] = chance.choice([{"format": "9"}, {"covered": "x"}, {"a": "b" * 10**6}, None, {}])
    packed = json.dumps(header).encode()
    length = chance.choice([2**62, 3]) if way == 5 else len(packed)
    file.write_bytes(struct.pack("<Q", length) + packed + rest)


def ends(folder: Path, place: Path, seed: int, uses: Collection[str] = tuple(USES)) -> dict[str, Outcome]:
    """Tells how uses of a spoilt copy of a folder end; one that is as it was stands beside it."""
    shutil.copytree(folder, place / "honest")
    spoilt = Path(shutil.copytree(folder, place / "spoilt"))
    spoil(spoilt, seed)
    return {name: confined(lambda name=name: USES[name](spoilt)) for name in uses}


def wrong(outcomes: dict[str, Outcome]) -> list[str]:
    """Names the uses that did not end as they should."""
    return [
        f"{name}: {outcome}"
        for name, outcome in outcomes.items()
        if outcome.end not in ("done", "refused")
        or (outcome.end == "refused" and not outcome.told.isprintable())
        # One stranger spoils nobody's list or page.
        or (name in ("list", "compare") and outcome.end != "done")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = evaluated(tmp_path_factory.mktemp("models") / "resnet", "resnet18_cifar", CNN)
    # What these import, the forked processes need not.
    for use in USES.values():
        use(Path(shutil.copytree(folder, tmp_path_factory.mktemp("once") / "model")))
    return folder


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 200))])
def test_a_spoilt_folder_is_refused_in_a_sentence_and_spoils_no_list(folder, tmp_path, seed):
    # All seven take three seconds; the program below does them all.
    assert not wrong(ends(folder, tmp_path, seed, [list(USES)[seed % len(USES)]]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        honest = evaluated(Path(made) / "resnet", "resnet18_cifar", CNN)
        for use in USES.values():
            use(Path(shutil.copytree(honest, Path(tempfile.mkdtemp(dir=made)) / "model")))
        counts, longest, most = Counter(), 0.0, 0
        for number in range(int(sys.argv[1])):
            with tempfile.TemporaryDirectory(dir=made) as here:
                outcomes = ends(honest, Path(here), number)
            counts.update((name, outcome.end) for name, outcome in outcomes.items())
            longest = max(longest, *(outcome.seconds for outcome in outcomes.values()))
            most = max(most, *(outcome.memory for outcome in outcomes.values()))
            for line in wrong(outcomes):
                tell(f"seed {number}, {line[:600]}")
        tell(f"{sorted(counts.items())}; longest {longest:.1f} s, most memory {most / 2**20:.0f} MiB")

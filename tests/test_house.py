"""The house stands as it was drawn: few floors, no circle, and one door to each wing."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house import FACE, PACKAGE, RECIPES, circle, floors, imports, read_house, root_modules, sources

ROOT = Path(__file__).parents[1]
HOUSE = read_house(ROOT)
WINGS = [room for room in HOUSE if (ROOT / PACKAGE / room / "__init__.py").is_file()]
# Half of those of the tower that stood here before, and those of wings that came later: export and demo.
MOST_ARROWS = 102 + 23
MOST_FLOORS = 7


def test_no_rooms_import_each_other_in_a_circle():
    assert circle(HOUSE) == []


def test_there_are_at_most_seven_floors():
    assert len(floors(HOUSE)) <= MOST_FLOORS


def test_there_are_few_arrows():
    assert sum(map(len, HOUSE.values())) <= MOST_ARROWS


def test_six_modules_stand_at_the_root():
    assert root_modules(ROOT) == sorted(["types", "threats", "losses", "errors", "names", "files"])


def test_what_is_counted_is_printed():
    command = [sys.executable, "benchmarks/house.py"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert f"arrows: {sum(map(len, HOUSE.values()))}\ncircle: none\n" in told
    assert f"floor {len(floors(HOUSE))}: " in told
    assert f"floor {len(floors(HOUSE)) + 1}: " not in told


def draw(place: Path, files: dict[str, str]) -> dict[str, set[str]]:
    """Writes a house of these files and reads it."""
    for name, text in {"robust_hub/__init__.py": "", "recipes/train.py": "", **files}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    return read_house(place)


@pytest.mark.parametrize(
    "text",
    [
        "import robust_hub.attic",
        "from robust_hub import attic",
        "from robust_hub.attic import beam",
        "from robust_hub.attic.beam import wood",
        "def climb():\n    from robust_hub import attic",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from robust_hub.attic import beam",
        "from .. import attic",
        "from ..attic.beam import wood",
    ],
)
def test_an_import_is_an_arrow_wherever_it_stands(tmp_path, text):
    house = draw(tmp_path, {"robust_hub/attic/__init__.py": "", "robust_hub/hall/__init__.py": text})
    assert house == {FACE: set(), "attic": set(), "hall": {"attic"}, RECIPES: set()}


@pytest.mark.parametrize("text", ["import torch", "from . import beam", "from .beam import wood", "import atticus"])
def test_an_import_that_leads_to_no_other_room_is_no_arrow(tmp_path, text):
    assert draw(tmp_path, {"robust_hub/attic/__init__.py": text})["attic"] == set()


def test_the_package_itself_is_a_room_of_its_own(tmp_path):
    house = draw(tmp_path, {"recipes/train.py": "from robust_hub import load", "robust_hub/hall.py": ""})
    assert house[RECIPES] == {FACE}


def test_a_room_stands_above_all_that_it_imports(tmp_path):
    texts = {"a": "from robust_hub import b, c", "b": "from robust_hub import c", "c": "", "d": ""}
    house = draw(tmp_path, {f"robust_hub/{name}.py": text for name, text in texts.items()})
    assert floors(house) == [[FACE, "c", "d", RECIPES], ["b"], ["a"]]


def test_a_circle_is_found(tmp_path):
    texts = {"a": "from robust_hub import b", "b": "from robust_hub import c", "c": "from robust_hub import a"}
    found = circle(draw(tmp_path, {f"robust_hub/{name}.py": text for name, text in texts.items()}))
    assert found[0] == found[-1]
    assert "abcabc".find("".join(found[:3])) >= 0


def modules_of(wing: str) -> set[str]:
    return {module.name for module in pkgutil.iter_modules([str(ROOT / PACKAGE / wing)])}


MODULES = {f"{PACKAGE}.{wing}.{module}" for wing in WINGS for module in modules_of(wing)}


def offered_by(face: Path) -> list[str]:
    """Lists the names in the stub of a face."""
    tree = ast.parse(face.with_suffix(".pyi").read_text())
    return [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]


FACES = {PACKAGE: ROOT / PACKAGE / "__init__.py"}
FACES |= {f"{PACKAGE}.{wing}": ROOT / PACKAGE / wing / "__init__.py" for wing in WINGS}
OFFERED = {f"{face}.{name}" for face, file in FACES.items() for name in offered_by(file)}


def outsiders() -> list[Path]:
    """Lists the files that import: those of the package without its own face, of recipes and of benchmarks."""
    files = [*sources(ROOT), *(ROOT / "benchmarks").glob("*.py")]
    return sorted(file for file in files if file.parent != ROOT / PACKAGE or file.stem != FACE)


def test_a_wing_is_entered_by_its_face_alone():
    deep = []
    for file in outsiders():
        own = ".".join(file.relative_to(ROOT).parts[:2])
        for name in imports(file, ROOT):
            module = ".".join(name.split(".")[:3])
            if module in MODULES and name not in OFFERED and not module.startswith(f"{own}."):
                deep.append(f"{file.relative_to(ROOT)} imports {name}")
    assert deep == []


@pytest.mark.parametrize("face", FACES)
def test_every_name_of_a_face_can_be_had(face):
    module = importlib.import_module(face)
    names = offered_by(FACES[face])
    assert names
    assert [name for name in names if not hasattr(module, name)] == []
    assert sorted(module.__all__) == sorted(names)


@pytest.mark.parametrize("face", FACES)
def test_a_face_says_what_its_wing_is(face):
    told = ast.get_docstring(ast.parse(FACES[face].read_text()))
    assert told
    assert told.splitlines()[0].endswith(".")
    assert (
        ast.get_docstring(ast.parse(FACES[face].with_suffix(".pyi").read_text())).splitlines()[0]
        == (told.splitlines()[0])
    )


@pytest.mark.parametrize("wing", WINGS)
def test_no_module_is_named_like_what_its_face_offers(wing):
    # Importing the module would put it in the place of the other.
    assert set(offered_by(FACES[f"{PACKAGE}.{wing}"])) & modules_of(wing) == set()


def test_what_is_built_is_every_package():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 can't read pyproject.toml")
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [file.parent.relative_to(ROOT) for file in (ROOT / PACKAGE).rglob("__init__.py")]
    assert sorted(built) == sorted([*(".".join(folder.parts) for folder in folders), f"{PACKAGE}.{RECIPES}"])

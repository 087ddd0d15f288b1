"""How the house stands: its rooms, who imports whom, and how many floors that makes.

    python benchmarks/house.py [FOLDER_OF_A_CHECKOUT]

Reads imports as text and runs nothing. A room is a direct child of robust_hub/, or recipes/; an arrow is an ordered
pair of rooms of which the first imports the second: anywhere in a file, for type checkers too, and in a face's stub.
A room stands one floor above the highest room that it imports. Lines are those of modules that are not blank.
"""

import argparse
import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, RECIPES, FACE = "robust_hub", "recipes", "__init__"
House = dict[str, set[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT, help="of a checkout; this one if there is none")
    folder = parser.parse_args().folder
    modules, house = root_modules(folder), read_house(folder)
    print(f"root modules: {len(modules)} ({', '.join(modules)})")
    print(f"rooms: {len(house)} ({', '.join(house)})")
    print(f"arrows: {sum(map(len, house.values()))}")
    print(f"circle: {' -> '.join(circle(house)) or 'none'}")
    for number, rooms in enumerate([] if circle(house) else floors(house), start=1):
        print(f"floor {number}: {', '.join(rooms)}")
    counted = {part: lines(folder / part) for part in (PACKAGE, RECIPES)}
    told = ", ".join(f"{part}/ {number:,}" for part, number in counted.items())
    print(f"lines of code: {sum(counted.values()):,} ({told})")


def root_modules(folder: Path) -> list[str]:
    """Lists the modules directly in robust_hub/, without its face and its command line."""
    return sorted(file.stem for file in (folder / PACKAGE).glob("*.py") if not file.stem.startswith("__"))


def read_house(folder: Path) -> House:
    """Reads which rooms each room of a checkout imports."""
    house: House = {room: set() for room in sorted([*rooms_in(folder / PACKAGE), RECIPES])}
    for file in sources(folder):
        top, *rest = file.relative_to(folder).parts
        room = RECIPES if top == RECIPES else Path(rest[0]).stem
        house[room] |= {room_of(name, house) for name in imports(file, folder)} - {room, ""}
    return house


def rooms_in(package: Path) -> set[str]:
    """Names the modules and packages directly in a package."""
    return {child.stem for child in package.iterdir() if child.suffix == ".py" or (child / "__init__.py").is_file()}


def sources(folder: Path) -> list[Path]:
    """Lists the files that import: modules, and the stubs by which lazy faces say what they offer."""
    return [file for part in (PACKAGE, RECIPES) for end in ("py", "pyi") for file in (folder / part).rglob(f"*.{end}")]


def imports(file: Path, folder: Path) -> Iterator[str]:
    """Yields the dotted name of everything that a file imports; of `from a import b` that is a.b."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = file.relative_to(folder).parts[: -node.level] if node.level else ()
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


def room_of(name: str, house: House) -> str:
    """Names the room that an imported name leads to: the package's face where no other; empty out of the house."""
    top, *rest = name.split(".")
    if top == PACKAGE:
        return rest[0] if rest and rest[0] in house else FACE
    return RECIPES if top == RECIPES else ""


def circle(house: House) -> list[str]:
    """Finds rooms that import each other in a circle, the first once more at the end; empty where none do."""
    try:
        TopologicalSorter(house).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def floors(house: House) -> list[list[str]]:
    """Lists the rooms of each floor of a house without a circle, the lowest first."""
    height: dict[str, int] = {}
    for room in TopologicalSorter(house).static_order():
        height[room] = 1 + max((height[below] for below in house[room]), default=0)
    return [[room for room in house if height[room] == number] for number in range(1, max(height.values()) + 1)]


def lines(folder: Path) -> int:
    """Counts the lines of modules that are not blank."""
    texts = (file.read_text(encoding="utf-8") for file in folder.rglob("*.py"))
    return sum(bool(line.strip()) for text in texts for line in text.splitlines())


if __name__ == "__main__":
    main()

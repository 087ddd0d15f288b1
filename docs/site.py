"""Writes the pages of the site that are made from code: the start from README, options of recipes, and the API.

mkdocs runs it (`mkdocs build`), by its plugin gen-files; nothing is written beside the pages of docs/.
"""

import ast
import inspect
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import griffe
import mkdocs_gen_files
import tyro

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "robust_hub"
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
# Of a file that is shown where it stands, and of one that is on no page.
PAGES, REPOSITORY = (".md",), "https://github.com/robust-hub/robust_hub/blob/main"


def write_pages() -> None:
    """Writes README, CONTRIBUTING and the pages of docs/, with links that hold within the site."""
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        name = "index.md" if file.name == "README.md" else file.name
        text = re.sub(r"^<!-- (run|parse|shell).*-->\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        with mkdocs_gen_files.open(name, "w") as page:
            page.write(LINK.sub(lambda found, file=file: f"]({_target(file, found[1])}{found[2] or ''})", text))


def _target(page: Path, link: str) -> str:
    """Gives what a page's link leads to within the site; a picture is copied into it."""
    file = (page.parent / link).resolve()
    place = file.relative_to(ROOT)
    if place == Path("README.md"):
        return "index.md"
    if file.suffix in PAGES and place.parent in (Path("."), Path("docs")):
        return file.name
    if file.suffix == ".png":
        with mkdocs_gen_files.open(f"pictures/{place.as_posix()}", "wb") as copy, file.open("rb") as picture:
            shutil.copyfileobj(picture, copy)
        return f"pictures/{place.as_posix()}"
    return f"{REPOSITORY}/{place.as_posix()}"


def write_options() -> None:
    """Writes what each recipe can be told, from the dataclasses that are its command line."""
    with mkdocs_gen_files.open("options.md", "w") as page:
        page.write("# Options of the recipes\n\nAs `--help` of each tells them.\n")
        for file in sorted((ROOT / "recipes").glob("*.py")):
            if file.stem != "__init__":
                for name, command in _commands(file).items():
                    title = file.stem if name.replace("-", "_") == file.stem else f"{file.stem} {name}"
                    page.write(f"\n## {title}\n\n{inspect.getdoc(command).splitlines()[0]}\n\n")
                    page.write("| option | default | meaning |\n|---|---|---|\n")
                    page.writelines(
                        f"| `{option}` | {default} | {told} |\n" for option, default, told in _options(command)
                    )


def _commands(file: Path) -> dict[str, Callable]:
    """Reads the sub-commands of a recipe, which tells them when it is started."""
    import robust_hub.launch

    told, started = {}, robust_hub.launch.command_line
    robust_hub.launch.command_line = lambda commands, **_: told.update(commands)
    try:
        runpy.run_path(str(file), run_name="__main__")
    finally:
        robust_hub.launch.command_line = started
    return told


def _options(asked: Callable) -> Iterator[tuple[str, str, str]]:
    """Lists options with their defaults and meanings, those of options within options as well."""
    parsed = griffe.Docstring(inspect.getdoc(asked) or "", parser="google", parser_options={"warnings": False}).parse()
    meanings = {
        each.name: " ".join(each.description.split()).replace("|", "\\|")
        for section in parsed
        if section.kind.value in ("attributes", "parameters")
        for each in section.value
    }
    defaults = _defaults(asked)
    for name, kind in get_type_hints(asked, include_extras=True).items():
        # Not what is returned, nor what belongs to the class.
        if name not in defaults:
            continue
        notes = getattr(kind, "__metadata__", ())
        if is_dataclass(kind):
            yield from _options(kind)
        else:
            told = "required" if defaults[name] is MISSING else f"`{defaults[name]!r}`".replace("|", "\\|")
            yield _typed(name, notes), told, meanings.get(name, "")


def _typed(name: str, notes: tuple) -> str:
    """Writes an option as it is typed: under the name that it is given, or as a word in its place."""
    if tyro.conf.Positional in notes:
        return name.upper()
    given = next((note.name for note in notes if getattr(note, "name", None)), name)
    return f"--{given.replace('_', '-')}"


def _defaults(asked: Callable) -> dict[str, object]:
    if is_dataclass(asked):
        return {
            each.name: each.default_factory() if each.default_factory is not MISSING else each.default
            for each in fields(asked)
        }
    parameters = inspect.signature(asked).parameters.values()
    return {each.name: MISSING if each.default is each.empty else each.default for each in parameters}


def write_api() -> None:
    """Writes a page for each wing: all that its face offers."""
    entries = ["# API\n\nWhat each wing offers; all else is its own affair.\n"]
    for face in sorted(PACKAGE.glob("*/__init__.pyi")):
        wing, tree = face.parent.name, ast.parse(face.read_text(encoding="utf-8"))
        entries.append(f"- [{wing}]({wing}.md): {ast.get_docstring(tree).splitlines()[0]}\n")
        with mkdocs_gen_files.open(f"api/{wing}.md", "w") as page:
            page.write(f"# robust_hub.{wing}\n\n{ast.get_docstring(tree)}\n")
            for node in tree.body:
                if isinstance(node, ast.ImportFrom):
                    page.writelines(f"\n::: robust_hub.{wing}.{node.module}.{each.name}\n" for each in node.names)
    with mkdocs_gen_files.open("api/index.md", "w") as page:
        page.write("\n".join(entries))


sys.path.insert(0, str(ROOT))
write_pages()
write_options()
write_api()

"""What README, CONTRIBUTING and docs/ show works: code runs, commands parse, links lead somewhere, files are named.

The line before a block says how it is tested: `<!-- run -->`, `<!-- parse -->` where running would take over 10 s or
the network, `<!-- shell: reason -->` where the command is not ours.
"""

import os
import re
import runpy
import subprocess
import sys
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import pytest
from accelerate.commands.launch import launch_command_parser

import robust_hub.launch

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
# Instead of running, each program tells its words, one command a line; without a PATH bash finds no others.
TELL = r"""PATH=; tell() { printf '%s\x1f' "$@"; echo; }
accelerate() { tell accelerate "$@"; }; python() { tell python "$@"; }; robust_hub() { tell robust_hub "$@"; }
"""


class Block(NamedTuple):
    place: str
    mark: str
    language: str
    code: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = [(text.count("\n", 0, block.start()) + 1, *block.groups("")) for block in BLOCK.finditer(text)]
    return [Block(f"{page.name}:{line}", *told) for line, *told in found]


BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language != "text"]


def marked(mark: str, language: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if (block.mark, block.language) == (mark, language)]
    # What is run takes long; of that, the README's are always.
    slow = [mark == "run" and not block.place.startswith("README") for block in chosen]
    marks = [[pytest.mark.slow] if each else [] for each in slow]
    params = [pytest.param(block, marks=each, id=block.place) for block, each in zip(chosen, marks, strict=True)]
    return pytest.mark.parametrize("block", params)


def bash(code: str, **environment: str) -> str:
    process = ["bash", "-euc", code]
    done = subprocess.run(process, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse(words: list[str], monkeypatch) -> list[str]:
    """Parses a command by the definition of the recipe it starts; returns the sub-command that would have run."""
    program, *arguments = words
    if program == "accelerate":
        launched = launch_command_parser().parse_args(arguments[1:])
        program, arguments = launched.training_script, launched.training_script_args
    elif program == "python":
        program, *arguments = arguments[1:] if arguments[0] == "-m" else arguments
    if program.startswith("robust_hub.recipes."):
        program = f"recipes/{program.rpartition('.')[2]}.py"
    file = ROOT / ("robust_hub/__main__.py" if program == "robust_hub" else program)
    reached, command_line = [], robust_hub.launch.command_line

    def idle(command):
        return wraps(command)(lambda *_, **__: reached.append(command.__name__))

    def parse_only(commands, **options):
        command_line({name: idle(command) for name, command in commands.items()}, **options)

    with monkeypatch.context() as patch:
        patch.setattr(robust_hub.launch, "command_line", parse_only)
        patch.setattr(sys, "argv", [str(file), *arguments])
        runpy.run_path(str(file), run_name="__main__")
    return reached


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Makes the working directory one that looks like this checkout, in which a block may write."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "model_cards").mkdir()
    for folder in (ROOT / "model_cards").glob("*/"):
        (tmp_path / "model_cards" / folder.name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)


def test_every_block_says_how_it_is_tested():
    known = {"bash": r"run|parse|shell: \w.*", "python": "run"}
    assert [block.place for block in BLOCKS if not re.fullmatch(known.get(block.language, "-"), block.mark)] == []


@pytest.mark.usefixtures("checkout")
@marked("run", "python")
def test_python_runs(block):
    exec(compile(block.code, block.place, "exec"), {"__name__": "__main__"})


@pytest.mark.usefixtures("checkout")
@marked("run", "bash")
def test_commands_run(block):
    bash(block.code, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@marked("parse", "bash")
def test_commands_parse(block, monkeypatch):
    commands = [line.split("\x1f")[:-1] for line in bash(TELL + block.code).splitlines()]
    assert commands
    for words in commands:
        assert len(parse(words, monkeypatch)) == 1, words


@pytest.mark.parametrize(
    "wrong", [("--epochs", "--epoch"), ("--epochs 3", "--epochs few"), (" --data digits", ""), ("--cpu", "--cup")]
)
def test_a_wrong_option_does_not_parse(wrong, monkeypatch):
    right = "accelerate launch --cpu recipes/transfer.py kd --teacher a --student b --data digits --epochs 3 --output c"
    assert parse(right.split(), monkeypatch) == ["kd"]
    with pytest.raises(SystemExit, match="2"):
        parse(right.replace(*wrong).split(), monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for path, heading in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        titles = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE) if heading else []
        assert heading in {"", *(re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles)}, heading


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 9_000


def test_the_tree_names_every_file_and_no_other():
    tree = next(block.code for block in blocks_of(ROOT / "docs" / "architecture.md") if block.language == "text")
    files = [file for room in ("robust_hub", "recipes") for file in (ROOT / room).rglob("*.py")]
    names = {file.relative_to(ROOT).as_posix().removeprefix("robust_hub/") for file in files}
    named = set(re.findall(r"[\w/]+\.py\b", tree))
    assert named - {"__init__.py"} == {name for name in names if not name.endswith("__init__.py")}

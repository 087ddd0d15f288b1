"""Help, lists and refusals come before anything heavy is imported, and every program says what it takes."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MODEL = "small_cnn_grey.trades_linf0.1_digits"


class Answer(NamedTuple):
    code: int
    out: str
    err: str
    heavy: list[str]


# Runs one command line after the other in a process that has imported nothing yet, and tells what came with each.
RUNNER = """
import io, json, runpy, sys
from contextlib import redirect_stderr, redirect_stdout

commands, heavy = json.load(sys.stdin)
answers = []
for program, *words in commands:
    sys.argv, code, before = [program, *words], 0, set(sys.modules)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            if program == "robust_hub":
                runpy.run_module(program, run_name="__main__")
            else:
                runpy.run_path(program, run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code or 0
    answers.append([code, out.getvalue(), err.getvalue(), sorted((set(sys.modules) - before) & set(heavy))])
print(json.dumps(answers))
"""


def answers(commands: list[list[str]], heavy: list[str]) -> dict[str, Answer]:
    command = [sys.executable, "-c", RUNNER]
    given = json.dumps([commands, heavy])
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return {" ".join(words): Answer(*answer) for words, answer in zip(commands, told, strict=True)}


# What is heavier than numpy.
HEAVY = ["torch", "torchvision", "timm", "accelerate", "datasets", "sklearn", "scipy", "matplotlib"]
OF_THE_COMMAND_LINE = {
    "robust_hub --help": 0,
    "robust_hub list --help": 0,
    "robust_hub predict --help": 0,
    "robust_hub export --help": 0,
    "robust_hub demo --help": 0,
    "robust_hub list --folder model_cards": 0,
    f"robust_hub show {MODEL}": 0,
    "robust_hub lst": 2,
    "robust_hub list --fodler model_cards": 2,
    f"robust_hub download {MODEL} --too x": 2,
    f"robust_hub verify {MODEL} --dta x": 2,
    f"robust_hub predict {MODEL} photo.png --cvs x": 2,
    f"robust_hub export {MODEL} --to tflite --output x": 2,
    "robust_hub list --threat linf:8/256/2": 2,
}


@pytest.fixture(scope="module")
def command_line() -> dict[str, Answer]:
    return answers([command.split() for command in OF_THE_COMMAND_LINE], HEAVY)


@pytest.mark.parametrize("command", OF_THE_COMMAND_LINE)
def test_the_command_line_answers_without_torch(command_line, command):
    answer = command_line[command]
    assert answer.code == OF_THE_COMMAND_LINE[command], answer.err
    assert answer.heavy == []
    assert answer.err if answer.code else answer.out


RECIPES = sorted(str(file.relative_to(ROOT)) for file in (ROOT / "recipes").glob("*.py") if file.stem != "__init__")
OF_RECIPES = {f"{recipe} --help": 0 for recipe in RECIPES} | {f"{recipe} --no-such-option 1": 2 for recipe in RECIPES}
OF_RECIPES |= {
    "recipes/transfer.py igam --help": 0,
    "recipes/transfer.py rrm --techer x": 2,
    "recipes/transfer.py digits --ouput x": 2,
    "recipes/adversarial_training.py pgd --studnet x": 2,
    "recipes/publish.py folder x --licence mit": 2,
}


@pytest.fixture(scope="module")
def recipes() -> dict[str, Answer]:
    # torch itself may be there: options tell of tensors.
    return answers([command.split() for command in OF_RECIPES], [name for name in HEAVY if name != "torch"])


@pytest.mark.parametrize("command", OF_RECIPES)
def test_a_recipe_answers_without_what_only_a_run_needs(recipes, command):
    answer = recipes[command]
    assert answer.code == OF_RECIPES[command], answer.err
    assert answer.heavy == []
    assert answer.err if answer.code else answer.out


@pytest.mark.slow
def test_a_misspelt_model_is_refused_before_images_and_plots_are_at_hand(tmp_path):
    words = ["recipes/evaluate.py", "--model", "resnt18", "--data", "synthetic", "--output", str(tmp_path / "run")]
    # Whether timm knows the name, timm says.
    (answer,) = answers([words], ["datasets", "sklearn", "matplotlib"]).values()
    assert (answer.code, answer.heavy) == (2, [])
    assert "got 'resnt18'" in answer.err
    assert not (tmp_path / "run").exists()


def test_the_runner_would_tell_what_is_heavy(tmp_path):
    (tmp_path / "program.py").write_text("import scipy")
    (answer,) = answers([[str(tmp_path / "program.py")]], HEAVY).values()
    assert answer.heavy == ["scipy"]


PROGRAMS = [file for file in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in file.read_text()]


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.name)
def test_every_benchmark_says_what_it_takes(file, monkeypatch, capsys):
    if file.name == "autoattack.py":
        pytest.importorskip("pyautoattack")
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(file), run_name="__main__")
    assert not stopped.value.code
    assert "usage: " in capsys.readouterr().out

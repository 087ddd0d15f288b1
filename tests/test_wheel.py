"""The wheel that people install has the recipes, works in an empty folder, and brings nothing that is not code."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of what it is made of."""
    source = tmp_path_factory.mktemp("source")
    for name in ("robust_hub", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs a module of the unpacked wheel, and of nothing else, in an empty folder."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    def start(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path_factory.mktemp("empty"),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    start.site = site
    return start


def test_it_has_templates_faces_licence_and_recipes_but_no_models_or_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    pages = [f"leaderboard/page{end}" for end in ("_template.html", ".css", ".js")]
    for name in ("model_folder/card_template.md", "hub/__init__.pyi", *pages):
        assert f"robust_hub/{name}" in names
    assert {f"robust_hub/recipes/{file.name}" for file in (ROOT / "recipes").glob("*.py")} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "model_cards" in name or "tests" in name]


def test_models_are_listed_and_loaded_by_it(run):
    assert "small_cnn_grey" in run("-m", "robust_hub", "list", "--folder", str(ROOT / "model_cards"))
    folder = ROOT / "model_cards" / "small_cnn_grey.trades_linf0.1_digits"
    code = f"import robust_hub; print(robust_hub.__file__); print(robust_hub.load('local-dir:{folder}').architecture)"
    place, architecture = run("-c", code).split()
    assert Path(place).is_relative_to(run.site)
    assert architecture == "small_cnn_grey"


@pytest.mark.slow
def test_its_recipes_are_started_as_modules(run):
    launch = (
        "-m",
        "accelerate.commands.launch",
        "--quiet",
        "--num_processes",
        "1",
        "-m",
        "robust_hub.recipes.transfer",
    )
    assert "--cross-entropy-weight" in run(*launch, "rrm", "--help")

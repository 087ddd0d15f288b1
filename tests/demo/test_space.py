"""A Space starts from its folder alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from robust_hub.__main__ import main
from robust_hub.demo import space
from robust_hub.demo.exhibits import Exhibit
from robust_hub.evaluation import surrogate
from robust_hub.hub import load
from tests.made_up import CNN, evaluated

pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return evaluated(tmp_path_factory.mktemp("demo") / "model", "resnet18_cifar", CNN)


def write_space(monkeypatch, model: Path, folder: Path) -> None:
    monkeypatch.setattr(surrogate, "STEPS", 5)
    monkeypatch.setattr(
        sys, "argv", ["robust_hub", "demo", f"local-dir:{model}", "--space", str(folder), "--pictures", "3"]
    )
    main()


@pytest.mark.slow
def test_the_program_serves_the_page(model, tmp_path, monkeypatch):
    write_space(monkeypatch, model, tmp_path / "space")
    space = (tmp_path / "space").rename(tmp_path / "elsewhere")
    told = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (told["sdk"], told["app_file"]) == ("gradio", "app.py")
    assert "robust_hub[demo]" in (space / "requirements.txt").read_text()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=space,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        try:
            lines = []
            for line in program.stdout:
                lines.append(line)
                if found := re.search(r"the page is at (http://\S+);", line):
                    break
            else:
                pytest.fail("".join(lines))
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{found[1]}config") as answer:
                config = json.load(answer)
        finally:
            program.terminate()
    assert config["title"] == "What does it withstand?"
    assert config["analytics_enabled"] is False


def test_a_folder_that_is_there_is_not_touched(model, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        write_space(monkeypatch, model, tmp_path)
    assert capsys.readouterr().err.endswith("is there already; choose another --space\n")
    assert list(tmp_path.iterdir()) == []


def test_labels_that_were_found_by_the_images_are_in_the_folder(model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    names = config["label_names"][::-1]
    for place in (config, config["pretrained_cfg"]):
        place.pop("label_names", None)
    nameless = shutil.copytree(model, tmp_path / "nameless")
    (nameless / "config.json").write_text(json.dumps(config))
    exhibit = Exhibit("net", load(f"local-dir:{nameless}"), names, folder=nameless)
    space.write_space(tmp_path / "space", [exhibit] * 11, [])
    folders = sorted((tmp_path / "space" / "models").iterdir())
    assert [folder.name[:3] for folder in folders] == [f"{number:03}" for number in range(11)]
    assert load(f"local-dir:{folders[0]}").label_names == names

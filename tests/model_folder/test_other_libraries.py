"""A folder is the same model in the oldest timm that we allow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from robust_hub.names import CONFIG, EVIDENCE

ROOT = Path(__file__).parents[2]
MODEL_CARDS = sorted(file.parent for file in (ROOT / "model_cards").glob(f"*/{CONFIG}"))
LOGITS = """
import sys, timm, torch
import robust_hub
kept = torch.load(sys.argv[1])
for folder, images in kept.items():
    with torch.no_grad():
        kept[folder] = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images)
torch.save(kept, sys.argv[1])
print(timm.__version__)
"""


def test_the_oldest_timm_that_is_allowed_loads_evaluated_folders_to_the_same_logits(tmp_path):
    oldest = Path(sys.prefix) / "timm_oldest"
    if not oldest.exists():
        pytest.skip(f"{oldest} is missing; `make test` installs the oldest timm that pyproject.toml allows there")
    assert all((folder / EVIDENCE).is_file() for folder in MODEL_CARDS)
    models = {str(folder): timm.create_model(f"local-dir:{folder}", pretrained=True).eval() for folder in MODEL_CARDS}
    images = {folder: torch.randn(2, *model.pretrained_cfg["input_size"]) for folder, model in models.items()}
    torch.save(images, tmp_path / "kept.pt")
    command = [sys.executable, "-c", LOGITS, str(tmp_path / "kept.pt")]
    environment = {**os.environ, "PYTHONPATH": f"{oldest}:{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (allowed,) = re.findall(r'"timm>=(.*)"', (ROOT / "pyproject.toml").read_text())
    assert done.stdout.split() == [allowed]
    logits = torch.load(tmp_path / "kept.pt")
    for folder, model in models.items():
        with torch.no_grad():
            assert torch.equal(logits[folder], model(images[folder])), folder

"""Names that folders, cards and the Hub share: where a model is, what its files are called, what cards may tell."""

import re
from pathlib import Path

# By which a model's name tells where it is.
SOURCES = ("hf-hub:", "local-dir:")
# That intervals are told to: further digits are those of one version of scipy, and cards of all versions are compared.
DECIMALS = 9
# ORG/NAME, of a repository or a data set.
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# The files of a model folder.
CARD = "README.md"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
EVALUATION = "evaluation.json"
EVIDENCE = "evidence.safetensors"
ENTRIES = Path(".eval_results") / "robust_hub.yaml"
# The model folder of a run, in its output.
STUDENT = "student"

# Of config.json, where a model tells its provenance, and in that what lists show; timm leaves it alone. Published
# folders have these names, so they stay.
CONFIG_KEY, INFO_KEY = "robustness", "claim"
# Of a card's front matter, where it tells what lists show, and by which the Hub lists.
TAG = "robust_hub"


def public(place: str) -> str:
    """Leaves the folders of this machine out of what a card tells: of a path that leads elsewhere, the last name."""
    source = "local-dir:" if place.startswith("local-dir:") else ""
    path = Path(place.removeprefix(source))
    leads_elsewhere = path.is_absolute() or ".." in path.parts or place.removeprefix(source).startswith("~")
    return f"{source}{path.name}" if leads_elsewhere else place

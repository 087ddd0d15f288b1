"""The command line `robust_hub`: finds, shows, downloads and verifies robust models."""

from functools import wraps
from pathlib import Path
from typing import Any

import tyro
from tabulate import tabulate

from robust_hub import hub
from robust_hub.errors import CheckpointError
from robust_hub.launch import command_line, tell
from robust_hub.leaderboard import model_table
from robust_hub.names import CONFIG


@wraps(hub.list_models)
def list_(**wanted: Any) -> None:  # noqa: D103
    found = hub.list_models(**wanted)
    tell(model_table(found))
    tell(f"\n{len(found)} models; figures are their publishers': `robust_hub verify NAME` confirms them")


def show(name: tyro.conf.Positional[str]) -> None:
    """Shows what a model is and claims to withstand.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, or a name of the catalogue.
    """
    folder = hub.open_folder(name, [CONFIG])
    provenance, info = folder.provenance, folder.info
    if provenance is None:
        raise CheckpointError(f"{name} was not written by robust_hub, and tells nothing of its robustness")
    teacher = provenance.teacher
    rows = {
        "model": provenance.name,
        "loads with": f"timm.create_model('{hub.resolve(name)}', pretrained=True)",
        "method": provenance.method,
        "teacher": f"{teacher.name}, {teacher.license or 'no licence stated'}" if teacher else "none",
        "starts from": provenance.starts_from or "an untrained network",
        "threat": provenance.threat,
        "licence": provenance.license or "not stated",
        "command": provenance.command,
    }
    if info is None:
        rows["robust accuracy"] = "nobody has measured it"
    else:
        rows |= {
            "needs": "timm" if info.stock else "timm, and `import robust_hub` first",
            "clean accuracy": f"{info.clean_accuracy} % of {info.clean_accuracy.n}",
            "robust accuracy": f"{info.robust_accuracy} % of {info.robust_accuracy.n}, {info.protocol}",
            "honesty": f"{info.flagged} of {info.checks} checks flagged",
        }
    tell(tabulate(rows.items(), tablefmt="plain", maxcolwidths=[None, 100]))


def download_(name: tyro.conf.Positional[str], *, to: Path) -> None:
    """Downloads a model's folder.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, or a name of the catalogue.
        to: a new folder.
    """
    hub.download(name, to)
    tell(f"written: timm.create_model('local-dir:{to}', pretrained=True)")


def verify_(name: tyro.conf.Positional[str], *, data: str = "") -> None:
    """Confirms a model's robustness claim, in seconds: no attack is run, its evidence is classified again.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or the folder that evaluate.py wrote.
        data: the data set, where the evaluation calls it by a name that is not known here.
    """
    tell(hub.verify(name, data=data))


def main() -> None:
    """Runs the command line."""
    command_line({"list": list_, "show": show, "download": download_, "verify": verify_}, launcher="")


if __name__ == "__main__":
    main()

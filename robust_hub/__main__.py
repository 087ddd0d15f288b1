"""The command line `robust_hub`: finds, shows, downloads and verifies robust checkpoints."""

from functools import wraps
from pathlib import Path
from typing import Any

import tyro
from tabulate import tabulate

from robust_hub.catalogue import Listed, list_models, resolve
from robust_hub.command_line import command_line, tell
from robust_hub.hub import download, fetch, read_claim, read_facts
from robust_hub.messages import CheckpointError
from robust_hub.reports import EVIDENCE, FILE
from robust_hub.safety import CONFIG, WEIGHTS
from robust_hub.verification import verify


@wraps(list_models)
def list_(**wanted: Any) -> None:  # noqa: D103
    found = list_models(**wanted)
    headers = ("model", "parameters", "data", "threat", "clean %", "robust %", "protocol", "flagged", "loads with")
    tell(tabulate([_row(model) for model in found], headers, tablefmt="github", intfmt=","))
    tell(f"\n{len(found)} models; figures are their publishers': `robust_hub verify NAME` confirms them")


def show(name: tyro.conf.Positional[str]) -> None:
    """Shows what a checkpoint is and claims to withstand.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, or a name of the catalogue.
    """
    facts, claim = read_facts(name), read_claim(name)
    if facts is None:
        raise CheckpointError(f"{name} was not written by robust_hub, and tells nothing of its robustness")
    rows = {
        "model": facts.name,
        "loads with": f"timm.create_model('{resolve(name)}', pretrained=True)",
        "method": facts.method,
        "teacher": f"{facts.teacher.name}, {facts.teacher.license or 'no licence stated'}" if facts.teacher else "none",
        "starts from": facts.starts_from or "an untrained network",
        "threat": facts.threat,
        "licence": facts.license or "not stated",
        "command": facts.command,
    }
    if claim is None:
        rows["robust accuracy"] = "nobody has measured it"
    else:
        rows |= {
            "needs": "timm" if claim.stock else "timm, and `import robust_hub` first",
            "clean accuracy": f"{claim.clean_accuracy} % of {claim.clean_accuracy.n}",
            "robust accuracy": f"{claim.robust_accuracy} % of {claim.robust_accuracy.n}, {claim.protocol}",
            "honesty": f"{claim.flagged} of {claim.checks} checks flagged",
        }
    tell(tabulate(rows.items(), tablefmt="plain", maxcolwidths=[None, 100]))


def download_(name: tyro.conf.Positional[str], *, to: Path) -> None:
    """Downloads a checkpoint's folder.

    Args:
        name: hf-hub:ORG/NAME, with @REVISION if wanted, or a name of the catalogue.
        to: a new folder.
    """
    download(name, to)
    tell(f"written: timm.create_model('local-dir:{to}', pretrained=True)")


def verify_(name: tyro.conf.Positional[str], *, data: str = "") -> None:
    """Confirms a checkpoint's robustness claim, in seconds: no attack is run, its evidence is classified again.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, or a name of the catalogue.
        data: the data set, where the evaluation calls it by a name that is not known here.
    """
    tell(verify(fetch(name, [CONFIG, WEIGHTS, FILE, EVIDENCE]), data=data))


def main() -> None:
    """Runs the command line."""
    command_line({"list": list_, "show": show, "download": download_, "verify": verify_})


def _row(model: Listed) -> tuple:
    claim = model.claim
    return (
        model.place,
        claim.parameters,
        claim.data,
        claim.threat,
        str(claim.clean_accuracy),
        str(claim.robust_accuracy),
        claim.protocol,
        claim.flagged,
        "timm" if claim.stock else "robust_hub",
    )


if __name__ == "__main__":
    main()

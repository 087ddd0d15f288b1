"""Offers an evaluation to the repository of a model, where its evidence lowers what is claimed there."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi

from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report
from robust_hub.hub.destination import Destination
from robust_hub.hub.fetching import download, told_by_the_hub
from robust_hub.hub.publishing import Published, publish
from robust_hub.hub.verification import verify
from robust_hub.model_folder import ModelFolder, add_evaluation
from robust_hub.threats import parse_threat


def offer_evaluation(place: str, report: Report, measured: Path) -> Published:
    """Opens a pull request with an evaluation, its evidence, and the card and config.json that tell it.

    Args:
        place: hf-hub:ORG/NAME@COMMIT of the model.
        report: of the evaluation.
        measured: the folder that evaluate.py wrote.

    Raises:
        CheckpointError: when it does not lower the claim, its evidence is not confirmed, or the Hub refuses.
    """
    repository = place.removeprefix("hf-hub:").partition("@")[0]
    with TemporaryDirectory() as beside:
        # Its name is in the title of the pull request.
        folder = Path(beside) / f"an evaluation of {repository.rpartition('/')[2]}"
        download(place, folder)
        _check_that_it_lowers(repository, ModelFolder.at(folder), report)
        with told_by_the_hub("the Hub does not tell who you are", "log in with `hf auth login`, or set HF_TOKEN"):
            by = HfApi().whoami()["name"]
        add_evaluation(folder, replace(report, by=by), measured)
        verify(f"local-dir:{folder}", data=report.source.data)
        return publish(folder, Destination(repository, create_pr=True))


def _check_that_it_lowers(repository: str, folder: ModelFolder, report: Report) -> None:
    claimed, measured = folder.info, report.evaluation.robust_accuracy
    if claimed is None:
        return
    if parse_threat(claimed.threat) != parse_threat(report.threat):
        raise CheckpointError(
            f"{repository} claims to withstand {claimed.threat} and the evaluation is of {report.threat}, so there is "
            "nothing to correct; evaluate that threat"
        )
    if measured.value >= claimed.robust_accuracy.value:
        raise CheckpointError(
            f"{repository} claims a robust accuracy of {claimed.robust_accuracy} % and the evaluation leaves "
            f"{measured} %, so there is nothing to correct; the evaluation stays in its folder"
        )

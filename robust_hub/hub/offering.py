"""Offers an evaluation to the repository of a model, where its evidence lowers what is claimed there."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi

from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Accuracy, Report
from robust_hub.hub.destination import Destination
from robust_hub.hub.fetching import download, told_by_the_hub
from robust_hub.hub.publishing import Published, publish
from robust_hub.hub.verification import verify
from robust_hub.model_folder import ModelFolder, add_evaluation


def offer_evaluation(place: str, report: Report, measured: Path) -> Published:
    """Opens a pull request with an evaluation, its evidence, and the card and config.json that tell it.

    Args:
        place: hf-hub:ORG/NAME@COMMIT of the model.
        report: of the evaluation.
        measured: the folder that evaluate.py wrote.

    Raises:
        CheckpointError: when its evidence does not prove clearly less than is claimed, the repository has changed
            since, or the Hub refuses.
    """
    repository, _, commit = place.removeprefix("hf-hub:").partition("@")
    with told_by_the_hub("the Hub does not tell who you are", "log in with `hf auth login`, or set HF_TOKEN"):
        api = HfApi()
        by, newest = api.whoami()["name"], api.model_info(repository).sha
    if commit != newest:
        raise CheckpointError(
            f"{repository} has changed since {commit[:12]}, which was evaluated; evaluate hf-hub:{repository} as it is"
        )
    with TemporaryDirectory() as beside:
        # Its name is in the title of the pull request.
        folder = Path(beside) / f"an evaluation of {repository.rpartition('/')[2]}"
        download(place, folder)
        claimed = _claimed(repository, ModelFolder.at(folder), report)
        add_evaluation(folder, replace(report, by=by), measured)
        proven = verify(f"local-dir:{folder}", data=report.source.data, spot_check=0).robust
        if proven.high >= claimed.value:
            raise CheckpointError(
                f"{repository} claims a robust accuracy of {claimed} % and the evidence proves that it is at most "
                f"{proven} %, which is not clearly less; the evaluation stays in its folder"
            )
        return publish(folder, Destination(repository, create_pr=True))


def _claimed(repository: str, folder: ModelFolder, report: Report) -> Accuracy:
    """Gives the robust accuracy that is claimed, where an evaluation is of the same data and threat."""
    claimed = folder.info
    if claimed is None:
        raise CheckpointError(f"{repository} claims no robust accuracy, so there is nothing to correct")
    told = {"data": (claimed.data, report.data), "threat": (claimed.threat, report.threat)}
    for what, (theirs, ours) in told.items():
        if theirs != ours:
            raise CheckpointError(
                f"{repository} claims its figures for the {what} {theirs} and the evaluation is of {ours}, so there is "
                "nothing to correct; evaluate the same"
            )
    return claimed.robust_accuracy

"""The data set that a model was evaluated on, opened here."""

from contextlib import suppress

from robust_hub.data import Data, Source, load_test_data
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report, source_at
from robust_hub.hub.fetching import open_folder
from robust_hub.model_folder import ModelFolder
from robust_hub.names import EVALUATION


def open_data_of(folder: ModelFolder, data: str = "") -> Data:
    """Opens the data set that a model was evaluated on, divided as it was then.

    Args:
        folder: of the model.
        data: where the set is; any other one where the model has no evaluation. Where empty, the evaluation tells it.

    Raises:
        CheckpointError: when nobody tells where it is.
        ValueError: when it can't be opened.
    """
    with suppress(CheckpointError):
        # Not every folder has an evaluation.
        open_folder(folder.place, [EVALUATION])
    if (folder.path / EVALUATION).is_file():
        report = Report.read(folder.path)
        return load_test_data(source_at(report, data), rule=report.rule)
    if not data:
        raise CheckpointError(f"{folder.name} was evaluated on no data set that is known here; name one with --data")
    return load_test_data(Source(data))

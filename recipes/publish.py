"""Publishes a model folder on the Hub, after checking that it is what its card says.

    python recipes/publish.py folder runs/transfer/student --repo-id ORG/NAME --license mit
    python recipes/publish.py all model_cards --data FOLDER_OF_DATA_SETS

The folder needs an evaluation: run `recipes/evaluate.py --model local-dir:FOLDER --update-card` first. It is loaded,
its evidence is verified, and everything goes up in one commit; running it again sends nothing that is there already.
The token is that of `hf auth login`, or of the environment variable HF_TOKEN. `all` brings up every model folder in a
folder, model_cards/ where none is named, each to the repository that its card names; their data sets are those that
their evaluations name, in the folder of --data, built in, or on the Hub. `--dry-run` checks everything, and neither
writes nor sends.
"""

from dataclasses import replace
from pathlib import Path

import tyro

from robust_hub import evaluation, hub, model_folder
from robust_hub.hub import Destination
from robust_hub.launch import command_line, tell
from robust_hub.names import CONFIG, public


def publish_folder(
    folder: tyro.conf.Positional[Path],
    destination: Destination,
    *,
    license: str = "",
    data: str = "",
    allow_flagged: bool = False,
    rewrite_card: bool = False,
    dry_run: bool = False,
) -> None:
    """Publishes one model folder; its card is told the repository and the licence.

    Args:
        folder: of the model.
        destination: where it goes.
        license: an identifier that the Hub knows, such as mit; what the card says, or else the teacher's, where empty.
        data: the data set, where the evaluation calls it by a name that is not known here.
        allow_flagged: publishes a model that an honesty check flags; its card says so first.
        rewrite_card: writes the card anew before all else; its notes are kept.
        dry_run: checks everything, and neither writes nor sends anything.
    """
    if rewrite_card and dry_run:
        raise ValueError("--rewrite-card writes and --dry-run does not; give one of them")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give a model folder that a recipe wrote")
    if rewrite_card:
        model_folder.describe(folder, model_folder.require_provenance(folder), evaluation.Report.read(folder))
    provenance, report, verified = hub.check_folder(folder, data=data, allow_flagged=allow_flagged)
    tell(verified)
    inherited = provenance.teacher.license if provenance.teacher else ""
    told = replace(provenance, license=license or provenance.license or inherited, repository=destination.repo_id)
    if not told.license:
        raise ValueError(f"{folder} states no licence; say which with --license, for example --license mit")
    if dry_run:
        sizes = [f"  {name}, {(folder / name).stat().st_size:,} bytes" for name in model_folder.files_of(folder)]
        tell("\n".join([f"would go to {destination.repo_id}:", *sizes]))
        return
    if told != provenance:
        model_folder.describe(folder, told, report)
    done = hub.publish(folder, destination)
    tell(f"{'published' if done.new else 'there already'}: {done.url}")
    if done.others:
        tell(f"left alone in the repository: {', '.join(done.others)}")
    is_on_main = destination.revision == "main" and not destination.create_pr
    revision = "" if is_on_main else f"@{done.commit}"
    tell(f"timm.create_model('hf-hub:{destination.repo_id}{revision}', pretrained=True)")


def publish_all(
    folder: tyro.conf.Positional[Path] = hub.MODEL_CARDS,
    *,
    data: str = "",
    private: bool = False,
    dry_run: bool = False,
) -> None:
    """Publishes every model folder in a folder, each to the repository that its card names; refused ones stop no other.

    Args:
        folder: with the models' folders in it; a card that names no repository means one of robust-hub, of the folder's
            name.
        data: a folder with data sets in it, by the names that the evaluations call them; none is needed for those that
            are built in or named by their id on the Hub.
        private: whether repositories that are made now can be seen by their organisation only.
        dry_run: checks everything, and neither writes nor sends anything.
    """
    found = sorted(file.parent for file in folder.glob(f"*/{CONFIG}"))
    if not found:
        raise ValueError(f"there is no model folder in {folder}; name the folder that holds them")
    if data and not Path(data).is_dir():
        raise ValueError(f"there is no folder {data}; give --data the folder that has the data sets in it")
    refused = []
    for model in found:
        tell(f"\n{model.name}")
        try:
            place = Path(data) / public(evaluation.Report.read(model).source.data)
            repository = model_folder.require_provenance(model).repository
            destination = Destination(repository or f"{hub.ORGANISATION}/{model.name}", private)
            near = str(place) if data and place.is_dir() else ""
            publish_folder(model, destination, data=near, dry_run=dry_run)
        except ValueError as error:
            tell(f"refused: {error}")
            refused.append(model.name)
    if refused:
        raise ValueError(f"{len(refused)} of {len(found)} folders were refused, see above: {', '.join(refused)}")


if __name__ == "__main__":
    command_line({"folder": publish_folder, "all": publish_all}, launcher="")

"""The command line `robust_hub`: finds, shows, downloads, verifies and exports models, and labels photos by them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from tabulate import tabulate

from robust_hub import data, demo, export, hub, launch
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import SPOTS
from robust_hub.launch import check_new_file, command_line, tell
from robust_hub.leaderboard import model_table
from robust_hub.names import CONFIG

if TYPE_CHECKING:
    from robust_hub.hub import Prediction

# Of a program that SIGPIPE ends.
NOBODY_READS = 141


@wraps(hub.list_models)
def list_(**wanted: Any) -> None:  # noqa: D103
    found = hub.list_models(**wanted)
    tell(model_table(found))
    tell(f"\n{len(found)} models; figures are claimed by their publishers: `robust_hub verify NAME` checks them here")
    if wanted.get("folder") is not None:
        for name, why in hub.left_out(wanted["folder"]).items():
            tell(f"left out: {name} ({why})")


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
        "threat": provenance.threat or "none: nobody made it robust",
        "licence": provenance.license or "not stated",
        "command": provenance.command,
    }
    if info is None:
        rows["robust accuracy"] = "nobody has measured it"
    else:
        rows |= {
            "needs": "timm" if info.stock else "timm, and `import robust_hub` first",
            "claims clean accuracy": f"{info.clean_accuracy} % of {info.clean_accuracy.n}",
            "claims robust accuracy": f"{info.robust_accuracy} % of {info.robust_accuracy.n}, {info.protocol}",
            "claims measured by": info.measured_by or "its publisher",
            "claims honesty": f"{info.flagged} of {info.checks} checks flagged",
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


def verify_(name: tyro.conf.Positional[str], *, data: str = "", spot_check: int = SPOTS) -> None:
    """Checks a model's robustness claim, in seconds: its evidence is classified again, and a few images are attacked.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or the folder that evaluate.py wrote.
        data: the data set, where the evaluation calls it by a name that is not known here; stored in any way.
        spot_check: attacks so many images that the card calls robust, drawn at random; none where it is 0.
    """
    tell(hub.verify(name, data=data, spot_check=spot_check))


def predict_(
    name: tyro.conf.Positional[str], paths: tyro.conf.Positional[tuple[Path, ...]], *, csv: Path | None = None
) -> None:
    """Labels photos by a model: the five likeliest labels of each, with their probabilities.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or of weights that timm knows.
        paths: photos, and folders in which all are meant.
        csv: a new file, for a table instead of lines.
    """
    if csv is not None:
        check_new_file(csv, "--csv")
    predictions, unread = hub.predict(name, paths), []
    # Lines in a terminal tell themselves how far it is.
    is_shown = sys.stderr.isatty() and (csv is not None or not sys.stdout.isatty())

    def readable() -> "Iterator[Prediction]":
        for prediction in launch.progress(predictions, desc="photos", disable=not is_shown):
            if prediction.problem:
                unread.append(prediction.problem)
            else:
                yield prediction
        with redirect_stdout(sys.stderr):
            for problem in unread:
                tell(f"warning: {problem}")
            if unread:
                tell(f"{len(unread):,} of {len(predictions):,} photos can't be read")
        if len(unread) == len(predictions):
            sys.exit(1)

    if csv is not None:
        hub.write_csv(readable(), csv)
        tell(f"written: {csv}")
        return
    for prediction in readable():
        labels = (f"{label} {100 * probability:.1f} %" for label, probability in prediction.top)
        tell(f"{prediction.path}: {', '.join(labels)}")


def export_(
    name: tyro.conf.Positional[str],
    *,
    to: "export.Format",
    output: Path,
    data: str = "",
    pixels: "export.Pixels" = "float32",
    precision: "export.Precision" = "float32",
    images: int = 200,
) -> None:
    """Writes a model as one file that needs no timm, with mean and std inside, and checks it on test images.

    Args:
        name: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or of weights that timm knows.
        to: onnx, for onnxruntime, browsers and phones; torch-export, which torch alone reads.
        output: a new file.
        data: the set to check it on; by default that which the model was evaluated on.
        pixels: what the file takes: float32 in [0, 1], or uint8.
        precision: of weights and activations; int8 is onnx only, takes ranges from training images, and is attacked
            anew, as what float32 withstands tells nothing of it.
        images: how many test images it is checked on.
    """
    classifier, folder = hub.load_with_folder(name)
    images_of = hub.open_data_of(folder, data)
    exported = export.export_model(
        classifier, folder, images_of, output, format=to, pixels=pixels, precision=precision, images=images
    )
    tell(exported)


def demo_(
    names: tyro.conf.Positional[tuple[str, ...]],
    *,
    data: str = "",
    pictures: int = 12,
    port: int = 0,
    space: Path | None = None,
) -> None:
    """Opens a page on this machine that shows models before and after an attack, on one's own pictures.

    Args:
        names: models, as hf-hub:ORG/NAME, local-dir:FOLDER, or of the catalogue; beside one alone a plain network is
            trained, where its images are small.
        data: the set to pick pictures from; by default that which the first model was evaluated on.
        pictures: how many there are to pick from.
        port: of the page; the first that is free where it is 0.
        space: a new folder that a Space on the Hub runs as it is, instead of a page.
    """
    if not names:
        raise ValueError("expected the name of a model to show, got none; `robust_hub list` tells names")
    if space is not None and space.exists():
        raise ValueError(f"{space} is there already; choose another --space")
    opened = [hub.load_with_folder(name) for name in names]
    images_of = hub.open_data_of(opened[0][1], data)
    exhibits = [demo.exhibit_of(*each, images_of) for each in opened]
    if len(exhibits) == 1:
        tell("a plain network is trained to stand beside it, in a minute or so")
        exhibits = [*filter(None, [demo.plain_exhibit(images_of)]), *exhibits]
    to_pick = demo.pictures_of(images_of, pictures)
    if space is not None:
        demo.write_space(space, exhibits, to_pick)
        tell(f"written: {space}; try it with `python {space / 'app.py'}`, then push it to a Space")
        return
    demo.show(exhibits, to_pick, port=port or None)


def collection(namespace: tyro.conf.Positional[str], *, title: str = hub.TITLE, private: bool = False) -> None:
    """Writes or updates a Collection on the Hub of all models that a user or organisation has published.

    Args:
        namespace: the user or organisation, to whom it belongs.
        title: of the collection, by which it is known again.
        private: whether only they see it, where it is new.
    """
    tell(hub.collect(namespace, title=title, private=private))


def forget() -> None:
    """Removes the decoded images that runs have kept in the cache of `datasets`; the next run decodes its own anew."""
    removed, kept = 0, data.kept_images()
    for each in kept:
        is_gone = data.forget_images(each)
        removed += each.size if is_gone else 0
        done = "removed" if is_gone else "left, as a run is writing it"
        tell(f"{done}: {each.told}, {each.size / 1e9:,.2f} GB in {each.place}")
    tell(f"{removed / 1e9:,.2f} GB are free again" if kept else "no decoded images are kept")


def main() -> None:
    """Runs the command line."""
    commands: dict[str, Callable] = {
        "list": list_,
        "show": show,
        "download": download_,
        "verify": verify_,
        "predict": predict_,
        "export": export_,
        "demo": demo_,
        "collection": collection,
        "forget": forget,
    }
    try:
        try:
            command_line(commands, launcher="")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more as it ends, and would say that it can't.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NOBODY_READS)


if __name__ == "__main__":
    main()

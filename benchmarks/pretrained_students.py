"""Which of timm's families can be the student that starts from weights, by which of its names.

    python benchmarks/pretrained_students.py [FAMILY ...]

The networks are those of benchmarks/students.py. timm itself saves one with a head for classes of its own, and it is
opened as a student of four others by each way of naming it: its folder, its repository on a Hub of this machine, and,
where timm knows weights of that architecture, its name with the tag. It must have the weights that timm saved, all but
those of its head, and takes three steps of RSLAD. Prints a table family x way as it goes, and then what failed.
"""

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.loopback_hub.server import File, HubServer, Repository  # noqa: E402

if TYPE_CHECKING:
    from robust_hub.models import PixelClassifier

WAYS = ("local-dir:", "hf-hub:", "tag")
NAMES = ["a", "b", "c", "d"]


def main(families: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Tries the families and prints the table.

    Args:
        families: files in timm.models; all of timm's own where none is given.
    """
    server, home = HubServer(), tempfile.TemporaryDirectory()
    # Before the client is imported, which reads once where the Hub is.
    os.environ |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": home.name, "HF_HUB_DISABLE_XET": "1"}
    os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    from tqdm import tqdm

    from benchmarks.students import build, smallest, timms_own

    print("| " + " | ".join(["family", "student", "px", *WAYS]) + " |")
    print("|---" * (3 + len(WAYS)) + "|")
    counts, reasons = {way: Counter() for way in WAYS}, []
    for family in tqdm(families or timms_own()):
        architecture = smallest(family)
        network = build(architecture)
        told = dict.fromkeys(WAYS, network) if isinstance(network, str) else verdicts(server, network)
        size = "-" if isinstance(network, str) else str(network.input_size[-1])
        short = {way: each.split(":")[0] for way, each in told.items()}
        print("| " + " | ".join([family, architecture, size, *short.values()]) + " |", flush=True)
        reasons += [f"- {family}, {way}: {each}" for way, each in told.items() if each not in ("works", "-")]
        for way, each in short.items():
            counts[way][each] += 1
    print("", *reasons, "", sep="\n")
    for way, count in counts.items():
        print(f"{way} " + ", ".join(f"{number} {each}" for each, number in count.items()))


def verdicts(server: HubServer, network: "PixelClassifier") -> dict[str, str]:
    """Saves a network by timm, and opens it by each of its names."""
    from timm.models import get_pretrained_cfg, save_for_hf

    from robust_hub.model_folder import files_of

    architecture, cfg = network.architecture, get_pretrained_cfg(network.architecture, allow_unregistered=True)
    tag, place = "", f"timm/{architecture}"
    if cfg is not None and cfg.tag and cfg.hf_hub_id:
        # Not all of timm's own weights are in its own organisation.
        tag, place = f"{architecture}.{cfg.tag}", cfg.hf_hub_id
    with tempfile.TemporaryDirectory() as folder:
        config = {"label_names": NAMES, "model_args": network.model_args}
        try:
            save_for_hf(network.model, folder, model_config=config, safe_serialization=True)
        except RuntimeError:
            return dict.fromkeys(WAYS, "not saved: timm saves no weights that two layers share")
        repository = server.add(Repository("models", place, private=False), author="timm")
        files = {name: (Path(folder) / name).read_bytes() for name in files_of(Path(folder))}
        contents = {name: File(each, lfs=name != "config.json") for name, each in files.items()}
        repository.commit(contents, "Weights.", author="timm")
        names = {"local-dir:": f"local-dir:{folder}", "hf-hub:": f"hf-hub:{place}", "tag": tag}
        told = {way: verdict(network, name) if name else "-" for way, name in names.items()}
    server.reset()
    return told


def verdict(network: "PixelClassifier", name: str) -> str:
    """Opens a student by one name, compares its weights, and takes three steps."""
    import torch

    from benchmarks.students import verdict as three_steps
    from robust_hub import hub
    from robust_hub.data import Source, load_data
    from robust_hub.errors import first_line
    from robust_hub.methods import RSLAD
    from robust_hub.threats import Linf

    try:
        student, _ = hub.open_student(name, {}, load_data(Source("synthetic")))
    except ValueError as error:
        return f"refused: {error}"
    except Exception as error:  # an error of our own, which the table is there to show
        return f"broken: {type(error).__name__}: {first_line(error)}"
    heads = {id(weight) for layer in network.classifier_layers for weight in layer.parameters()}
    opened = dict(student.model.named_parameters())
    for weight_name, weight in network.model.named_parameters():
        # A second head, which is new with the first one, or gone.
        if weight_name.startswith(("head.head_dist.", "aux_head.")):
            continue
        if id(weight) not in heads and not torch.equal(weight, opened[weight_name]):
            return f"broken: {weight_name} is not what timm saved"
    return three_steps(student, lambda student, teacher: RSLAD(student, teacher, Linf(8 / 255)))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

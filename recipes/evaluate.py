"""Measures clean and robust accuracy of any classifier on any data set, and whether the figures can be believed.

    accelerate launch recipes/evaluate.py --model local-dir:FOLDER --data FOLDER --threat linf:8/255 --update-card \
        --output runs/eval
    robust_hub verify runs/eval

The attack is AutoAttack's standard ensemble; `--version quick` is its first two attacks, an upper bound that must not
be called AutoAttack. Writes OUTPUT/evaluation.json, OUTPUT/evidence.safetensors and three pictures. A run that was
killed goes on with `--resume`. With `--model hf-hub:ORG/NAME --create-pr` an evaluation that lowers what a stranger's
card claims is offered to that repository. `robust_hub verify` classifies the images of a finished evaluation again,
and the perturbed ones that its evidence keeps: seconds, for anyone who doubts the figure.
Expected of resnet18_cifar.nfgsm_linf8_cifar10 (quick, n = 1,000, linf 8/255): 69.5 clean, 35.9 robust, no flag.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from robust_hub import attacks, data, evaluation, hub, launch, model_folder, models
from robust_hub.attacks import Version
from robust_hub.data import Source
from robust_hub.evaluation import SearchPrecision
from robust_hub.launch import LabelNames, Output, command_line
from robust_hub.names import EVALUATION, public
from robust_hub.threats import parse_threat

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        model: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or of weights that timm knows, with its tag
            (resnet18.a1_in1k).
        source: the images; the test split is used, or all of them.
        output: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units.
        version: standard is AutoAttack; quick is its first two attacks, which is not.
        search_precision: of the network the attacks search on; every verdict is float32's.
        label_names: what the model's logits stand for, in their order, where its folder does not tell it rightly:
            names of the data's classes, a JSON list of them, or a file with one on each line.
        surrogates: more classifiers whose adversarial images are tried on the model, besides its teacher and a plain
            one trained in passing, where these take the same images.
        honesty_images: how many images the honesty checks use.
        evidence_images: of how many of the tested images perturbations are kept as evidence, the first ones; of the
            others the robust accuracy stays unproven. 0 keeps those of as many as fit into 25 MB.
        stress: measures accuracy under common corruptions, noise, JPEG, resizing and another norm too, on the images
            of the honesty checks; a panel on the card, and never a part of the claim.
        batch_size: images at a time on each process; halved where they do not fit into memory.
        seed: of the random starts.
        update_card: puts the evaluation, its evidence and its card into the folder of the model, a local-dir:FOLDER.
        create_pr: offers them to the repository of the model, a hf-hub:ORG/NAME, as a pull request, where they lower
            the robust accuracy that is claimed there.
    """

    model: str
    source: Source
    output: Output
    threat: str = "linf:8/255"
    version: Version = "standard"
    search_precision: SearchPrecision = "float32"
    label_names: LabelNames = ()
    surrogates: tuple[str, ...] = ()
    honesty_images: int = 200
    evidence_images: int = 0
    stress: bool = False
    batch_size: int = 128
    seed: int = 0
    update_card: bool = False
    create_pr: bool = False

    def __post_init__(self) -> None:
        for option, least in {"honesty_images": 1, "evidence_images": 0, "batch_size": 1}.items():
            if getattr(self, option) < least:
                raise ValueError(f"--{option.replace('_', '-')} must be at least {least}, got {getattr(self, option)}")
        if self.stress:
            evaluation.check_stress()
        if self.output.log_with != "none":
            raise ValueError(
                f"--log-with {self.output.log_with} has no effect, as an evaluation has no curves; leave it away"
            )
        if self.update_card and not self.model.startswith("local-dir:"):
            raise ValueError(f"--update-card writes into a folder; download {self.model} and evaluate local-dir:FOLDER")
        if self.create_pr and not self.model.startswith("hf-hub:"):
            raise ValueError(f"--create-pr is for a model on the Hub, hf-hub:ORG/NAME, and got {self.model}; drop it")


def main(config: Config) -> None:
    """Evaluates a model and prints what came of it."""
    attack = attacks.AutoAttack(parse_threat(config.threat), config.version)
    accelerator = launch.make_accelerator(config.output)
    classifier, folder = hub.load_with_folder(config.model)
    classifier.to(accelerator.device).eval()
    images = data.load_test_data(config.source)
    models.check_channels(classifier)
    accelerator.print(images.description())
    claimed = folder.info.clean_accuracy.value if folder.info else 0.0
    order = evaluation.find_class_order(classifier, images, stated=config.label_names, claimed=claimed)
    if not order.label_names:
        raise ValueError(f"{order.told}; choose a model of this data set, or name its logits with --label-names")
    if order.told:
        accelerator.print(order.told)
    # The labels follow the model, whose weights stay those that are published.
    images = evaluation.in_order_of(images, order.label_names)
    tested = data.tested_sha256(images, config.source.test_images)
    sha256 = {"model": classifier.fingerprint(), "data": tested}
    identity = launch.identity_of(
        accelerator, repr(attack), replace(config, update_card=False, create_pr=False), sha256=sha256
    )
    launch.check_output(config.output, identity)
    if (config.output.folder / EVALUATION).is_file():
        report = evaluation.Report.read(config.output.folder)
    else:
        named = [(name, open_surrogate(name, images, classifier)) for name in config.surrogates]
        facts = images.facts.shown_to(classifier.input_size)
        launch.claim_output(accelerator, config.output, identity, facts=asdict(facts))
        accelerator.print(facts.describe_sizes())
        surrogates = called_apart([*passing_surrogates(accelerator, config, images, classifier, folder), *named])
        report = evaluation.measure(
            accelerator, classifier, images, attack, config, model=folder.place, surrogates=surrogates
        )
    accelerator.print(report.table())
    evaluation.finish(accelerator, config.output, report)
    if config.update_card and accelerator.is_main_process:
        model_folder.add_evaluation(folder.path, report, config.output.folder)
    if config.create_pr and accelerator.is_main_process:
        accelerator.print(f"offered: {hub.offer_evaluation(folder.place, report, config.output.folder).url}")
    launch.end_training(accelerator)


def open_surrogate(name: str, images: "data.Data", classifier: "models.PixelClassifier") -> "models.PixelClassifier":
    """Loads a classifier to transfer from, its logits in the order of the data's classes.

    Raises:
        ValueError: when it can't be loaded, or takes other images or knows other classes than the evaluated one.
    """
    surrogate = hub.load(name).to(classifier.mean.device).eval()
    if surrogate.input_size != classifier.input_size:
        takes, wanted = ("x".join(map(str, each.input_size)) for each in (surrogate, classifier))
        raise ValueError(
            f"the surrogate {public(name)} takes images of {takes} and the model of {wanted} (channels, height, "
            "width); choose one of the same"
        )
    order = evaluation.find_class_order(surrogate, images)
    if not order.label_names:
        raise ValueError(
            f"the surrogate {public(name)} must know the classes of the data, but {order.told}; choose another one"
        )
    evaluation.reorder_logits(surrogate, order.label_names, images.label_names)
    return surrogate


def passing_surrogates(
    accelerator: "Accelerator",
    config: Config,
    images: "data.Data",
    classifier: "models.PixelClassifier",
    folder: "model_folder.ModelFolder",
) -> Iterable[tuple[str, nn.Module]]:
    """Yields the surrogates that nobody asked for, where they fit: a plain network trained here, and the teacher."""
    shown, taken = ("x".join(map(str, shape)) for shape in (images.image_shape, classifier.input_size))
    if not len(images.train):
        accelerator.print(
            f"no plain network is trained for the honesty checks, as {images.name} leaves no image to train on; "
            "--surrogates names others"
        )
    elif shown == taken:
        yield "a plain network", evaluation.train_surrogate(images, config.source, accelerator.device, seed=config.seed)
    else:
        accelerator.print(
            f"no plain network is trained for the honesty checks, as it would take images of {shown} and the model "
            f"takes {taken} (channels, height, width); --surrogates names others"
        )
    provenance = folder.provenance
    if not provenance or not provenance.teacher or provenance.teacher.name in config.surrogates:
        return
    try:
        yield provenance.teacher.name, open_surrogate(provenance.teacher.name, images, classifier)
    except ValueError as error:
        accelerator.print(f"the teacher is left out of the honesty checks: {error}; --surrogates names others")


def called_apart(surrogates: Iterable[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    """Names surrogates as a report may; of folders that would be called the same, the later are numbered."""
    called = {}
    for name, surrogate in surrogates:
        told = public(name)
        called[f"{told} ({len(called) + 1})" if told in called else told] = surrogate
    return called


if __name__ == "__main__":
    command_line({"evaluate": main})

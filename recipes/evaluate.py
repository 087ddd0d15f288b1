"""Measures clean and robust accuracy of any classifier on any data set, and whether the figures can be believed.

    accelerate launch recipes/evaluate.py --model local-dir:FOLDER --data FOLDER --threat linf:8/255 --update-card \
        --output runs/eval
    robust_hub verify runs/eval

The attack is AutoAttack's standard ensemble; `--version quick` is its first two attacks, an upper bound that must not
be called AutoAttack. Writes OUTPUT/evaluation.json, OUTPUT/evidence.safetensors and three pictures. A run that was
killed goes on with `--resume`. `robust_hub verify` classifies the images of a finished evaluation again, and the
perturbed ones that its evidence keeps: seconds, for anyone who doubts the figure.
Expected of resnet18_cifar.nfgsm_linf8_cifar10 (quick, n = 1,000, linf 8/255): 69.5 clean, 35.9 robust, no flag.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from robust_hub import attacks, data, evaluation, hub, launch, model_folder, models
from robust_hub.attacks import Version
from robust_hub.data import Source
from robust_hub.evaluation import SearchPrecision
from robust_hub.launch import Output, command_line
from robust_hub.names import EVALUATION, public
from robust_hub.threats import parse_threat

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        model: hf-hub:ORG/NAME, local-dir:FOLDER, or the name of weights that timm knows.
        source: the images; the test split is used.
        output: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units.
        version: standard is AutoAttack; quick is its first two attacks, which is not.
        search_precision: of the network the attacks search on; every verdict is float32's.
        surrogates: more classifiers whose adversarial images are tried on the model, besides its teacher where that
            can be loaded, and a plain one trained in passing.
        honesty_images: how many images the honesty checks use.
        batch_size: images at a time on each process; halved where they do not fit into memory.
        seed: of the random starts.
        update_card: puts the evaluation, its evidence and its card into the folder of the model, a local-dir:FOLDER.
    """

    model: str
    source: Source
    output: Output
    threat: str = "linf:8/255"
    version: Version = "standard"
    search_precision: SearchPrecision = "float32"
    surrogates: tuple[str, ...] = ()
    honesty_images: int = 200
    batch_size: int = 128
    seed: int = 0
    update_card: bool = False

    def __post_init__(self) -> None:
        for option in ("honesty_images", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"--{option.replace('_', '-')} must be at least 1, got {getattr(self, option)}")
        if self.update_card and not self.model.startswith("local-dir:"):
            raise ValueError(f"--update-card writes into a folder; download {self.model} and evaluate local-dir:FOLDER")


def main(config: Config) -> None:
    """Evaluates a model and prints what came of it."""
    attack = attacks.AutoAttack(parse_threat(config.threat), config.version)
    accelerator = launch.make_accelerator(config.output)
    classifier, folder = hub.load_with_folder(config.model)
    classifier.to(accelerator.device).eval()
    images = data.load_data(config.source)
    models.check_channels(classifier)
    accelerator.print(images.description())
    models.check_label_names(classifier, images.label_names)
    tested = data.split_sha256(data.subset(images.test, config.source.test_images))
    sha256 = {"model": classifier.fingerprint(), "data": tested}
    identity = launch.identity_of(accelerator, repr(attack), replace(config, update_card=False), sha256=sha256)
    launch.check_output(config.output, identity)
    if (config.output.folder / EVALUATION).is_file():
        report = evaluation.Report.read(config.output.folder)
    else:
        launch.claim_output(accelerator, config.output, identity)
        model = folder.place if folder else config.model
        surrogates = open_surrogates(accelerator, config, images, classifier, folder)
        report = evaluation.measure(accelerator, classifier, images, attack, config, model=model, surrogates=surrogates)
    accelerator.print(report.table())
    if config.update_card and accelerator.is_main_process:
        # Config takes no other model than a local-dir:FOLDER then.
        assert folder is not None
        model_folder.add_evaluation(folder.path, report, config.output.folder)
    accelerator.end_training()


def open_surrogates(
    accelerator: "Accelerator",
    config: Config,
    images: "data.Data",
    classifier: "models.PixelClassifier",
    folder: "model_folder.ModelFolder | None",
) -> dict[str, nn.Module]:
    """Loads the classifiers to transfer from, and trains the plain one, where they take images of the same size."""
    provenance = folder.provenance if folder else None
    teacher = provenance.teacher.name if provenance and provenance.teacher else ""
    plain = evaluation.train_surrogate(images, config.source, accelerator.device, seed=config.seed)
    surrogates = {"a plain network": plain}
    for name in filter(None, (teacher, *config.surrogates)):
        try:
            surrogates[public(name)] = hub.load(name).to(accelerator.device).eval()
        except ValueError as error:
            if name in config.surrogates:
                raise
            accelerator.print(f"the teacher is left out of the honesty checks: {error}; --surrogates names it")
    return {
        name: surrogate
        for name, surrogate in surrogates.items()
        if surrogate.input_size == classifier.input_size and surrogate.num_classes == classifier.num_classes
    }


if __name__ == "__main__":
    command_line({"evaluate": main})

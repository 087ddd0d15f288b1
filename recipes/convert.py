"""Brings a robust checkpoint that others trained into our form: a folder that timm loads.

    python recipes/convert.py --checkpoint FILE --architecture resnet50 --output FOLDER
        --license mit --data imagenet-1k --threat linf:4/255 --method PGD-AT --origin URL
    python recipes/convert.py --checkpoint hf-hub:ORG/NAME@REVISION:FILE ...

Takes what torch.save or safetensors wrote: files of MadryLab's robustness, RobustBench and torchvision, CIFAR ResNets,
XCiT, ConvNeXt and ViT as their authors, timm or transformers store them, image towers of CLIP, and others whose layers
are those of the architecture. Nothing in the file is run; one that needs code is refused. Which layer is which is found
by names, shapes and places, and printed before it is used. It is proven by equal logits where the original module is at
hand: torchvision's always, any other with `--original MODULE:FUNCTION`.
Expected: torchvision's resnet50 in 10 s on one core of an AMD EPYC, its logits equal bit for bit.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from robust_hub import conversion, hub, launch, model_folder
from robust_hub.launch import Json, LabelNames, command_line, tell
from robust_hub.model_folder import Provenance, model_name, short_name
from robust_hub.models import PixelClassifier
from robust_hub.threats import parse_threat

UNPROVEN = "not proven, as the original module is not at hand"


@dataclass(frozen=True)
class Source:
    """What is converted.

    Attributes:
        checkpoint: the file, or hf-hub:ORG/NAME:FILE, with @REVISION behind the NAME if wanted.
        key: which of its state dicts, keys joined by dots; empty to choose by rule.
        without: beginnings of names to leave out, for layers that the network never uses.
        mean: of each channel, in pixel units of [0, 1]; only where the file holds no normaliser.
        std: of each channel.
        original: MODULE:FUNCTION that builds the network the file was written from, to prove the conversion; this
            runs Python code of this machine, so name only what is trusted.
    """

    checkpoint: str
    key: str = ""
    without: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    original: str = ""


@dataclass(frozen=True)
class Claims:
    """What its authors say of it; nothing in the file could tell.

    Attributes:
        license: an identifier that the Hub knows, for example mit.
        data: the data set it was trained on.
        method: how it was trained.
        threat: linf:EPS or l2:EPS, in pixel units; what it was trained to withstand, if anything.
        origin: where it comes from, an address or a citation.
        label_names: class names in the order of the logits, a JSON list of them, or a file with one on each line; none
            where they are not known.
    """

    license: str
    data: str
    method: str
    threat: str = ""
    origin: str = ""
    label_names: LabelNames = ()


@dataclass(frozen=True)
class Config:
    """What a conversion needs.

    Attributes:
        source: the checkpoint.
        claims: for the card.
        architecture: timm's name of the network, or ours.
        output: the folder; it must be new.
        model_args: arguments for timm's create_model, as JSON.
        image_size: side of the images in px; 0 for the architecture's own.
    """

    source: Source
    claims: Claims
    architecture: str
    output: Path
    model_args: Json = field(default_factory=dict)
    image_size: int = 0


def convert(config: Config) -> None:
    """Converts a checkpoint and prints how."""
    source = config.source
    check(config)
    file, called = hub.open_checkpoint(source.checkpoint)
    foreign = conversion.read_checkpoint(file, key=source.key, without=source.without)
    tell(foreign)
    normaliser = conversion.settle_normaliser(foreign.normaliser, source.mean, source.std)
    outputs = conversion.outputs_of(
        foreign.weights, config.architecture, config.model_args, channels=len(normaliser.mean)
    )
    tell(outputs)
    label_names = list(config.claims.label_names)
    check_names(label_names, outputs)
    classifier = conversion.create_target(
        config.architecture,
        config.model_args,
        outputs=outputs,
        normaliser=normaliser,
        image_size=config.image_size,
    )
    if source.original:
        tell(f"\nruns the Python code {source.original} of this machine")
        original = conversion.import_original(source.original, outputs.count)
        foreign = foreign.in_order_of(original)
    else:
        original = conversion.stock_original(config.architecture, foreign, outputs.count)
    to_fill = conversion.weights_to_fill(classifier, outputs)
    mapping = conversion.find_mapping(foreign.weights, to_fill, ordered=foreign.ordered)
    tell(f"\n{mapping.table()}\n")
    conversion.fill(classifier, foreign.weights, mapping)
    unproven = ", and ".join(filter(None, (UNPROVEN, mapping.doubts)))
    proof = conversion.prove(original, foreign, classifier) if original else unproven
    tell(proof)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    origin = f"Converted from {called} (sha256 {digest})"
    if outputs.kind != "classes":
        proof = f"{proof}; {outputs}"
    provenance = provenance_of(config, classifier, origin, proof)
    model_folder.save(config.output, classifier, provenance, label_names=label_names)
    tell(f"\nwritten: timm.create_model('local-dir:{config.output}', pretrained=True)")


def check(config: Config) -> None:
    """Checks what can be checked before anything is read.

    Raises:
        ValueError: when the output is taken, or a claim is empty or no threat.
    """
    for claim in ("license", "data", "method"):
        if not getattr(config.claims, claim).strip():
            raise ValueError(f"--{claim} must be stated, got nothing; look it up where the checkpoint is from")
    if config.image_size < 0:
        raise ValueError(f"--image-size must be at least 0, got {config.image_size}")
    if config.claims.threat:
        parse_threat(config.claims.threat)
    if config.output.exists():
        raise ValueError(f"{config.output} is there already; choose another --output")
    launch.check_apart(config.output)


def check_names(label_names: list[str], outputs: "conversion.Outputs") -> None:
    """Checks that there is a name for each class.

    Raises:
        ValueError: when there is not, or there are no classes.
    """
    if label_names and outputs.kind != "classes":
        raise ValueError(f"{outputs}; leave --label-names away")
    if label_names and len(label_names) != outputs.count:
        raise ValueError(
            f"the checkpoint has {outputs.count} classes and --label-names has {len(label_names)} names; give one for "
            "each"
        )


def provenance_of(config: Config, classifier: PixelClassifier, origin: str, proof: str) -> Provenance:
    """Collects what the card tells."""
    claims, threat = config.claims, parse_threat(config.claims.threat) if config.claims.threat else None
    method, data = (
        re.sub(r"[^a-z0-9-]+", "-", told.lower()).strip("-") for told in (short_name(claims.method), claims.data)
    )
    whence = f", from {claims.origin}" if claims.origin else ""
    return Provenance(
        name=model_name(config.architecture, method, threat, data),
        architecture=config.architecture,
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
        method=claims.method,
        data=claims.data,
        threat=str(threat) if threat else "",
        eps=threat.eps if threat else 0.0,
        command=launch.told_command("python"),
        origin=f"{origin}{whence}; the conversion is {proof}.",
        license=claims.license.strip(),
    )


if __name__ == "__main__":
    command_line({"convert": convert}, launcher="")

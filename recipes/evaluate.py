"""Measures clean and robust accuracy of any classifier on any data set.

    accelerate launch recipes/evaluate.py --model local-dir:FOLDER --data FOLDER --threat linf:8/255

The attack is PGD, which gives an upper bound: a model that withstands it may fall to a stronger one.
"""

from dataclasses import dataclass

from accelerate import Accelerator
from accelerate.utils import set_seed

from robust_hub.attacks import PGD
from robust_hub.command_line import command_line
from robust_hub.data import Shard, Source, evaluation_loader, load_data, subset
from robust_hub.evaluation import evaluate
from robust_hub.hub import check_label_names, load, read_facts
from robust_hub.results import published, table
from robust_hub.threats import parse_threat


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        model: hf-hub:ORG/NAME or local-dir:FOLDER.
        source: the images; the test split is used.
        threat: linf:EPS or l2:EPS, in pixel units.
        steps: gradients of PGD; its step is 2.5 eps / steps.
        restarts: random starts of PGD.
        batch_size: images at a time on each process.
        seed: of the random starts.
    """

    model: str
    source: Source
    threat: str = "linf:8/255"
    steps: int = 50
    restarts: int = 1
    batch_size: int = 256
    seed: int = 0


def main(config: Config) -> None:
    """Prints the table."""
    threat = parse_threat(config.threat)
    attack = PGD.standard(threat, steps=config.steps, restarts=config.restarts)
    accelerator = Accelerator()
    classifier = load(config.model).to(accelerator.device).eval()
    data = load_data(config.source)
    check_label_names(classifier, data.label_names)
    loader = evaluation_loader(
        subset(data.test, config.source.test_images),
        classifier.input_size,
        batch_size=config.batch_size,
        device=accelerator.device,
        shard=Shard(accelerator.process_index, accelerator.num_processes),
    )
    set_seed(config.seed, device_specific=True)
    evaluation = evaluate(accelerator, classifier, loader, attack, label=classifier.architecture)
    result = published(classifier.architecture, classifier, evaluation, read_facts(config.model))
    accelerator.print(table([result], data.name, threat))


if __name__ == "__main__":
    command_line({"evaluate": main})

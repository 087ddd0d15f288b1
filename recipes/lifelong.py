"""Fine-tunes a robust classifier on natural images without forgetting: its features stay near the robust ones.

    accelerate launch recipes/lifelong.py --teacher hf-hub:ORG/NAME --data FOLDER --output runs/lifelong

A new head is trained first, on features that are computed once; then all weights, with a penalty on how far the
features move (Shafahi et al., ICLR 2020, arXiv 1905.08232). The paper means it for the teacher's own data, to raise its
clean accuracy, as well as for others. Writes OUTPUT/student.
Expected: the CIFAR-10 teacher of model_cards/ on CIFAR-100 (25,000 images, a tenth held out), 2 epochs, 33.5 clean, 8.2
robust at linf 8/255 (n = 1,000, PGD-50, seed 0, 270 s on a third of a core of an AMD EPYC in bf16); a linear probe has
30.5 and 11.1.
"""

from dataclasses import dataclass

from robust_hub import hub, model_folder, training
from robust_hub.data import Source
from robust_hub.launch import LabelNames, Output, command_line
from robust_hub.methods import Lifelong, LifelongOptions
from robust_hub.training import TrainingConfig

TRAINING = TrainingConfig(epochs=10, lr=1e-3, weight_decay=2e-4)


@dataclass(frozen=True)
class Config:
    """What fine-tuning needs.

    Attributes:
        teacher: the robust classifier to start from: hf-hub:ORG/NAME, local-dir:FOLDER, a name of the catalogue, or of
            weights that timm knows, with its tag (resnet18.a1_in1k); its classes may be others.
        source: the images.
        output: where the run writes.
        threat: linf:EPS or l2:EPS, in pixel units; used to choose the epoch and to test, never to train.
        label_names: what the teacher's logits stand for, in their order, where its folder does not tell it rightly:
            names of the data's classes, a JSON list of them, or a file with one on each line. A teacher that knows the
            data's classes is shown beside the student.
        training: how all weights are learnt, after the head.
    """

    teacher: str
    source: Source
    output: Output
    threat: str = "linf:8/255"
    label_names: LabelNames = ()
    training: TrainingConfig = TRAINING


def fine_tune(config: Config, options: LifelongOptions = LifelongOptions()):
    """Trains a head, and then all weights, of a robust classifier."""
    teacher = hub.open_folder(config.teacher)
    run = training.open_run(config, options, teacher, label_names=config.label_names)
    student = model_folder.load_with_new_head(teacher, run.data.num_classes)
    head = training.NewHead(training.linear_head(student), student)
    return run.complete(student, Lifelong(student, run.require_teacher(), options), head=head, starts_from=teacher)


if __name__ == "__main__":
    command_line({"lifelong": fine_tune})

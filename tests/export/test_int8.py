"""A quantised file is another classifier, and what it withstands is asked anew."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from robust_hub.data import Source, batches_of, load_test_data
from robust_hub.export import export_model, transfer
from robust_hub.export.transfer import withstood
from robust_hub.hub import load_with_folder
from robust_hub.threats import Linf
from tests.made_up import CNN, trained

THREAT = Linf(8 / 255)


@pytest.fixture(scope="module", autouse=True)
def few_queries():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "QUERIES", 20)
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder: Path = trained(tmp_path_factory.mktemp("int8") / "model", "resnet18_cifar", CNN)
    classifier, opened = load_with_folder(f"local-dir:{folder}")
    return classifier.eval(), opened, load_test_data(Source("synthetic"))


@pytest.fixture(scope="module")
def batch(opened):
    classifier = opened[0]
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return images, classifier(images).argmax(1)


@pytest.fixture(scope="module")
def exported(opened, tmp_path_factory):
    return export_model(*opened, tmp_path_factory.mktemp("int8") / "model.onnx", precision="int8", images=12)


def test_weights_are_eight_bits_and_the_facts_say_so(exported):
    written = onnx.load(exported.file)
    weights = [each for each in written.graph.initializer if each.data_type == onnx.TensorProto.INT8 and each.dims]
    # Nine convolutions, three shortcuts and the classifier.
    assert len([each for each in weights if len(each.dims) >= 2]) == 13
    assert {each.key: each.value for each in written.metadata_props}["precision"] == "int8"


def test_what_it_withstands_is_told_as_a_bound(exported):
    assert exported.withstood.file_robust.value <= exported.withstood.file_transferred.value
    assert "upper bound by transfer" in str(exported)
    assert "never call it its robust accuracy" in str(exported)


class Constant(nn.Module):
    """Gives every image one label."""

    def __init__(self, label: int):
        super().__init__()
        self.label = label

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(torch.full((len(images),), self.label), 4).float()


def test_a_file_that_looks_at_nothing_withstands_everything_that_it_is_right_about(opened, batch):
    images, labels = batch
    found = withstood(opened[0], Constant(int(labels[0])), batches_of(images, labels, batch_size=5), THREAT)
    expected = float((labels == labels[0]).float().mean())
    assert found.file_clean.value == found.file_robust.value == pytest.approx(expected)
    assert found.clean.value == 1.0


def test_the_classifier_itself_withstands_as_a_file_no_more_than_as_it_is(opened, batch):
    images, labels = batch
    found = withstood(opened[0], opened[0], batches_of(images, labels, batch_size=12), THREAT)
    assert found.file_clean == found.clean
    assert found.file_transferred == found.robust
    assert found.file_robust.value <= found.robust.value < 1


@pytest.mark.slow
def test_also_attempts_that_did_not_fool_the_classifier_are_tried_on_the_file(opened, batch):
    # The file is fooled by whatever is no more as it was.
    images, labels = batch

    class Suspicious(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits = opened[0](pixels)
            known = (pixels[:, None] == images).flatten(2).all(2).any(1)
            return torch.where(known[:, None], logits, -logits)

    found = withstood(opened[0], Suspicious(), batches_of(images, labels, batch_size=12), Linf(0.1 / 255))
    assert found.robust.value > 0
    assert (found.file_clean.value, found.file_transferred.value) == (1.0, 0.0)


def test_a_random_start_is_the_same_twice(opened, batch):
    loader = batches_of(*(each[:4] for each in batch), batch_size=4)
    assert withstood(opened[0], opened[0], loader, THREAT) == withstood(opened[0], opened[0], loader, THREAT)

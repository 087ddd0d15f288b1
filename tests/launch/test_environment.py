"""What a run runs on need not be Linux."""

import os
from types import SimpleNamespace

import pytest
import torch

from robust_hub.data import Source, evaluation_loader, load_data, loaders, subset
from robust_hub.data.streaming import Streamed
from robust_hub.launch import Output, make_accelerator
from robust_hub.models import Preprocessing


def test_images_are_streamed_where_the_system_can_not_tell_the_cores_of_a_process(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(loaders, "IN_MEMORY_BYTES", 0)
    rows = subset(load_data(Source("synthetic")).test, 3)
    loader = evaluation_loader(rows, Preprocessing((3, 16, 16)), batch_size=2, device=torch.device("cpu"))
    assert isinstance(loader, Streamed)
    assert [len(labels) for _, labels in loader] == [2, 1]


def test_threads_are_as_many_as_the_machine_has_cores_where_nothing_else_is_told(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(loaders, "IN_MEMORY_BYTES", 0)
    rows = subset(load_data(Source("synthetic")).test, 3)
    loader = evaluation_loader(rows, Preprocessing((3, 16, 16)), batch_size=2, device=torch.device("cpu"))
    assert loader.threads == 3


def test_a_device_that_nobody_tried_is_refused_in_one_sentence(monkeypatch, tmp_path):
    on_mps = SimpleNamespace(device=torch.device("mps"))
    monkeypatch.setattr("robust_hub.launch.environment.Accelerator", lambda **_: on_mps)
    with pytest.raises(ValueError, match=r"^[^\n]*never tried on mps; [^\n]*--cpu[^\n]*$"):
        make_accelerator(Output(tmp_path / "run"))
    assert not (tmp_path / "run").exists()

"""A repository on the loopback Hub, with a small and a large file."""

from importlib import import_module

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download

from tests.loopback_hub.server import WRITE_TOKEN

# What the client speaks through.
httpx = import_module("httpx" if huggingface_hub.__version__.startswith("1.") else "httpx2")
NAME = "tiny-org/net"
SMALL, LARGE = b'{"a": 1}', bytes(range(256)) * 100


@pytest.fixture
def writer(empty_hub):
    return HfApi(endpoint=empty_hub.endpoint, token=WRITE_TOKEN)


@pytest.fixture
def published(writer):
    """The id of the commit that put a small and a large file into a new repository."""
    writer.create_repo(NAME)
    return put(writer, {"config.json": SMALL, "model.safetensors": LARGE}).oid


@pytest.fixture
def download(empty_hub, tmp_path):
    """Downloads a file into a fresh cache and reads it."""

    def read(name: str = "model.safetensors", **options) -> bytes:
        with open(hf_hub_download(NAME, name, cache_dir=tmp_path / "cache", **options), "rb") as file:
            return file.read()

    return read


def put(api: HfApi, files: dict[str, bytes], **options):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(NAME, operations, commit_message="put", **options)

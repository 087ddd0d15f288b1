"""The Hub of the tests fails as it is told to, and takes nothing that the real one would refuse."""

import hashlib
import json
import struct
import time
import urllib.request
from base64 import b64encode
from urllib.error import HTTPError

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, LocalEntryNotFoundError

from tests.loopback_hub.conftest import LARGE, NAME, SMALL, httpx, put
from tests.loopback_hub.server import WRITE_TOKEN, HubServer


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client would wait between its tries; nobody waits."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def by_hand(hub: HubServer, method: str, path: str, body: bytes | dict = b"", token: str = WRITE_TOKEN, **headers: str):
    """Sends a request that no client would; gives status and body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    request = urllib.request.Request(f"{hub.endpoint}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as done:
            return done.status, done.read()
    except HTTPError as refused:
        return refused.code, refused.read()


def commit_by_hand(hub: HubServer, *operations: dict, header: dict | None = None) -> tuple[int, bytes]:
    lines = [{"key": "header", "value": header or {"summary": "by hand", "description": ""}}, *operations]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return by_hand(hub, "POST", f"/api/models/{NAME}/commit/main", body, **{"Content-Type": "application/x-ndjson"})


def inline(path: str, content: bytes) -> dict:
    return {"key": "file", "value": {"path": path, "content": b64encode(content).decode(), "encoding": "base64"}}


def announce_by_hand(hub: HubServer, content: bytes) -> str:
    """Announces an LFS object and gives the path to upload it to."""
    wanted = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    body = {"operation": "upload", "transfers": ["basic"], "hash_algo": "sha256", "objects": [wanted]}
    status, answer = by_hand(hub, "POST", f"/{NAME}.git/info/lfs/objects/batch", body)
    assert status == 200
    return json.loads(answer)["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.endpoint)


def test_a_hub_that_hangs_up_hides_what_is_in_the_cache(empty_hub, published, download):
    assert download() == LARGE
    with empty_hub.fault("HEAD", "/resolve/", drop_after=0), pytest.raises(httpx.RemoteProtocolError):
        download()


@pytest.mark.skipif(
    huggingface_hub.__version__.startswith("1."),
    reason="clients of 1.x may close what they speak through at the first failure, and can't try again",
)
def test_a_hub_that_stopped_answers_nothing_more(tmp_path, waits):
    hub = HubServer()
    api = HfApi(endpoint=hub.endpoint, token=WRITE_TOKEN)
    api.create_repo(NAME)
    path = api.hf_hub_download(NAME, ".gitattributes", cache_dir=tmp_path)
    hub.stop()
    assert api.hf_hub_download(NAME, ".gitattributes", cache_dir=tmp_path) == path
    with pytest.raises(LocalEntryNotFoundError):
        api.hf_hub_download(NAME, "config.json", cache_dir=tmp_path)
    assert waits == [1, 2, 4, 8, 8]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/preupload/"), ("POST", "/objects/batch"), ("PUT", "^/lfs/"), ("POST", "/verify")]
)
@pytest.mark.parametrize("trouble", [{"status": 429, "headers": {"Retry-After": "3"}}, {"status": 503}])
def test_the_client_tries_every_step_of_an_upload_again_but_the_commit(empty_hub, writer, waits, method, path, trouble):
    writer.create_repo(NAME)
    with empty_hub.fault(method, path, **trouble):
        put(writer, {"model.safetensors": LARGE})
    assert empty_hub.repository(NAME).files()["model.safetensors"] == LARGE
    # Retry-After and a second more, or a first wait of one second.
    assert waits == ([4] if trouble["status"] == 429 else [1])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_client_tries_to_commit_or_create_only_once(empty_hub, writer, waits, status):
    with empty_hub.fault("POST", "/repos/create", status=status), pytest.raises(HfHubHTTPError, match=str(status)):
        writer.create_repo(NAME)
    writer.create_repo(NAME)
    with empty_hub.fault("POST", "/commit/", status=status), pytest.raises(HfHubHTTPError, match=str(status)):
        put(writer, {"config.json": SMALL})
    assert not waits
    assert empty_hub.repository(NAME).files().keys() == {".gitattributes"}


def test_an_upload_that_is_cut_off_is_sent_again(empty_hub, writer, waits):
    writer.create_repo(NAME)
    with empty_hub.fault("PUT", "^/lfs/", drop_after=100):
        put(writer, {"model.safetensors": LARGE})
    assert empty_hub.repository(NAME).files()["model.safetensors"] == LARGE
    assert [request.status for request in empty_hub.seen("PUT", "^/lfs/")] == [0, 200]


def test_a_commit_whose_answer_is_lost_was_made_and_the_client_raises(empty_hub, writer):
    writer.create_repo(NAME)
    with empty_hub.fault("POST", "/commit/", cut_after=5), pytest.raises(httpx.RemoteProtocolError):
        put(writer, {"config.json": SMALL})
    assert empty_hub.repository(NAME).files()["config.json"] == SMALL


def test_the_client_raises_on_a_bad_request(empty_hub, writer, published):
    with empty_hub.fault("POST", "/commit/", status=400), pytest.raises(BadRequestError):
        put(writer, {"config.json": b"{}"})


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_lookup_that_fails_is_tried_again_when_nothing_is_cached(empty_hub, published, download, waits, status):
    with empty_hub.fault("HEAD", "/resolve/", times=2, status=status):
        assert download() == LARGE
    assert waits == [1]


def test_a_download_is_tried_again_when_the_hub_is_busy(empty_hub, published, download, waits):
    with empty_hub.fault("GET", "/resolve/", status=429, headers={"Retry-After": "3"}):
        assert download() == LARGE
    assert waits == [4]


def test_a_download_is_not_tried_again_after_another_error_of_the_hub(empty_hub, published, download, waits):
    with empty_hub.fault("GET", "/resolve/", status=503), pytest.raises(HfHubHTTPError, match="503"):
        download()
    assert not waits


def test_a_download_that_is_cut_off_goes_on_where_its_last_whole_chunk_ended(
    empty_hub, published, download, waits, monkeypatch
):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    with empty_hub.fault("GET", "/resolve/", cut_after=10_000):
        assert download() == LARGE
    answers = [(request.status, request.sent) for request in empty_hub.seen("GET", "/resolve/")]
    assert answers == [(200, 10_000), (206, 25_600 - 2 * 4096)]
    assert waits == [1]


def test_a_download_that_is_cut_off_in_its_first_chunk_starts_again(empty_hub, published, download, waits):
    # Chunks are 10 MiB, and the client writes only whole ones.
    with empty_hub.fault("GET", "/resolve/", cut_after=10_000):
        assert download() == LARGE
    assert [request.status for request in empty_hub.seen("GET", "/resolve/")] == [200, 200]


def test_a_truncated_file_is_refused_by_the_client(empty_hub, published, download, tmp_path):
    with empty_hub.fault("GET", "/resolve/", truncate_to=1000), pytest.raises(OSError, match="should be of size 25600"):
        download()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert download() == LARGE


def test_a_corrupted_file_of_the_right_size_is_not_noticed_by_the_client(empty_hub, published, download):
    with empty_hub.fault("GET", "/resolve/", corrupt_at=7):
        assert download() != LARGE
    # It stays in the cache under the right name.
    assert download() != LARGE


def test_a_rewritten_answer_reaches_the_client(empty_hub, writer, published, download):
    with empty_hub.fault(
        "GET", "/api/models/", rewrite=lambda reply: reply.content["siblings"].append({"rfilename": "../x"})
    ):
        assert "../x" in [file.rfilename for file in writer.model_info(NAME).siblings]
    with empty_hub.fault("HEAD", "/resolve/", headers={"X-Repo-Commit": None}), pytest.raises(LocalEntryNotFoundError):
        download()


def test_a_fault_that_nothing_meets_fails(empty_hub):
    with pytest.raises(AssertionError, match="came to meet its fault"), empty_hub.fault("GET", "/none", status=500):
        pass


def test_a_part_of_a_file_can_be_asked_for(empty_hub, published):
    path = f"/{NAME}/resolve/main/config.json"
    parts = {"bytes=2-4": (206, SMALL[2:5]), "bytes=5-": (206, SMALL[5:]), "bytes=-3": (206, SMALL[-3:])}
    parts["bytes=8-"] = (416, b"")
    assert {part: by_hand(empty_hub, "GET", path, Range=part) for part in parts} == parts


def test_an_object_is_uploaded_whole_unchanged_and_to_its_signed_address(empty_hub, writer):
    writer.create_repo(NAME)
    place = announce_by_hand(empty_hub, LARGE)
    wrong = LARGE[:-1] + b"x"
    assert by_hand(empty_hub, "PUT", place, LARGE, token=WRITE_TOKEN)[0] == 400
    assert by_hand(empty_hub, "PUT", place, LARGE[:-1], token="")[0] == 400
    assert by_hand(empty_hub, "PUT", place, wrong, token="")[0] == 400
    other = hashlib.sha256(wrong).hexdigest()
    assert by_hand(empty_hub, "PUT", place.replace(hashlib.sha256(LARGE).hexdigest(), other), wrong, token="")[0] == 403
    assert by_hand(empty_hub, "PUT", place, LARGE, token="")[0] == 200


def test_an_object_is_not_shared_between_repositories(empty_hub, writer, published):
    writer.create_repo("robust-hub/other")
    place = "/api/models/robust-hub/other/commit/main"
    value = {"path": "stolen.bin", "algo": "sha256", "oid": hashlib.sha256(LARGE).hexdigest()}
    lines = [{"key": "header", "value": {"summary": "s", "description": ""}}, {"key": "lfsFile", "value": value}]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert by_hand(empty_hub, "POST", place, body, **{"Content-Type": "application/x-ndjson"})[0] == 400


def test_a_commit_names_only_objects_that_were_uploaded_and_verified(empty_hub, writer):
    writer.create_repo(NAME)
    value = {"path": "a.bin", "algo": "sha256", "oid": hashlib.sha256(LARGE).hexdigest(), "size": len(LARGE)}
    named, verify = {"key": "lfsFile", "value": value}, f"/{NAME}.git/info/lfs/objects/verify"
    assert commit_by_hand(empty_hub, named)[0] == 400
    assert by_hand(empty_hub, "POST", verify, {"oid": value["oid"], "size": value["size"]})[0] == 404
    assert by_hand(empty_hub, "PUT", announce_by_hand(empty_hub, LARGE), LARGE, token="")[0] == 200
    assert commit_by_hand(empty_hub, named)[0] == 400
    assert by_hand(empty_hub, "POST", verify, {"oid": value["oid"], "size": 1})[0] == 404
    assert by_hand(empty_hub, "POST", verify, {"oid": value["oid"], "size": value["size"]})[0] == 200
    assert commit_by_hand(empty_hub, {"key": "lfsFile", "value": {**value, "size": 1}})[0] == 400
    assert commit_by_hand(empty_hub, named)[0] == 200


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/x", "a\\b", "", "a//b", "./x", ".git/config", "a\nb"])
def test_paths_that_leave_the_folder_are_refused(empty_hub, writer, path):
    writer.create_repo(NAME)
    assert commit_by_hand(empty_hub, inline(path, b"x"))[0] == 400
    body = {"files": [{"path": path, "sample": "eA==", "size": 1}]}
    assert by_hand(empty_hub, "POST", f"/api/models/{NAME}/preupload/main", body)[0] == 400


def test_an_escaped_path_that_leaves_the_folder_is_refused(empty_hub, published):
    assert by_hand(empty_hub, "GET", f"/{NAME}/resolve/main/..%2Fconfig.json")[0] == 400
    assert by_hand(empty_hub, "GET", f"/api/models/{NAME}/tree/main/%2e%2e/x")[0] == 400


@pytest.mark.parametrize(
    "operation",
    [
        inline("a.safetensors", b"x"),
        inline("config.json/x", b"x"),
        {"key": "file", "value": {"path": "a", "content": "not base64!", "encoding": "base64"}},
        {"key": "file", "value": {"path": "a", "content": "eA==", "encoding": "utf-8"}},
        {"key": "rename", "value": {"path": "a"}},
        {"key": "file", "value": {}},
    ],
)
def test_a_malformed_commit_changes_nothing(empty_hub, published, operation):
    assert commit_by_hand(empty_hub, inline("good", b"x"), operation)[0] == 400
    assert commit_by_hand(empty_hub)[0] == 400
    assert commit_by_hand(empty_hub, inline("good", b"x"), header={"summary": "", "description": ""})[0] == 400
    assert empty_hub.repository(NAME).at("main").id == published


@pytest.mark.parametrize("token", ["", WRITE_TOKEN])
def test_xet_takes_nothing_without_the_token_of_the_repository(empty_hub, published, token):
    for place in ("xorbs/default/0", "shards"):
        assert by_hand(empty_hub, "POST", f"/xet/models/{NAME}/v1/{place}", b"", token=token)[0] == 401


def test_xet_takes_no_malformed_xorb_or_shard_and_no_file_that_it_can_not_put_together(empty_hub, published):
    given = by_hand(empty_hub, "GET", f"/api/models/{NAME}/xet-write-token/main")
    token, xorb = json.loads(given[1])["accessToken"], bytes([0, 3, 0, 0, 0, 3, 0, 0]) + b"abc"

    def shard(content: bytes, flags: int = 1 << 30) -> bytes:
        """One file of one chunk of the xorb whose name is 64 zeros."""
        sha256 = struct.pack("<4Q", *struct.unpack(">4Q", hashlib.sha256(content).digest()))
        part = bytes(36) + struct.pack("<III", len(content), 0, 1)
        return bytes(80) + struct.pack("<IIQ", flags, 1, 0) + part + sha256 + bytes(16) + b"\xff" * 32

    place = f"/xet/models/{NAME}/v1/"
    answers = {
        "not put together": ("shards", shard(b"abc"), 400),
        "cut off": ("xorbs/default/" + "0" * 64, xorb[:-1], 400),
        "whole": ("xorbs/default/" + "0" * 64, xorb, 200),
        "no sha256": ("shards", shard(b"abc", flags=0), 400),
        "another sha256": ("shards", shard(b"abd"), 400),
        "cut off in a file": ("shards", shard(b"abc")[:100], 400),
        "right": ("shards", shard(b"abc"), 200),
    }
    for case, (end, body, status) in answers.items():
        assert by_hand(empty_hub, "POST", place + end, body, token=token)[0] == status, case
    assert empty_hub.repository(NAME).objects[hashlib.sha256(b"abc").hexdigest()] == b"abc"

"""Files on their way in: what is to be uploaded how, LFS objects, and Xet."""

import hashlib
import hmac
import re
import time
from base64 import b64decode

from tests.loopback_hub.server import xet_store
from tests.loopback_hub.server.calls import Call, Refused, Reply, require
from tests.loopback_hub.server.contents import Repository, checked_path, is_for_lfs
from tests.loopback_hub.server.rights import refuse_if_only_proposing, signature


def choose_upload_modes(call: Call, repository: Repository, rev: str) -> Reply:
    refuse_if_only_proposing(call, repository, rev)
    commit, modes = repository.at(rev), []
    for file in call.json()["files"]:
        path, size = checked_path(file["path"]), file["size"]
        require(len(b64decode(file["sample"], validate=True)) == min(size, 512), f"the sample of {path} is cut off")
        there = {"oid": commit.files[path].etag} if path in commit.files else {}
        mode = "lfs" if is_for_lfs(path, size) else "regular"
        modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **there})
    return Reply({"files": modes})


def announce_objects(call: Call, repository: Repository) -> Reply:
    asked, objects = call.json(), []
    require(asked["operation"] == "upload" and "basic" in asked["transfers"], "only basic uploads are known")
    require(asked["hash_algo"] == "sha256", "objects are named by their sha256")
    for announced in asked["objects"]:
        oid, size = announced["oid"], announced["size"]
        require(re.fullmatch("[0-9a-f]{64}", oid) and type(size) is int and size > 0, f"not an object: {announced}")
        place = f"/lfs/{repository.kind}/{repository.id}/{oid}"
        href = f"{call.endpoint}{place}?size={size}&signature={signature(f'{place} {size}')}"
        actions = {"upload": {"href": href}, "verify": {"href": f"{call.endpoint}{call.path[: -len('batch')]}verify"}}
        objects.append({"oid": oid, "size": size, **({} if oid in repository.objects else {"actions": actions})})
    return Reply({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})


def upload_object(call: Call, repository: Repository, oid: str) -> Reply:
    require("authorization" not in call.headers, "the address is signed; a token must not be sent along")
    size = int(call.query["size"][0])
    if not hmac.compare_digest(call.query["signature"][0], signature(f"{call.path} {size}")):
        raise Refused(403, "The signature of the address does not match")
    require("content-length" in call.headers and len(call.body) == size, f"{size} bytes were announced")
    require(hashlib.sha256(call.body).hexdigest() == oid, f"the sha256 of what arrived is not {oid}")
    repository.staged[oid] = call.body
    return Reply(headers={"ETag": f'"{oid}"'})


def verify_object(call: Call, repository: Repository) -> Reply:
    oid, size = call.json()["oid"], call.json()["size"]
    content = repository.staged.get(oid, repository.objects.get(oid))
    if content is None or len(content) != size:
        raise Refused(404, f"No object {oid} of {size} bytes was uploaded")
    repository.objects[oid] = content
    return Reply({})


def let_upload_to_xet(call: Call, repository: Repository, rev: str) -> Reply:
    place, expiry = xet_place(repository), int(time.time()) + 3600
    url, token = f"{call.endpoint}{place}", signature(place)
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiry)}
    return Reply({"casUrl": url, "accessToken": token, "exp": expiry}, headers=headers)


def upload_xorb(call: Call, repository: Repository, oid: str) -> Reply:
    refuse_if_not_signed_for_xet(call, repository)
    answer = {"was_inserted": oid not in repository.xorbs}
    repository.xorbs[oid] = xet_store.read_xorb(call.body)
    return Reply(answer)


def upload_shard(call: Call, repository: Repository) -> Reply:
    refuse_if_not_signed_for_xet(call, repository)
    for sha256, parts in xet_store.read_shard(call.body):
        repository.objects[sha256] = xet_store.join(parts, repository.xorbs, sha256)
    return Reply({"result": 1})


def refuse_if_not_signed_for_xet(call: Call, repository: Repository) -> None:
    """Refuses an upload to Xet with another token than the one that was given out for the repository."""
    if call.headers.get("authorization") != f"Bearer {signature(xet_place(repository))}":
        raise Refused(401, "Not a token for this repository")


def xet_place(repository: Repository) -> str:
    """Names where the xorbs and shards of a repository go."""
    return f"/xet/{repository.kind}/{repository.id}"

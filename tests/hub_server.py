"""A small, strict Hub on loopback: what the Hugging Face clients ask for, kept in memory and checked to the byte.

Read from the top: what a repository is, who may do what, one function per address, then HTTP and the faults that a test
can order. Left out: moving, squashing and merging, multipart uploads, gated repositories, pages of lists.
"""

import hashlib
import hmac
import json
import re
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests import xet_store

LFS_SUFFIXES = (".safetensors", ".bin", ".parquet")
GIT_ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()


class Token(NamedTuple):
    """What an Authorization header stands for; namespaces are the user's own and his organizations'."""

    user: str
    role: str
    organizations: tuple[str, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.user, *self.organizations)


WRITE_TOKEN, READ_TOKEN, STRANGER_TOKEN = "hf_of_writer", "hf_of_reader", "hf_of_stranger"
TOKENS = {
    WRITE_TOKEN: Token("writer", "write", ("robust-hub", "tiny-org")),
    READ_TOKEN: Token("reader", "read", ("robust-hub", "tiny-org")),
    STRANGER_TOKEN: Token("stranger", "write", ("closed-org",)),
}
NOBODY = Token("", "", ())


@dataclass
class Reply:
    """An answer: bytes, or something that becomes JSON when it is sent."""

    content: bytes | dict | list = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


class Refused(Exception):
    """An answer other than success; the clients read its code and message from headers."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        codes = {"X-Error-Code": code} if code else {}
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.reply = Reply({"error": message}, status, {"X-Error-Message": message, **codes, **more})


def require(condition: object, message: str) -> None:
    """Refuses a request that a right client would not send."""
    if not condition:
        raise Refused(400, message)


@dataclass(frozen=True)
class File:
    """A file of a commit, in git or as an LFS object."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def blob(self) -> bytes:
        """What git holds: the content, or a pointer to the LFS object."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return pointer.encode() if self.lfs else self.content

    @cached_property
    def blob_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.blob) + self.blob).hexdigest()

    @property
    def etag(self) -> str:
        """What the clients compare: sha256 for LFS, git's sha1 for the rest."""
        return self.sha256 if self.lfs else self.blob_id

    def lfs_facts(self, name: str) -> dict:
        """Describes the LFS object, if it is one, with its sha256 under that name."""
        facts = {name: self.sha256, "size": len(self.content), "pointerSize": len(self.blob)}
        return {"lfs": facts} if self.lfs else {}


class Commit(NamedTuple):
    """All files at one time, and what led to them."""

    id: str
    parent: "Commit | None"
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repository:
    """Commits, refs that name them, LFS objects that were sent (staged) and verified, xorbs, and pull requests."""

    kind: str
    id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    staged: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    xorbs: dict[str, list[bytes]] = field(default_factory=dict)
    pull_requests: list[dict] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    @property
    def page(self) -> str:
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def commit(self, files: dict[str, File], title: str, *, author: str, ref="refs/heads/main", message="") -> Commit:
        """Records files as the commit that a ref now names."""
        parent = self.commits.get(self.refs.get(ref))
        listing = [[path, files[path].blob_id] for path in sorted(files)]
        what = json.dumps([self.id, parent and parent.id, title, message, author, listing, len(self.commits)])
        commit = Commit(hashlib.sha1(what.encode()).hexdigest(), parent, title, message, author, now(), files)
        self.commits[commit.id], self.refs[ref] = commit, commit.id
        return commit

    def at(self, revision: str) -> Commit:
        """Finds the commit that a branch, a tag, a pull request or a commit id names."""
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        commit_id = next((self.refs[name] for name in names if name in self.refs), revision)
        if commit_id not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[commit_id]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Reads all files of a revision."""
        return {path: file.content for path, file in self.at(revision).files.items()}

    def open_pull_request(self, title: str, author: str, start: Commit, status: str) -> int:
        """Opens a pull request whose ref starts at a commit, and tells its number."""
        number = len(self.pull_requests) + 1
        self.refs[f"refs/pr/{number}"] = start.id
        facts = {"num": number, "title": title, "author": {"name": author}, "createdAt": now(), "status": status}
        facts |= {"repo": {"name": self.id, "type": self.kind.removesuffix("s")}, "isPullRequest": True}
        facts |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "events": []}
        self.pull_requests.append(facts)
        return number


@dataclass(frozen=True)
class Call:
    """A request that arrived whole."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def endpoint(self) -> str:
        return f"http://{self.headers['host']}"

    def caller(self) -> Token:
        """Tells who calls."""
        if "authorization" not in self.headers:
            return NOBODY
        scheme, _, secret = self.headers["authorization"].partition(" ")
        if scheme != "Bearer" or secret not in TOKENS:
            raise Refused(401, "Invalid credentials in Authorization header")
        return TOKENS[secret]

    def writer(self, namespace: str = "") -> Token:
        """Tells who calls to write, in a namespace if one is named."""
        token = self.caller()
        if token is NOBODY:
            raise Refused(401, "Invalid username or password.")
        if token.role != "write":
            raise Refused(403, "You must use a token with the write role")
        if namespace and namespace not in token.namespaces:
            raise Refused(403, f"You don't have the rights to write under the namespace {namespace}")
        return token

    def json(self) -> dict:
        content = json.loads(self.body)
        require(isinstance(content, dict), "the body must be a JSON object")
        return content

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


ROUTES: list[tuple[str, re.Pattern, str, Callable[..., Reply]]] = []
PARTS = {
    "kind": "(?P<kind>models|datasets|spaces)",
    "prefix": "(?P<kind>datasets/|spaces/|)",
    "id": "(?P<id>[^/]+(?:/[^/]+)?)",
    "path": "(?P<path>.+)",
    **{name: f"(?P<{name}>[^/]+)" for name in ("rev", "oid", "number")},
}


def route(methods: str, path: str, access: str = "") -> Callable:
    """Registers the function for an address, whose parts arrive unquoted.

    With an access it is given the repository: to "read"; to "pull", which is to propose a change with a write token to
    what one can read; or to "write".
    """

    def register(function: Callable[..., Reply]) -> Callable[..., Reply]:
        pattern = re.compile(path.format(**PARTS))
        ROUTES.extend((method, pattern, access, function) for method in methods.split())
        return function

    return register


@route("GET", "/api/whoami-v2")
def who_am_i(hub, call):
    user, role, organizations = call.caller()
    if not user:
        raise Refused(401, "Invalid username or password.")
    roles = [{"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": role} for name in organizations]
    access = {"displayName": f"{user}-{role}", "role": role, "createdAt": now()}
    facts = {"type": "user", "id": user, "name": user, "fullname": user, "email": "", "emailVerified": True}
    facts |= {"canPay": False, "isPro": False, "avatarUrl": "", "orgs": roles}
    return Reply({**facts, "auth": {"type": "access_token", "accessToken": access}})


@route("POST", "/api/repos/create")
def create_repository(hub, call):
    asked = call.json()
    namespace = asked.get("organization") or call.writer().user
    author = call.writer(namespace).user
    visibility = asked.get("visibility") or ("private" if asked.get("private") else "public")
    require(visibility in ("public", "private"), f"not a visibility: {visibility}")
    require(re.fullmatch(r"(?!.*(--|\.\.))\w[\w.-]{,94}", asked["name"]), f"not a name: {asked['name']}")
    repository = Repository(f"{asked.get('type', 'model')}s", f"{namespace}/{asked['name']}", visibility == "private")
    require(repository.kind in ("models", "datasets", "spaces"), f"not a type: {repository.kind}")
    answer = {"url": f"{call.endpoint}/{repository.page}", "name": repository.id, "id": repository.id}
    if (repository.kind, repository.id) in hub.repositories:
        return Reply({"error": "You already created this repo", **answer}, 409)
    hub.add(repository, author)
    return Reply(answer)


@route("DELETE", "/api/repos/delete")
def delete_repository(hub, call):
    asked = call.json()
    id = f"{asked.get('organization') or call.writer().user}/{asked['name']}"
    repository = hub.open(call, (asked.get("type") or "model") + "s", id, "write")
    del hub.repositories[repository.kind, repository.id]
    return Reply({})


@route("PUT", "/api/{kind}/{id}/settings", "write")
def change_settings(hub, call, repository):
    asked = call.json()
    require(asked.keys() == {"visibility"} and asked["visibility"] in ("public", "private"), f"no settings: {asked}")
    repository.private = asked["visibility"] == "private"
    return Reply({})


@route("GET", "/api/{kind}/{id}/auth-check", "read")
@route("GET", "/api/{kind}/{id}/auth-check/write", "write")
def check_access(hub, call, repository):
    return Reply({})


@route("GET", "/api/{kind}")
def list_repositories(hub, call, kind):
    author, search = (call.query.get(name, [""])[0].lower() for name in ("author", "search"))
    wanted = {word for name in ("filter", "pipeline_tag") for word in call.query.get(name, [])}
    token = call.caller()
    readable = [repository for repository in hub.repositories.values() if can_read(token, repository)]
    found = [describe(repository, repository.at("main")) for repository in readable if repository.kind == kind]
    found = [facts for facts in found if author in ("", facts["author"].lower()) and search in facts["id"].lower()]
    found = [facts for facts in found if wanted <= set(facts["tags"])]
    found.sort(key=lambda facts: facts[call.query.get("sort", ["lastModified"])[0]], reverse=True)
    found = found[: int(call.query.get("limit", ["1000"])[0])]
    if "expand" in call.query:
        return Reply([only_expanded(facts, call) for facts in found])
    left_out = {"model-index"} if call.flag("cardData") else {"model-index", "cardData"}
    left_out |= set() if call.flag("full") else {"siblings", "sha", "lastModified", "author", "gated", "disabled"}
    return Reply([{name: value for name, value in facts.items() if name not in left_out} for facts in found])


@route("GET", "/api/{kind}/{id}", "read")
@route("GET", "/api/{kind}/{id}/revision/{rev}", "read")
def show_repository(hub, call, repository, rev="main"):
    return Reply(only_expanded(describe(repository, repository.at(rev), blobs=call.flag("blobs")), call))


@route("GET", "/api/{kind}/{id}/tree/{rev}(?:/{path})?", "read")
def list_tree(hub, call, repository, rev, path=""):
    commit, folder = repository.at(rev), f"{checked_path(path)}/" if path else ""
    names = [name for name in sorted([*commit.files, *folders(commit.files)]) if name.startswith(folder)]
    if folder and not names:
        raise Refused(404, f"{path} does not exist on {rev}", "EntryNotFound")
    if not call.flag("recursive"):
        names = [name for name in names if "/" not in name.removeprefix(folder)]
    return Reply([tree_entry(commit, name) for name in names])


@route("POST", "/api/{kind}/{id}/paths-info/{rev}", "read")
def show_paths(hub, call, repository, rev):
    commit, asked = repository.at(rev), parse_qs(call.body.decode()).get("paths", [])
    known = [path for path in asked if path in commit.files or path in folders(commit.files)]
    return Reply([tree_entry(commit, path) for path in known])


@route("GET", "/api/{kind}/{id}/commits/{rev}", "read")
def list_commits(hub, call, repository, rev):
    commit, history = repository.at(rev), []
    while commit is not None:
        facts = {"id": commit.id, "title": commit.title, "message": commit.message, "date": commit.date}
        history.append({**facts, "authors": [{"user": commit.author}]})
        commit = commit.parent
    return Reply(history)


@route("GET", "/api/{kind}/{id}/refs", "read")
def list_refs(hub, call, repository):
    starts = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/"}
    starts |= {"pullRequests": "refs/pr/"} if call.flag("include_prs") else {}
    answer = {kind: [] for kind in starts}
    for ref, commit_id in repository.refs.items():
        for kind, start in starts.items():
            if ref.startswith(start):
                answer[kind].append({"name": ref.removeprefix(start), "ref": ref, "targetCommit": commit_id})
    return Reply(answer)


@route("POST", "/api/{kind}/{id}/(?P<what>branch|tag)/{rev}", "write")
def create_ref(hub, call, repository, what, rev):
    asked = json.loads(call.body or b"{}")
    ref = f"refs/heads/{rev}" if what == "branch" else f"refs/tags/{asked['tag']}"
    start = repository.at(asked.get("startingPoint", "main") if what == "branch" else rev)
    if ref in repository.refs:
        raise Refused(409, f"{checked_path(ref)} exists already")
    repository.refs[checked_path(ref)] = start.id
    return Reply({}, 201)


@route("DELETE", "/api/{kind}/{id}/(?P<what>branch|tag)/{rev}", "write")
def delete_ref(hub, call, repository, what, rev):
    ref = f"refs/heads/{rev}" if what == "branch" else f"refs/tags/{rev}"
    if ref == "refs/heads/main":
        raise Refused(403, "The main branch can't be deleted")
    if repository.refs.pop(ref, None) is None:
        raise Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
    return Reply({})


@route("POST", "/api/{kind}/{id}/discussions", "pull")
def open_discussion(hub, call, repository):
    asked = call.json()
    require(asked["pullRequest"] is True, "only pull requests can be opened here")
    number = repository.open_pull_request(asked["title"], call.writer().user, repository.at("main"), "draft")
    url = f"{call.endpoint}/{repository.page}/discussions/{number}"
    return Reply({"num": number, "pullRequest": True, "url": url})


@route("GET", "/api/{kind}/{id}/discussions/{number}", "read")
def show_discussion(hub, call, repository, number):
    require(f"refs/pr/{number}" in repository.refs, f"no discussion {number}")
    return Reply(repository.pull_requests[int(number) - 1])


@route("POST", "/api/validate-yaml")
def validate_yaml(hub, call):
    errors = []
    try:
        front_matter(call.json()["content"])
    except (yaml.YAMLError, Refused):
        errors = [{"message": "the metadata on top of README.md must be names and values in YAML"}]
    return Reply({"errors": errors, "warnings": []}, 400 if errors else 200)


@route("POST", "/api/{kind}/{id}/preupload/{rev}", "pull")
def choose_upload_modes(hub, call, repository, rev):
    refuse_if_only_proposing(call, repository, rev)
    commit, modes = repository.at(rev), []
    for file in call.json()["files"]:
        path, size = checked_path(file["path"]), file["size"]
        require(len(b64decode(file["sample"], validate=True)) == min(size, 512), f"the sample of {path} is cut off")
        there = {"oid": commit.files[path].etag} if path in commit.files else {}
        modes.append({"path": path, "uploadMode": hub.upload_mode(path, size), "shouldIgnore": False, **there})
    return Reply({"files": modes})


@route("POST", r"/{prefix}{id}\.git/info/lfs/objects/batch", "pull")
def announce_objects(hub, call, repository):
    asked, objects = call.json(), []
    require(asked["operation"] == "upload" and "basic" in asked["transfers"], "only basic uploads are known")
    require(asked["hash_algo"] == "sha256", "objects are named by their sha256")
    for announced in asked["objects"]:
        oid, size = announced["oid"], announced["size"]
        require(re.fullmatch("[0-9a-f]{64}", oid) and type(size) is int and size > 0, f"not an object: {announced}")
        place = f"/lfs/{repository.kind}/{repository.id}/{oid}"
        href = f"{call.endpoint}{place}?size={size}&signature={hub.signature(f'{place} {size}')}"
        actions = {"upload": {"href": href}, "verify": {"href": f"{call.endpoint}{call.path[: -len('batch')]}verify"}}
        objects.append({"oid": oid, "size": size, **({} if oid in repository.objects else {"actions": actions})})
    return Reply({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})


@route("PUT", "/lfs/{kind}/{id}/{oid}")
def upload_object(hub, call, kind, id, oid):
    require("authorization" not in call.headers, "the address is signed; a token must not be sent along")
    size = int(call.query["size"][0])
    if not hmac.compare_digest(call.query["signature"][0], hub.signature(f"{call.path} {size}")):
        raise Refused(403, "The signature of the address does not match")
    require("content-length" in call.headers and len(call.body) == size, f"{size} bytes were announced")
    require(hashlib.sha256(call.body).hexdigest() == oid, f"the sha256 of what arrived is not {oid}")
    hub.repositories[kind, id].staged[oid] = call.body
    return Reply(headers={"ETag": f'"{oid}"'})


@route("POST", r"/{prefix}{id}\.git/info/lfs/objects/verify", "pull")
def verify_object(hub, call, repository):
    oid, size = call.json()["oid"], call.json()["size"]
    content = repository.staged.get(oid, repository.objects.get(oid))
    if content is None or len(content) != size:
        raise Refused(404, f"No object {oid} of {size} bytes was uploaded")
    repository.objects[oid] = content
    return Reply({})


@route("GET", "/api/{kind}/{id}/xet-write-token/{rev}", "pull")
def let_upload_to_xet(hub, call, repository, rev):
    place, expiry = f"/xet/{repository.kind}/{repository.id}", int(time.time()) + 3600
    url, token = f"{call.endpoint}{place}", hub.signature(place)
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiry)}
    return Reply({"casUrl": url, "accessToken": token, "exp": expiry}, headers=headers)


@route("POST", "/xet/{kind}/{id}/v1/xorbs/default/{oid}")
def upload_xorb(hub, call, kind, id, oid):
    refuse_if_not_signed_for_xet(hub, call, kind, id)
    xorbs = hub.repositories[kind, id].xorbs
    answer = {"was_inserted": oid not in xorbs}
    xorbs[oid] = xet_store.read_xorb(call.body)
    return Reply(answer)


@route("POST", "/xet/{kind}/{id}/v1/shards")
def upload_shard(hub, call, kind, id):
    refuse_if_not_signed_for_xet(hub, call, kind, id)
    repository = hub.repositories[kind, id]
    for sha256, parts in xet_store.read_shard(call.body):
        repository.objects[sha256] = xet_store.join(parts, repository.xorbs, sha256)
    return Reply({"result": 1})


@route("POST", "/api/{kind}/{id}/commit/{rev}", "pull")
def commit_files(hub, call, repository, rev):
    refuse_if_only_proposing(call, repository, rev)
    require(call.headers.get("content-type") == "application/x-ndjson", "a commit is sent as application/x-ndjson")
    header, *operations = [json.loads(line) for line in call.body.splitlines()]
    require(header["key"] == "header" and header["value"]["summary"], "a commit starts with a header and its summary")
    require(operations, "a commit changes something")
    title, message = header["value"]["summary"], header["value"]["description"]
    ref, author = rev if rev.startswith("refs/pr/") else f"refs/heads/{rev}", call.writer().user
    head = repository.at(ref)
    if not head.id.startswith(header["value"].get("parentCommit", head.id)):
        raise Refused(412, f"{rev} has moved on to {head.id}")
    files = dict(head.files)
    for operation in operations:
        apply_operation(hub, repository, files, operation["key"], operation["value"])
    require(not folders(files) & set(files), f"both a file and a folder: {folders(files) & set(files)}")
    answer = {"success": True, "hookOutput": ""}
    if call.flag("create_pr"):
        number = repository.open_pull_request(title, author, head, "open")
        ref, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{call.endpoint}/{repository.page}/discussions/{number}"
    commit = repository.commit(files, title, author=author, ref=ref, message=message)
    url = f"{call.endpoint}/{repository.page}/commit/{commit.id}"
    return Reply({**answer, "commitOid": commit.id, "commitUrl": url})


def apply_operation(hub: "HubServer", repository: Repository, files: dict[str, File], key: str, value: dict) -> None:
    """Applies one line of a commit to the files."""
    path = checked_path(value["path"].removesuffix("/") if key == "deletedFolder" else value["path"])
    if key == "file":
        require(value["encoding"] == "base64", "files in a commit are sent as base64")
        files[path] = File(b64decode(value["content"], validate=True), lfs=False)
        mode = hub.upload_mode(path, len(files[path].content))
        require(mode == "regular", f"{path} must be uploaded as an LFS object")
    elif key == "lfsFile":
        content = repository.objects.get(value["oid"])
        require(value["algo"] == "sha256" and content is not None, f"the object of {path} was never uploaded")
        require(value.get("size", len(content)) == len(content), f"{path} has {len(content)} bytes")
        files[path] = File(content, lfs=True)
    else:
        require(key in ("deletedFile", "deletedFolder"), f"not an operation: {key}")
        doomed = [name for name in files if (name == path if key == "deletedFile" else name.startswith(f"{path}/"))]
        if not doomed:
            raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in doomed:
            del files[name]


@route("HEAD GET", "/{prefix}{id}/resolve/{rev}/{path}", "read")
def send_file(hub, call, repository, rev, path):
    commit = repository.at(rev)
    if checked_path(path) not in commit.files:
        raise Refused(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit.id)
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))} if file.lfs else {}
    headers |= {"Content-Type": "application/octet-stream"}
    if call.method == "HEAD" or "range" not in call.headers:
        return Reply(file.content, headers=headers)
    return part_of(file.content, call.headers["range"], headers)


def part_of(content: bytes, asked: str, headers: dict[str, str]) -> Reply:
    """Cuts a range of bytes out: "bytes=4-7", "bytes=4-" or "bytes=-4"."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    require(match and any(match.groups()), f"not a range: {asked}")
    first, last = match.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= end:
        return Reply(b"", 416, {**headers, "Content-Range": f"bytes */{len(content)}"})
    return Reply(content[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})


def describe(repository: Repository, commit: Commit, *, blobs: bool = False) -> dict:
    """Collects what the Hub tells of a repository, with the tags that it makes of the card."""
    card = front_matter(commit.files.get("README.md", File(b"", lfs=False)).content.decode())
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    for sibling in siblings if blobs else []:
        file = commit.files[sibling["rfilename"]]
        sibling |= {"size": len(file.content), "blobId": file.blob_id, **file.lfs_facts("sha256")}
    facts = {"_id": hashlib.sha1(repository.page.encode()).hexdigest()[:24], "id": repository.id}
    facts |= {"modelId": repository.id, "author": repository.namespace, "sha": commit.id, "disabled": False}
    facts |= {"createdAt": next(iter(repository.commits.values())).date, "lastModified": repository.at("main").date}
    facts |= {"private": repository.private, "gated": False, "downloads": 0, "likes": 0}
    facts |= {name: card[name] for name in ("pipeline_tag", "library_name", "model-index") if name in card}
    return {**facts, "tags": card_tags(card), "cardData": card, "siblings": siblings}


def card_tags(card: dict) -> list[str]:
    """Lists the tags by which `filter` finds a card."""
    prefixes = {"library_name": "", "pipeline_tag": "", "tags": ""}
    prefixes |= {"license": "license:", "datasets": "dataset:", "base_model": "base_model:"}
    tags = {}
    for name, prefix in prefixes.items():
        values = card.get(name) or []
        tags |= {f"{prefix}{value}": None for value in (values if isinstance(values, list) else [values])}
    return [*tags, "region:us"]


def only_expanded(facts: dict, call: Call) -> dict:
    """Keeps the facts that were asked for by name, if any were."""
    return {name: facts[name] for name in ("_id", "id", *call.query.get("expand", facts)) if name in facts}


def tree_entry(commit: Commit, path: str) -> dict:
    """Describes a file or folder of a commit."""
    if path not in commit.files:
        oid = hashlib.sha1(f"{commit.id} {path}".encode()).hexdigest()
        return {"type": "directory", "oid": oid, "size": 0, "path": path}
    file = commit.files[path]
    facts = {"type": "file", "oid": file.blob_id, "size": len(file.content), "path": path}
    return {**facts, **file.lfs_facts("oid")}


def folders(files: dict[str, File]) -> set[str]:
    """Lists the folders that files lie in."""
    return {path[: match.start()] for path in files for match in re.finditer("/", path)}


def front_matter(readme: str) -> dict:
    """Reads the YAML between the dashes on top of a card."""
    match = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*$", readme, re.DOTALL | re.MULTILINE)
    card = yaml.safe_load(match[1]) if match else {}
    require(isinstance(card, dict), "the metadata of a card are names and values")
    return card


def checked_path(path: str) -> str:
    """Refuses what could leave the folder that a client downloads to."""
    bad = {"", ".", "..", ".git"} & set(path.split("/")) or "\\" in path or not path.isprintable()
    require(not bad, f"not a path in a repository: {path!r}")
    return path


def can_read(token: Token, repository: Repository) -> bool:
    """Tells whether a repository exists for the caller."""
    return not repository.private or repository.namespace in token.namespaces


def refuse_if_not_signed_for_xet(hub: "HubServer", call: Call, kind: str, id: str) -> None:
    """Refuses an upload to Xet with another token than the one that was given out for the repository."""
    if call.headers.get("authorization") != f"Bearer {hub.signature(f'/xet/{kind}/{id}')}":
        raise Refused(401, "Not a token for this repository")


def refuse_if_only_proposing(call: Call, repository: Repository, rev: str) -> None:
    """Refuses a commit to a branch, or to another's pull request, to those who may only open one."""
    proposed = [
        f"refs/pr/{one['num']}" for one in repository.pull_requests if one["author"]["name"] == call.writer().user
    ]
    if not call.flag("create_pr") and rev not in proposed:
        call.writer(repository.namespace)


def now() -> str:
    """Writes the time as the Hub does."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Request(NamedTuple):
    """A line of the log: `received` and `sent` count the bytes of the bodies; a status of 0 means no answer."""

    method: str
    path: str
    status: int
    received: int
    sent: int
    authorized: bool


@dataclass
class Fault:
    """Something that goes wrong with requests of a method whose paths (with their query) a pattern is found in.

    Args:
        times: how many requests meet it; None for all.
        status: is answered instead of doing what was asked.
        headers: of the answer; None takes one away.
        drop_after: so many bytes of the request's body are read, nothing is done, and the connection is closed.
        cut_after: what was asked is done, so many bytes of the answer's body are sent, and the connection is closed.
        truncate_to: so many bytes are answered, as if they were all.
        corrupt_at: the byte there is changed in the answer.
        rewrite: is given the answer to change; its content is not encoded yet.
    """

    method: str
    path: str
    times: int | None = 1
    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    drop_after: int | None = None
    cut_after: int | None = None
    truncate_to: int | None = None
    corrupt_at: int | None = None
    rewrite: Callable[[Reply], object] | None = None
    met: int = 0

    def spoil(self, reply: Reply) -> Reply:
        """Applies what is to go wrong with an answer."""
        if self.rewrite is not None:
            self.rewrite(reply)
        content = bytearray(reply.encoded())
        if self.corrupt_at is not None:
            content[self.corrupt_at] ^= 0xFF
        replaced = {name.lower() for name in self.headers}
        headers = {name: value for name, value in reply.headers.items() if name.lower() not in replaced}
        headers |= {name: value for name, value in self.headers.items() if value is not None}
        return Reply(bytes(content[: self.truncate_to]), reply.status, headers)


class HubServer:
    """The Hub itself: `endpoint` is its address, `requests` its log and `repositories` what it holds."""

    def __init__(self, *, lfs_threshold: int = 10_000):
        self.lfs_threshold = lfs_threshold
        self.lock = threading.RLock()
        self.reset()
        self.http = LoopbackServer(("127.0.0.1", 0), partial(Handler, self))
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Forgets all repositories, requests and faults."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []

    def stop(self) -> None:
        """Stops answering, also on connections that are open."""
        self.http.shutdown()
        self.http.server_close()
        self.http.hang_up()

    def add(self, repository: Repository, author: str = "writer") -> Repository:
        """Adds a repository, with its first commit."""
        repository.commit({".gitattributes": File(GIT_ATTRIBUTES, lfs=False)}, "initial commit", author=author)
        self.repositories[repository.kind, repository.id] = repository
        return repository

    def repository(self, id: str, kind: str = "models") -> Repository:
        """Looks a repository up, past all rights."""
        return self.repositories[kind, id]

    def seen(self, method: str, path: str) -> list[Request]:
        """Lists the requests whose method is this and whose path this pattern is found in."""
        return [request for request in self.requests if request.method == method and re.search(path, request.path)]

    @contextmanager
    def fault(self, method: str, path: str, **what) -> Iterator[Fault]:
        """Lets a `Fault` happen inside a `with`, and fails if no request met it."""
        fault = Fault(method, path, **what)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)
        assert fault.met, f"no {method} of {path} came to meet its fault"

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Finds the fault that a request is to meet."""
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.met != fault.times and re.search(fault.path, path):
                    fault.met += 1
                    return fault
        return None

    def upload_mode(self, path: str, size: int) -> str:
        """Tells whether a file goes into git or is to be an LFS object."""
        return "lfs" if size > 0 and (size > self.lfs_threshold or path.endswith(LFS_SUFFIXES)) else "regular"

    def signature(self, place: str) -> str:
        """Signs a place that may be uploaded to."""
        return hmac.new(b"of the Hub", place.encode(), "sha256").hexdigest()

    def open(self, call: Call, kind: str, id: str, access: str) -> Repository:
        """Finds a repository for a caller with the rights to that access."""
        token, repository = call.caller(), self.repositories.get((kind, id))
        if repository is None or not can_read(token, repository):
            raise Refused(401 if token is NOBODY else 404, "Repository not found", "RepoNotFound")
        if access != "read":
            call.writer(repository.namespace if access == "write" else "")
        return repository

    def answer(self, call: Call) -> Reply:
        """Does what is asked, or refuses it."""
        with self.lock:
            try:
                return self.do(call)
            except Refused as refused:
                return refused.reply
            except Exception as error:  # Whatever a request trips over, the client gets an answer.
                return Refused(400, f"malformed request: {error!r}").reply

    def do(self, call: Call) -> Reply:
        """Finds the function of the address, and the repository that it needs."""
        for method, pattern, access, function in ROUTES:
            match = pattern.fullmatch(call.path) if method == call.method else None
            if match is None:
                continue
            parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
            if access:
                kind = parts.pop("kind").removesuffix("/") or "models"
                parts["repository"] = self.open(call, kind, parts.pop("id"), access)
            return function(self, call, **parts)
        raise Refused(404, f"No such address: {call.method} {call.path}")


class LoopbackServer(ThreadingHTTPServer):
    """A server that can hang up on its clients, and does not mind when they do."""

    def __init__(self, *arguments):
        self.connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request, client_address) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address) -> None:
        """Says nothing: a client that hung up is no error, and all others are answered."""


class Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, lets faults happen, sends answers and logs them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, hub: HubServer, *arguments):
        self.hub = hub
        super().__init__(*arguments)

    def serve(self) -> None:
        fault = self.hub.next_fault(self.command, self.path)
        if fault is not None and fault.drop_after is not None:
            received = self.rfile.read(min(fault.drop_after, int(self.headers.get("Content-Length", 0))))
            self.log(0, len(received), 0)
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        url, body = urlsplit(self.path), self.read_body()
        if fault is not None and fault.status is not None:
            reply = Refused(fault.status, "This was ordered to fail").reply
        else:
            reply = self.hub.answer(Call(self.command, url.path, parse_qs(url.query), headers, body))
        reply = reply if fault is None else fault.spoil(reply)
        self.send(reply, len(body), fault and fault.cut_after)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = serve

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, reply: Reply, received: int, cut_after: int | None) -> None:
        content = reply.encoded()
        whole = {"Content-Type": "application/json", "Content-Length": str(len(content)), **reply.headers}
        content = b"" if self.command == "HEAD" else content[:cut_after]
        # Before the answer, so that a client that has it finds the request in the log.
        self.log(reply.status, received, len(content))
        self.send_response(reply.status)
        for name, value in whole.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.close_connection or cut_after is not None

    def log(self, status: int, received: int, sent: int) -> None:
        authorized = "Authorization" in self.headers
        self.hub.requests.append(Request(self.command, self.path, status, received, sent, authorized))

    def log_message(self, *arguments) -> None:
        """Prints nothing."""

"""Repositories are created, deleted, made private, listed and described."""

import hashlib
import re

from tests.loopback_hub.server.calls import Call, Reply, require
from tests.loopback_hub.server.cards import card_tags, front_matter
from tests.loopback_hub.server.contents import Commit, File, Repository
from tests.loopback_hub.server.rights import caller, can_read, check_access, writer


def create_repository(hub, call: Call) -> Reply:
    asked = call.json()
    author = writer(call, asked["organization"]).user
    visibility = asked.get("visibility", "public")
    require(asked.keys() <= {"name", "organization", "visibility"}, f"only models are created, with no more: {asked}")
    require(visibility in ("public", "private"), f"not a visibility: {visibility}")
    require(re.fullmatch(r"(?!.*(--|\.\.))\w[\w.-]{,94}", asked["name"]), f"not a name: {asked['name']}")
    repository = Repository("models", f"{asked['organization']}/{asked['name']}", visibility == "private")
    answer = {"url": f"{call.endpoint}/{repository.page}", "name": repository.id, "id": repository.id}
    if (repository.kind, repository.id) in hub.repositories:
        return Reply({"error": "You already created this repo", **answer}, 409)
    hub.add(repository, author)
    return Reply(answer)


def delete_repository(hub, call: Call) -> Reply:
    asked = call.json()
    place = "models", f"{asked['organization']}/{asked['name']}"
    check_access(call, hub.repositories.get(place), "write")
    del hub.repositories[place]
    return Reply({})


def change_settings(call: Call, repository: Repository) -> Reply:
    asked = call.json()
    require(asked.keys() == {"visibility"} and asked["visibility"] in ("public", "private"), f"no settings: {asked}")
    repository.private = asked["visibility"] == "private"
    return Reply({})


def list_repositories(hub, call: Call, kind: str) -> Reply:
    unknown = call.query.keys() - {"author", "search", "filter", "limit", "full", "cardData"}
    require(not unknown, f"lists are not made by {unknown}")
    author, search = (call.query.get(name, [""])[0].lower() for name in ("author", "search"))
    wanted, token = set(call.query.get("filter", [])), caller(call)
    readable = [repository for repository in hub.repositories.values() if can_read(token, repository)]
    found = [describe(repository, repository.at("main")) for repository in readable if repository.kind == kind]
    found = [
        provenance
        for provenance in found
        if author in ("", provenance["author"].lower()) and search in provenance["id"].lower()
    ]
    found = [provenance for provenance in found if wanted <= set(provenance["tags"])]
    found.sort(key=lambda provenance: provenance["lastModified"], reverse=True)
    found = found[: int(call.query.get("limit", ["1000"])[0])]
    left_out = {"model-index"} if call.flag("cardData") else {"model-index", "cardData"}
    left_out |= set() if call.flag("full") else {"siblings", "sha", "lastModified", "author", "gated", "disabled"}
    return Reply([{name: value for name, value in provenance.items() if name not in left_out} for provenance in found])


def show_repository(call: Call, repository: Repository, rev: str = "main") -> Reply:
    provenance = describe(repository, repository.at(rev), blobs=call.flag("blobs"))
    wanted = ("_id", "id", *call.query.get("expand", provenance))
    return Reply({name: provenance[name] for name in wanted if name in provenance})


def describe(repository: Repository, commit: Commit, *, blobs: bool = False) -> dict:
    """Collects what the Hub tells of a repository, with the tags that it makes of the card."""
    card = front_matter(commit.files.get("README.md", File(b"", lfs=False)).content.decode())
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    for sibling in siblings if blobs else []:
        file = commit.files[sibling["rfilename"]]
        sibling |= {"size": len(file.content), "blobId": file.blob_id, **file.lfs_facts("sha256")}
    provenance = {"_id": hashlib.sha1(repository.page.encode()).hexdigest()[:24], "id": repository.id}
    provenance |= {"modelId": repository.id, "author": repository.namespace, "sha": commit.id, "disabled": False}
    provenance |= {
        "createdAt": next(iter(repository.commits.values())).date,
        "lastModified": repository.at("main").date,
    }
    provenance |= {"private": repository.private, "gated": False, "downloads": 0, "likes": 0}
    provenance |= {name: card[name] for name in ("pipeline_tag", "library_name", "model-index") if name in card}
    return {**provenance, "tags": card_tags(card), "cardData": card, "siblings": siblings}

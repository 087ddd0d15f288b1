"""Branches, tags and pull requests."""

import json

from tests.loopback_hub.server.calls import Call, Refused, Reply, require
from tests.loopback_hub.server.contents import Repository, checked_path
from tests.loopback_hub.server.rights import writer


def list_refs(call: Call, repository: Repository) -> Reply:
    starts = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/"}
    answer = {kind: [] for kind in starts}
    for ref, commit_id in repository.refs.items():
        for kind, start in starts.items():
            if ref.startswith(start):
                answer[kind].append({"name": ref.removeprefix(start), "ref": ref, "targetCommit": commit_id})
    if call.flag("include_prs"):
        numbers = range(1, len(repository.pull_requests) + 1)
        proposed = {str(number): f"refs/pr/{number}" for number in numbers}
        answer["pullRequests"] = [
            {"name": number, "ref": ref, "targetCommit": repository.refs[ref]} for number, ref in proposed.items()
        ]
    return Reply(answer)


def create_branch(call: Call, repository: Repository, rev: str) -> Reply:
    asked = json.loads(call.body or b"{}")
    return create_ref(repository, f"refs/heads/{rev}", asked.get("startingPoint", "main"))


def create_tag(call: Call, repository: Repository, rev: str) -> Reply:
    return create_ref(repository, f"refs/tags/{call.json()['tag']}", rev)


def create_ref(repository: Repository, ref: str, start: str) -> Reply:
    """Lets a new ref name the commit that another revision names."""
    commit = repository.at(start)
    if checked_path(ref) in repository.refs:
        raise Refused(409, f"{ref} exists already")
    repository.refs[ref] = commit.id
    return Reply({}, 201)


def delete_tag(call: Call, repository: Repository, rev: str) -> Reply:
    if repository.refs.pop(f"refs/tags/{rev}", None) is None:
        raise Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
    return Reply({})


def open_pull_request(call: Call, repository: Repository) -> Reply:
    asked = call.json()
    require(asked["pullRequest"] is True, "only pull requests can be opened here")
    number = repository.open_pull_request(asked["title"], writer(call).user, repository.at("main"), "draft")
    url = f"{call.endpoint}/{repository.page}/discussions/{number}"
    return Reply({"num": number, "pullRequest": True, "url": url})


def show_pull_request(call: Call, repository: Repository, number: str) -> Reply:
    require(f"refs/pr/{number}" in repository.refs, f"no discussion {number}")
    return Reply(repository.pull_requests[int(number) - 1])

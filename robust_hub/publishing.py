"""Brings a model folder to the Hub: checked first, then in one commit, so that a repository is never half of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError, safe_open

from robust_hub.catalogue import why
from robust_hub.facts import Facts
from robust_hub.folders import CARD, files_of, gives_same_logits, is_as_described, require_facts
from robust_hub.hub import load
from robust_hub.messages import CheckpointError
from robust_hub.reports import EVIDENCE, FILE, Report
from robust_hub.safety import CONFIG, WEIGHTS
from robust_hub.verification import Verified, verify

PNG = b"\x89PNG\r\n\x1a\n"
TEXT = (".json", ".md", ".txt", ".yaml")
NAMELESS = ("LICENSE", ".gitattributes")
EVALUATE = "run recipes/evaluate.py on it with --update-card first"


@dataclass(frozen=True)
class Destination:
    """Where a folder goes on the Hub.

    Attributes:
        repo_id: ORG/NAME; made where it is not there yet.
        private: whether a repository that is made now can be seen by its organisation only.
        revision: the branch, made where it is not there yet.
        create_pr: opens a pull request instead of committing to the branch.
        tag: names the commit; none where empty.
    """

    repo_id: str
    private: bool = False
    revision: str = "main"
    create_pr: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Published:
    """What the Hub has now.

    Attributes:
        url: of the commit, or of the pull request.
        commit: its id.
        new: whether there was anything to commit.
        others: files of the repository that the folder does not have; they were left alone.
    """

    url: str
    commit: str
    new: bool
    others: list[str]


def check_folder(folder: Path, *, data: str = "", allow_flagged: bool = False) -> tuple[Facts, Report, Verified]:
    """Checks that a folder is what its card says: it loads, hides no code, and its evidence is confirmed.

    Args:
        folder: of the model.
        data: the data set, where the evaluation calls it by a name that is not known here.
        allow_flagged: lets a model pass that an honesty check flags; its card says so first.

    Returns:
        What it is, what was measured, and what was confirmed of that.

    Raises:
        CheckpointError: when it is not.
    """
    for name in (CARD, CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}; give a model folder that a recipe wrote")
    for name in files_of(folder):
        _check_file(folder / name)
    facts = require_facts(folder)
    for name in (FILE, EVIDENCE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}; {EVALUATE}")
    report = Report.read(folder)
    if not report.checks:
        raise CheckpointError(f"{folder} has no honesty checks; {EVALUATE}")
    if not is_as_described(folder, facts, report):
        raise CheckpointError(
            f"{CARD} or {CONFIG} of {folder} tells something else than {FILE}; --rewrite-card writes both anew, "
            "and keeps what stands between the two comments for notes at the end of the card"
        )
    _check_model(folder, facts, report)
    verified = verify(folder, data=data)
    if report.flagged and not allow_flagged:
        raise CheckpointError(
            f"the robust accuracy of {folder} can't be believed, its honesty checks flag "
            f"{', '.join(check.name for check in report.flagged)}; --allow-flagged publishes it all the same, with a "
            "card that says so first"
        )
    return facts, report, verified


def publish(folder: Path, destination: Destination) -> Published:
    """Sends a folder in one commit; what is on the Hub already is not sent again, nor is there a commit then.

    Args:
        folder: of the model, checked; every file in it is sent.
        destination: where to.

    Raises:
        CheckpointError: when the Hub refuses, or can't be reached, and the repository is as it was; or when there is a
            new commit, and the tag names the one before.
    """
    repo_id, branch, files = destination.repo_id, destination.revision, files_of(folder)
    with _told_without_token(repo_id):
        api = HfApi()
        api.create_repo(repo_id, private=destination.private, exist_ok=True)
        if branch != "main":
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        before = api.repo_info(repo_id, revision=branch)
        if destination.private and not before.private:
            raise CheckpointError(f"{repo_id} is there already and public; make it private in its settings first")
        tagged = _commit_of(api, repo_id, destination.tag)
        if tagged not in ("", before.sha):
            raise CheckpointError(f"{repo_id} has a tag '{destination.tag}' for another commit; choose another --tag")
        done = api.create_commit(
            repo_id,
            [CommitOperationAdd(name, folder / name) for name in files],
            commit_message=f"Publish {folder.resolve().name}",
            revision=branch,
            create_pr=destination.create_pr,
            parent_commit=before.sha,
        )
        if tagged not in ("", done.oid):
            raise CheckpointError(
                f"{repo_id} is published, but its tag '{destination.tag}' names the commit before and is never moved; "
                "choose another --tag"
            )
        if destination.tag and not tagged:
            api.create_tag(repo_id, tag=destination.tag, revision=done.oid)
    others = {file.rfilename for file in before.siblings or []} - {*files, *NAMELESS}
    return Published(done.pr_url or done.commit_url, done.oid, done.oid != before.sha, sorted(others))


def _check_file(file: Path) -> None:
    """Refuses what is no text, picture or safetensors file, whatever its name says."""
    if file.is_symlink():
        raise CheckpointError(f"{file} is a link; put the file itself there")
    kinds = {
        ".safetensors": _is_safetensors,
        ".png": lambda file: file.read_bytes().startswith(PNG),
        **dict.fromkeys(TEXT, _is_text),
    }
    is_ours = kinds.get(file.suffix, lambda file: file.name in NAMELESS and _is_text(file))
    hidden = file.name.startswith(".") and file.name not in NAMELESS
    if hidden or not is_ours(file):
        raise CheckpointError(
            f"{file} is neither text, PNG nor safetensors, and nothing else is published; move it away"
        )


def _is_safetensors(file: Path) -> bool:
    try:
        with safe_open(file, "pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _is_text(file: Path) -> bool:
    try:
        return "\0" not in file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False


def _check_model(folder: Path, facts: Facts, report: Report) -> None:
    """Compares the model with what is told of it, and plain timm with our own loader, bit for bit."""
    ours = load(f"local-dir:{folder}").eval()
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    told = (facts.parameters, report.architecture, report.label_names)
    if told != (parameters, ours.architecture, ours.label_names or report.label_names):
        raise CheckpointError(
            f"{CONFIG} or {FILE} of {folder} tells other parameters, architecture or classes than it has"
        )
    if missing := [name for name in facts.pictures if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder} lacks {missing[0]}, which its card shows; put it back")
    if not gives_same_logits(folder, ours.model, ours.input_size):
        raise CheckpointError(f"timm does not load {folder} to the same logits twice; is its network random?")


def _commit_of(api: HfApi, repo_id: str, tag: str) -> str:
    """Gives the commit that a tag names; empty where there is no such tag."""
    known = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags} if tag else {}
    return known.get(tag, "")


@contextmanager
def _told_without_token(repo_id: str) -> Iterator[None]:
    """Turns what goes wrong on the way to the Hub into one sentence, in which no token can stand."""
    reasons = {
        401: "log in with `hf auth login`, or set HF_TOKEN",
        403: "the token may not write there; make one with the role write",
        404: "there is no such place, or the token may not see it",
    }
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # whatever a client raises may quote the headers it sent
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
        reason = reasons.get(status, "check the name and the network; run it again, what has arrived is not sent twice")
        told, token = why(error), (get_token() or "").strip()
        raise CheckpointError(
            f"the Hub did not take {repo_id} ({told.replace(token, '***') if token else told}); {reason}"
        ) from None

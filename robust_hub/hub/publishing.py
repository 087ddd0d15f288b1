"""Brings a model folder to the Hub: checked first, then in one commit, so that a repository is never half of it."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.hf_api import RepoFile, RepoFolder
from safetensors import SafetensorError, safe_open

from robust_hub.errors import CheckpointError
from robust_hub.evaluation import Report, Verified
from robust_hub.hub.destination import Destination
from robust_hub.hub.fetching import checksums, told_by_the_hub
from robust_hub.hub.loading import load
from robust_hub.hub.verification import verify
from robust_hub.model_folder import Provenance, files_of, gives_same_logits, is_as_described, require_provenance
from robust_hub.names import CARD, CONFIG, EVALUATION, EVIDENCE, WEIGHTS

PNG = b"\x89PNG\r\n\x1a\n"
TEXT = (".json", ".md", ".txt", ".yaml")
NAMELESS = ("LICENSE", ".gitattributes")
# Of large files, to a Hub that is busy: after up to 2, 4, 8 and 16 s. By itself hf_xet goes on for minutes.
RETRIES = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "4", "HF_XET_CLIENT_RETRY_BASE_DELAY": "2s"}
HOW_TO_EVALUATE = "run recipes/evaluate.py on it with --update-card first"


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


def check_folder(folder: Path, *, data: str = "", allow_flagged: bool = False) -> tuple[Provenance, Report, Verified]:
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
    provenance = require_provenance(folder)
    for name in (EVALUATION, EVIDENCE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}; {HOW_TO_EVALUATE}")
    report = Report.read(folder)
    if not report.checks:
        raise CheckpointError(f"{folder} has no honesty checks; {HOW_TO_EVALUATE}")
    if not is_as_described(folder, provenance, report):
        raise CheckpointError(
            f"{CARD} or {CONFIG} of {folder} tells something else than {EVALUATION}; --rewrite-card writes both anew, "
            "and keeps what stands between the two comments for notes at the end of the card"
        )
    _check_model(folder, provenance, report)
    verified = verify(f"local-dir:{folder}", data=data)
    if report.flagged and not allow_flagged:
        raise CheckpointError(
            f"the robust accuracy of {folder} can't be believed, its honesty checks flag "
            f"{', '.join(check.name for check in report.flagged)}; --allow-flagged publishes it all the same, with a "
            "card that says so first"
        )
    return provenance, report, verified


def publish(folder: Path, destination: Destination) -> Published:
    """Sends a folder in one commit; what is on the Hub already is not sent again, nor is there a commit then.

    Args:
        folder: of the model, checked; every file in it is sent.
        destination: where to.

    Raises:
        CheckpointError: when the Hub refuses, or can't be reached, or the tag names something else; the repository is
            as it was.
    """
    repo_id, branch, files = destination.repo_id, destination.revision, files_of(folder)
    with told_by_the_hub(
        f"the Hub did not take {repo_id}",
        "check the name and the network; run it again, what has arrived is not sent twice",
        status_401="log in with `hf auth login`, or set HF_TOKEN",
        status_403="the token may not write there; make one with the role write",
        status_404="there is no such place, or the token may not see it",
    ):
        api = HfApi()
        api.create_repo(repo_id, private=destination.private, exist_ok=True)
        if branch != "main":
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        before = api.model_info(repo_id, revision=branch)
        if destination.private and not before.private:
            raise CheckpointError(f"{repo_id} is there already and public; make it private in its settings first")
        others = sorted({file.rfilename for file in before.siblings or []} - {*files, *NAMELESS})
        is_new = not _holds(api, repo_id, before.sha, folder)
        tagged = _commit_of(api, repo_id, destination.tag)
        if tagged and (is_new or tagged != before.sha):
            raise CheckpointError(f"{repo_id} has a tag '{destination.tag}' for another commit; choose another --tag")
        if destination.create_pr and is_new and (proposed := _proposed(api, repo_id, folder)):
            return replace(proposed, others=others)
        with _few_retries():
            done = api.create_commit(
                repo_id,
                [CommitOperationAdd(name, folder / name) for name in files],
                commit_message=f"Publish {folder.resolve().name}",
                revision=branch,
                create_pr=destination.create_pr,
                parent_commit=before.sha,
            )
        if destination.tag and not tagged:
            api.create_tag(repo_id, tag=destination.tag, revision=done.oid)
    return Published(done.pr_url or done.commit_url, done.oid, done.oid != before.sha, others)


@contextmanager
def _few_retries() -> Generator[None]:
    """Lets hf_xet give up within a minute; what the user set in the environment stands."""
    ours = {name: value for name, value in RETRIES.items() if name not in os.environ}
    os.environ.update(ours)
    _end_session()
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
        _end_session()


def _end_session() -> None:
    """Ends the session of hf_xet, which reads the environment once, as it begins."""
    # The first clients of 1.x know no sessions.
    with suppress(ImportError):
        from huggingface_hub.utils._xet import abort_xet_session

        abort_xet_session()


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


def _check_model(folder: Path, provenance: Provenance, report: Report) -> None:
    """Compares the model with what is told of it, and plain timm with our own loader, bit for bit."""
    ours = load(f"local-dir:{folder}").eval()
    parameters = sum(parameter.numel() for parameter in ours.parameters())
    told = (provenance.parameters, report.architecture, report.label_names)
    if told != (parameters, ours.architecture, ours.label_names or report.label_names):
        raise CheckpointError(
            f"{CONFIG} or {EVALUATION} of {folder} tells other parameters, architecture or classes than it has"
        )
    if missing := [name for name in provenance.pictures if not (folder / name).is_file()]:
        raise CheckpointError(f"{folder} lacks {missing[0]}, which its card shows; put it back")
    if not gives_same_logits(folder, ours.model, ours.input_size):
        raise CheckpointError(f"timm does not load {folder} to the same logits twice; is its network random?")


def _holds(api: HfApi, repo_id: str, revision: str | None, folder: Path) -> bool:
    """Tells whether a revision has all files of a folder, byte for byte."""
    files = files_of(folder)
    there = {file.path: file for file in api.get_paths_info(repo_id, files, revision=revision)}
    return all(_is_same(folder / name, there.get(name)) for name in files)


def _is_same(file: Path, there: RepoFile | RepoFolder | None) -> bool:
    if not isinstance(there, RepoFile):
        return False
    sha256, of_git = checksums(file)
    return sha256 == there.lfs.sha256 if there.lfs else of_git == there.blob_id


def _proposed(api: HfApi, repo_id: str, folder: Path) -> Published | None:
    """Finds the open pull request that proposes a folder already."""
    for ref in api.list_repo_refs(repo_id, include_pull_requests=True).pull_requests or []:
        number = int(ref.ref.rpartition("/")[2])
        proposal = api.get_discussion_details(repo_id, number)
        if proposal.status in ("open", "draft") and _holds(api, repo_id, ref.target_commit, folder):
            return Published(proposal.url, ref.target_commit, False, [])
    return None


def _commit_of(api: HfApi, repo_id: str, tag: str) -> str:
    """Gives the commit that a tag names; empty where there is no such tag."""
    known = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags} if tag else {}
    return known.get(tag, "")

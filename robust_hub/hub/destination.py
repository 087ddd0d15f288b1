"""Where a folder goes on the Hub."""

from dataclasses import dataclass


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

"""The log of requests, and what a test can order to go wrong with them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.loopback_hub.server.calls import Reply


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

    def meets(self, method: str, path: str) -> bool:
        """Tells whether it is still to happen to such a request."""
        return self.method == method and self.met != self.times and bool(re.search(self.path, path))

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

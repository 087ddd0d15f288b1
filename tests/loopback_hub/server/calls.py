"""What arrives at the Hub and what it answers or refuses."""

import json
from dataclasses import dataclass, field


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

    def json(self) -> dict:
        content = json.loads(self.body)
        require(isinstance(content, dict), "the body must be a JSON object")
        return content

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[0].lower() in ("1", "true")


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

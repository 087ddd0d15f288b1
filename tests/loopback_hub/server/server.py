"""The Hub over HTTP: its repositories, log and faults, and the connections to its clients."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.loopback_hub.server.calls import Call, Refused, Reply
from tests.loopback_hub.server.collections import Collection
from tests.loopback_hub.server.contents import GIT_ATTRIBUTES, File, Repository
from tests.loopback_hub.server.faults import Fault, Request
from tests.loopback_hub.server.routes import answer


class HubServer:
    """The Hub itself: `endpoint` is its address, `requests` its log and `repositories` what it holds."""

    def __init__(self):
        self.lock = threading.Lock()
        self.reset()
        self.http = LoopbackServer(("127.0.0.1", 0), partial(Handler, self))
        self.endpoint = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Forgets all repositories, collections, requests and faults."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.collections: dict[str, Collection] = {}
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

    def repository(self, id: str) -> Repository:
        """Looks a model's repository up, past all rights."""
        return self.repositories["models", id]

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
            fault = next((fault for fault in self.faults if fault.meets(method, path)), None)
            if fault is not None:
                fault.met += 1
            return fault

    def answer(self, call: Call) -> Reply:
        """Does what is asked, one call at a time."""
        with self.lock:
            return answer(self, call)


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
        length = int(self.headers.get("Content-Length", 0))
        if fault is not None and fault.drop_after is not None:
            received = self.rfile.read(min(fault.drop_after, length))
            self.log(0, len(received), 0)
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        url, body = urlsplit(self.path), self.rfile.read(length)
        if fault is not None and fault.status is not None:
            reply = Refused(fault.status, "This was ordered to fail").reply
        else:
            reply = self.hub.answer(Call(self.command, url.path, parse_qs(url.query), headers, body))
        reply = reply if fault is None else fault.spoil(reply)
        self.send(reply, len(body), fault and fault.cut_after)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = serve

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

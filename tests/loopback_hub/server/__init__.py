"""A small, strict Hub on loopback: what the Hugging Face clients ask for, kept in memory and checked to the byte.

`contents` is what the Hub holds, `rights` who may do what with it, `routes` the table of all addresses, with one module
per theme behind it; `server` is the Hub over HTTP, and `faults` what a test can order to go wrong. Left out: moving,
squashing and merging, multipart uploads, spaces, gated repositories, pages of lists.
"""

from tests.loopback_hub.server.contents import File as File
from tests.loopback_hub.server.contents import Repository as Repository
from tests.loopback_hub.server.rights import READ_TOKEN as READ_TOKEN
from tests.loopback_hub.server.rights import STRANGER_TOKEN as STRANGER_TOKEN
from tests.loopback_hub.server.rights import WRITE_TOKEN as WRITE_TOKEN
from tests.loopback_hub.server.server import HubServer as HubServer

__all__ = ["READ_TOKEN", "STRANGER_TOKEN", "WRITE_TOKEN", "File", "HubServer", "Repository"]

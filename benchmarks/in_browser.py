"""Runs an ONNX file by onnxruntime-web in a headless Chromium; nothing leaves this machine."""

import base64
import shutil
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Where `make .venv/installed-for-tests` puts it.
ONNXRUNTIME_WEB = Path(sys.prefix) / "onnxruntime-web" / "node_modules" / "onnxruntime-web" / "dist"
RUN = """
async ([model, images, shape, kind, runs]) => {
    const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(bytes(model));
    const pixels = bytes(images), data = kind === "uint8" ? pixels : new Float32Array(pixels.buffer);
    const feeds = {images: new ort.Tensor(kind, data, shape)};
    const logits = (await session.run(feeds)).logits, milliseconds = [];
    for (let run = 0; run < runs; run++) {
        const begun = performance.now();
        await session.run(feeds);
        milliseconds.push(performance.now() - begun);
    }
    return [Array.from(logits.data), logits.dims, milliseconds];
}
"""


@dataclass(frozen=True)
class Answer:
    """What the browser gave: logits, n by k, and the milliseconds of further runs."""

    logits: np.ndarray
    milliseconds: list[float]


class Browser:
    """A page in which onnxruntime-web is loaded.

    Args:
        page: playwright's.
    """

    def __init__(self, page):
        self.page = page

    def run(self, file: Path, images: np.ndarray, *, runs: int = 0) -> Answer:
        """Classifies images by a file, and again so many times to be timed."""
        texts = [
            base64.b64encode(each).decode() for each in (file.read_bytes(), np.ascontiguousarray(images).tobytes())
        ]
        logits, dims, milliseconds = self.page.evaluate(RUN, [*texts, images.shape, str(images.dtype), runs])
        return Answer(np.array(logits, np.float32).reshape(dims), milliseconds)


@contextmanager
def open_browser() -> Generator[Browser]:
    """Serves onnxruntime-web on loopback to a page of its own."""
    from playwright.sync_api import sync_playwright

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ONNXRUNTIME_WEB))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            # Any page of the server, so that what the script fetches is of the same origin.
            page.goto(f"{here}/ort.wasm.min.mjs")
            page.set_content(f'<script src="{here}/ort.wasm.min.js"></script>')
            page.wait_for_function("typeof ort !== 'undefined'")
            page.evaluate("here => { ort.env.wasm.wasmPaths = here + '/'; }", here)
            yield Browser(page)
            browser.close()
        server.shutdown()

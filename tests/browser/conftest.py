"""One server with its worker, one browser, and pictures of what was seen."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from tests.browser.serving import Served, serving
from tests.servers.places import storage_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.servers.gcs import GcsServer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000

Shoot = Callable[..., None]
PutUpload = Callable[[str, bytes], None]

UPLOADS, PYRAMIDS = "uploads", "pyramids"
"""Buckets, whose names are in the pictures."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIR", help="keep pictures of the pages there")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, gcs: GcsServer) -> Iterator[Served]:
    """What `make serve` starts, in a home of its own, with an emulated cloud."""
    cloud = storage_environment(gcs.url, "")
    with serving(tmp_path_factory.mktemp("home"), "--port", "0", **cloud) as running:
        yield running


@pytest.fixture(scope="session")
def put_upload(gcs: GcsServer) -> PutUpload:
    """Puts an object into the bucket `UPLOADS`, from where `PYRAMIDS` is filled."""
    for name in (UPLOADS, PYRAMIDS):
        gcs.shelf.make_bucket(name)

    def put(name: str, data: bytes) -> None:
        gcs.shelf.put(UPLOADS, {"name": name}, data, {})

    return put


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; its profile is new, and removed afterwards."""
    if CHROMIUM is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that waits patiently: two cores are shared with the builds."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.set_default_timeout(PATIENCE_MS)
    yield tab
    tab.close()


@pytest.fixture
def shoot(request: pytest.FixtureRequest, page: Page) -> Shoot:
    """Keep a picture of the page, or of so many pixels of its height, where --screenshots
    says so."""
    folder = request.config.getoption("--screenshots", default=None)

    def keep(name: str, height: int = 900) -> None:
        if folder is None:
            return
        page.set_viewport_size({"width": 1280, "height": height})
        page.wait_for_load_state("networkidle")
        # charts and dialogs are animated, and there is no event for the end of it
        page.wait_for_timeout(1500)
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / f"{name}.png"
        page.screenshot(path=path)
        _compress(path)
        page.set_viewport_size({"width": 1280, "height": 900})

    return keep


def _compress(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


@pytest.fixture(scope="session")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs on a dark ground, (z, y, x) 8 x 512 x 512."""
    random = np.random.default_rng(7)
    z, y, x = np.ogrid[:8, :512, :512]
    volume = random.normal(100, 5, (8, 512, 512))
    for _ in range(60):
        cz, cy, cx, size = random.uniform((0, 0, 0, 5), (8, 512, 512, 14))
        ball = ((z - cz) * 3) ** 2 + (y - cy) ** 2 + (x - cx) ** 2
        volume += random.uniform(500, 3000) * np.exp(-ball / (2 * size**2))
    path = tmp_path_factory.mktemp("uploads") / "nuclei.zarr"
    array = zarr.create_array(path, shape=volume.shape, chunks=(8, 128, 128), dtype="uint16")
    array[:] = volume.astype(np.uint16)
    return path


@dataclass
class SlowSource:
    """An image behind a web server that takes its time with each chunk."""

    url: str = ""
    slow: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def slow_source(nuclei: Path) -> Iterator[SlowSource]:
    """``nuclei`` by HTTP: the first chunks take six seconds, the others twenty, until ``slow`` is
    cleared. So a build is in its middle when it is cancelled, and can still end what it began.
    """
    source = SlowSource()
    source.slow.set()
    begun: list[float] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/c/" in self.path:
                now = time.monotonic()
                begun.append(now)
                until = now + (6 if now < begun[0] + 3 else 20)
                while source.slow.is_set() and time.monotonic() < until:
                    time.sleep(0.1)
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=nuclei.parent))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    source.url = f"http://127.0.0.1:{server.server_port}/{nuclei.name}"
    yield source
    server.shutdown()
    thread.join()
    server.server_close()

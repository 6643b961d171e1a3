"""The viewers that a report links, opened: what they ask for, and what they show."""

from __future__ import annotations

import importlib.util
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import zarr
from flask import Flask, Response, request, send_from_directory
from flask_cors import CORS
from PIL import Image
from werkzeug.serving import WSGIRequestHandler, make_server

from ngff_core import NgffImage, build_pyramid
from tasks.reporting.artifacts import viewer_links
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.serving import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

# Only found, never imported: of the package nothing but its built web client is used.
NEUROGLANCER = importlib.util.find_spec("neuroglancer")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        NEUROGLANCER is None,
        reason="Neuroglancer is missing: make test-e2e installs it where there is a wheel of it",
    ),
]

Shoot = Callable[..., None]
PUBLIC_SITE = "https://neuroglancer-demo.appspot.com/"
# Neuroglancer draws with WebGL 2: here in software, wherever the tests run.
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PATIENCE_SECONDS = 60
MICROMETERS = {"z": 1.5, "y": 0.5, "x": 0.5}
# A view has the middle of the image, (256, 256), in its own, one voxel a pixel. The axes are
# drawn right and below of it.
NEAR_THE_MIDDLE = np.s_[256 - 170 : 256 - 10, 256 - 190 : 256 - 10]


class Quiet(WSGIRequestHandler):
    def log_request(self, *given: object) -> None:
        pass


class Asked(NamedTuple):
    method: str
    path: str
    status: int
    part: bool


@dataclass
class Bucket:
    """A folder that pages of any origin can read, as a whole or in parts: a public bucket."""

    folder: Path
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def chunks(self) -> list[Asked]:
        """What was read of the levels' samples."""
        return [
            one
            for one in self.asked
            if one.method == "GET" and one.path.rpartition("/")[2].isdigit()
        ]


@contextmanager
def listening(app: Flask) -> Iterator[str]:
    """The address at which ``app`` answers, each request in a thread of its own."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    found = Bucket(tmp_path)
    app = Flask("bucket")
    CORS(app)

    @app.get("/<path:name>")
    def get(name: str) -> Response:
        return send_from_directory(tmp_path, name, conditional=True)

    @app.after_request
    def note(answer: Response) -> Response:
        part = "Range" in request.headers
        found.asked.append(Asked(request.method, request.path, answer.status_code, part))
        return answer

    with listening(app) as found.url:
        yield found


@pytest.fixture(scope="module")
def neuroglancer() -> Iterator[str]:
    """The web client that its Python package brings along, at an address like the public one's.

    It looks for a Python program at /events/, which has nothing to say here.
    """
    assert NEUROGLANCER is not None
    client = Path(NEUROGLANCER.origin or "").parent / "static" / "client"
    over = threading.Event()
    app = Flask("neuroglancer")

    @app.get("/v/1/", defaults={"name": "index.html"})
    @app.get("/v/1/<name>")
    def get(name: str) -> Response:
        return send_from_directory(client, name)

    @app.get("/events/1")
    def events() -> Response:
        def silence() -> Iterator[str]:
            yield ":\n\n"
            over.wait()

        return Response(silence(), mimetype="text/event-stream")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status=204)

    with listening(app) as url:
        yield f"{url}/v/1/"
        over.set()


@pytest.fixture(scope="module")
def browser(browser: Browser) -> Iterator[Browser]:
    """Another Chromium, with WebGL."""
    plain = (argument for argument in ARGUMENTS if argument != "--disable-gpu")
    able = browser.browser_type.launch(executable_path=CHROMIUM, args=[*plain, *WEBGL])
    yield able
    able.close()


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """The errors that the page reports."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))

    def hear(said: ConsoleMessage) -> None:
        if said.type == "error":
            found.append(said.location["url"] or said.text)

    def miss(failed: Request) -> None:
        # of a HEAD only the headers are taken, which Chromium calls aborted
        if failed.method != "HEAD" or failed.failure != "net::ERR_ABORTED":
            found.append(failed.url)

    page.on("console", hear)
    page.on("requestfailed", miss)
    return found


def image_of(voxels: np.ndarray, dims: str) -> NgffImage:
    scale = {dim: size for dim, size in MICROMETERS.items() if dim in dims}
    units = dict.fromkeys(scale, "micrometer")
    return NgffImage(voxels, tuple(dims), scale=scale, axes_units=units)


def seen_near_the_middle(page: Page) -> np.ndarray:
    """Colours of the first view, (colour, y, x), at `NEAR_THE_MIDDLE` of the image."""
    box = page.locator(".neuroglancer-rendered-data-panel").first.bounding_box()
    assert box is not None
    x, y = round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        part = picture.convert("RGB").crop((x - 190, y - 170, x - 10, y - 10))
    return np.moveaxis(np.asarray(part, dtype=float), -1, 0)


def check_colours(page: Page, planes: Sequence[np.ndarray]) -> None:
    for colour, plane in zip(seen_near_the_middle(page), planes, strict=True):
        with np.errstate(invalid="ignore"):  # all black, before anything is drawn
            likeness = np.corrcoef(colour.ravel(), plane[NEAR_THE_MIDDLE].ravel())[0, 1]
        # not 1: contrast is stretched, and cut off at both ends
        assert likeness > 0.9


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dims", ["zyx", "cyx"])
def test_neuroglancer_shows_a_pyramid(
    dims: str,
    version: str,
    nuclei: Path,
    bucket: Bucket,
    neuroglancer: str,
    page: Page,
    complaints: list[str],
    shoot: Shoot,
) -> None:
    """The link alone opens it: voxel sizes, all levels, chunks out of shards, the pixels."""
    volume = zarr.open_array(nuclei, mode="r")[:]
    voxels = volume if dims == "zyx" else volume[[1, 4, 6]]
    build_pyramid(
        image_of(voxels, dims),
        bucket.folder / "nuclei.ome.zarr",
        ome_zarr_version=version,
        scale_factors=128,
        chunks=128,
        shards=256 if version == "0.5" else None,
    )
    link = viewer_links("", version, f"{bucket.url}/nuclei.ome.zarr")["Neuroglancer"]
    assert link.startswith(PUBLIC_SITE)
    page.goto(link.replace(PUBLIC_SITE, neuroglancer))
    wanted = {
        dim: [pytest.approx(size * 1e-6), "m"] for dim, size in MICROMETERS.items() if dim in dims
    }

    def check_shown() -> None:
        assert page.evaluate("viewer.state.toJSON().dimensions") == wanted, complaints
        assert page.evaluate("viewer.isReady()"), complaints

    until(check_shown, PATIENCE_SECONDS)
    chunks = bucket.chunks()
    assert {one.path.split("/")[2] for one in chunks} == {"0", "1", "2"}
    assert {one.part for one in chunks} == {version == "0.5"}

    # with zarr 2 it first asks whether the group is an array
    probes = ["/nuclei.ome.zarr/.zarray"] if version == "0.4" else []
    assert [one.path for one in bucket.asked if one.status >= 400] == probes
    assert complaints == [bucket.url + probe for probe in probes]

    # a channel each in red, green and blue; what has none is grey
    planes = voxels if dims == "cyx" else [volume[4]] * 3
    until(lambda: check_colours(page, planes), PATIENCE_SECONDS)
    if (dims, version) == ("zyx", "0.5"):
        shoot("neuroglancer")

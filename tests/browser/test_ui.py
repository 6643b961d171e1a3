"""What one sees in Prefect's UI: the form, the page of a run, its artifacts."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from tests.browser.conftest import PYRAMIDS, UPLOADS
from tests.browser.serving import Served, until

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.browser.conftest import PutUpload, SlowSource

pytestmark = pytest.mark.e2e

Shoot = Callable[..., None]
ENDED = {"Completed", "Failed", "Crashed", "Cancelled"}


def open_form(served: Served, page: Page, name: str) -> None:
    """The way a person takes: the list, the deployment, Run, Custom run."""
    page.goto(f"{served.url}/v2/deployments")
    deployment = served.deployment(name)["id"]
    page.locator(f"a[href*='{deployment}']").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_role("button", name="Submit").wait_for()


def submit(page: Page) -> str:
    """Submit the form and follow it to the run; its id."""
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("link", name="View run").click()
    page.wait_for_url("**/runs/flow-run/*")
    return page.url.partition("/flow-run/")[2].partition("?")[0]


def build(served: Served, page: Page, source: object, target: object) -> str:
    """Ask for a build with the form; the id of its run."""
    open_form(served, page, "build-pyramid/on-demand")
    page.get_by_role("textbox", name="source").fill(str(source))
    page.get_by_role("textbox", name="target").fill(str(target))
    return submit(page)


def put_folder(put_upload: PutUpload, folder: Path, name: str) -> str:
    """Upload a folder; its URI."""
    for path in folder.rglob("*"):
        if path.is_file():
            put_upload(f"{name}/{path.relative_to(folder)}", path.read_bytes())
    return f"gs://{UPLOADS}/{name}"


def small(page: Page) -> None:
    """Fill in small chunks and shards, so that there is something to watch."""
    for title in ("Chunks", "Shards"):
        label = page.get_by_text(f"{title} (Optional)", exact=True)
        box = label.locator("xpath=../../..")
        box.get_by_role("tab", name="int").click()
        box.get_by_role("spinbutton").fill("128")


def await_end(served: Served, run: str) -> dict[str, Any]:
    def check() -> dict[str, Any]:
        found = served.run(run)
        assert found["state_name"] in ENDED, found["state_name"]
        return found

    return until(check, 300)


def badge(page: Page, state: str) -> Locator:
    """The state of the run, in the head of its page."""
    return page.get_by_role("main").get_by_text(state, exact=True).first


def menu(page: Page, item: str, button: str) -> None:
    """An item of the run's menu, and the button of the dialog that it opens."""
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name=item, exact=True).click()
    dialog = page.get_by_role("alertdialog").or_(page.get_by_role("dialog"))
    dialog.get_by_role("button", name=button, exact=True).click()


def test_a_build_from_the_form_to_the_picture(
    served: Served, page: Page, shoot: Shoot, nuclei: Path, put_upload: PutUpload
) -> None:
    """Source and target are all that the form needs; the run has the target's name, its page
    the levels, the log the progress, and the artifacts report, table and picture."""
    source = put_folder(put_upload, nuclei, "nuclei.zarr")
    target = f"gs://{PYRAMIDS}/nuclei.ome.zarr"
    open_form(served, page, "build-pyramid/on-demand")
    form = page.get_by_role("main")
    for said in (
        "Path or URI of an image file",
        "Method (Optional)",
        "OME-Zarr version (Optional)",
    ):
        form.get_by_text(said).first.wait_for()
    page.get_by_role("textbox", name="source").fill(source)
    page.get_by_role("textbox", name="target").fill(target)
    small(page)
    shoot("form")
    run = submit(page)
    assert await_end(served, run)["state_name"] == "Completed"
    page.reload()
    badge(page, "Completed").wait_for()
    page.get_by_text("build-pyramid/nuclei.ome.zarr").first.wait_for()
    shoot("run")

    page.get_by_role("tab", name="Task Runs").click()
    for name in ("plan", "level-0", "level-1", "level-2", "write-metadata", "verify"):
        page.get_by_role("tabpanel").get_by_role("link", name=name, exact=True).wait_for()

    page.get_by_role("tab", name="Logs").click()
    page.get_by_role("log").get_by_text("level-0: 16 regions", exact=True).wait_for()
    check_progress(until(lambda: _finished_log(served, run)))

    page.get_by_role("tab", name="Artifacts").click()
    found = {one["type"]: one for one in served.artifacts(run)}
    shown = {one["key"]: one["data"] for one in served.artifacts(run) if one["type"] == "progress"}
    assert {key[:7] for key in shown} == {"level-0", "level-1", "level-2"}
    assert set(shown.values()) == {100}
    shoot("artifacts")

    # as a person goes there: the card, then the one build that this pyramid has
    page.get_by_role("link", name="report-nuclei-").click()
    page.get_by_role("link", name=found["markdown"]["id"][:8]).click()
    until(lambda: check_report(page, source, target), 60)
    shoot("report", height=1172)

    page.goto(f"{served.url}/v2/artifacts/artifact/{found['table']['id']}")
    table = page.get_by_role("table")
    table.get_by_text("z 8, y 256, x 256").wait_for()
    shoot("levels")

    page.goto(f"{served.url}/v2/artifacts/artifact/{found['image']['id']}")
    picture = page.locator("img[src^='data:image/png']")
    picture.wait_for()
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 128
    assert picture.is_visible()
    shoot("thumbnail", height=788)


def check_report(page: Page, source: str, target: str) -> None:
    """What the report says. The page draws itself again while it learns of its run."""
    report = page.get_by_role("main")
    verdict = re.compile("verified: 21 regions in ")
    report.get_by_role("columnheader", name=verdict).wait_for()
    text = report.inner_text()
    for said in (
        "verified: 21 regions in ",
        source,
        target,
        "chunks=128, shards=128",
        "ngff-flows 0.",
        "zarr 3.",
    ):
        assert said in text, text
    assert re.search(r"stored, [\d.]+ MiB raw, ratio \d\.\d\d", text)
    rows = report.get_by_role("table").last.get_by_role("row")
    firsts = [row.split()[:1] for row in rows.all_inner_texts()]
    assert firsts == [["level"], ["0"], ["1"], ["2"]]
    assert re.search(r"\d\.\d$", rows.last.inner_text().strip())


def check_progress(log: list[str]) -> None:
    """How far a level is, at what rate and what time is left, and how it ended."""
    line = r"level-0: \d+/16 regions \(\d+ %\), [\d.]+ MB/s, \d+ s left"
    assert any(re.fullmatch(line, said) for said in log), log
    assert any(re.fullmatch(r"level-1: 4 regions in [\d.]+ s, [\d.]+ MB/s", said) for said in log)


def _finished_log(served: Served, run: str) -> list[str]:
    log = served.logs(run)
    assert any(line.startswith("Finished in state Completed") for line in log[-2:])
    return log


def test_a_failed_run_says_what_to_do(
    served: Served, page: Page, shoot: Shoot, put_upload: PutUpload
) -> None:
    """The first line in red tells what is wrong, and what to look at; no traceback before it."""
    source = f"gs://{UPLOADS}/nucleii.zarr"
    run = build(served, page, source, f"gs://{PYRAMIDS}/nucleii.ome.zarr")
    ended = await_end(served, run)
    advice = f"{source}: nothing is stored there; check the spelling"
    assert ended["state_name"] == "Failed"
    assert advice in ended["state"]["message"]
    page.reload()
    badge(page, "Failed").wait_for()
    page.get_by_role("tab", name="Logs").click()
    page.get_by_text("Level: All").click()
    page.get_by_role("option", name="Error and above").click()
    red = page.get_by_role("log").get_by_role("listitem").filter(has_text="ERROR").first
    red.wait_for()
    assert advice in red.inner_text()
    assert "Traceback" not in red.inner_text().partition(advice)[0]
    shown = red.bounding_box()
    assert shown is not None
    shoot("failed", height=int(shown["y"] + shown["height"]) + 8)


def test_cancel_and_retry(
    served: Served, page: Page, shoot: Shoot, slow_source: SlowSource, tmp_path: Path
) -> None:
    """The button ends a build in its middle; Retry does the rest, under the same name."""
    open_form(served, page, "build-pyramid/on-demand")
    page.get_by_role("textbox", name="source").fill(slow_source.url)
    page.get_by_role("textbox", name="target").fill(str(tmp_path / "slow.ome.zarr"))
    small(page)
    run = submit(page)
    page.get_by_role("log").get_by_text(re.compile(r"level-0: \d+/16 regions")).first.wait_for()
    shoot("running")
    began = time.monotonic()
    menu(page, "Cancel", "Cancel Flow Run")
    assert await_end(served, run)["state_name"] == "Cancelled"
    stopped = time.monotonic() - began
    badge(page, "Cancelled").wait_for()
    # shown with pytest -s
    print(f"\ncancelled after {stopped:.1f} s, shown after {time.monotonic() - began:.1f} s")  # noqa: T201
    assert not (tmp_path / "slow.ome.zarr" / "zarr.json").exists() or "ome" not in (
        tmp_path / "slow.ome.zarr" / "zarr.json"
    ).read_text("utf-8")
    slow_source.slow.clear()
    menu(page, "Retry", "Retry")
    until(lambda: _retried(served, run))
    assert await_end(served, run)["state_name"] == "Completed"
    page.reload()
    badge(page, "Completed").wait_for()
    log = until(lambda: _finished_log(served, run))
    kept = [line for line in log if re.fullmatch(r"level-0: 16 regions, \d+ already done", line)]
    assert len(kept) == 1, log
    shoot("resumed")


def _retried(served: Served, run: str) -> None:
    assert "AwaitingRetry" in [state["name"] for state in served.states(run)]


SETTLE_SECONDS = 10


def look(served: Served, **patience: float) -> str:
    """Look for uploads below `scans`; the id of the run."""
    watcher = served.deployment("watch-uploads/every-minute")["id"]
    place = {"uri": f"gs://{UPLOADS}/scans", "target": f"gs://{PYRAMIDS}/scans"}
    asked = {"parameters": {"prefixes": [place], "patience": {"attempts": 1, **patience}}}
    run: str = served.ask("POST", f"/deployments/{watcher}/create_flow_run", json=asked)["id"]
    assert await_end(served, run)["state_name"] == "Completed"
    return run


def builds_of_uploads(served: Served) -> list[dict[str, Any]]:
    deployment = served.deployment("build-pyramid/on-upload")["id"]
    wanted = {"deployments": {"id": {"any_": [deployment]}}}
    found: list[dict[str, Any]] = served.ask("POST", "/flow_runs/filter", json=wanted)
    return found


def test_a_look_for_uploads_leaves_a_table(
    served: Served, page: Page, shoot: Shoot, nuclei: Path, put_upload: PutUpload
) -> None:
    """What a look found, what it does with each upload, and why, is a table of its run."""
    whole = io.BytesIO()
    tifffile.imwrite(whole, np.zeros((96, 96), "u2"), tile=(32, 32), metadata={"axes": "YX"})
    put_upload("scans/broken.tif", whole.getvalue()[:300])
    put_folder(put_upload, nuclei, "scans/nuclei.zarr")
    look(served, settle_seconds=0, starts_per_look=1)
    first_look = time.monotonic()
    [broken] = builds_of_uploads(served)
    assert await_end(served, broken["id"])["state_name"] == "Failed"
    put_upload("scans/zebrafish.tif", whole.getvalue())
    # `nuclei.zarr` is to have been still for so long
    time.sleep(max(0, SETTLE_SECONDS - (time.monotonic() - first_look)))
    run = look(served, settle_seconds=SETTLE_SECONDS)

    [table] = served.artifacts(run)
    page.goto(f"{served.url}/v2/runs/flow-run/{run}?tab=Artifacts")
    page.get_by_role("link", name="TABLE uploads").click()
    page.get_by_role("link", name=table["id"][:8]).click()
    for upload, what, why in (
        ("nuclei.zarr", "start", "new upload"),
        ("broken.tif", "park", "1 attempt failed: truncated: 300 bytes"),
        ("zebrafish.tif", "wait", "new or changed; must stay unchanged for another 10 s"),
    ):
        row = page.get_by_role("table").get_by_role("row").filter(has_text=f"scans/{upload}")
        row.get_by_text(what, exact=True).wait_for()
        row.get_by_text(why).wait_for()
    page.get_by_role("link", name="watch-uploads/scans").wait_for()
    shoot("uploads", height=560)
    # so is a run called from the first, also one that waits for its turn
    asked_for = {run["name"] for run in builds_of_uploads(served)}
    assert asked_for == {"build-pyramid/broken.ome.zarr", "build-pyramid/nuclei.ome.zarr"}

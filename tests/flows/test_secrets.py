"""Credentials from saved blocks and from the command line, and that nothing shows them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import zarr
from google.oauth2.credentials import Credentials
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.filesystems import RemoteFileSystem
from prefect.flows import EntrypointType
from prefect.logging.handlers import APILogHandler
from pydantic import Field, SecretStr

from flows.audit_pyramids import audit_pyramids
from flows.build_pyramid import build_pyramid
from flows.clean_builds import clean_builds
from flows.options import PyramidOptions
from flows.upload_options import Patience, UploadPrefix
from flows.watch_uploads import watch_uploads
from ngff_core import BuildOptions
from ngff_core.errors import InvalidOptionError, TransientError
from ngff_core.storage import open_store
from ngff_flows.cli import main
from ngff_flows.cli.run_flow import run_flow
from tasks.credentials import storage_options
from tests.servers.proxy import Fault, proxy

pytestmark = pytest.mark.usefixtures("prefect_server")

PLANTED = "planted-3c9e"
OPTIONS = PyramidOptions(
    method="itkwasm_bin_shrink", scale_factors=[2], chunks=16, shards=16, workers=1
)


class GcpCredentials(Block):
    """As prefect-gcp saves it."""

    _block_type_name = "GCP Credentials"
    service_account_file: str | None = None
    service_account_info: SecretStr | None = None
    project: str | None = None


class GcsBucket(Block):
    """As prefect-gcp saves it."""

    _block_type_name = "GCS Bucket"
    bucket: str
    gcp_credentials: GcpCredentials = Field(default_factory=GcpCredentials)


class AwsCredentials(Block):
    """As prefect-aws saves it."""

    _block_type_name = "AWS Credentials"
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: str | None = None
    region_name: str | None = None
    aws_client_parameters: dict[str, Any] = Field(default_factory=dict)


class S3Bucket(Block):
    """As prefect-aws saves it."""

    _block_type_name = "S3 Bucket"
    bucket_name: str
    credentials: AwsCredentials


class MinIOCredentials(Block):
    """As prefect-aws saves it."""

    _block_type_name = "MinIO Credentials"
    minio_root_user: str
    minio_root_password: SecretStr
    aws_client_parameters: dict[str, Any] = Field(default_factory=dict)


AWS = {"aws_access_key_id": "id", "aws_secret_access_key": "hush", "region_name": "eu-west-1"}
AS_S3FS = {"key": "id", "secret": "hush", "client_kwargs": {"region_name": "eu-west-1"}}


@pytest.mark.parametrize(
    ("block", "options"),
    [
        (
            GcpCredentials(service_account_info='{"private_key": "hush"}', project="lab"),
            {"gs": {"token": {"private_key": "hush"}, "project": "lab"}},
        ),
        (
            GcpCredentials(service_account_file="/keys/lab.json"),
            {"gs": {"token": "/keys/lab.json"}},
        ),
        (AwsCredentials(**AWS), {"s3": AS_S3FS}),
        (
            MinIOCredentials(
                minio_root_user="id",
                minio_root_password="hush",
                aws_client_parameters={"endpoint_url": "http://minio:9000", "verify": False},
            ),
            {
                "s3": {
                    "key": "id",
                    "secret": "hush",
                    "endpoint_url": "http://minio:9000",
                    "client_kwargs": {"verify": False},
                }
            },
        ),
        (RemoteFileSystem(basepath="s3://lab/in", settings={"key": "id"}), {"s3": {"key": "id"}}),
        (Secret(value={"anon": True}), {"anon": True}),
        (Secret(value='{"gs": {"token": "anon"}}'), {"gs": {"token": "anon"}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_saved_block_gives_what_fsspec_takes(block: Block, options: dict[str, Any]) -> None:
    """By the kind of the block; its package need not be installed where it is read."""
    block.save("kind", overwrite=True)
    assert storage_options(f"{block.get_block_type_slug()}/kind") == options


def test_buckets_have_the_credentials_that_they_refer_to() -> None:
    """Several blocks are for several kinds of places."""
    credentials = AwsCredentials(**AWS)
    credentials.save("of-lab", overwrite=True)
    S3Bucket(bucket_name="lab", credentials=AwsCredentials.load("of-lab")).save("b", overwrite=True)
    gcp = GcpCredentials(service_account_info='{"private_key": "hush"}')
    GcsBucket(bucket="lab", gcp_credentials=gcp).save("b", overwrite=True)
    assert storage_options(["s3-bucket/b", "gcs-bucket/b"]) == {
        "s3": AS_S3FS,
        "gs": {"token": {"private_key": "hush"}},
    }


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ("lab", "KIND/NAME"),
        ("azure/lab", "not one of the kinds"),
        ("secret/nobody-saved-it", "no block secret/nobody-saved-it"),
        ("secret/torn", "does not hold JSON"),
        (["secret/plain", "s3-bucket/b"], "does not name the protocol"),
    ],
)
def test_a_block_that_cannot_be_used_is_named(names: Any, what: str) -> None:
    """The message does not quote what the block holds."""
    Secret(value=f"{{{PLANTED}").save("torn", overwrite=True)
    Secret(value={"key": PLANTED}).save("plain", overwrite=True)
    S3Bucket(bucket_name="lab", credentials=AwsCredentials(**AWS)).save("b", overwrite=True)
    with pytest.raises(InvalidOptionError, match=what) as caught:
        storage_options(names)
    assert PLANTED not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    samples = np.random.default_rng(3).integers(0, 60000, (32, 32), dtype=np.uint16)
    zarr.create_array(tmp_path / "image.zarr", data=samples, chunks=(16, 16))
    np.save(tmp_path / "image.npy", samples)
    return tmp_path / "image.zarr"


def copy(source: Path, place: str, options: dict[str, Any]) -> str:
    """A local source's objects, put into a bucket; their URI."""
    store = open_store(f"{place}/{source.name}", options)
    for path in source.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(source).as_posix(), path.read_bytes())
    return f"{place}/{source.name}"


@pytest.fixture(params=["gs", "s3"])
def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """A bucket's URI, storage options with something planted, and a proxy before it."""
    # else gcsfs asks Google what the token is good for
    monkeypatch.setattr("gcsfs.credentials._get_creds_from_raw_token", Credentials)
    server = request.getfixturevalue("gcs" if request.param == "gs" else "s3")
    with proxy(server.url, xml=request.param == "s3") as between:
        options: dict[str, Any] = {"endpoint_url": between.url, "token": f"{PLANTED}-token"}
        if request.param == "s3":
            options |= {"key": f"{PLANTED}-key", "secret": f"{PLANTED}-secret"}
        yield f"{request.param}://{server.make_bucket()}", options, between


def told_by_the_server() -> str:
    """All that Prefect keeps, but for blocks: runs with parameters, logs, artifacts, events."""
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        return json.dumps(
            [
                everything(client, kind)
                for kind in ("flow_runs", "task_runs", "logs", "artifacts", "events")
            ]
        )


def everything(client: SyncPrefectClient, kind: str) -> list[Any]:
    if kind == "events":
        page = client.request("POST", "/events/filter", json={"limit": 50}).json()
        found = page["events"]
        while page.get("next_page"):
            page = client._client.get(page["next_page"]).json()
            found += page["events"]
        return list(found)
    found, offset = [], 0
    while True:
        body = {"limit": 200, "offset": offset}
        rows = client.request("POST", f"/{kind}/filter", json=body).json()
        found += rows
        offset += 200
        if len(rows) < 200:
            return found


def test_nothing_shows_a_secret(
    place: Any, source: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A run that succeeds, is refused, lacks permission or has a broken source shows none."""
    root, options, between = place
    kind = root.partition("://")[0]
    caplog.set_level(logging.INFO)
    RemoteFileSystem(basepath=root, settings=options).save("planted", overwrite=True)
    block = "remote-file-system/planted"
    origin, target = copy(source, root, options), f"{root}/out.ome.zarr"
    assert build_pyramid(origin, target, OPTIONS, block).verified

    def fails(origin: str, target: str, chosen: PyramidOptions = OPTIONS) -> str:
        state = build_pyramid(origin, target, chosen, block, return_state=True)
        assert state.is_failed()
        return f"{state.message} {state.result(raise_on_failure=False)!r}"

    told = [fails(origin, target, OPTIONS.model_copy(update={"chunks": 32, "shards": 32}))]
    between.script(Fault("status", method="PUT|POST", path="denied.ome.zarr", status=403))
    told.append(fails(origin, f"{root}/denied.ome.zarr"))
    between.script()
    open_store(f"{origin}", options).write("c/0/0", b"no chunk at all")
    told.append(fails(origin, f"{root}/broken.ome.zarr"))
    # and from the command line, where the run has them, and not as a parameter
    state = run_flow(
        str(source), f"{root}/again.ome.zarr", OPTIONS.to_core(), storage_options=options
    )
    told.append(repr(state))
    kept = open_store(root, options)
    stored = b"".join(kept.read(key) or b"" for key in kept.objects())
    assert kept.read("out.ome.zarr.build/plan.json")
    assert kept.read("out.ome.zarr/zarr.json")
    shown = [*told, *capfd.readouterr(), caplog.text, told_by_the_server()]
    assert "out.ome.zarr" in shown[-1]
    assert "denied.ome.zarr" in shown[-1]
    assert [text[max(0, i - 200) : i] for text in shown if (i := text.find(PLANTED)) >= 0] == []
    assert PLANTED.encode() not in stored
    assert kind in shown[-1]


def test_watcher_audit_and_cleaning_take_a_block_too(place: Any, source: Path) -> None:
    """The block is their only access to the bucket; its content is shown nowhere."""
    root, options, _ = place
    RemoteFileSystem(basepath=root, settings=options).save("planted", overwrite=True)
    block = "remote-file-system/planted"
    origin = copy(source, f"{root}/in", options)
    name = f"on-upload-{uuid.uuid4().hex[:8]}"
    made = build_pyramid.to_deployment(name, entrypoint_type=EntrypointType.MODULE_PATH)
    deployment = made.apply()
    prefix = UploadPrefix(
        uri=f"{root}/in", target=f"{root}/out", options=OPTIONS, storage_block=block
    )
    counts = watch_uploads([prefix], Patience(settle_seconds=0), deployment=f"build-pyramid/{name}")
    assert counts["start"] == 1
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        (run,) = client.read_flow_runs(flow_run_filter=wanted)
    assert run.parameters["source"] == origin
    assert build_pyramid(**run.parameters).verified
    state = audit_pyramids([f"{root}/out"], 1, True, block, return_state=True)
    assert state.message == "1 pyramid undamaged"
    target = open_store(run.parameters["target"], options)
    target.delete(next(key for key in target.objects() if "/c/" in key))
    state = audit_pyramids([f"{root}/out"], 1, True, block, return_state=True)
    assert state.message == "1 pyramid undamaged, 1 regions or documents repaired"
    (left,) = clean_builds([f"{root}/out"], storage_block=block)
    assert left.kind == ""
    assert PLANTED not in told_by_the_server()


def command(*words: str) -> int:
    """The exit status of ``ngff-flows`` with these words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ngff-flows", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("as_json", [True, False])
def test_no_command_shows_a_secret(
    place: Any,
    source: Path,
    as_json: bool,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the command, and however it ends; tracebacks included."""
    root, options, between = place
    monkeypatch.setenv("NGFF_FLOWS_TRACEBACK", "1")
    target = f"{root}/out.ome.zarr"
    (tmp_path / "options.json").write_text(json.dumps(options))
    storage = ("--storage-options", f"@{tmp_path / 'options.json'}")
    more = (*storage, "--json") if as_json else storage
    size = ("--chunks", "16", "--shards", "16", "--scale-factors", "2,")
    build = ("build", str(source), target, "--no-prefect")
    assert command("plan", str(source), target, *size, *more) == 0
    assert command(*build, *size, *more) == 0
    assert command("status", target, *more) == 0
    assert command("verify", target, "--deep", *more) == 0
    assert command(*build, *more) == 2
    between.script(Fault("status", method="PUT|POST", status=403))
    assert command("build", str(source), f"{root}/denied.ome.zarr", "--no-prefect", *more) == 1
    torn = json.dumps(options)[:-1]
    assert command(*build, "--storage-options", torn) == 2
    wrong = json.dumps(options | {"consistency": PLANTED, "nobody_knows": 1})
    monkeypatch.delenv("NGFF_FLOWS_TRACEBACK")
    assert command("status", target, "--storage-options", wrong) in (0, 1)
    assert PLANTED not in "".join(capfd.readouterr())


def test_failed_sign_in_does_not_show_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's own check has the token in its address, and so has its error."""

    def offline(url: str, params: Any, **_: Any) -> None:
        where = requests.Request("GET", url, params=params).prepare().url
        raise requests.ConnectionError(f"no way to {where}")

    monkeypatch.setattr(requests, "get", offline)
    with pytest.raises(TransientError, match=r"no way to .*access_token=\*\*\*") as caught:
        open_store("gs://lab/out.ome.zarr", {"token": f"{PLANTED}/+="})
    assert PLANTED not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "uri",
    [
        f"https://me:{PLANTED}@127.0.0.1:9/a.npy",
        f"http://127.0.0.1:9/a.npy?signature={PLANTED}",
        f"s3://me:{PLANTED}@lab/a.npy",
    ],
)
def test_a_uri_that_holds_credentials_is_refused(
    uri: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before a run is made of it: plans, logs and pages show URIs."""
    assert command("build", uri, str(tmp_path / "out.ome.zarr")) == 2
    assert "storage options" in (shown := "".join(capfd.readouterr()))
    with pytest.raises(InvalidOptionError) as caught:
        run_flow(str(tmp_path), uri, BuildOptions())
    assert PLANTED not in shown + repr(caught.value) + told_by_the_server()

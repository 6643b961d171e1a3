"""The command `ngff-flows`. Prefect is imported only where a flow runs."""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ngff_core import (
    BuildOptions,
    BuildReport,
    build_status,
    check_build,
    config,
    inspect_source,
    repair_pyramid,
    verify_pyramid,
)
from ngff_core.build.api import run_build
from ngff_core.build.series import series_targets
from ngff_core.errors import CallerError, InvalidOptionError, NgffError, StoredDataError
from ngff_core.model.selection import ALL
from ngff_core.plan.pricing import COMPRESSION, THROUGHPUT, price
from ngff_core.storage import StorageOptions, is_transient
from ngff_flows.cli.extras import require_prefect
from ngff_flows.cli.options import (
    Block,
    Compression,
    Json,
    Source,
    StorageOptionsText,
    Target,
    Throughput,
    with_options,
)
from ngff_flows.cli.parsing import parse_storage_options
from ngff_flows.cli.run_flow import run_flow
from ngff_flows.cli.terminal import (
    listening,
    show_inspection,
    show_plan,
    show_repair,
    show_report,
    show_status,
    show_verification,
)

_TRACEBACK = "NGFF_FLOWS_TRACEBACK"


class _Commands(TyperGroup):
    """Commands that report Ctrl-C in one line; typer itself would print nothing."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("interrupted; run the same command again: it continues where it stopped", 1)


app = typer.Typer(
    name="ngff-flows",
    cls=_Commands,
    help="Turn microscopy and medical images into OME-Zarr pyramids.\n\n"
    "Run the same command again after an interruption: it continues where it stopped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    epilog="Examples:\n\n"
    "`ngff-flows build brain.ome.tif brain.ome.zarr`\n\n"
    "`ngff-flows build cells.npy cells.ome.zarr --method itkwasm_label_image --no-prefect`\n\n"
    "`ngff-flows build in.zarr out.ome.zarr --scale-factors 2,4,8 --memory-limit 2GiB`\n\n"
    "`ngff-flows build gs://in/a.zarr gs://out/a.ome.zarr --dask-address tcp://10.0.0.1:8786`"
)
@with_options()
def build(
    source: Source,
    target: Target,
    options: BuildOptions,
    no_prefect: Annotated[
        bool, typer.Option("--no-prefect", help="Build without Prefect: no server, no run page.")
    ] = False,
    storage_options: StorageOptionsText = None,
    storage_block: Block = None,
    as_json: Json = False,
) -> None:
    """Build the pyramid of SOURCE at TARGET, or continue an interrupted build."""
    storage = _storage(storage_options, storage_block)
    if options.series == ALL:
        _build_all(source, target, options, storage, storage_block, no_prefect, as_json=as_json)
        return
    report = _build_one(source, target, options, storage, storage_block, no_prefect)
    _print(as_json, report.to_dict, lambda: show_report(report))
    if not report.verified:
        _show_first_finding(report, target)
        raise typer.Exit(1)


def _build_one(
    source: str,
    target: str,
    options: BuildOptions,
    storage: StorageOptions | None,
    blocks: list[str] | None,
    no_prefect: bool,
) -> BuildReport:
    # Before the flow starts, so that mistakes are reported at once and in one line.
    check_build(source, target, options, storage_options=storage)
    run = partial(run_flow, storage_options=storage, storage_block=blocks or ())
    if no_prefect:
        with listening() as listener:
            return run_build(source, target, options, storage_options=storage, listener=listener)
    if sys.stderr.isatty():
        with listening() as listener:
            return run(source, target, options, listener)[0]
    return run(source, target, options)[0]


def _build_all(
    source: str,
    folder: str,
    options: BuildOptions,
    storage: StorageOptions | None,
    blocks: list[str] | None,
    no_prefect: bool,
    *,
    as_json: bool,
) -> None:
    """Build every image of the source; a refusal of one does not keep the others from it."""
    reports, failed = [], []
    for each in series_targets(source, folder, storage):
        chosen = replace(options, series=each.series)
        try:
            report = _build_one(source, each.target, chosen, storage, blocks, no_prefect)
        except CallerError as error:
            failed.append(f"series {each.series}: {error}")
            continue
        reports.append(report)
        if not as_json:
            show_report(report)
        if not report.verified:
            failed.append(f"series {each.series}: {each.target} differs from its plan")
    if as_json:
        print(json.dumps([report.to_dict() for report in reports], indent=2, default=str))
    for line in failed:
        print(line, file=sys.stderr)
    if failed:
        _fail(f"{len(failed)} of {len(reports) + len(failed)} images were not built", 1)


@app.command(
    epilog="Examples:\n\n`ngff-flows inspect experiment.czi`\n\n"
    "`ngff-flows inspect gs://in/plate.ome.tif --json`"
)
def inspect(
    source: Source,
    storage_options: StorageOptionsText = None,
    storage_block: Block = None,
    as_json: Json = False,
) -> None:
    """Show the images in SOURCE: axes, sizes, channels, and where each value comes from."""
    found = inspect_source(source, _storage(storage_options, storage_block))
    _print(as_json, found.to_dict, lambda: show_inspection(found))


@app.command(
    epilog="Example:\n\n`ngff-flows plan brain.ome.tif brain.ome.zarr --memory-limit 4GiB`"
)
@with_options()
def plan(
    source: Source,
    target: Target,
    options: BuildOptions,
    throughput: Throughput = THROUGHPUT,
    compression: Compression = COMPRESSION,
    storage_options: StorageOptionsText = None,
    storage_block: Block = None,
    as_json: Json = False,
) -> None:
    """Show what build would do with the same options, and its cost, without doing it."""
    # Checks the target too, so that a plan shown here can be built.
    storage = _storage(storage_options, storage_block)
    planned = check_build(source, target, options, storage_options=storage)
    cost = price(planned.plan, planned.projection, throughput=throughput, compression=compression)
    document = {**planned.to_dict(), "price": cost.to_dict()}
    _print(as_json, lambda: document, lambda: show_plan(planned, cost))


@app.command(epilog="Example:\n\n`ngff-flows status brain.ome.zarr`")
def status(
    target: Target,
    storage_options: StorageOptionsText = None,
    storage_block: Block = None,
    as_json: Json = False,
) -> None:
    """Show how much of the build at TARGET is done."""
    found = build_status(target, storage_options=_storage(storage_options, storage_block))
    _print(as_json, found.to_dict, lambda: show_status(found))


@app.command(
    epilog="Examples:\n\n`ngff-flows verify brain.ome.zarr --deep`\n\n"
    "`ngff-flows verify brain.ome.zarr --repair`"
)
@with_options("workers", "memory_limit")
def verify(
    target: Target,
    deep: Annotated[bool, typer.Option("--deep", help="Read and decode every object.")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Read every object, and compute damaged regions again from the source or the "
            "larger level.",
        ),
    ] = False,
    *,
    options: BuildOptions,
    storage_options: StorageOptionsText = None,
    storage_block: Block = None,
    as_json: Json = False,
) -> None:
    """Check the pyramid at TARGET against its plan and checksums."""
    storage = _storage(storage_options, storage_block)
    if repair:
        _repair(target, options, storage, as_json=as_json)
        return
    with listening() as listener:
        found = verify_pyramid(
            target,
            deep=deep,
            workers=options.workers,
            memory_limit=options.memory_limit,
            storage_options=storage,
            progress=listener,
        )
    document = {**asdict(found), "ok": found.ok, "target": target}
    _print(as_json, lambda: document, lambda: show_verification(target, found))
    if not found.ok:
        raise typer.Exit(1)


def _repair(
    target: str, options: BuildOptions, storage: StorageOptions | None, *, as_json: bool
) -> None:
    with listening() as listener:
        done = repair_pyramid(
            target,
            workers=options.workers,
            memory_limit=options.memory_limit,
            storage_options=storage,
            progress=listener,
        )
    _print(as_json, done.to_dict, lambda: show_repair(done))
    if not done.ok:
        raise typer.Exit(1)


def _storage(options: str | None, blocks: list[str] | None) -> StorageOptions | None:
    """The storage options that the command line gives, as such or through Prefect blocks."""
    if options is not None and blocks:
        raise InvalidOptionError("give either --storage-options or --storage-block, not both")
    if blocks:
        require_prefect("use --storage-options in place of --storage-block")
        from tasks.credentials import storage_options

        return storage_options(blocks)
    return parse_storage_options(options)


def main() -> None:
    """Run the command; exit 0 when done, 2 for the caller's mistake, 1 for anything else."""
    try:
        config.check()
        _log_to_stderr()
        app()
    except CallerError as error:
        _fail(error, 2)
    except StoredDataError as error:
        _fail(error, 1)
    except (NgffError, OSError) as error:
        _fail(_location(error), 1, _remedy(error))
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        if is_transient(error):
            _fail(error, 1, _remedy(error))
        said = " ".join(str(error).split())
        hint = f"; run again with {_TRACEBACK}=1 to see the traceback"
        _fail(f"unexpected {type(error).__name__}: {said}", 1, hint)


def _log_to_stderr() -> None:
    if config.log_level is not None:
        logging.basicConfig(level=config.log_level, format="%(levelname)s %(name)s: %(message)s")


def _print(as_json: bool, document: Callable[[], Any], show: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(document(), indent=2, default=str))
    else:
        show()


def _show_first_finding(report: BuildReport, target: str) -> None:
    if report.verification is not None:
        first = report.verification.findings[0]
        print(f"First finding:  {first.key}: {first.what}", file=sys.stderr)
    print(f"All findings:   ngff-flows verify {shlex.quote(target)}", file=sys.stderr)


def _location(error: BaseException) -> BaseException | str:
    """The text to show for an error: for errors of the system, only the path and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return error


def _remedy(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if is_transient(error):
        return "; run the same command again to continue"
    if number == errno.ENOSPC:
        return "; free some space, and run the same command again to continue"
    if isinstance(error, PermissionError) or number == errno.EROFS:
        return "; change its permissions, or choose another path"
    if isinstance(error, NotADirectoryError):
        return "; a part of this path is a file: choose another path"
    return ""


def _fail(error: BaseException | str, status: int, hint: str = "") -> NoReturn:
    print(f"ngff-flows: {error}{hint}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()

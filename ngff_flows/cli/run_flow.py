"""Runs the flow `build-pyramid` from a terminal: quiet settings first, then Prefect."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import cast

from ngff_core import BuildOptions, BuildReport
from ngff_core.errors import NgffError
from ngff_core.progress import Listener, Message, silent
from ngff_core.storage import StorageOptions, absolute_uri, check_uri
from ngff_flows.cli.extras import require_prefect


def run_flow(
    source: str,
    target: str,
    options: BuildOptions,
    listener: Listener | None = None,
    *,
    storage_options: StorageOptions | None = None,
    storage_block: Sequence[str] = (),
) -> tuple[BuildReport, str]:
    """Run the flow `build-pyramid` in this process; its report, and the id of the flow run.

    If there is a ``listener``, it gets the progress and Prefect prints no log lines, which would
    break the bars; the run's log has these lines in any case. ``storage_options`` stay in this
    process: Prefect stores the parameters of a run, so they are not among them. The names of
    blocks, ``storage_block``, are a parameter.
    """
    require_prefect("use --no-prefect")
    # Refuse a URI with credentials before Prefect stores it as a parameter of the run.
    check_uri(source)
    check_uri(target)
    if listener is not None:
        listener(Message("starting Prefect (half a minute the first time)"))
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # The first start of Prefect's own server migrates its database, for half a minute.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    from flows.build_pyramid import build_pyramid
    from flows.options import PyramidOptions
    from tasks.credentials import credentials_of_run
    from tasks.reporting.progress import listener_of_run

    _quiet_tracebacks()
    if listener is not None:
        for handler in _consoles():
            handler.setLevel(logging.WARNING)
    # Absolute: the run's page shows them, and a worker that retries the run starts elsewhere.
    uris = absolute_uri(source), absolute_uri(target)
    with listener_of_run(listener or silent), credentials_of_run(storage_options):
        state = build_pyramid(
            *uris,
            PyramidOptions.from_core(options),
            list(storage_block) or None,
            return_state=True,
        )
    report = cast("BuildReport", state.result())
    return report, str(state.state_details.flow_run_id)


def _quiet_tracebacks() -> None:
    """Show our own errors, and those of storage, in one line, as without Prefect."""
    if os.environ.get("NGFF_FLOWS_TRACEBACK"):
        return
    for handler in _consoles():
        handler.addFilter(_without_traceback)


def _consoles() -> list[logging.Handler]:
    from prefect.logging.handlers import PrefectConsoleHandler

    # Prefect's console handler is on the root logger; in earlier versions on Prefect's own.
    loggers = [logging.getLogger(name) for name in (None, "prefect", "prefect.extra")]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    return [handler for handler in handlers if isinstance(handler, PrefectConsoleHandler)]


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    if record.exc_info and isinstance(record.exc_info[1], NgffError | OSError):
        record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
    return record

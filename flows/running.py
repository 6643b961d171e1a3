"""Running the flow from a terminal: quiet settings first, then Prefect."""

from __future__ import annotations

import logging
import os

from ngff_core import BuildOptions, BuildReport
from ngff_core.errors import NgffError
from ngff_core.store import absolute_uri


def run_flow(source: str, target: str, options: BuildOptions) -> tuple[BuildReport, str]:
    """Run the flow `build-pyramid`; its report, and the id of the flow run."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # The first start of Prefect's own server migrates its database, for half a minute.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    from flows.build_pyramid import build_pyramid
    from flows.options import PyramidOptions

    _quiet_tracebacks()
    # The run's page shows these, and a worker that retries the run has a folder of its own.
    places = absolute_uri(source), absolute_uri(target)
    state = build_pyramid(*places, PyramidOptions.from_core(options), return_state=True)
    report: BuildReport = state.result()
    return report, str(state.state_details.flow_run_id)


def _quiet_tracebacks() -> None:
    """Errors raised on purpose, and storage's, are one line, as without Prefect."""
    if os.environ.get("NGFF_FLOWS_TRACEBACK"):
        return
    from prefect.logging.handlers import PrefectConsoleHandler

    # Prefect's console stands at the root of all loggers; in earlier versions at its own.
    for name in (None, "prefect", "prefect.extra"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> logging.LogRecord:
    if record.exc_info and isinstance(record.exc_info[1], NgffError | OSError):
        record = logging.makeLogRecord({**record.__dict__, "exc_info": None, "exc_text": None})
    return record

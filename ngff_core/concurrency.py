"""Run many items of work on an executor, with a bounded number of them in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from itertools import islice


def run_bounded[Item, Result](
    items: Iterable[Item],
    work: Callable[[Item], Result],
    executor: Executor,
    in_flight: int,
    on_done: Callable[[Result], None],
) -> None:
    """Call ``work`` on every item, at most ``in_flight`` at a time.

    ``on_done`` is called in the caller's thread, once for each result, in the order in which
    results arrive. If an item fails, or the caller is interrupted, no further item is
    started; items in flight are waited for and their results passed to ``on_done``, and then
    the first error is raised.
    """
    queue = iter(items)
    running: set[Future[Result]] = set()
    try:
        while True:
            running |= {executor.submit(work, i) for i in islice(queue, in_flight - len(running))}
            if not running:
                return
            wait(running, return_when=FIRST_COMPLETED)
            for future in [future for future in running if future.done()]:
                running.remove(future)
                on_done(future.result())
    except BaseException:
        _drain(running, on_done)
        raise


def _drain[Result](running: set[Future[Result]], on_done: Callable[[Result], None]) -> None:
    """Cancel items that have not started, wait for the others, and deliver their results."""
    for future in running:
        future.cancel()
    for future in wait(running).done:
        if not future.cancelled() and future.exception() is None:
            on_done(future.result())

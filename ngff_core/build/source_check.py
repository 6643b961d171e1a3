"""The source of a build: open for reading, and compared with what is stored there now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ngff_core.errors import SourceChangedError
from ngff_core.sources import Source


@dataclass(frozen=True)
class CheckedSource:
    """An open source, and how to open it once more. Threads may share it."""

    source: Source
    reopen: Callable[[], Source]

    def check(self) -> None:
        """Raise SourceChangedError if the source changed since it was opened.

        Called after the last read, before receipts of what was read become final. An array
        in memory is not checked.
        """
        if self.source.kind == "array":
            return
        with self.reopen() as now:
            if now.identity == self.source.identity:
                return
        raise SourceChangedError(
            f"{self.source.identity.uri} changed while it was read, so what was written from it "
            "is discarded; run the same command again with overwrite, once nothing writes to "
            "the source any more"
        )

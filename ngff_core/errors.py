"""The errors of this package, in three families by whose fault they are.

Each is also a builtin error, so code that does not know this package can catch it too.

* ``CallerError``: the value, the source or the target that the caller named cannot be used.
  Trying again changes nothing. The message says what to change.
* ``StoredDataError``: stored bytes are not what they should be. The message says which, and
  how to repair them.
* ``TransientError``: the network, another builder or a machine failed. Run the same command
  again: it continues where it stopped.
"""

from __future__ import annotations

import re

_LONGEST = 2000
"""Characters of a message with text from outside at most."""


def one_line(text: str) -> str:
    """``text`` as one printable line, its middle left out where it is very long.

    >>> one_line("a.tif: bad:\\n  tag \\x07")
    'a.tif: bad: tag \\\\x07'
    """
    line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST * 3 // 4]} … {line[-_LONGEST // 4 :]}"
    return line


class NgffError(Exception):
    """Base of every error that this package raises on purpose."""


class CallerError(NgffError):
    """The caller asked for something that cannot be done. Change the call as the message says."""


class InvalidOptionError(CallerError, ValueError):
    """An option has an invalid value. The message names the option and what it accepts."""


class UnsupportedDtypeError(CallerError, TypeError):
    """The method cannot compute correct samples for this dtype. Choose another method."""


class MemoryLimitError(CallerError, MemoryError):
    """The memory limit is less than one unit of work needs. The message has both numbers: raise
    the limit, or choose smaller chunks or shards."""


class SourceNotFoundError(CallerError, FileNotFoundError):
    """Nothing is stored at the source's path or URI. Correct it, or upload the source."""


class SourceFormatError(CallerError, ValueError):
    """The source exists, but is not an image that this package can read. Convert it.

    The message is one printable line, whatever texts of the file or of a decoder are in it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class UnsafeNameError(CallerError, ValueError):
    """A name from outside, such as that of an upload, would lead out of the folder it belongs in.
    Rename what it names."""


class SourceChangedError(CallerError, ValueError):
    """The source is not the one that the build at the target began with. Build from scratch with
    ``overwrite``, or restore the source."""


class TargetExistsError(CallerError, FileExistsError):
    """The target holds something that this build must not change. Choose another target, or
    replace what is there with ``overwrite``."""


class TargetNotFoundError(CallerError, FileNotFoundError):
    """There is no build at the target. Correct its path or URI."""


class ClusterUnfitError(CallerError, ValueError):
    """The dask cluster cannot run this build as it is. The message says what to change there."""


class StoredDataError(NgffError, ValueError):
    """Stored bytes contradict the plan or the ledger. Repair the pyramid, or build it again."""


class UnlistableError(CallerError, PermissionError):
    """The store does not allow listing. Objects can be read by name; grant the permission to
    list for everything else."""


class TransientError(NgffError, OSError):
    """A failure that may pass. Run the same command again: it continues where it stopped."""


class TargetBusyError(TransientError):
    """Another live process is building this target. Wait for it, or stop it, and run again."""


class LeaseLostError(TransientError):
    """Another process took over this build, because this one had not renewed its lease in time.
    Run again only after the other one has ended."""


class ClusterError(TransientError):
    """The dask cluster, or every worker of it, was lost. Run again once the cluster is up."""

"""What can go wrong, by whose fault it is.

Three families, each member also a builtin so that callers who know nothing of this
package can still catch it:

* ``CallerError``: the value, the source or the target the caller named cannot be
  used. Trying again changes nothing; the message says what to change.
* ``StoredDataError``: bytes that were stored do not say what they should.
* ``TransientError``: the network, another builder, or a machine stood in the way.
  Running the same command again goes on from where it stopped.
"""

from __future__ import annotations


class NgffError(Exception):
    """Base of every error this package raises on purpose."""


class CallerError(NgffError):
    """The caller asked for something that cannot be done as asked."""


class InvalidOptionError(CallerError, ValueError):
    """An option has a value that makes no sense; the message names the option."""


class UnsupportedDtypeError(CallerError, TypeError):
    """The method cannot give right samples for this dtype."""


class MemoryLimitError(CallerError, MemoryError):
    """The memory limit is below what one unit of work needs; the message has both."""


class SourceNotFoundError(CallerError, FileNotFoundError):
    """Nothing is stored at the source's path or URI."""


class SourceFormatError(CallerError, ValueError):
    """The source exists, and is not an image this package can decode."""


class SourceChangedError(CallerError, ValueError):
    """The source is no longer the one that the build at the target began with."""


class TargetExistsError(CallerError, FileExistsError):
    """The target holds something that this build must not touch."""


class TargetNotFoundError(CallerError, FileNotFoundError):
    """There is no build at the target."""


class ClusterUnfitError(CallerError, ValueError):
    """The dask cluster cannot do this build as it is; the message says what to change."""


class StoredDataError(NgffError, ValueError):
    """Stored bytes contradict the plan or the ledger."""


class UnlistableError(CallerError, PermissionError):
    """The store does not list what it holds; what is known by name can still be had."""


class TransientError(NgffError, OSError):
    """Trouble that the same command, run again, may not meet."""


class TargetBusyError(TransientError):
    """Another live process is building this target."""


class LeaseLostError(TransientError):
    """This process was taken for dead, and another one builds the target now."""


class ClusterError(TransientError):
    """The dask cluster was lost, or all of its workers were."""

"""Memory that a thread uses again and again.

Memory that is new to the process costs more than what is copied into it: the system
clears each page first.
"""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

_rooms = threading.local()


def room(purpose: str, nbytes: int) -> npt.NDArray[np.uint8]:
    """At least so many bytes, of any content, until this thread asks for the purpose again.

    What it held before is lost where it grows.
    """
    found: npt.NDArray[np.uint8] | None = getattr(_rooms, purpose, None)
    if found is None or found.nbytes < nbytes:
        # The old one goes first: both at once would be more memory than was projected.
        del found
        setattr(_rooms, purpose, None)
        found = np.empty(nbytes, np.uint8)
        setattr(_rooms, purpose, found)
    return found

"""What lies in a folder, to be compared with what lay there before."""

from __future__ import annotations

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes | None]:
    """All below ``folder`` by its path there: the bytes of files, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def files(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its path there."""
    return {path: data for path, data in contents(folder).items() if data is not None}


def dated_contents(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """`contents`, each with the time of its last change in nanoseconds."""
    found = contents(folder)
    return {path: (data, (folder / path).stat().st_mtime_ns) for path, data in found.items()}

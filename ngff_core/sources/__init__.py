"""Input formats: each opens an image lazily and records what identifies the source."""

from ngff_core.sources.base import Source, SourceIdentity
from ngff_core.sources.detect import open_source

__all__ = ["Source", "SourceIdentity", "open_source"]

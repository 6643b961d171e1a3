"""Input formats: each opens images lazily and records what identifies the source.

``contract`` is what a reader returns; ``formats`` the table of them; ``detect`` opens a source;
``choose`` picks the image, ``naming`` its axes; ``opening`` puts the parts together.
"""

from ngff_core.sources.base import About, Source
from ngff_core.sources.contract import Note, SourceIdentity
from ngff_core.sources.detect import open_images, open_source

__all__ = ["About", "Note", "Source", "SourceIdentity", "open_images", "open_source"]

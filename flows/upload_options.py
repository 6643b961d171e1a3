"""The forms of `watch-uploads`: which uploads to watch for, and how patiently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from flows.options import PyramidOptions
from ngff_core.kernels.methods import DEFAULT_METHOD
from ngff_core.plan.options import BuildOptions, stored_option_names
from ngff_core.uploads.decisions import Decision, Policy
from ngff_core.uploads.inbox import Inbox
from ngff_core.uploads.patterns import Names, digest
from tasks.credentials import storage_options

DEFAULT_INCLUDE = (
    *("*.tif", "*.tiff", "*.npy", "*.zarr", "*.svs", "*.ndpi", "*.qptiff", "*.czi", "*.lif"),
    *("*.nd2", "*.oib", "*.oir", "*.nii", "*.nii.gz", "*.h5", "*.ims", "*.mrc", "*.nrrd", "*.mha"),
)
"""Files that are an image each; formats with companions are named by who has them."""


class UploadPrefix(BaseModel):
    """A place where uploads arrive, and where their pyramids go."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(description="Path or URI below which uploads arrive, such as gs://in/scans.")
    target: str = Field(
        description="Path or URI of the pyramids. Without braces the uploads' folders are kept. A "
        "template contains {path} (folders and name without its ending), {folder}, {name} or "
        "{file}, such as gs://out/{name}.ome.zarr."
    )
    include: list[str] = Field(
        default=list(DEFAULT_INCLUDE),
        description="Glob patterns of uploads. A pattern without a slash is compared with the "
        "name, one with a slash with the path below the prefix; ** matches any folders. Axes in "
        "braces join files into one image, such as plate_*_z{z}_c{c}.tif.",
    )
    exclude: list[str] = Field(
        default=[], description="Glob patterns of files and folders to ignore."
    )
    folders: list[str] = Field(
        default=["*.zarr"], description="Glob patterns of folders that are one upload each."
    )
    marker: str | None = Field(
        default=None,
        description="Name of an object that uploaders write into such a folder last, such as "
        "_SUCCESS. A folder is complete once it has the marker, and changed when the marker "
        "changes. Without a marker, the listing of the whole folder must stay unchanged.",
    )
    options: PyramidOptions = Field(
        default_factory=PyramidOptions,
        description="How the pyramids are made. A change of an option that decides stored bytes "
        "builds every pyramid of this prefix again.",
    )
    state: str | None = Field(
        default=None,
        description="Path or URI of the watcher's own state, with parked uploads below parked/. "
        "By default .ngff-flows below the prefix.",
    )
    storage_block: str | list[str] | None = Field(
        default=None,
        description="A saved block with the credentials, such as gcs-bucket/lab, or several "
        "blocks; for the watcher and for the builds that it starts. By default the worker's "
        "environment.",
    )

    def holds(self, uri: str) -> bool:
        """Whether ``uri`` lies below the prefix."""
        return self._inbox().holds(uri)

    def to_inbox(self) -> Inbox:
        """The prefix as `ngff_core` takes it, with its credentials."""
        return self._inbox(storage_options=storage_options(self.storage_block))

    def _inbox(self, **more: Any) -> Inbox:
        made = decisive(self.options.model_dump(mode="json"))
        names = Names(tuple(self.include), tuple(self.exclude), tuple(self.folders), self.target)
        return Inbox(
            uri=self.uri,
            names=names,
            work=lambda target: digest([target, made]),
            state=self.state,
            marker=self.marker,
            **more,
        )

    def parameters(self, decision: Decision) -> dict[str, Any]:
        """The parameters of the flow run that carries out a decision."""
        options = self.options.model_dump(mode="json")
        options["overwrite"] = options["overwrite"] or decision.overwrite
        upload = decision.upload
        parameters = {"source": upload.uri, "target": upload.target, "options": options}
        if self.storage_block is not None:
            parameters["storage_block"] = self.storage_block
        return parameters


def decisive(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide stored bytes.

    What has been added since the first release counts only where it is given, so that an update
    alone builds nothing again.
    """
    found = {name: options[name] for name in stored_option_names()}
    plain = asdict(BuildOptions())
    kept = {
        name: value
        for name, value in found.items()
        if name in _ALWAYS_COUNTED or value not in (None, plain[name])
    }
    return kept | {"method": found["method"] or DEFAULT_METHOD.value}


_ALWAYS_COUNTED = {
    "method",
    "scale_factors",
    "chunks",
    "shards",
    "compressor",
    "ome_zarr_version",
}


class Patience(BaseModel):
    """How long the watcher waits, and how often it tries again."""

    model_config = ConfigDict(extra="forbid")

    settle_seconds: float = Field(
        default=60.0,
        ge=0,
        description="Seconds for which size and version of an upload must stay unchanged.",
    )
    attempts: int = Field(
        default=4, ge=1, description="Failed builds of one version after which it is parked."
    )
    pauses_seconds: list[float] = Field(
        default=[60.0, 600.0, 3600.0],
        description="Seconds to wait after the first failure, the second, and so on; the last "
        "number repeats.",
    )
    starts_per_look: int = Field(
        default=100,
        ge=1,
        description="Builds that one look at the uploads starts; the next look starts more.",
    )

    def to_policy(self) -> Policy:
        """The same as `ngff_core` takes it."""
        return Policy(
            settle_seconds=self.settle_seconds,
            attempts=self.attempts,
            pauses=tuple(self.pauses_seconds),
            starts=self.starts_per_look,
        )

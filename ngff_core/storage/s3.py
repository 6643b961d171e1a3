"""S3 by s3fs, with retries that are ours alone.

Imported where an ``s3://`` URI is opened: s3fs takes a second.
"""

from __future__ import annotations

from typing import Any

from s3fs import S3FileSystem

from ngff_core.storage.retry import retrying_request


class AmazonFiles(S3FileSystem):  # type: ignore[misc] # s3fs has no annotations
    """s3fs that tries each request again as `ngff_core.storage.retry` says, and reads in one piece.

    botocore's retries and s3fs's around them pause without looking at ``Retry-After``, and
    multiply. Who sets ``config_kwargs={"retries": …}`` has botocore's back.
    """

    retries = 1

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        given: dict[str, Any] = super()._prepare_config_kwargs()
        return {"retries": {"total_max_attempts": 1}} | given

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        call = super()._call_s3
        return await retrying_request(lambda: call(method, *args, **kwargs))

    async def _cat_file(
        self, path: str, *args: Any, max_concurrency: int | None = None, **kwargs: Any
    ) -> Any:
        # With more than one s3fs first asks for the size, and a checksum is of whole objects.
        cat = super()._cat_file
        most = max_concurrency or 1
        return await retrying_request(lambda: cat(path, *args, max_concurrency=most, **kwargs))

"""S3 through s3fs, with no retries but our own. Only this file uses private parts of s3fs.

Tried with s3fs 2026.9.0, aiobotocore 3.10.0 and botocore 1.43.117.
`tests/core/storage/test_compat.py` checks each assumption. Imported only when an ``s3://``
URI is opened: importing s3fs takes a second.
"""

from __future__ import annotations

from typing import Any

from s3fs import S3FileSystem

from ngff_core.storage.retry import retrying_request


class AmazonFiles(S3FileSystem):  # type: ignore[misc] # s3fs has no annotations
    """s3fs with the retries of `ngff_core.storage.retry`, and one request for a complete object.

    botocore's retries, and those that s3fs makes around them, ignore ``Retry-After`` and
    multiply. ``config_kwargs={"retries": …}`` turns botocore's on again.
    """

    retries = 1

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        config: dict[str, Any] = super()._prepare_config_kwargs()
        return {"retries": {"total_max_attempts": 1}} | config

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        call = super()._call_s3
        return await retrying_request(lambda: call(method, *args, **kwargs))

    async def _cat_file(
        self, path: str, *args: Any, max_concurrency: int | None = None, **kwargs: Any
    ) -> Any:
        # With more than one, s3fs asks for the size first; checksums are of complete objects.
        cat = super()._cat_file
        most = max_concurrency or 1
        return await retrying_request(lambda: cat(path, *args, max_concurrency=most, **kwargs))


def open_amazon(uri: str, options: dict[str, Any]) -> tuple[AmazonFiles, str]:
    """The filesystem for an S3 URI, and the path in it: ``BUCKET/KEY``."""
    return AmazonFiles(**options), str(AmazonFiles._strip_protocol(uri))

"""Google Cloud Storage's JSON API over HTTP, as far as its clients use it for objects.

Kept in memory; one generation of each object. Bodies are stored to the byte: what ends in
a carriage return keeps it. ``page`` is how many names a listing gives at a time.

``python -m tests.servers.gcs`` is one in a process of its own: it says its URL, and ends
with its standard input.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import crc32c

from tests.servers import policies
from tests.servers.loopback import Handler, Loopback, serving


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def document(self) -> dict[str, Any]:
        reason = {404: "notFound", 409: "conflict", 412: "conditionNotMet"}.get(
            self.code, "invalid"
        )
        one = {"message": str(self), "domain": "global", "reason": reason}
        return {"error": {"code": self.code, "message": str(self), "errors": [one]}}


@dataclass
class Blob:
    """One object."""

    data: bytes
    generation: int
    created: str
    fields: dict[str, Any] = field(default_factory=dict)
    metageneration: int = 1

    @property
    def crc32c(self) -> str:
        return base64.b64encode(int(crc32c.crc32c(self.data)).to_bytes(4, "big")).decode()

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.data, usedforsecurity=False).digest()).decode()

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()


@dataclass
class Upload:
    """A resumable upload under way."""

    bucket: str
    fields: dict[str, Any]
    conditions: dict[str, str]
    data: bytearray = field(default_factory=bytearray)


class Shelf:
    """The buckets. Each operation is whole: threads may share it."""

    def __init__(self, page: int) -> None:
        self.page = page
        self.buckets: dict[str, dict[str, Blob]] = {}
        self.uploads: dict[str, Upload] = {}
        self.lock = threading.RLock()
        self._generations = itertools.count(1_700_000_000_000_000)

    def bucket(self, name: str) -> dict[str, Blob]:
        if name not in self.buckets:
            raise RefusedError(404, "The specified bucket does not exist.")
        return self.buckets[name]

    def make_bucket(self, name: str) -> dict[str, Any]:
        with self.lock:
            if name in self.buckets:
                raise RefusedError(409, "The bucket exists already.")
            self.buckets[name] = {}
        return bucket_resource(name)

    def get(self, bucket: str, name: str, query: dict[str, str]) -> Blob:
        with self.lock:
            blob = self.bucket(bucket).get(name)
            check(blob, query)
            if blob is None or query.get("generation") not in (None, str(blob.generation)):
                check_listing(bucket)
                raise RefusedError(404, f"No such object: {bucket}/{name}")
            return blob

    def put(self, bucket: str, fields: dict[str, Any], data: bytes, query: dict[str, str]) -> Any:
        name = fields.pop("name", None) or query.get("name")
        if not name:
            raise RefusedError(400, "Required: name")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self.lock:
            shelf = self.bucket(bucket)
            check(shelf.get(name), query)
            blob = Blob(data, next(self._generations), now, fields)
            for told, found in (("crc32c", blob.crc32c), ("md5Hash", blob.md5)):
                if fields.pop(told, found) != found:
                    raise RefusedError(400, f"Provided {told} doesn't match calculated {found}.")
            shelf[name] = blob
        return resource(bucket, name, blob)

    def delete(self, bucket: str, name: str, query: dict[str, str]) -> None:
        with self.lock:
            self.get(bucket, name, query)
            del self.bucket(bucket)[name]

    def list(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        check_listing(bucket)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        room = min(int(query.get("maxResults") or self.page), self.page)
        after = base64.b64decode(query.get("pageToken", "")).decode()
        answer: dict[str, Any] = {"kind": "storage#objects"}
        items: list[dict[str, Any]] = []
        prefixes: list[str] = []
        last = ""
        with self.lock:
            for name in sorted(self.bucket(bucket)):
                shown = _rolled_up(name, prefix, delimiter)
                outside = not name.startswith(prefix) or name < query.get("startOffset", "")
                beyond = "endOffset" in query and name >= query["endOffset"]
                if outside or beyond or shown <= after or shown in prefixes[-1:]:
                    continue
                if len(items) + len(prefixes) == room:
                    answer["nextPageToken"] = base64.b64encode(last.encode()).decode()
                    break
                if shown == name:
                    items.append(resource(bucket, name, self.bucket(bucket)[name]))
                else:
                    prefixes.append(shown)
                last = shown
        return answer | {k: v for k, v in (("items", items), ("prefixes", prefixes)) if v}


def _rolled_up(name: str, prefix: str, delimiter: str) -> str:
    end = name.find(delimiter, len(prefix)) if delimiter else -1
    return name if end < 0 else name[: end + len(delimiter)]


def check_listing(bucket: str) -> None:
    """Refuse a listing, or a look-up of an absent object, to a client that may not list."""
    if not policies.may_list(bucket):
        raise RefusedError(403, "caller does not have storage.objects.list access")


def check(blob: Blob | None, query: dict[str, str]) -> None:
    """Refuse what the request's conditions do not allow; generation 0 is no object."""
    generation = blob.generation if blob else 0
    metageneration = blob.metageneration if blob else 0
    if query.get("ifGenerationMatch") not in (None, str(generation)):
        raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")
    if query.get("ifMetagenerationMatch") not in (None, str(metageneration)):
        raise RefusedError(412, "At least one of the pre-conditions you specified did not hold.")
    if query.get("ifGenerationNotMatch") == str(generation):
        raise RefusedError(304 if blob else 412, "not modified")


def resource(bucket: str, name: str, blob: Blob) -> dict[str, Any]:
    return {
        "contentType": "application/octet-stream",
        **blob.fields,
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{blob.generation}",
        "name": name,
        "bucket": bucket,
        "generation": str(blob.generation),
        "metageneration": str(blob.metageneration),
        "size": str(len(blob.data)),
        "crc32c": blob.crc32c,
        "md5Hash": blob.md5,
        "etag": blob.etag,
        "storageClass": "STANDARD",
        "timeCreated": blob.created,
        "updated": blob.created,
    }


def bucket_resource(name: str) -> dict[str, Any]:
    return {
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        "metageneration": "1",
        "etag": "CAE=",
        "timeCreated": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
    }


def split_multipart(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    """Headers and body of each part, whichever line ends the client uses.

    The first line shows which line ends are used: a body may itself end in a carriage return.
    """
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if found is None:
        raise RefusedError(400, "multipart without a boundary")
    mark = b"--" + found[1].encode()
    start = body.find(mark) + len(mark)
    line = b"\r\n" if body[start : start + 2] == b"\r\n" else b"\n"
    inner = body[start + len(line) : body.rfind(line + mark + b"--")]
    parts = []
    for part in inner.split(line + mark + line):
        head, _, data = part.partition(line * 2)
        parts.append((head.decode(), data))
    return parts


class JsonApi(Handler):
    """Takes requests apart, and tells the shelf what they want."""

    server: GcsServer

    def do_any(self) -> None:
        body = self.body()
        try:
            self.route(body)
        except RefusedError as refusal:
            self.answer_json(refusal.document, refusal.code)
        except Exception as error:  # noqa: BLE001 - told to the client: not to be tried again
            self.answer_json(RefusedError(501, repr(error)).document, 501)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_any  # noqa: N815

    @property
    def shelf(self) -> Shelf:
        return self.server.shelf

    def answer_json(self, document: Any, status: int = 200) -> None:
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        self.answer(status, json.dumps(document).encode(), headers)

    def route(self, body: bytes) -> None:
        match self.command, self.parts:
            case _, ["upload", "storage", "v1", "b", bucket, "o"]:
                self.upload(bucket, body)
            case "POST", ["batch", "storage", "v1"]:
                self.batch(body)
            case "GET", ["download", "storage", "v1", "b", bucket, "o", name]:
                self.media(self.shelf.get(bucket, name, self.query))
            case "GET", ["storage", "v1", "b", bucket, "o", name] if (
                self.query.get("alt") == "media"
            ):
                self.media(self.shelf.get(bucket, name, self.query))
            case _, ["storage", "v1", *path]:
                found = self.call(self.command, path, self.query, body)
                self.answer(204) if found is None else self.answer_json(found)
            case _:
                raise RefusedError(404, f"{self.command} {self.path}: not spoken here")

    def call(self, method: str, path: list[str], query: dict[str, str], body: bytes) -> Any:
        """Everything but uploads and downloads; the document to answer, if any."""
        shelf = self.shelf
        match method, path:
            case "GET", ["b"]:
                return {"kind": "storage#buckets", "items": [*map(bucket_resource, shelf.buckets)]}
            case "POST", ["b"]:
                return shelf.make_bucket(json.loads(body)["name"])
            case "GET", ["b", bucket]:
                shelf.bucket(bucket)
                return bucket_resource(bucket)
            case "DELETE", ["b", bucket]:
                if shelf.bucket(bucket):
                    raise RefusedError(409, "The bucket you tried to delete is not empty.")
                del shelf.buckets[bucket]
                return None
            case "GET", ["b", bucket, "o"]:
                return shelf.list(bucket, query)
            case "GET", ["b", bucket, "o", name]:
                return resource(bucket, name, shelf.get(bucket, name, query))
            case "DELETE", ["b", bucket, "o", name]:
                return shelf.delete(bucket, name, query)
            case "PATCH" | "PUT", ["b", bucket, "o", name]:
                with shelf.lock:
                    blob = shelf.get(bucket, name, query)
                    blob.fields |= json.loads(body)
                    blob.metageneration += 1
                    return resource(bucket, name, blob)
            case "POST", ["b", a, "o", b, ("copyTo" | "rewriteTo") as how, "b", c, "o", d]:
                with shelf.lock:
                    blob = shelf.get(a, b, {})
                    copy = shelf.put(c, blob.fields | {"name": d}, blob.data, query)
                size = str(len(blob.data))
                return (
                    copy
                    if how == "copyTo"
                    else {
                        "kind": "storage#rewriteResponse",
                        "totalBytesRewritten": size,
                        "objectSize": size,
                        "done": True,
                        "resource": copy,
                    }
                )
            case "POST", ["b", bucket, "o", name, "compose"]:
                with shelf.lock:
                    wanted = [part["name"] for part in json.loads(body)["sourceObjects"]]
                    data = b"".join(shelf.get(bucket, part, {}).data for part in wanted)
                    return shelf.put(bucket, {"name": name}, data, query)
        raise RefusedError(404, f"{method} {'/'.join(path)}: not spoken here")

    def media(self, blob: Blob) -> None:
        headers = {
            "Content-Type": blob.fields.get("contentType", "application/octet-stream"),
            "X-Goog-Hash": f"crc32c={blob.crc32c},md5={blob.md5}",
            "X-Goog-Generation": str(blob.generation),
            "X-Goog-Stored-Content-Length": str(len(blob.data)),
            "ETag": blob.etag,
        }
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        size = len(blob.data)
        if wanted is None or not any(wanted.groups()):
            self.answer(200, blob.data, headers)
            return
        first = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        last = min(int(wanted[2]), size - 1) if wanted[1] and wanted[2] else size - 1
        if first >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.answer(206, blob.data[first : last + 1], headers)

    def upload(self, bucket: str, body: bytes) -> None:
        query = self.query
        match query:
            case {"upload_id": token}:
                self.go_on(token, body)
            case {"uploadType": "media"}:
                fields = {"contentType": self.headers.get("Content-Type", "")}
                self.answer_json(self.shelf.put(bucket, fields, body, query))
            case {"uploadType": "multipart"}:
                parts = split_multipart(body, self.headers.get("Content-Type", ""))
                (_, metadata), (head, data) = parts
                kind = re.search(r"(?im)^content-type:\s*(\S+)", head)
                fields = ({"contentType": kind[1]} if kind else {}) | json.loads(metadata)
                self.answer_json(self.shelf.put(bucket, fields, data, query))
            case {"uploadType": "resumable"}:
                self.shelf.bucket(bucket)
                fields = json.loads(body or b"{}")
                fields.setdefault("contentType", self.headers.get("X-Upload-Content-Type", ""))
                token = uuid.uuid4().hex
                self.shelf.uploads[token] = Upload(bucket, fields, query)
                where = f"http://{self.headers['Host']}/upload/storage/v1/b/{quote(bucket)}/o"
                where += f"?uploadType=resumable&upload_id={token}"
                self.answer(200, b"", {"Location": where, "X-GUploader-UploadID": token})
            case _:
                raise RefusedError(400, "uploadType is missing")

    def go_on(self, token: str, body: bytes) -> None:
        """The next bytes of a resumable upload, or the question how many have come."""
        under_way = self.shelf.uploads.get(token)
        if under_way is None:
            raise RefusedError(404, "no such upload")
        if self.command == "DELETE":
            del self.shelf.uploads[token]
            self.answer(499)
            return
        told = self.headers.get("Content-Range", "bytes */*")
        found = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", told)
        if found is None:
            raise RefusedError(400, f"Content-Range: {told}")
        data = under_way.data
        if "Content-Range" not in self.headers:
            data[:] = body
        elif found[1] is not None:
            start = int(found[1])
            if start > len(data):
                raise RefusedError(503, "bytes before these are missing")
            data[start:] = body
        total = found[3]
        if "Content-Range" not in self.headers or total == str(len(data)):
            document = self.shelf.put(
                under_way.bucket, dict(under_way.fields), bytes(data), under_way.conditions
            )
            self.answer_json(document)
        else:
            so_far = {"Range": f"bytes=0-{len(data) - 1}"} if data else {}
            self.answer(308, b"", so_far)

    def batch(self, body: bytes) -> None:
        """Calls in one request, each answered in a part of its own."""
        parts = []
        for number, (_, call) in enumerate(
            split_multipart(b"\n" + body.lstrip(), self.headers.get("Content-Type", ""))
        ):
            method, target = call.decode().split(" ")[:2]
            url = urlsplit(target)
            path = [unquote(part) for part in url.path.strip("/").split("/")][2:]
            try:
                found = self.call(method, path, dict(parse_qsl(url.query)), b"")
                status, text = (204, "") if found is None else (200, json.dumps(found))
            except RefusedError as refusal:
                status, text = refusal.code, json.dumps(refusal.document)
            parts.append(
                "--batch_answer\r\nContent-Type: application/http\r\n"
                f"Content-ID: <response-{number + 1}>\r\n\r\nHTTP/1.1 {status} Answer\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}\r\n"
            )
        answer = "".join(parts) + "--batch_answer--"
        self.answer(
            200, answer.encode(), {"Content-Type": "multipart/mixed; boundary=batch_answer"}
        )


class GcsServer(Loopback):
    """The emulator; its buckets are in `shelf`."""

    def __init__(self, page: int = 1000) -> None:
        self.shelf = Shelf(page)
        super().__init__(JsonApi)

    def make_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.shelf.make_bucket(name)
        return name


@contextmanager
def gcs_server(page: int = 1000) -> Iterator[GcsServer]:
    """A running emulator, ended afterwards."""
    with serving(GcsServer(page)) as server:
        yield server


if __name__ == "__main__":
    with gcs_server() as alone:
        sys.stdout.write(f"{alone.url}\n")
        sys.stdout.flush()
        sys.stdin.read()

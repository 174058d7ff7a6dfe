"""A bucket that speaks the protocol of Amazon S3 (the only importer of s3fs and botocore).

What is put there appears at once and whole, so no temporary names are needed; botocore sends a
checksum along, by which the server refuses what arrives damaged. Large files go in parts, and a
killed run's parts are used by the next. Keys, region and endpoint are what botocore finds.

s3fs works on an event loop. That runs in a thread of its own, as fsspec would have it, but ends
with the server: a signal that stops the run is then raised in the main thread, in our code, and
not inside the loop, which would lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import s3fs
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)

from encvault.errors import EncvaultError, RemoteFailed, RemoteRefused
from encvault.i18n import N_, _
from encvault.jobs.remote.server import PART_SIZE, Server, There

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

    from encvault.jobs.remote.server import Address, Cargo, Options

_Found = TypeVar("_Found")

_MAX_PARTS = 10_000
_TRIES = 3

# codes of the protocol after which nothing else will go well either, and what they mean
_FATAL = {
    "NoSuchBucket": N_("there is no such bucket"),
    "InvalidAccessKeyId": N_("the server refuses the access key"),
    "SignatureDoesNotMatch": N_("the server refuses the access key"),
    "InvalidToken": N_("the server refuses the access key"),
    "ExpiredToken": N_("the access key has expired"),
    "RequestTimeTooSkewed": N_("the clock of this machine is wrong"),
    "QuotaExceeded": N_("no space left there"),
    "XMinioStorageFull": N_("no space left there"),
    "507": N_("no space left there"),
}
_REFUSED = {
    "AccessDenied": N_("the access key has no permission for this"),
    "403": N_("the access key has no permission for this"),
    "KeyTooLongError": N_("File name too long"),
}
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (NoCredentialsError, N_("there is no access key: no AWS_ACCESS_KEY_ID, and none in ~/.aws")),
    (ProfileNotFound, N_("the profile in AWS_PROFILE is not in ~/.aws")),
    (EndpointConnectionError, N_("the server cannot be reached")),
    (ConnectTimeoutError, N_("no answer in time")),
    (ReadTimeoutError, N_("no answer in time")),
    (TimeoutError, N_("no answer in time")),
)
_NOT_THERE = {"NoSuchKey", "NoSuchUpload", "404"}


class S3Server(Server):
    """A bucket, or what is in it beneath a prefix."""

    def __init__(self, address: Address, options: Options) -> None:
        super().__init__(address)
        self._bucket = address.host
        self._prefix = f"{address.path.lstrip('/')}/" if address.path else ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s3", daemon=True)
        self._thread.start()
        try:
            self._file_system = s3fs.S3FileSystem(
                asynchronous=True,
                loop=self._loop,
                skip_instance_cache=True,
                use_listings_cache=False,
                config_kwargs={
                    "connect_timeout": options.connect_timeout,
                    "read_timeout": options.idle_timeout,
                    "retries": {"max_attempts": _TRIES, "mode": "standard"},
                },
            )
            self._file_system.retries = 1  # botocore does that
            self._run("", self._file_system.set_session())
            # says what is wrong with the bucket, the key or the way there
            self._call("", "list_objects_v2", Prefix=self._prefix, MaxKeys=1)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""

        async def end() -> None:
            if self._file_system._s3 is not None:  # noqa: SLF001 - it closes by itself only elsewhere
                await self._file_system._s3.close()  # noqa: SLF001 - as above
            own = asyncio.current_task()
            for task in asyncio.all_tasks() - {own}:
                task.cancel()
            await self._loop.shutdown_asyncgens()

        if self._loop.is_closed():
            return
        if hasattr(self, "_file_system"):
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, path: str, work: Coroutine[Any, Any, _Found]) -> _Found:
        """Wait for what the loop does, and have what goes wrong named."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except EncvaultError:
            raise
        except Exception as error:  # noqa: BLE001 - four libraries, each with errors of its own
            raise self._named(error, path) from None
        except BaseException:  # a signal
            future.cancel()
            raise

    def _call(self, path: str, method: str, **arguments: Any) -> Any:
        return self._run(
            path,
            self._file_system._call_s3(method, Bucket=self._bucket, **arguments),  # noqa: SLF001 - with a loop of one's own there is no other
        )

    def _named(self, error: Exception, path: str) -> EncvaultError:
        code = _code(error)
        if code in _FATAL:
            return self._failed(_(_FATAL[code]))
        if code is not None:
            known = _REFUSED.get(code)
            # its own words may have the access key in them
            reason = _(known) if known else _("the server says: {text}").format(text=code)
            if not path:
                return self._failed(reason)
            return RemoteRefused(place=self.show(path), reason=reason)
        if isinstance(error, UnicodeError):
            reason = _("the server takes no name that is not UTF-8")
            return RemoteRefused(place=self.show(path), reason=reason)
        return self._failed(_reason(error))

    def _failed(self, reason: str) -> RemoteFailed:
        return RemoteFailed(place=self.place, reason=reason)

    def files(self, prefix: str = "") -> Iterator[There]:
        """See `Server.files`."""
        more: dict[str, str] = {}
        while True:
            page = self._call("", "list_objects_v2", Prefix=self._prefix + prefix, **more)
            for entry in page.get("Contents", ()):
                path = entry["Key"][len(self._prefix) :]
                if path:
                    yield There(path, entry["Size"], entry["ETag"])
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def head(self, path: str, limit: int) -> bytes | None:
        """See `Server.head`."""

        async def read() -> bytes:
            found = b""
            async with contextlib.aclosing(self._blocks(path)) as blocks:
                async for block, _stamp in blocks:
                    found += block
                    if len(found) >= limit:
                        break
            return found[:limit]

        return self._if_there(path, read())

    def digest(self, path: str) -> tuple[bytes, str] | None:
        """See `Server.digest`."""

        async def read() -> tuple[bytes, str]:
            digest, stamp = hashlib.sha256(), ""
            async for block, stamp in self._blocks(path):  # noqa: B007 - each has the same
                digest.update(block)
            return digest.digest(), stamp

        return self._if_there(path, read())

    def _if_there(self, path: str, work: Coroutine[Any, Any, _Found]) -> _Found | None:
        async def unless_missing() -> _Found | None:
            try:
                return await work
            except Exception as error:
                if _code(error) in _NOT_THERE:
                    return None
                raise

        return self._run(path, unless_missing())

    async def _blocks(self, path: str) -> AsyncGenerator[tuple[bytes, str], None]:
        """The content with the stamp; at least one block, which may be empty."""
        answer = await self._file_system._call_s3(  # noqa: SLF001 - see above
            "get_object", Bucket=self._bucket, Key=self._prefix + path
        )
        async with answer["Body"] as body:
            yield b"", answer["ETag"]
            while block := await body.read(1 << 20):
                yield block, answer["ETag"]

    def put(self, cargo: Cargo, path: str, *, resume: bool, sent: Callable[[int], None]) -> str:
        """See `Server.put`."""
        for go_on in (True, False) if resume else (False,):
            if cargo.size <= PART_SIZE:
                body = cargo.part(0, cargo.size)
                self._call(path, "put_object", Key=self._prefix + path, Body=body)
                sent(cargo.size)
            else:
                self._put_parts(cargo, path, go_on=go_on, sent=sent)
            found = self.digest(path)
            if found is not None and found[0] == cargo.digest:
                return found[1]
        reason = _("what arrived there is not what was sent")
        raise RemoteRefused(place=self.show(path), reason=reason)

    def _put_parts(
        self, cargo: Cargo, path: str, *, go_on: bool, sent: Callable[[int], None]
    ) -> None:
        key = self._prefix + path
        size = max(PART_SIZE, -(-cargo.size // _MAX_PARTS))
        upload, parts = self._left(path, size) if go_on else (None, [])
        if upload is None:
            self._abort(path)
            upload = self._call(path, "create_multipart_upload", Key=key)["UploadId"]
        # a last part that is shorter is sent again: it may be of another size now
        offset = len(parts) * size
        while block := cargo.part(offset, size):
            number = len(parts) + 1
            answer = self._call(
                path, "upload_part", Key=key, UploadId=upload, PartNumber=number, Body=block
            )
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            offset += len(block)
            sent(len(block))
        self._call(
            path,
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )

    def _uploads(self, path: str) -> list[str]:
        """What was begun for a file and not completed, the latest last."""
        key = self._prefix + path
        page = self._call(path, "list_multipart_uploads", Prefix=key)
        found = [entry for entry in page.get("Uploads", ()) if entry["Key"] == key]
        return [entry["UploadId"] for entry in sorted(found, key=lambda entry: entry["Initiated"])]

    def _left(self, path: str, size: int) -> tuple[str | None, list[dict[str, Any]]]:
        """The upload that a killed run began, and its whole parts from the first on."""
        uploads = self._uploads(path)
        if not uploads:
            return None, []
        parts: list[dict[str, Any]] = []
        more: dict[str, int] = {}
        while True:
            page = self._call(
                path, "list_parts", Key=self._prefix + path, UploadId=uploads[-1], **more
            )
            for part in page.get("Parts", ()):
                if part["PartNumber"] != len(parts) + 1 or part["Size"] != size:
                    return uploads[-1], parts
                parts.append({"PartNumber": part["PartNumber"], "ETag": part["ETag"]})
            if not page.get("IsTruncated"):
                return uploads[-1], parts
            more = {"PartNumberMarker": page["NextPartNumberMarker"]}

    def _abort(self, path: str) -> None:
        """Drop what was begun: it would cost money for ever."""
        for upload in self._uploads(path):
            self._call(path, "abort_multipart_upload", Key=self._prefix + path, UploadId=upload)

    def make_folder(self, path: str) -> None:
        """See `Server.make_folder`; the mark is the one that others make as well."""
        self._call(path, "put_object", Key=self._prefix + path, Body=b"")

    def remove(self, path: str, *, was_sent: bool) -> None:
        """See `Server.remove`."""
        if not was_sent:
            self._abort(path)
        self._call(path, "delete_object", Key=self._prefix + path)


def _code(error: BaseException | None) -> str | None:
    """The protocol's code for an error that the server has told."""
    while error is not None:
        if isinstance(error, ClientError):
            return str(error.response.get("Error", {}).get("Code", "?"))
        error = error.__cause__
    return None


def _reason(error: Exception) -> str:
    """Why there was no answer."""
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return _(reason)
    if isinstance(error, BotoCoreError):
        return _("the connection failed: {name}").format(name=type(error).__name__)
    return _("the connection was lost")

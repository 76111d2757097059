"""Fetch published checkpoints into the cache: resume, verify, convert, enter in the index."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from upscale import __version__
from upscale.checkpoints.files import check_sha256, digest, looks_foreign
from upscale.checkpoints.index import Entry, cache_folder, read_index, update_index
from upscale.checkpoints.published import Official, require
from upscale.errors import CheckpointError, DownloadError, HashError, UsageError
from upscale.files import cannot_write, write_bytes

Progress = Callable[[int, int], None]
CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds without a byte
RETRY_SECONDS = 1.0  # before the second attempt, doubled before each further one
ATTEMPTS = 4  # connections that may break before giving up
BUSY = (429, 500, 502, 503, 504)  # statuses that may pass
HOPELESS = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
MAX_BYTES = 2 << 30  # where no size is published
SPARE = 3  # space needed on the disk: the download, its content, and the conversion


def pull(
    name: str | Official,
    *,
    url: str | None = None,
    offline: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Entry:
    """Bring a published checkpoint into the cache, as safetensors; at once when it is there.

    An interrupted download goes on where it stopped. Size and SHA-256 are checked where they are
    published, and the content must convert to the network that it is said to be.

    Args:
        name: Weights name or published file name, such as ``RealESRGAN_x4plus``.
        url: Another address of the same file (a mirror); the checks are the same.
        offline: Never touch the network.
        overwrite: Fetch it again although it is in the cache.
        progress: Called with bytes done and bytes in all (0 when unknown).

    Returns:
        The row of the cache's index.

    Raises:
        CheckpointError: Unknown name; the file is not the network it is said to be.
        DownloadError: Offline; no connection, an error page, another size, another SHA-256.
        HashError: What is in the cache is not what was put there.
        OutputError: The cache cannot be written.
    """
    wanted = name if isinstance(name, Official) else require(name)
    address = url or wanted.url
    if urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(f"{address} is no http(s) address; convert a local file instead")
    folder = cache_folder()
    cached = read_index(folder, "cached").get(wanted.name)
    if cached is not None and cached.path.is_file() and not overwrite:
        cached.verify()
        return cached
    if offline or os.environ.get("UPSCALE_OFFLINE", "0") not in ("", "0"):
        raise DownloadError(
            f"{wanted.name} is not in the cache ({folder}); run 'upscale weights pull "
            f"{wanted.name}' once without --offline"
        )
    downloads = folder / "downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(downloads, error) from error
    with _locked(downloads / f".{wanted.filename}.lock", wanted.name):
        file = fetch(replace(wanted, url=address), downloads, progress)
        entry = _install(wanted, file, folder, address)
        if not wanted.member:
            file.unlink(missing_ok=True)
    return entry


@contextlib.contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DownloadError(
            f"another process is fetching {name}; wait for it, then try again"
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _install(wanted: Official, file: Path, folder: Path, url: str) -> Entry:
    """Convert what was fetched and enter it in the index of the cache."""
    from upscale.checkpoints.checkpoint import Metadata
    from upscale.checkpoints.conversion import convert
    from upscale.checkpoints.layouts.form import Hints

    source, sha256 = file, digest(file)
    if wanted.member:
        source = _member(file, wanted.member)
    metadata = Metadata(
        title=wanted.title,
        author=wanted.author,
        license=wanted.license,
        data=wanted.data,
        source=wanted.url,
        usage_hint=wanted.note,
    )
    target = folder / f"{wanted.name}.safetensors"
    try:
        done = convert(
            source, target, hints=Hints(scale=wanted.scale), metadata=metadata, overwrite=True
        )
    finally:
        if source != file:
            source.unlink(missing_ok=True)
    found = done.checkpoint
    if (found.architecture, found.channels) != (wanted.architecture, wanted.channels):
        target.unlink(missing_ok=True)
        raise CheckpointError(
            f"{url} gave a network of {found.architecture} with {found.channels} channels, not "
            f"{wanted.architecture} with {wanted.channels}; report the address as wrong"
        )
    entry = Entry(
        name=wanted.name,
        file=target.name,
        sha256=done.saved.sha256,
        bytes=done.saved.bytes,
        architecture=found.architecture,
        scale=found.scale,
        family=wanted.family,
        role=wanted.role,
        title=wanted.title,
        license=wanted.license,
        parameters=found.parameters,
        data=wanted.data,
        source=url,
        source_sha256=sha256,
        path=target,
        origin="cached",
    )
    update_index(folder, entry)
    return entry


def _member(archive: Path, ending: str) -> Path:
    """Unpack the one file of a zip archive whose path ends so, beside it; returns where."""
    try:
        with zipfile.ZipFile(archive) as packed:
            paths = [i for i in packed.infolist() if i.filename.replace("\\", "/").endswith(ending)]
            if len(paths) != 1 or paths[0].file_size > MAX_BYTES:
                raise CheckpointError(
                    f"{archive.name} holds {len(paths)} files that end in {ending}, not one; "
                    f"delete it and pull again"
                )
            content = packed.read(paths[0])
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{archive}: a damaged zip archive ({error}); delete it and pull again"
        ) from error
    target = archive.with_name(f".{archive.stem}-{ending.replace('/', '-')}")
    write_bytes(target, [content], overwrite=True)
    return target


def fetch(wanted: Official, folder: Path, progress: Progress | None = None) -> Path:
    """Download to ``folder``, going on from an interrupted download, and verify; returns the file.

    Raises:
        DownloadError: No connection, an error page, another size or SHA-256; then what came is
            deleted.
    """
    target = folder / wanted.filename
    if target.is_file() and wanted.expected and digest(target).startswith(wanted.expected):
        return target  # an archive that served another checkpoint before
    part = folder / f"{wanted.filename}.part"
    resumed = part.exists()
    try:
        try:
            _attempt(wanted, part, progress)
        except DownloadError:
            if not resumed or part.exists():
                raise
            _attempt(wanted, part, progress)  # the first half may have been another file's
        part.replace(target)
        _validator(part).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(part, error) from error
    return target


def _attempt(wanted: Official, part: Path, progress: Progress | None) -> None:
    _transfer(wanted, part, progress)
    try:
        _verify(wanted, part)
    except DownloadError:
        part.unlink(missing_ok=True)
        _validator(part).unlink(missing_ok=True)
        raise


def _verify(wanted: Official, part: Path) -> None:
    size = part.stat().st_size
    with part.open("rb") as file:
        first = file.read(16)
    if size > MAX_BYTES:
        raise DownloadError(f"{wanted.url} gives more than {MAX_BYTES:,} bytes; check the address")
    if looks_foreign(first) in ("a web page", "a Git LFS pointer"):
        raise DownloadError(
            f"{wanted.url} gave {looks_foreign(first)} in place of the file; "
            f"open the address in a browser to see why"
        )
    if wanted.bytes and size != wanted.bytes:
        raise DownloadError(
            f"{wanted.url} gave {size:,} bytes, published are {wanted.bytes:,}; "
            f"the file was changed, or the address is wrong"
        )
    if wanted.expected:
        remedy = "the download was deleted; pull it again"
        try:
            check_sha256(part, digest(part), wanted.expected, remedy)
        except HashError as error:
            raise DownloadError(str(error)) from error


def _transfer(wanted: Official, part: Path, progress: Progress | None) -> None:
    """Bring ``part`` to its end, over several connections if they break."""
    broken: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        try:
            _connection(wanted, part, progress)
            return
        except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
            broken = error
        except urllib.error.HTTPError as error:
            error.close()
            broken = error
            if error.code == 416:  # more bytes are here than there: start again
                part.unlink(missing_ok=True)
            elif error.code not in BUSY:
                raise DownloadError(
                    f"{wanted.url} answers {error.code} {error.reason}; "
                    f"it may have moved: give its new address with --url"
                ) from error
        except urllib.error.URLError as error:
            broken = error
            if isinstance(error.reason, HOPELESS):
                break
    reason = getattr(broken, "reason", None) or str(broken) or type(broken).__name__
    raise DownloadError(
        f"{wanted.url} cannot be fetched ({reason}); check the connection, then pull again: "
        f"it goes on where it stopped"
    ) from broken


def _connection(wanted: Official, part: Path, progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(wanted.url, headers=_headers(part, have))
    with _opener().open(request, timeout=TIMEOUT) as answer:
        if answer.status != 206 or not _continues(answer, have):
            have = 0
        length = int(answer.headers.get("Content-Length") or 0)
        total = have + length if length else wanted.bytes
        _check_size(wanted, part, total, have)
        _remember(part, answer)
        with part.open("ab" if have else "wb") as file:
            _copy(answer, file, have, total, progress)
            file.flush()
            os.fsync(file.fileno())


def _copy(
    answer: IO[bytes], file: IO[bytes], done: int, total: int, progress: Progress | None
) -> None:
    """Copy the answer to the file, which holds ``done`` bytes of ``total`` (0: unknown)."""
    while done <= (total or MAX_BYTES) and (chunk := answer.read(CHUNK)):
        file.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total)
    if total and done < total:
        raise ConnectionError(f"the connection broke after {done:,} of {total:,} bytes")


def _check_size(wanted: Official, part: Path, total: int, have: int) -> None:
    if wanted.bytes and total and total != wanted.bytes:
        raise DownloadError(
            f"{wanted.url} offers {total:,} bytes, published are {wanted.bytes:,}; "
            f"the file was changed, or the address is wrong"
        )
    free = shutil.disk_usage(part.parent).free
    if free < SPARE * total - have:
        raise DownloadError(
            f"{part.parent}: {free:,} bytes free, {SPARE * total - have:,} needed; "
            f"free some space, or set UPSCALE_CACHE"
        )


def _headers(part: Path, have: int) -> dict[str, str]:
    headers = {"User-Agent": f"upscale/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        with contextlib.suppress(OSError, ValueError):
            headers["If-Range"] = json.loads(_validator(part).read_text("utf-8"))
    return headers


def _continues(answer: Any, have: int) -> bool:
    """Whether a partial answer begins where the file ends."""
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _validator(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _remember(part: Path, answer: Any) -> None:
    """Note which version of the file this is, so that a resumed download is of the same."""
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    if tag and not tag.startswith("W/"):
        _validator(part).write_text(json.dumps(tag), "utf-8")
    else:
        _validator(part).unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise DownloadError(
                f"{req.full_url} redirects to {newurl}, which is not https; refused"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener

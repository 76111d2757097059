"""Fetch published checkpoints into the cache: verify, convert, enter in the index."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from filelock import FileLock, Timeout

from upscale import __version__
from upscale.checkpoints.files import foreign_format
from upscale.checkpoints.index import (
    WeightsFile,
    cache_folder,
    check_sha256,
    digest,
    read_bytes,
    read_index,
    require,
    update_index,
)
from upscale.errors import CheckpointError, DownloadError, HashError, UsageError
from upscale.files import cannot_write, publish, temporary, write_bytes

if TYPE_CHECKING:
    from requests import Response

TIMEOUT = 30.0  # seconds without a byte
RETRY_SECONDS = 1.0  # before the second attempt, doubled before each further one
ATTEMPTS = 4  # connections that may break before giving up
BUSY = (429, 500, 502, 503, 504)  # statuses that may pass
MAX_BYTES = 2 << 30  # where no size is published
SPARE = 3  # space needed on the disk: the download, its content, and the conversion


def pull(
    name: str | WeightsFile,
    *,
    url: str | None = None,
    offline: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> WeightsFile:
    """Bring a published checkpoint into the cache, as safetensors; at once when it is there.

    Size and SHA-256 are checked where they are published, and the content must convert to the
    network that it is said to be. The row of the cache's index is returned.

    Args:
        name: Weights name or published file name, such as ``RealESRGAN_x4plus``.
        url: Another address of the same file (a mirror).
        offline: Never touch the network.
        overwrite: Fetch it again although it is in the cache.
        progress: Draw a bar on stderr.

    Raises:
        CheckpointError: Unknown name; the file is not the network it is said to be.
        DownloadError: Offline; no connection, an error page, another size, another SHA-256.
        HashError: What is in the cache is not what was put there.
        OutputError: The cache cannot be written.
    """
    published = name if isinstance(name, WeightsFile) else require(name)
    published = replace(published, source=url or published.source)
    if urlsplit(published.source).scheme not in ("http", "https"):
        raise UsageError(f"{published.source} is no http(s) address; convert a local file instead")
    folder = cache_folder()
    cached = read_index(folder, "cached").get(published.name)
    if cached and cached.path.is_file() and not overwrite:
        cached.verify()
        return cached
    if offline or os.environ.get("UPSCALE_OFFLINE", "0") not in ("", "0"):
        raise DownloadError(
            f"{published.name} is not in the cache ({folder}); run 'upscale weights pull "
            f"{published.name}' once without --offline"
        )
    downloads = folder / "downloads"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(downloads / f".{published.file}.lock", timeout=0):
            file = fetch(published, downloads, progress=progress)
            entry = _install(published, file, folder)
            if not published.member:  # an archive is kept for the others in it
                file.unlink(missing_ok=True)
            return entry
    except Timeout as error:
        raise DownloadError(
            f"another process is fetching {published.name}; wait for it, then try again"
        ) from error
    except OSError as error:
        raise cannot_write(downloads, error) from error


def fetch(published: WeightsFile, folder: Path, *, progress: bool = False) -> Path:
    """Download to ``folder`` and verify; returns the file."""
    target = folder / published.file
    recorded = published.sha256 or published.sha256_prefix
    if target.is_file() and recorded and digest(target).startswith(recorded):
        return target  # an archive that served another checkpoint before
    with temporary(target) as name:
        _transfer(published, name, progress)
        _verify(published, Path(name))
        publish(name, target, replace=True)
    return target


def _transfer(published: WeightsFile, name: str, progress: bool) -> None:
    """Write what the address gives to a file, over several connections if they break."""
    import pooch
    import requests

    download = pooch.HTTPDownloader(
        progressbar=progress,
        headers={"User-Agent": f"upscale/{__version__}", "Accept-Encoding": "identity"},
        timeout=TIMEOUT,
        hooks={"response": partial(_check, published, Path(name).parent)},
    )
    broken: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        try:
            download(published.source, name, None)
            return
        except requests.RequestException as error:
            broken = error
    raise DownloadError(
        f"{published.source} cannot be fetched ({_reason(broken)}); check the connection, then "
        f"pull again"
    ) from broken


def _reason(error: BaseException | None) -> str:
    """The innermost cause of a failed connection, on one line."""
    while error is not None and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__
    return str(error).partition("\n")[0][:160] or type(error).__name__


def _check(published: WeightsFile, folder: Path, response: Response, **_: Any) -> None:
    """Refuse an answer, before its content is read, that cannot be the file."""
    address = response.url
    if response.is_redirect:
        target = urljoin(address, response.headers["Location"])
        if urlsplit(address).scheme == "https" and urlsplit(target).scheme != "https":
            raise DownloadError(f"{address} redirects to {target}, which is not https; refused")
        return
    if not response.ok and response.status_code not in BUSY:
        raise DownloadError(
            f"{published.source} answers {response.status_code} {response.reason}; "
            f"it may have moved: give its new address with --url"
        )
    offered = int(response.headers.get("Content-Length") or 0)
    if not response.ok or not offered:
        return
    if offered > MAX_BYTES or published.bytes not in (0, offered):
        raise DownloadError(
            f"{address} offers {offered:,} bytes, published are "
            f"{published.bytes or MAX_BYTES:,}; the file was changed, or the address is wrong"
        )
    free = shutil.disk_usage(folder).free
    if free < SPARE * offered:
        raise DownloadError(
            f"{folder}: {free:,} bytes free, {SPARE * offered:,} needed; "
            f"free some space, or set UPSCALE_CACHE"
        )


def _verify(published: WeightsFile, path: Path) -> None:
    """Compare what came with what is published of it."""
    size, what = path.stat().st_size, foreign_format(read_bytes(path, 16))
    if what in ("a web page", "a Git LFS pointer"):
        raise DownloadError(
            f"{published.source} gave {what} in place of the file; "
            f"open the address in a browser to see why"
        )
    if published.bytes not in (0, size):
        raise DownloadError(
            f"{published.source} gave {size:,} bytes, published are {published.bytes:,}; "
            f"the file was changed, or the address is wrong"
        )
    if recorded := published.sha256 or published.sha256_prefix:
        try:
            remedy = "the download was deleted; pull it again"
            check_sha256(path.with_name(published.file), digest(path), recorded, remedy)
        except HashError as error:
            raise DownloadError(str(error)) from error


def _install(published: WeightsFile, file: Path, folder: Path) -> WeightsFile:
    """Convert what was fetched and enter it in the index of the cache."""
    from upscale.checkpoints.checkpoint import CheckpointInfo, Hints
    from upscale.checkpoints.saving import convert

    metadata = CheckpointInfo(
        title=published.title,
        author=published.author,
        license=published.license,
        data=published.data,
        source=published.source,
        usage_hint=published.note,
    )
    target = folder / f"{published.name}.safetensors"
    source = _member(file, published.member) if published.member else file
    try:
        done = convert(
            source, target, hints=Hints(published.scale), metadata=metadata, overwrite=True
        )
    finally:
        if source != file:
            source.unlink(missing_ok=True)
    network = done.checkpoint
    if (network.architecture, network.channels) != (published.architecture, published.channels):
        target.unlink(missing_ok=True)
        raise CheckpointError(
            f"{published.source} gave a network of {network.architecture} with {network.channels} "
            f"channels, not {published.architecture} with {published.channels}; report the address "
            f"as wrong"
        )
    entry = replace(
        published,
        file=target.name,
        sha256=done.saved.sha256,
        bytes=done.saved.bytes,
        scale=network.scale,
        parameters=network.parameters,
        source_sha256=digest(file),
    )
    update_index(folder, entry)
    return read_index(folder, "cached")[entry.name]


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

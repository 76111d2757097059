"""An empty cache, and a local HTTP server that can misbehave."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """The networks here are tiny: a second thread would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; returns the folder of its weights."""
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("UPSCALE_OFFLINE", raising=False)
    return tmp_path / "cache" / "weights"


@dataclass
class Site:
    """What the server gives and how; what it was asked for."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    cut_after: int | None = None  # bytes of body, once, then the connection closes
    statuses: list[int] = field(default_factory=list)  # answered first, one for each request
    length: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        name = self.path.lstrip("/")
        site.requests.append((name, asked))
        if site.statuses:
            self.send_error(site.statuses.pop(0))
            return
        if name in site.redirects:
            self.send_response(302)
            self.send_header("Location", site.redirects[name])
            self.end_headers()
            return
        if name not in site.files:
            self.send_error(404)
            return
        self._send(site.files[name], asked)

    def _send(self, body: bytes, asked: str | None) -> None:
        site, start = self.site, 0
        same = self.headers.get("If-Range") in (None, site.etag)
        if asked and site.ranges and same:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", site.etag)
        if site.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        rest = body[start:]
        if site.cut_after is not None:
            rest, site.cut_after = rest[: site.cut_after], None
        self.wfile.write(rest)
        self.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    """A server on this machine; nothing else is reached."""
    shared = Site()
    handler = type("Handler", (_Handler,), {"site": shared})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        shared.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield shared
        server.shutdown()
        thread.join()

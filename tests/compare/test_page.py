"""The page: nothing from outside, nothing unescaped, and a slider that keys move."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compare.rows_at_hand import rows
from upscale.compare import html_page
from upscale.errors import UsageError
from upscale.image import decode

EVIL = "a\"><script>document.title='x'</script><i>&amp;'é你$title.png"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --window-size=1000,900"
)


class Reader(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_names_are_escaped() -> None:
    page = Reader(html_page(rows((20, 24), name=EVIL), title=EVIL))
    assert len(page.all("script")) == 1
    assert page.all("i") == []
    assert [text for text in page.text if EVIL in text] == [EVIL, EVIL, f"{EVIL} "]


def test_pictures_stand_in_the_page_and_nothing_is_loaded() -> None:
    shown = rows((20, 24), (16, 16))
    page = Reader(html_page(shown))
    panels = [panel for row in shown for panel in row.panels]
    for panel, image in zip(panels, page.all("img"), strict=True):
        source = image["src"] or ""
        assert source.startswith("data:image/png;base64,")
        pixels = decode(base64.b64decode(source.partition(",")[2])).pixels
        np.testing.assert_array_equal(pixels, panel.pixels)
        assert image["alt"] == panel.label
    outside = [(t, a) for t, a in page.tags if "href" in a or ("src" in a and t != "img")]
    assert outside == []
    assert not re.search(r"url\(|@import|https?:|\bstyle=", html_page(rows((20, 24))))


def test_policy_allows_the_own_style_and_script_alone() -> None:
    page = html_page(rows((20, 24)))
    policy = next(a["content"] or "" for a in Reader(page).all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        content = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_form_fields_have_names() -> None:
    page = Reader(html_page(rows((20, 24))))
    assert [a["aria-label"] for a in page.all("input")] == ["Divider"]
    assert len(page.all("label")) == len(page.all("select")) == 3


def test_nothing_to_show() -> None:
    with pytest.raises(UsageError, match="nothing to show"):
        html_page([])


# --- in a browser ---------------------------------------------------------------------------------


class Browser:
    """A few words of the WebDriver protocol."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/session"
        options = {"args": FLAGS.split()}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._base += "/" + self._call("", {"capabilities": wanted})["sessionId"]

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path) -> None:
        self._call("/url", {"url": path.as_uri()})

    def run(self, script: str) -> Any:
        return self._call("/execute/sync", {"script": f"return {script}", "args": []})

    def press(self, selector: str, keys: str) -> None:
        found = self._call("/element", {"using": "css selector", "value": selector})
        self._call(f"/element/{next(iter(found.values()))}/value", {"text": keys})

    def picture(self, selector: str) -> np.ndarray:
        found = self._call("/element", {"using": "css selector", "value": selector})
        shot = self._call(f"/element/{next(iter(found.values()))}/screenshot", None)
        return decode(base64.b64decode(shot)).pixels[..., :3]

    def close(self) -> None:
        request = urllib.request.Request(self._base, method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None or not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium-driver)")
    log = tmp_path_factory.mktemp("driver") / "log"
    with log.open("w") as stream:
        process = subprocess.Popen([driver, "--port=0"], stdout=stream, stderr=stream)
    try:
        session = Browser(_port(process, log))
        yield session
        session.close()
    finally:
        process.terminate()
        process.wait(30)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    for _ in range(300):
        found = re.search(r"successfully on port (\d+)", log.read_text())
        if found:
            return int(found[1])
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Browser:
    """A page with two subjects: panels of one colour each, gray 0, 100, 200."""
    shown = rows((100, 200), (60, 60), name=EVIL)
    for row in shown:
        for k, panel in enumerate(row.panels):
            panel.pixels[:] = 100 * k
    path = tmp_path / "page.html"
    path.write_text(html_page(shown, title=EVIL), "utf-8")
    browser.open(path)
    return browser


def boundary(browser: Browser) -> tuple[float, int, int]:
    """Share of the left panel in the middle of the first stage, and the two levels."""
    picture = browser.picture(".stage")
    line = picture[int(0.8 * len(picture)), :, 0].astype(int)
    left, right = line[3], line[-4]
    return float((line == left).mean()), int(left), int(right)


def test_keys_move_the_divider(opened: Browser) -> None:
    share, left, right = boundary(opened)
    assert (left, right) == (0, 200)
    assert share == pytest.approx(0.5, abs=0.02)
    opened.press(".divider", "\ue012" * 20)  # Left, 20 times
    assert opened.run("document.querySelector('.divider').value") == "30"
    assert boundary(opened)[0] == pytest.approx(0.3, abs=0.02)
    said = opened.run("document.querySelector('.divider').getAttribute('aria-valuetext')")
    assert said == "30 percent panel 0, the rest panel 2"
    opened.press(".divider", "\ue010")  # End
    assert opened.run("document.querySelector('.divider').value") == "100"
    assert opened.run("document.querySelectorAll('.divider')[1].value") == "50"


def test_sides_can_be_chosen_and_swapped(opened: Browser) -> None:
    opened.press(".choose-left", "panel 1")
    assert boundary(opened)[1:] == (100, 200)
    opened.press(".swap", "\ue00d")  # Space
    assert boundary(opened)[1:] == (200, 100)
    assert opened.run("document.querySelector('.tag.left').textContent") == "panel 2"


def test_zoom_sets_the_size(opened: Browser) -> None:
    width = "document.querySelector('.stage').getBoundingClientRect().width"
    opened.press(".choose-zoom", "2")
    assert opened.run(width) == 400
    opened.press(".choose-zoom", "\ue013")  # Up: 1:1
    assert opened.run(width) == 200
    assert opened.run("document.querySelector('.stage').getBoundingClientRect().height") == 100


def test_every_control_is_reached_by_tab(opened: Browser) -> None:
    opened.run("document.activeElement.blur()")
    reached = []
    for _ in range(5):
        opened.press("body" if not reached else ":focus", "\ue004")
        reached.append(opened.run("document.activeElement.className"))
    assert reached == ["choose-left", "choose-right", "choose-zoom", "swap", "divider"]


def test_nothing_was_fetched_and_no_name_ran(opened: Browser) -> None:
    fetched = opened.run(
        "performance.getEntriesByType('resource').map((e) => e.name)"
        ".filter((name) => !name.startsWith('data:'))"
    )
    assert fetched == []
    assert opened.run("document.title") == EVIL
    assert opened.run("document.querySelectorAll('i').length") == 0

"""The web service of ``docs/python.md``, where FastAPI is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import png
from upscale.image import probe

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_the_service_of_the_docs(duo: str) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    testing = pytest.importorskip("fastapi.testclient", reason="httpx is not installed")
    (text,) = re.findall(r"^```python service\.py\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(text.splitlines()) <= 20
    names: dict[str, object] = {}
    exec(compile(text.replace('load("esrgan"', f'load("{duo}"'), "service.py", "exec"), names)
    client = testing.TestClient(names["app"])
    done = client.post("/enlarge?scale=1.5", content=png(20, 30))
    assert done.status_code == 200
    assert done.headers["content-type"] == "image/png"
    assert (probe(done.content).width, probe(done.content).height) == (45, 30)
    for path, data in (("/enlarge", b"no picture"), ("/enlarge?scale=1000", png(4, 4))):
        refused = client.post(path, content=data)
        assert refused.status_code == 400
        assert refused.json()["detail"]
    assert client.post("/enlarge?scale=big", content=png(4, 4)).status_code == 422

"""What ``import upscale`` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import upscale


def test_the_names_are_these() -> None:
    assert sorted(upscale.__all__) == [
        "Image",
        "Metadata",
        "Result",
        "UpscaleError",
        "Upscaler",
        "UsageError",
        "__version__",
        "batch",
        "decode",
        "encode",
        "errors",
        "load",
    ]
    assert len(upscale.__all__) <= 12
    assert dir(upscale) == sorted(upscale.__all__)


@pytest.mark.parametrize("name", upscale.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(upscale, name)
    assert name == "__version__" or found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'enlarge'"):
        upscale.enlarge  # noqa: B018 - the access is the test


def test_all_errors_are_in_one_tree() -> None:
    kinds = [e for e in vars(upscale.errors).values() if isinstance(e, type)]
    assert len(kinds) >= 10
    assert all(issubclass(kind, upscale.UpscaleError) for kind in kinds)
    assert {kind.exit_code for kind in kinds} <= {1, 2}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, upscale; upscale.errors, upscale.__version__;"
        "print([m for m in ('torch', 'numpy', 'cv2', 'PIL', 'rich', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_imported_on_first_use_by_star_and_by_name() -> None:
    code = "from upscale import Image, load; from upscale import *; print(Upscaler.image.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "image"


def test_the_examples_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import png

    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    (tmp_path / "photo.png").write_bytes(png(20, 24))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    made = {"photo-x4.png", "small.webp", "photo-by-rows.tif"}
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "out"} | made

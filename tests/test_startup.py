"""Commands import what they use and no more, and start-up does no work twice."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw
from upscale.batch import preflight
from upscale.cli.commands import quick_imports
from upscale.image import Image, encode, vips
from upscale.upscaler import job

TRACE = Path(__file__).parent / "tools" / "trace.py"
LOADED, RUN, FUNCTIONS = 66, 57, 460  # of one small picture by -m srcnn, at most
NETWORKS = {"torch", "safetensors", "upscale.models", "upscale.inference", "upscale.upscaler"}
PICTURES = {"numpy", "pyvips", "PIL", "cv2", "upscale.image"}
# What a run on local files with the weights that are here has no use for.
UNUSED = {
    *("torch._dynamo", "torch._inductor", "torch.onnx", "sympy", "onnx", "ray", "scipy"),
    *("cv2", "PIL", "rich", "filelock", "fsspec", "matplotlib", "spandrel"),
    *("upscale.evaluate", "upscale.compare", "upscale.training", "upscale.benchmark"),
    *("upscale.batch.cluster", "upscale.batch.preflight", "upscale.upscaler.uncertainty"),
    *("upscale.checkpoints.conversion", "upscale.checkpoints.download"),
    *("upscale.checkpoints.layouts", "upscale.checkpoints.saving"),
}


def small(folder: Path) -> Path:
    """A clean picture of 24 x 24 pixels."""
    path = folder / "small.png"
    path.write_bytes(encode(Image(draw(24, 24, channels=3)), "png"))
    return path


def modules_after(*arguments: object) -> set[str]:
    """The modules that a command has imported at its end."""
    code = (
        "import sys\nfrom upscale.cli import main\n"
        f"try: main({[str(argument) for argument in arguments]!r})\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "print('\\nMODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\nMODULES ")[1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models"], ["weights", "list"]])
def test_lists_need_no_network_and_no_picture(arguments: list[str]) -> None:
    unused = NETWORKS | PICTURES | {"filelock", "fsspec"}
    assert not modules_after(*arguments) & unused


def test_a_description_needs_no_network(tmp_path: Path) -> None:
    assert not modules_after("info", small(tmp_path)) & {*NETWORKS, "cv2"}


def test_the_main_job_imports_what_it_uses(tmp_path: Path) -> None:
    found = modules_after(small(tmp_path), "-o", tmp_path / "big.png")
    assert {"torch", "pyvips", "upscale.models", "upscale.inference.runner"} <= found
    assert not found & UNUSED


def test_the_path_of_a_small_picture_is_short(tmp_path: Path) -> None:
    arguments = [str(small(tmp_path)), "-o", str(tmp_path / "big.png"), "-m", "srcnn"]
    command = [sys.executable, str(TRACE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = re.search(r"status 0: (\d+) modules load, (\d+) run, (\d+) functions", done.stdout)
    assert counts, done.stdout
    loaded, run, functions = (int(count) for count in counts.groups())
    assert 20 < run <= RUN < loaded <= LOADED
    assert 100 < functions <= FUNCTIONS


def test_garbage_is_collected_again() -> None:
    def fail() -> None:
        with quick_imports():
            assert not gc.isenabled()
            raise KeyError

    before = gc.get_freeze_count()
    with pytest.raises(KeyError):
        fail()
    assert gc.isenabled()
    assert ("torch" in sys.modules, gc.get_freeze_count()) == (True, before)  # not frozen again


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_after_start_up_garbage_is_collected(more: list[str], tmp_path: Path) -> None:
    arguments = [str(small(tmp_path)), "-o", str(tmp_path / "big.png"), "--quiet", *more]
    code = (
        "import gc\nfrom upscale.cli import status\n"
        f"assert status({arguments!r}) == 0\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_a_wrong_number_is_wrong_usage(cli: Any, picture: Path) -> None:
    done = cli(picture, "--width", "wide")
    assert done.code == 2
    assert "--width" in done.err


class Slow:
    """A model that notes what it is given."""

    def __init__(self) -> None:
        self.sides: list[int] = []

    def native(self) -> Slow:
        return self

    channels = 1

    def tensor(self, lr: Any) -> None:
        self.sides.append(lr.shape[-1])


@pytest.mark.parametrize(
    ("pixels", "sides"),
    [(0, []), (1, [1]), (24 * 24, [24]), (96 * 96 + 1, [96]), (10**6, [96, 96])],
)
def test_looking_takes_no_longer_than_doing(pixels: int, sides: list[int]) -> None:
    model = Slow()
    assert preflight._seconds(pixels, model) >= 0  # type: ignore[arg-type]
    assert model.sides == sides


def test_a_dry_run_says_what_the_run_does(cli: Any, tmp_path: Path) -> None:
    path = small(tmp_path)
    done = cli(path, "--dry-run", "--json", "-o", tmp_path / "big.png")
    (line,) = map(json.loads, done.out.splitlines())
    assert (line["out_width"], line["action"]) == (96, "do")


def test_a_picture_is_decoded_once(
    cli: Any, tiny: str, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(module: Any, name: str) -> None:
        called = getattr(module, name)

        def call(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            return called(*arguments, **more)

        monkeypatch.setattr(module, name, call)

    counted(vips, "rows")
    counted(job, "probe")
    assert cli(picture, "-m", tiny, "-o", picture.with_name("big.png")).code == 0
    assert calls == ["rows", "probe"]  # decoded; then its header is looked at

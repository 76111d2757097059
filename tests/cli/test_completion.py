"""What a shell offers at the press of the key, by the protocols of bash and zsh."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "cv2", "numpy", "PIL", "safetensors"}
COUNTED = (
    "import sys; from upscale.cli import status; status([]); print(*sys.modules, file=sys.stderr)"
)
ROOT = Path(__file__).parents[2]


def asked(cache: Path, shell: str, *words: str) -> str:
    """What the command answers; the last word is the one that is being written."""
    line = " ".join(["upscale", *words])
    by_shell = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words))},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
    }
    environment = os.environ | by_shell[shell]
    environment |= {"UPSCALE_CACHE": str(cache), "_UPSCALE_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], env=environment, capture_output=True, text=True, check=True
    )
    assert HEAVY.isdisjoint(done.stderr.split()), "a shell waits for the answer"
    return done.stdout


def offered(cache: Path, *words: str) -> list[str]:
    return asked(cache, "bash", *words).split()


def test_commands_and_options(tmp_path: Path) -> None:
    assert offered(tmp_path, "w") == ["weights"]
    assert "--files-from" in offered(tmp_path, "--")
    assert offered(tmp_path, "a.png", "--files") == ["--files-from"]
    assert offered(tmp_path, "--fit", "") == ["distort", "contain", "cover"]
    assert offered(tmp_path, "weights", "ex") == ["export"]


@pytest.mark.parametrize("before", [(), ("a.png",), ("evaluate",), ("compare",), ("bench",)])
def test_models_and_weights_of_this_machine(tiny_cache: Path, before: tuple[str, ...]) -> None:
    assert offered(tiny_cache, *before, "-m", "duo") == ["duo", "duo-psnr-x2", "duo-gan-x2"]
    assert offered(tiny_cache, *before, "--model", "bic") == ["bicubic"]
    known = offered(tiny_cache, *before, "-m", "")
    assert {"esrgan", "swinir", "srcnn", "vae", "swinir-light-x2", "tiny-x2"} <= set(known)
    assert len(known) == len(set(known))


def test_a_chain_goes_on_behind_its_comma(tiny_cache: Path) -> None:
    assert offered(tiny_cache, "-m", "tiny,tiny-") == ["tiny,tiny-x2"]


def test_a_path_is_left_to_the_shell(tiny_cache: Path) -> None:
    for words in (("-m", "./"), ("photo",), ("weights", "info", "./")):
        assert offered(tiny_cache, *words) == []
        assert asked(tiny_cache, "zsh", *words) == "_files\n"


def test_weights_commands(tiny_cache: Path) -> None:
    for command in ("info", "verify", "blend", "export"):
        assert offered(tiny_cache, "weights", command, "tiny") == ["tiny", "tiny-x2"]
    assert "swinir-m-df2k-x4" in offered(tiny_cache, "weights", "pull", "swinir-m-")
    assert offered(tiny_cache, "weights", "pull", "tiny") == []


def test_recipes(tmp_path: Path) -> None:
    from upscale.training.recipes import RECIPES

    assert offered(tmp_path, "train", "") == list(RECIPES)
    assert offered(tmp_path, "train", "srcnn-p") == ["srcnn-paper-x3"]


def test_zsh_shows_what_a_name_means(tmp_path: Path) -> None:
    text = asked(tmp_path, "zsh", "-m", "swinir-light-x")
    assert text.startswith("_arguments '*: :((")
    assert '"swinir-light-x4":"SwinIR light x4"' in text


def test_a_damaged_index_offers_the_rest(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "index.toml").write_text("no toml")
    assert offered(tmp_path, "-m", "bic") == ["bicubic"]
    assert offered(tmp_path, "weights", "info", "") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_itself(tiny_cache: Path, tmp_path: Path) -> None:
    """The script that the documentation names, in the shell that it is for."""
    name = tmp_path / "upscale"
    name.write_text(f'#!/bin/sh\nexec {sys.executable} -m upscale "$@"\n')
    name.chmod(0o755)
    script = f"""
        eval "$(_UPSCALE_COMPLETE=source_bash {name})"
        COMP_WORDS=({name} a.png -m tiny) COMP_CWORD=3
        _upscale_completion {name}
        printf '%s\\n' "${{COMPREPLY[@]}}"
        complete -p upscale
    """
    environment = os.environ | {"UPSCALE_CACHE": str(tiny_cache)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "tiny",
        "tiny-x2",
        "complete -o default -F _upscale_completion upscale",
    ]

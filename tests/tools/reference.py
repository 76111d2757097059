"""The reference of the command line as Markdown, made from the commands themselves.

``python -m tests.tools.reference > docs/cli.md`` writes it; a test checks that it is current.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from upscale.cli.commands import COMMANDS, Commands

HEAD = """# The command line

Made from `upscale --help` by `python -m tests.tools.reference`; do not edit.

## Ten recipes

```sh
upscale photo.jpg                                        # four times as large, beside it
upscale photo.jpg -s 2 -o large.webp --quality 90        # twice, as WebP
upscale scan.png --alpha 0 --denoise 0                   # faithful: no texture is invented
upscale noisy.jpg -m swinir-denoise,esrgan               # clean first, then enlarge
upscale photos/ -r -o large/                             # a tree, mirrored; run again, it resumes
upscale 'in/*.png' -o 'out/{stem}_{model}.{ext}' -f webp # names by a template
upscale photos/ -r -o web/ --max-side 2048 --only-enlarge -f jpg
upscale texture.png --seamless                           # a texture that tiles, tiles again
upscale scan.png -m vae --samples 8 --uncertainty map.png
find . -name '*.png' -print0 | upscale --files-from - -0 -o out/ --json | jq -r .output
```

## Exit status and streams

0 all done; 1 at least one picture failed (the rest are done, the failures are listed); 2 wrong
usage, nothing was started; 130 and 143 interrupted by Ctrl-C and SIGTERM, after which nothing
half-done is left (a second signal stops at once); 141 the reader of stdout went away. stdout
carries data alone; everything else goes to stderr.

## JSON

`--json` and `--report FILE` give one object for each picture: `input, output, status
(ok|skipped|failed), error, model, weights (names and SHA-256), alpha, denoise, scale, device,
dtype, tile, retries, width, height, out_width, out_height, seconds, network_seconds, losses`
(what of the input the output does not hold); of networks that draw also `samples, seed,
temperature`. `seconds` is the work on this picture, `network_seconds` the part of it in the
networks. Everything is ASCII: a byte of a name that is not UTF-8 is half a surrogate pair
(`\\udcff` for `ff`), so that a report given to `--files-from` finds the file again. With
`--dry-run`: `input, output, action, error, doubt, replace, width, height, out_width, out_height,
disk_bytes, memory_bytes`. Other commands: [evaluation.md](evaluation.md#figures),
[benchmarks.md](benchmarks.md).

## Environment

| variable | |
|---|---|
| `UPSCALE_CACHE` | folder of pulled weights; else the platform's cache folder |
| `UPSCALE_OFFLINE` | `1`: `weights pull` never touches the network |
| `UPSCALE_KERNELS` | `off`: networks run in PyTorch; `avx2`, `avx512`: those kernels |
| `UPSCALE_DEBUG` | `1`: the traceback behind an error |
| `COLUMNS`, `TERM`, `NO_COLOR` | look of tables and help; no bars where `TERM=dumb` |
| `OMP_NUM_THREADS` | CPU threads of the networks |
| `CUDA_VISIBLE_DEVICES` | which GPUs there are; empty: none |
| `RAY_ADDRESS` | the cluster of `--engine ray` |
"""


def reference() -> str:
    """Return the whole reference, ending in a newline."""
    group = Commands()
    parts = [HEAD, *_command("upscale", group.get_command(None, "run"))]
    for name in COMMANDS:
        if name != "run":
            parts += _command(f"upscale {name}", group.get_command(None, name))
    return "\n".join(parts).rstrip("\n") + "\n"


def _command(path: str, command: Any) -> list[str]:
    """Return the lines about a command and its sub-commands."""
    lines = [f"## `{path}`", "", f"    {_usage(path, command)}", "", _prose(command.help or "")]
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or "--help" in parameter.opts:
            continue
        panel = getattr(parameter, "rich_help_panel", None) or _default_panel(parameter)
        panels.setdefault(panel, []).append(_row(parameter))
    for panel, rows in panels.items():
        lines += ["", f"**{panel}**", "", "| | meaning | default |", "|---|---|---|", *rows]
    lines.append("")
    for name, child in getattr(command, "commands", {}).items():
        lines += _command(f"{path} {name}", child)
    return lines


def _usage(path: str, command: Any) -> str:
    if getattr(command, "commands", None):
        return f"{path} COMMAND [OPTIONS] ..."
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    names = [_metavar(p) if p.required else f"[{_metavar(p)}]" for p in arguments]
    names = [name + "..." * (p.nargs != 1) for name, p in zip(names, arguments, strict=True)]
    return " ".join([path, "[OPTIONS]", *names])


def _default_panel(parameter: Any) -> str:
    return "Arguments" if parameter.param_type_name == "argument" else "Options"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{_metavar(parameter)}`"
    else:
        short_first = sorted(parameter.opts, key=len)
        names = ", ".join(f"`{name}`" for name in [*short_first, *parameter.secondary_opts])
        names += "" if parameter.is_flag else f" `{_metavar(parameter)}`"
    meaning = _cell(parameter.help or "")
    return f"| {_bars(names)} | {meaning} | {_cell(_default(parameter))} |"


def _metavar(parameter: Any) -> str:
    """What stands for the value of a parameter."""
    return str(parameter.metavar or str(parameter.name).upper().replace("_", "-"))


def _default(parameter: Any) -> str:
    """The default of a parameter; empty where there is nothing to say."""
    shown, value = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return shown
    return "" if shown is False or value in (None, False, (), []) else str(value)


def _bars(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    """Return text for a cell of a table; what looks like a tag is shown as it is."""
    return _bars(" ".join(text.split())).replace("<", "&lt;")


def _prose(text: str) -> str:
    """Paragraphs; examples of commands are a block of code."""
    paragraphs = text.strip().split("\n\n")
    return "\n\n".join(
        re.sub("(?m)^", "    ", p) if p.startswith("upscale ") else p.replace("<", "&lt;")
        for p in paragraphs
    )


if __name__ == "__main__":
    sys.stdout.write(reference())

"""The curve of a run: losses and PSNR over steps, as a PNG."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from upscale.errors import DataError, UsageError, reason


def plot(log: Path, target: Path, title: str) -> None:
    """Draw ``log`` as a PNG: every loss on a logarithmic axis, PSNR in dB below."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise UsageError("the curve needs matplotlib: pip install 'upscale[train]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot

    try:
        lines = log.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{log}: cannot read the log of the run ({reason(error)})") from error
    records: list[dict[str, Any]] = []
    for line in lines:
        with suppress(json.JSONDecodeError):  # one that a crash cut off
            records.append(json.loads(line))
    if not records:
        raise DataError(f"{log}: nothing is logged yet")
    scored = [r for r in records if r["psnr"] is not None]
    figure, axes = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    for name in records[-1]["losses"]:
        points = [(r["step"], abs(r["losses"][name])) for r in records if name in r["losses"]]
        axes[0].semilogy(*zip(*points, strict=True), label=name, linewidth=1)
    axes[0].set_ylabel("loss")
    axes[0].legend(fontsize="small")
    axes[0].set_title(title)
    if scored:
        axes[1].plot([r["step"] for r in scored], [r["psnr"] for r in scored], marker=".")
    axes[1].set_ylabel("Y PSNR of the watched pictures, dB")
    axes[1].set_xlabel("step")
    for axis in axes:
        axis.grid(alpha=0.3)
    temporary = target.with_suffix(".part.png")
    figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
    temporary.replace(target)

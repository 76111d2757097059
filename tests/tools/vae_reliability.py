"""Predicted deviation against measured error of ``-m vae``, by bins, for folders of ground truth.

python tests/tools/vae_reliability.py Set5 OTHERS -o docs/images/vae-reliability.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from upscale import load
from upscale.evaluate import find_sets, make_pair, read_8bit
from upscale.evaluate.scores import coverage
from upscale.inference import Noise, run

SAMPLES = 8
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Bin:
    """Values of similar predicted deviation.

    Attributes:
        count: How many.
        predicted: Root of the mean predicted variance.
        measured: Root of the mean squared error; equal to ``predicted`` where it is calibrated.
    """

    count: int
    predicted: float
    measured: float


def reliability(std: Array, error: Array, bins: int = 10) -> list[Bin]:
    """Bins of equal count, from the smallest predicted deviation to the largest.

    Raises:
        ValueError: Fewer values than bins.
    """
    if std.size < bins:
        raise ValueError(f"{std.size} values do not fill {bins} bins; use fewer bins")
    order = np.argsort(std, axis=None, kind="stable")
    variance = np.asarray(std, np.float64).ravel()[order] ** 2
    squared = np.asarray(error, np.float64).ravel()[order] ** 2
    return [
        Bin(len(v), float(np.sqrt(v.mean())), float(np.sqrt(s.mean())))
        for v, s in zip(np.array_split(variance, bins), np.array_split(squared, bins), strict=True)
    ]


def measured(folder: Path, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Predicted deviation and error of every value of a set, in levels."""
    prepared = load("vae", device="cpu").native()
    noise = Noise(0, temperature, SAMPLES, spread=True)
    stds, errors = [], []
    for path in find_sets([folder])[0].pictures:
        pair = make_pair(read_8bit(path), 4, "edsr")
        strips = run(prepared, (pair.lr / 255).float(), noise=noise)
        found = torch.cat([rows for _, _, rows in strips], -2)[..., 4:-4, 4:-4].double() * 255
        error = found[:, :3].clamp(0, 255).round() - pair.hr[..., 4:-4, 4:-4]
        std = (found[:, 3:].sum(1, keepdim=True) * 255).sqrt()  # variances of pixels in [0, 1]
        stds.append(std.expand_as(error).flatten().numpy())
        errors.append(error.flatten().numpy())
    return np.concatenate(stds), np.concatenate(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.8])
    options = parser.parse_args()
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(5, 4.4), layout="constrained")
    for folder in options.folders:
        for temperature in options.temperatures:
            std, error = measured(folder, temperature)
            bins = reliability(std, error, 20)
            label = f"{folder.name}, T = {temperature:g}"
            axis.loglog([b.predicted for b in bins], [b.measured for b in bins], "o-", label=label)
            print(
                f"{label}: RMSE {np.sqrt((error**2).mean()):.2f}, predicted "
                f"{np.sqrt((std**2).mean()):.2f} levels, error over deviation "
                f"{np.sqrt(((error / std) ** 2).mean()):.2f}, "
                f"within the 90 % interval {coverage(std, error):.3f}"
            )
    axis.plot([1, 40], [1, 40], color="gray", linestyle=":")
    axis.set_xlabel("predicted standard deviation, levels")
    axis.set_ylabel("measured error (root mean square), levels")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()

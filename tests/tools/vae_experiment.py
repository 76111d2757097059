"""Why a VAE needs its posterior: vae-light-x4 trained with z from the posterior and the prior.

    python tests/tools/vae_experiment.py --data PICTURES -o docs/images/vae-posterior.png

Both nets see the same batches and maximise a lower bound on log p(x | y): with z from the
posterior the ELBO, with z from the prior the mean of log q(x | z), which is a bound too. Printed
and drawn: the two bounds; how far draws of the trained nets differ; the deviation of the trained
posterior; and how far the bound moves between samples of z, which tells whether one sample a step
is enough.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import torch

from upscale.training import variational as losses
from upscale.training.data import crop_side, load_pictures, make_batch
from upscale.training.recipes import RECIPES, Recipe
from upscale.training.release import starting_weights
from upscale.training.trainer import LogLine, RunSettings, train
from upscale.training.variational import VariationalObjective

PATCH = 24  # LR pixels
VALUES = 3 * 4**2  # of x for every small pixel
LATENTS: tuple[Literal["posterior", "prior"], ...] = ("posterior", "prior")
SAMPLES = 16  # of z, for one picture
WINDOW = 50  # steps over which the curves are averaged


def recipe(latent: Literal["posterior", "prior"], steps: int) -> Recipe:
    light = RECIPES["vae-light-x4"]
    assert light.variational is not None
    variational = replace(light.variational, latent=latent)
    return replace(light, steps=steps, patch=PATCH, ema=0.99, variational=variational)


def trained(data: Path, latent: Literal["posterior", "prior"], steps: int) -> dict[str, np.ndarray]:
    """Bound in bits a value at every step, and what was measured of the trained net."""
    settings = recipe(latent, steps)
    start = starting_weights(settings, None)
    bounds: list[float] = []

    def note(progress: LogLine) -> None:
        losses_now = progress.losses
        bounds.append(-losses_now["reconstruction"] - losses_now["kl"] / VALUES)

    with tempfile.TemporaryDirectory() as folder:
        outcome = train(settings, RunSettings(data, Path(folder), weights=start), note)
        state = torch.load(Path(folder) / "checkpoint.pt", weights_only=True)
    network = outcome.network
    made = VariationalObjective(settings, network, torch.device("cpu"))
    made.load_state(state["objective"])
    pieces = load_pictures(data, crop_side(4, PATCH))
    batch = make_batch(
        pieces, scale=4, patch=PATCH, batch=16, degradation="bicubic", seed=1, step=0
    )
    with torch.no_grad():
        condition = made.network.condition(batch.lr)
        mean, log_std = made.posterior(batch.hr, condition)
        if latent == "prior":
            mean, log_std = torch.zeros_like(mean), torch.zeros_like(log_std)
        draws = [
            made.network.mean(batch.lr, condition, torch.randn_like(mean)) for _ in range(SAMPLES)
        ]
        weights = [
            made._bound(batch.hr, batch.lr, condition, mean, log_std)[0] for _ in range(SAMPLES)
        ]
    per_value = torch.stack(weights) / batch.hr[0].numel()
    return {
        "bound": np.array(bounds) / np.log(2),
        "differ": torch.stack(draws).std(0).numpy() * 255,
        "deviation": log_std.exp().numpy(),
        "kl": losses.kl_from_standard_normal(mean, log_std).numpy(),
        "moves": per_value.std(0).mean().numpy() / np.log(2),
    }


def smoothed(curve: np.ndarray) -> np.ndarray:
    return np.convolve(curve, np.ones(WINDOW) / WINDOW, mode="valid")


def draw(found: dict[str, dict[str, np.ndarray]], target: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for latent, measured in found.items():
        curve = smoothed(measured["bound"])
        left.plot(np.arange(len(curve)) + WINDOW, curve, label=f"z from the {latent}")
    left.set_xlabel("step")
    left.set_ylabel("bound on log p(x | y), bits a value")
    left.legend()
    deviation, kl = (found["posterior"][k].ravel() for k in ("deviation", "kl"))
    bins = np.linspace(0, 1.2, 49)
    right.hist(deviation, bins, label="all latents", alpha=0.6)
    right.hist(deviation[kl > 0.5], bins, label="those that say something (KL > 0.5 nat)")
    right.set_xlabel("standard deviation of the posterior")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(target, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {k: trained(options.data, k, options.steps) for k in LATENTS}
    for latent, measured in found.items():
        last = smoothed(measured["bound"])[-1]
        print(f"z from the {latent}: bound {last:.3f} bits a value in the last {WINDOW} steps")
        print(f"  draws differ by {measured['differ'].mean():.2f} levels")
        print(f"  one sample of z moves the bound of a picture by {measured['moves']:.4f} bits")
    deviation, kl = (found["posterior"][k].ravel() for k in ("deviation", "kl"))
    saying = deviation[kl > 0.5]
    print(f"posterior's standard deviation: mean {deviation.mean():.2f}, of the {len(saying)} of")
    print(f"  {len(deviation)} latents with a KL above 0.5 nat {saying.mean():.2f}")
    draw(found, options.out)


if __name__ == "__main__":
    main()

"""The loop: batches, objective, moving average, curve, checkpoints; resumable to the bit."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscale.errors import CheckpointError, DataError, OutputError, UsageError, reason
from upscale.evaluate.pictures import make_pair, psnr_y, to_tensor
from upscale.files import atomic, remove_stale
from upscale.inference.noise import Noise
from upscale.memory import keep_large_blocks
from upscale.models import Network, network_class
from upscale.training import data
from upscale.training.adversarial import AdversarialObjective
from upscale.training.degradations import DEGRADATIONS
from upscale.training.drawn import drawn_pictures
from upscale.training.initialise import from_interpolation
from upscale.training.objective import Objective, PixelObjective, for_network
from upscale.training.recipes import Recipe
from upscale.training.variational import VariationalObjective

CHECKPOINT = "checkpoint.pt"
LOG = "log.ndjson"
LOG_EVERY = 100  # steps
DRAWS = 8  # of a network with noise, whose mean is watched
FLOOR = 0.02  # share of the learning rate that the cosine ends at


@dataclass(frozen=True)
class RunSettings:
    """Where and how long a recipe runs."""

    data: Path | None  # folder of training pictures, or of patches where the recipe takes those
    out: Path  # folder of the run: checkpoint and log
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resume: bool = False  # go on from the checkpoint in ``out``
    minutes: float | None = None  # stop (with a checkpoint) after so many; None runs to the end
    pairs: tuple[Path, Path] | None = None  # damaged, and as they should be: in place of ``data``
    # Folder of pictures (Set5), or of patches that ``data`` has not, whose Y PSNR is logged.
    watch: Path | None = None
    watch_every: int = 500  # steps
    save_every: float = 120.0  # seconds
    weights: dict[str, Tensor] | None = None  # to start from; None: the recipe's initialisation
    perceptual_weights: Path | None = None  # of the feature network that a GAN recipe asks for


@dataclass(frozen=True)
class LogLine:
    """One report of a running recipe: ``losses`` by name, ``psnr`` in dB where it was measured."""

    step: int
    steps: int
    losses: dict[str, float]
    psnr: float | None
    seconds: float

    def __str__(self) -> str:
        losses = ", ".join(f"{k} {v:.4g}" for k, v in self.losses.items())
        score = "" if self.psnr is None else f", {self.psnr:.2f} dB"
        return f"step {self.step}/{self.steps}: {losses}{score}"


@dataclass(frozen=True)
class Trained:
    """What a run left: the moving average, the step reached, seconds of training so far."""

    network: Network
    step: int
    finished: bool
    seconds: float


def build_network(recipe: Recipe, weights: dict[str, Tensor] | None = None) -> Network:
    """The recipe's network with its initial weights, or with what fits of ``weights``."""
    torch.manual_seed(recipe.seed)
    network = network_class(recipe.architecture)(recipe.network)
    if recipe.initialise == "interpolation":
        from_interpolation(network)
    if weights is not None:
        # Of weights of another scale or head, the tensors of the same name and shape.
        own = network.state_dict()
        named = weights | {f"base.{k}": v for k, v in weights.items()}  # a network within another
        fitting = {
            k: v.to(own[k].dtype) for k, v in named.items() if k in own and own[k].shape == v.shape
        }
        if not fitting:
            raise CheckpointError(f"{recipe.name}: no tensor of the weights to start from fits")
        network.load_state_dict(own | fitting)
    return network


def _objective(recipe: Recipe, run: RunSettings, network: Network, ema: Network) -> Objective:
    if recipe.adversarial is not None:
        return AdversarialObjective(recipe, network, ema, run.device, run.perceptual_weights)
    if recipe.variational is not None:
        return VariationalObjective(recipe, network, run.device)
    return PixelObjective(recipe, network, run.device)


def rate_at(recipe: Recipe, step: int) -> float:
    """Share of the learning rate at ``step`` (from 0)."""
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "constant":
        return warm
    share = step / recipe.steps
    if recipe.schedule == "halve":
        return float(warm * 0.5 ** sum(share >= m for m in recipe.milestones))
    return warm * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def train(
    recipe: Recipe, run: RunSettings, report: Callable[[LogLine], bool | None] = lambda line: None
) -> Trained:
    """Run a recipe to its end or to ``run.minutes``; always leave a checkpoint.

    Where ``report`` returns True, the next step is the last.

    Raises:
        DataError: The data folder is missing, empty, or its pictures are too small.
        CheckpointError: ``run.resume`` and the checkpoint is missing, damaged or of another recipe.
        OutputError: The checkpoint cannot be written; the one before stays.
    """
    keep_large_blocks()
    run.out.mkdir(parents=True, exist_ok=True)
    remove_stale(str(run.out))
    checkpoint = run.out / CHECKPOINT
    if not run.resume and checkpoint.exists():
        raise OutputError(
            f"{run.out}: holds a run already; add --resume to go on, or choose another --out"
        )
    # The network, its moving average, and what the objective adds; restored where the run goes on.
    network = build_network(recipe, run.weights).to(run.device)
    ema = copy.deepcopy(network).requires_grad_(False)
    if run.device.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = _objective(recipe, run, network, ema)
    step, before = 0, 0.0
    if run.resume:
        step, before = _restore(checkpoint, objective, ema)
    # What it learns from, and what it is watched on.
    make = _batch_maker(recipe, run)
    watched = load_watched(run.watch, recipe.scale, recipe.degradation) if run.watch else []
    started = saved = now = time.monotonic()
    asked: bool | None = False
    for batch in data.prefetch(make, step, recipe.steps):
        losses = objective.step(batch, rate_at(recipe, step))
        _average(ema, network, recipe.ema, step)
        step += 1
        now = time.monotonic()
        # Whether this was the last step; then look, report, log and save, in this order.
        late = run.minutes is not None and now - started > 60 * run.minutes
        ending = step == recipe.steps or asked or late
        look = bool(watched) and (step % run.watch_every == 0 or ending)
        value = watch(ema, watched, run.device) if look else None
        line = LogLine(step, recipe.steps, losses, value, before + now - started)
        asked = report(line)
        if look or step % LOG_EVERY == 0:
            with (run.out / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(line)) + "\n")
        if ending or now - saved > run.save_every:
            _save(checkpoint, objective, ema, line)
            saved = now
        if ending:
            break
    return Trained(ema, step, step == recipe.steps, before + now - started)


def _batch_maker(recipe: Recipe, run: RunSettings) -> Callable[[int], data.Batch]:
    """The function from a step's number to its batch."""
    cut = {"patch": recipe.patch, "batch": recipe.batch, "scale": recipe.scale, "seed": recipe.seed}
    if run.pairs is not None:
        pairs = data.load_pairs(*run.pairs, recipe.scale, recipe.patch)
        return lambda step: data.cut_batch(pairs, step=step, **cut)
    if run.data is None:
        raise DataError(f"recipe {recipe.name!r} needs --data or --pairs")
    if recipe.data == "patches":
        shards = data.Shards(run.data, recipe.scale)
        return lambda step: data.cut_batch(shards, step=step, **cut)
    side = data.crop_side(recipe.scale, recipe.patch, recipe.degradation)
    pieces = data.load_pictures(run.data, side)
    pieces += drawn_pictures(recipe.drawn, max(side, data.PIECE))
    return lambda step: data.make_batch(pieces, degradation=recipe.degradation, step=step, **cut)


@torch.no_grad()
def _average(ema: Network, network: Network, decay: float, step: int) -> None:
    """Moving average of the weights, shorter at the beginning."""
    keep = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    for mean, value in zip(ema.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - keep)


def load_watched(
    folder: Path, scale: int, degradation: str = "bicubic"
) -> list[tuple[Tensor, Tensor]]:
    """Pairs (lr, hr), (1, 3, H, W) in levels 0..255, of a folder of ground truth.

    What is not only downsampled is damaged as in training, always in the same way. Of a folder of
    patches (lr, the teacher's).
    """
    if any(folder.glob(data.SHARDS)):
        shards = data.Shards(folder, scale)
        return [(to_tensor(lr).float(), to_tensor(sr).float()) for lr, _, sr in shards]
    pairs = []
    for number, hr in enumerate(data.load_pictures(folder, 1, whole=True)):
        pair = make_pair(hr, scale, "edsr")
        lr, truth = pair.lr.float(), pair.hr.float()
        if degradation != "bicubic":
            rng = np.random.default_rng((0, number))
            lr = DEGRADATIONS[degradation].apply(truth / 255, scale, rng) * 255
        pairs.append((lr, truth))
    return pairs


@torch.no_grad()
def watch(network: Network, pairs: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> float:
    """Mean Y PSNR in dB over the pairs, by the protocol of ``upscale evaluate``."""
    values = []
    for lr, hr in pairs:
        sr = mean_of_draws(network, for_network(network, lr.to(device) / 255)).float().cpu()
        truth = for_network(network, hr / 255)
        values.append(psnr_y(sr * 255, truth * 255, network.scale))
    return sum(values) / len(values)


def mean_of_draws(network: Network, lr: Tensor) -> Tensor:
    """The network's result; where it draws noise, the mean over :data:`DRAWS` seeds."""
    if not network.noise_channels:
        return network(lr)
    shape = (network.noise_channels, *lr.shape[-2:])
    noise = (Noise(seed, 1.0).draw(*shape).to(lr) for seed in range(DRAWS))
    return reduce(torch.add, (sr for sr, _ in network.draws(lr, noise))) / DRAWS


def _save(path: Path, objective: Objective, ema: Network, line: LogLine) -> None:
    """Write the checkpoint; there is always a whole one."""
    state = {
        "recipe": objective.recipe.name,
        "settings": repr(objective.recipe),
        "step": line.step,
        "seconds": line.seconds,
        "network": objective.network.state_dict(),
        "ema": ema.state_dict(),
        "objective": objective.state(),
        "rng": torch.get_rng_state(),
    }
    try:
        with atomic(path, replace=True) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{path}: cannot write the checkpoint ({error}); the one before it is whole, free some "
            "space and use --resume"
        ) from error


def _restore(path: Path, objective: Objective, ema: Network) -> tuple[int, float]:
    """Load a checkpoint into the parts; the step and the seconds of training it stands for."""
    if not path.exists():
        raise CheckpointError(f"{path}: no checkpoint to resume; leave out --resume to begin")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}); begin anew"
        ) from error
    recipe = objective.recipe
    if state.get("recipe") != recipe.name or state.get("settings") != repr(recipe):
        raise CheckpointError(
            f"{path}: was made by recipe {state.get('recipe')!r} with other settings than "
            f"{recipe.name!r} has now; choose another --out"
        )
    objective.network.load_state_dict(state["network"])
    ema.load_state_dict(state["ema"])
    objective.load_state(state["objective"])
    torch.set_rng_state(state["rng"])
    return int(state["step"]), float(state["seconds"])


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

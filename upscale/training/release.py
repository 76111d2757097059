"""What a run leaves: a self-describing checkpoint, its index row, its measured card."""

from __future__ import annotations

import copy
import json
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from upscale.checkpoints import CheckpointInfo, Saved, WeightsFile, build, load, save, update_index
from upscale.checkpoints.checkpoint import Checkpoint
from upscale.errors import CheckpointError, UsageError
from upscale.files import write_bytes
from upscale.models import MODELS, Network
from upscale.training.recipes import Recipe, find_recipe
from upscale.training.trainer import LogLine, RunSettings, Trained, load_watched, train, watch

LICENSE = "Apache-2.0, research data"
CARDS = "README.md"


@dataclass(frozen=True)
class Released:
    """What a run left."""

    saved: Saved | None  # the checkpoint; None where nothing was released
    outcome: Trained
    psnr: float | None  # dB of Y on the watched pictures, of the weights as stored
    reason: str = ""  # why nothing was released


def starting_weights(recipe: Recipe, start_from: str | None) -> dict[str, torch.Tensor] | None:
    """The state dict that the recipe (or ``start_from``: a weights name or a file) starts from."""
    name = recipe.start_from if start_from is None else start_from
    return load(name).state if name else None


def run_recipe(
    recipe: Recipe,
    run: RunSettings,
    *,
    folder: Path | None = None,
    data_note: str = "",
    report: Callable[[LogLine], bool | None] = lambda line: None,
) -> Released:
    """Train, and when the recipe is finished write its files into ``folder`` (None: the run's own).

    These are checkpoint, index row and card. A checkpoint of that name gives way only to one that
    scores better on the same pictures.

    Raises:
        OutputError: The folder cannot be written.
    """
    outcome, folder = train(recipe, run, report), folder or run.out
    if not outcome.finished:
        return Released(None, outcome, None, f"stopped at step {outcome.step} of {recipe.steps}")
    if recipe.mix < 1:
        start = run.weights or starting_weights(recipe, None)
        outcome = replace(outcome, network=mixed(outcome.network, start or {}, recipe.mix))
    score = _score(_in_half(outcome.network), recipe, run)
    kept = folder / f"{recipe.name}.safetensors"
    if kept.exists() and score is not None:
        before = _score(build(load(kept)), recipe, run)
        if before is not None and before >= score:
            reason = f"{kept} scores {before:.3f} dB, this run {score:.3f} dB; it stays"
            return Released(None, outcome, score, reason)
    folder.mkdir(parents=True, exist_ok=True)
    info = _info(recipe, outcome, score, data_note)
    saved = save(kept, outcome.network, info, half=True, overwrite=True)
    update_index(folder, _row(recipe, saved, outcome.network, score, data_note))
    write_card(folder / CARDS, recipe.name, _card(recipe, outcome, score, data_note))
    return Released(saved, outcome, score)


@torch.no_grad()
def mixed(network: Network, start: dict[str, torch.Tensor], share: float) -> Network:
    """``share`` of ``network`` and the rest of ``start``, weight by weight; a new network."""
    state = network.state_dict()
    differing = [k for k, v in state.items() if k not in start or start[k].shape != v.shape]
    if differing:
        raise CheckpointError(
            f"{differing[0]} of the weights to mix with is missing or of another size"
        )
    result = copy.deepcopy(network)
    result.load_state_dict({k: torch.lerp(start[k].to(v), v, share) for k, v in state.items()})
    return result


def _in_half(network: Network) -> Network:
    """A copy with weights rounded to float16, as they are stored."""
    state = {k: v.detach().cpu().half().float() for k, v in network.state_dict().items()}
    return build(Checkpoint(network.architecture, network.config, state))


def _score(network: Network, recipe: Recipe, run: RunSettings) -> float | None:
    if run.watch is None:
        return None
    pairs = load_watched(run.watch, recipe.scale, recipe.degradation)
    return watch(network.to(run.device), pairs, run.device)


def _info(recipe: Recipe, outcome: Trained, score: float | None, note: str) -> CheckpointInfo:
    training = {
        "steps": outcome.step,
        "seconds": round(outcome.seconds),
        "hardware": _hardware(),
        "set5_psnr_y": None if score is None else round(score, 3),
    }
    return CheckpointInfo(
        title=recipe.title,
        description=f"{MODELS[recipe.architecture]} trained by the recipe {recipe.name}",
        author="the upscale project",
        date=datetime.now(UTC).date().isoformat(),
        license=LICENSE,
        recipe=recipe.name,
        data=note,
        degradation=recipe.degradation,
        training=json.dumps(training),
    )


def _row(
    recipe: Recipe, saved: Saved, network: Network, score: float | None, note: str
) -> WeightsFile:
    damage = "" if recipe.degradation == "bicubic" else f"_{recipe.degradation}"
    return WeightsFile(
        name=recipe.name,
        file=saved.path.name,
        sha256=saved.sha256,
        bytes=saved.bytes,
        architecture=recipe.architecture,
        scale=recipe.scale,
        family=recipe.family,
        role=recipe.role,
        title=recipe.title,
        license=LICENSE,
        parameters=sum(p.numel() for p in network.parameters()),
        dtype="float16",
        recipe=recipe.name,
        data=note,
        scores={} if score is None else {f"set5{damage}_psnr_y": round(score, 3)},
        origin="embedded",
    )


def _hardware() -> str:
    """Processor and number of threads, or the GPU's name."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text("utf-8", "replace")
        model = next(iter(re.findall(r"model name\s*:\s*(.+)", text)), model)
    return f"{model}, {torch.get_num_threads()} thread(s)"


def _card(recipe: Recipe, outcome: Trained, score: float | None, note: str) -> str:
    """The measured part of a model card, as Markdown."""
    parameters = sum(p.numel() for p in outcome.network.parameters())
    patch = f"{recipe.patch}x{recipe.patch}"
    network = f"{MODELS[recipe.architecture]}, {parameters:,} parameters, x{recipe.scale}"
    clean = recipe.degradation == "bicubic"
    watched = "Set5, Y PSNR" if clean else f"Set5 damaged by `{recipe.degradation}`, Y PSNR"
    rows = [
        ("network", network),
        ("data", note or "not recorded"),
        ("steps", f"{outcome.step:,} of {recipe.batch} patches of {patch} LR pixels"),
        ("loss", "GAN (see the recipe)" if recipe.adversarial else recipe.loss),
        ("started from", recipe.start_from or recipe.initialise),
        *([("mix", f"{recipe.mix:.0%} of the trained net")] if recipe.mix < 1 else []),
        ("hardware", _hardware()),
        ("time", f"{outcome.seconds / 60:.0f} minutes"),
        (watched, "not measured" if score is None else f"{score:.2f} dB"),
        ("again with", f"`upscale train {recipe.name} --data DIR`"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)])


def write_card(path: Path, name: str, text: str) -> None:
    """Put the measured part of a card between its markers in ``path``, or at the end."""
    begin, end = f"<!-- measured: {name} -->", f"<!-- /measured: {name} -->"
    block = f"{begin}\n{text}\n{end}"
    old = path.read_text("utf-8") if path.exists() else ""
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    new, count = between.subn(lambda _: block, old, count=1)
    if not count:
        new = f"{old.rstrip()}\n\n## {name}\n\n{block}\n".lstrip("\n")
    write_bytes(path, [new.encode()], overwrite=True)


def prepare(
    name: str, run: RunSettings, *, steps: int | None = None, start_from: str | None = None
) -> tuple[Recipe, RunSettings]:
    """A recipe by name or file, and its run with the weights to start from.

    ``steps`` and ``start_from`` (a weights name or file; empty for none) replace the recipe's.

    Raises:
        UsageError: No such recipe, or options that do not fit together.
        CheckpointError: The weights to start from cannot be loaded.
    """
    recipe = find_recipe(name)
    if run.minutes is not None and run.minutes <= 0:
        raise UsageError(
            f"--minutes {run.minutes:g} is not positive; leave it out to run to the end"
        )
    if steps is not None:
        if steps < 1:
            raise UsageError(f"--steps {steps} is not positive; leave it out for the recipe's own")
        recipe = replace(recipe, steps=steps)
    weights = None if run.resume else starting_weights(recipe, start_from)
    return recipe, replace(run, weights=weights)

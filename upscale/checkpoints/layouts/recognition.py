"""Key layouts: from a dict of tensors to an architecture, its configuration, and native keys.

Published files name the layers of one network in several ways. A layout recognises its keys, reads
the sizes from the shapes, and renames; nothing else is used. What no file stores is decided by
these rules, and ``Hints`` override them:

* SwinIR's ``img_range`` is 255 for window 7 (the JPEG nets) and 1 otherwise.
* One nearest-neighbour stage of an ESRGAN or of SwinIR's nearest+conv head enlarges by 2, not 3.
* SRCNN's scale is in no file: it must be given.

What no layout knows is asked of spandrel, where that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch import Tensor

from upscale.checkpoints.layouts import esrgan, srcnn, swinir
from upscale.checkpoints.layouts.foreign import foreign_name
from upscale.checkpoints.layouts.form import Hints, Recognised, as_float32, check_state
from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import MODELS
from upscale.models.spandrel import recognised

PREFIXES = (
    "module.",
    "netG.",
    "net_g.",
    "generator.",
    "params_ema.",
    "params.",
    "network.",
    "net.",
)
GENERATORS = ("generator_ema.", "netG.", "net_g.", "generator.")
LAYOUTS = (esrgan.OLD, esrgan.NEW, esrgan.BASICSR, swinir.OFFICIAL, srcnn.NAMED, srcnn.ROLES)


def recognise(tensors: Mapping[str, Tensor], hints: Hints | None = None) -> Recognised:
    """Find the network that ``tensors`` belong to.

    Args:
        tensors: A state dict in any layout that is known, prefixes included.
        hints: What the file cannot tell, when it is known.

    Returns:
        Architecture, configuration and the state under native keys, floats as float32.

    Raises:
        ArchitectureError: Another network (by name where it is known), or sizes that do not fit it.
        CheckpointError: Values that are not finite.
    """
    if not tensors:
        raise ArchitectureError("there are no tensors in it; give a file that holds a network")
    stripped = strip_prefixes(tensors)
    layout = next((layout for layout in LAYOUTS if layout.matches(stripped)), None)
    try:
        found = layout.read(stripped, hints or Hints()) if layout else _unknown(stripped)
        check_state(found.architecture, found.config, found.state)
    except ArchitectureError as refusal:
        try:
            config, _ = recognised(stripped)
        except CheckpointError as reason:
            if layout:
                raise refusal from None
            raise ArchitectureError(f"{refusal}; {reason}") from reason
        found = Recognised("spandrel", config, as_float32(stripped), layout="spandrel")
        check_state(found.architecture, found.config, found.state)
    return found


def _unknown(stripped: Mapping[str, Tensor]) -> NoReturn:
    name = foreign_name(stripped)
    if name:
        raise ArchitectureError(f"it is a {name}; upscale runs {', '.join(MODELS)} networks")
    first = ", ".join(sorted(stripped)[:3])
    raise ArchitectureError(
        f"its {len(stripped)} tensors ({first}, …) are those of no network known here; "
        f"upscale runs {', '.join(MODELS)} networks"
    )


def strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop prefixes that wrappers put before every key; of a GAN's pair keep the generator."""
    kept = dict(tensors)
    for prefix in GENERATORS:
        if any(key.startswith(prefix) for key in kept):
            kept = {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}
            break
    found = True
    while found and kept:
        found = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in kept):
                kept = {k.removeprefix(prefix): v for k, v in kept.items()}
                found = True
    return kept

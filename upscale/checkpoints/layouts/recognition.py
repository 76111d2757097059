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

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NoReturn

from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Hints, as_float32
from upscale.checkpoints.layouts import esrgan, srcnn, swinir
from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import MODELS, check_state
from upscale.models.spandrel import recognised

LAYOUTS = (esrgan.OLD, esrgan.NEW, esrgan.BASICSR, swinir.OFFICIAL, srcnn.NAMED, srcnn.ROLES)

# Names of a network among others; the first that some key bears is taken, averaged weights first.
CHOSEN = (
    *("net_g_ema.", "netG_ema.", "generator_ema.", "g_ema.", "ema_model.", "params_ema."),
    *("netG.", "net_g.", "generator."),
)
WRAPPERS = ("module.", "model.", "params.", "network.", "net.")  # that all keys bear
COUNTERS = ("n_averaged", "total_ops", "total_params", "step_counter")  # beside the tensors

# (name, patterns that all must match some key) of other networks; the first that fits is taken
_SIGNATURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("GFPGAN (face restoration)", (r"stylegan_decoder\.", r"style_conv")),
    ("GFPGAN (face restoration)", (r"stylegan_decoderdotto_rgb",)),
    ("CodeFormer (face restoration)", (r"quantize\.embedding", r"position_emb")),
    ("Stable Diffusion checkpoint", (r"(model\.)?diffusion_model\.",)),
    ("Swin2SR", (r".*\.attn\.logit_scale", r".*\.attn\.cpb_mlp\.")),
    ("HAT", (r"layers\.\d+\.residual_group\.overlap_attn\.",)),
    ("HAT", (r"layers\.\d+\.residual_group\.blocks\.\d+\.conv_block\.",)),
    ("SRFormer", (r".*\.aligned_relative_position_index",)),
    ("DAT", (r"layers\.\d+\.blocks\.\d+\.attn\.(attns|temperature|channel_interaction)",)),
    ("DiffBIR SwinIR", (r"conv_first\.1\.weight", r"layers\.\d+\.residual_group\.")),
    ("Swin transformer classifier", (r"layers\.\d+\.blocks\.\d+\.attn\.qkv", r"head\.weight")),
    ("RCAN or EDSR", (r"head\.0\.weight", r"body\.\d+\.body\.", r"tail\.")),
    ("MSRResNet", (r"conv_first\.weight", r"body\.\d+\.conv1\.weight", r"upconv1\.weight")),
    ("SCUNet", (r"m_head\.0", r"m_down1\.\d+\.(trans_block|conv1_1)")),
    ("DRUNet", (r"m_head\.weight", r"m_down1\.\d+\.res\.")),
    ("Restormer", (r"encoder_level1\.\d+\.attn\.temperature",)),
    ("NAFNet", (r"intro\.weight", r"encoders\.\d+\.\d+\.(beta|gamma|sca)")),
    ("SPAN", (r"block_1\.c1_r\.", r"conv_cat\.")),
    ("OmniSR", (r"residual_layer\.\d+\.residual_layer\.", r"input\.weight")),
    ("FSRCNN", (r"first_part\.", r"mid_part\.", r"last_part\.")),
    ("ESPCN", (r"conv1\.weight", r"conv4\.weight")),
    ("U-Net discriminator", (r"conv0\.weight", r"conv\d\.weight_orig", r"conv9\.weight")),
    ("VGG-style discriminator", (r"conv0_0\.weight", r"bn0_1\.weight", r"linear1\.weight")),
    (
        "VGG-style network (a discriminator or a feature extractor)",
        (r"features\.\d+\.weight", r"classifier\."),
    ),
    ("SPSR (gradient-guided ESRGAN)", (r"b_fea_conv\.", r"model\.1\.sub\.")),
    ("Real-CUGAN", (r"unet1\.conv1\.conv\.0\.", r"unet2\.")),
)


def recognise(tensors: Mapping[str, Tensor], hints: Hints | None = None) -> Checkpoint:
    """The network that a state dict, prefixes included, belongs to, under native keys.

    Raises:
        ArchitectureError: Another network (by name where it is known), or sizes that do not fit it.
        CheckpointError: Values that are not finite.
    """
    stripped = strip_prefixes(tensors)
    if not stripped:
        raise ArchitectureError("there are no tensors in it; give a file that holds a network")
    # the first layout whose keys these are reads the sizes, renames, and is checked
    layout = next((layout for layout in LAYOUTS if layout.matches(stripped)), None)
    try:
        if layout is None:
            _refuse(stripped)
        network = layout.read(layout.rename(stripped), hints or Hints())
        check_state(network.architecture, network.config, network.state)
        return replace(network, layout=layout.name)
    except ArchitectureError as refusal:  # no layout, or a variant of one: spandrel may know it
        try:
            config, _ = recognised(stripped)
        except CheckpointError as reason:
            if layout:
                raise refusal from None
            raise ArchitectureError(f"{refusal}; {reason}") from reason
        network = Checkpoint("spandrel", config, as_float32(stripped), layout="spandrel")
        check_state(network.architecture, network.config, network.state)
        return network


def _refuse(stripped: Mapping[str, Tensor]) -> NoReturn:
    if name := foreign_name(stripped):
        raise ArchitectureError(f"it is a {name}; upscale runs {', '.join(MODELS)} networks")
    first = ", ".join(sorted(stripped)[:3])
    raise ArchitectureError(
        f"its {len(stripped)} tensors ({first}, …) are those of no network known here; "
        f"upscale runs {', '.join(MODELS)} networks"
    )


def strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what trainers put before and beside the keys; of several networks keep the generator.

    Averaged weights are preferred to those of the last step.
    """
    kept = {
        key.replace("_orig_mod.", ""): tensor  # of torch.compile, at any place
        for key, tensor in tensors.items()
        if key.rpartition(".")[2] not in COUNTERS
    }
    while kept:
        prefix = next((p for p in CHOSEN if any(key.startswith(p) for key in kept)), "")
        prefix = prefix or next((p for p in WRAPPERS if all(k.startswith(p) for k in kept)), "")
        shorter = {k.removeprefix(prefix): t for k, t in kept.items() if k.startswith(prefix)}
        if not prefix or all(key[:1].isdigit() for key in shorter):  # old ESRGAN's model.0
            break
        kept = shorter
    return kept


def foreign_name(keys: Iterable[str]) -> str:
    """The name of the network that the keys give away; '' when none of those known here does."""
    listed = list(keys)
    if _is_srvgg(listed):
        return "SRVGGNetCompact (realesr-general-x4v3, realesr-animevideov3 and the like)"
    for name, patterns in _SIGNATURES:
        if all(any(re.match(pattern, key) for key in listed) for pattern in patterns):
            return name
    return ""


def _is_srvgg(keys: list[str]) -> bool:
    """One flat ``body.N`` list of convolutions (even) and PReLUs (odd), nothing else."""
    numbers = {int(m[1]) for k in keys if (m := re.fullmatch(r"body\.(\d+)\.(weight|bias)", k))}
    flat = all(re.fullmatch(r"body\.\d+\.(weight|bias)", key) for key in keys)
    return bool(flat and numbers and numbers == set(range(len(numbers))) and len(numbers) > 3)

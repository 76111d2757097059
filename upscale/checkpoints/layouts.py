"""Key layouts: from a dict of tensors to an architecture, its configuration, and native keys.

Published files name the layers of one network in several ways. A layout recognises its keys, reads
the sizes from the shapes, and renames; nothing else is used. What no file stores is decided by
these rules, and ``Hints`` override them:

* SwinIR's ``img_range`` is 255 for window 7 (the JPEG nets) and 1 otherwise.
* One nearest-neighbour stage of an ESRGAN or of SwinIR's nearest+conv head enlarges by 2, not 3.
* SRCNN's scale is in no file: it must be given, or stand in the file's name (``x3``).

What no layout knows is asked of spandrel, where that is installed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from upscale.checkpoints.checkpoint import Checkpoint, Hints
from upscale.errors import ArchitectureError, CheckpointError
from upscale.models import MODELS, Config, ESRGANConfig, SRCNNConfig, SwinIRConfig, check_state
from upscale.models.spandrel import recognised
from upscale.models.swinir import Head

State = Mapping[str, Tensor]
Sizes = tuple[Config, tuple[str, ...]]  # a configuration, and what a rule decided of it
Scale = tuple[int, tuple[str, ...]]  # an enlargement, and the rule, if one decided it


@dataclass(frozen=True)
class KeyLayout:
    """One way of naming the layers of one network."""

    name: str  # for people and headers
    architecture: str  # key of MODELS
    matches: Callable[[State], bool]  # whether the keys are this layout's
    rename: Callable[[State], dict[str, Tensor]]  # keys to native ones
    read: Callable[[State, Hints], Sizes]  # native keys and shapes to the configuration


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


def recognise(
    tensors: Mapping[str, Tensor], hints: Hints | None = None, file: str = ""
) -> Checkpoint:
    """The network that a state dict, prefixes included, belongs to, under native keys.

    Raises:
        ArchitectureError: Another network (by name where it is known), or sizes that do not fit it.
        CheckpointError: Values that are not finite.
    """
    stripped = strip_prefixes(tensors)
    if not stripped:
        raise ArchitectureError("there are no tensors in it; give a file that holds a network")
    hints = hints or Hints()
    if named := re.search(r"(?:^|[^0-9a-z])x([2-8])(?![0-9])", file.lower()):
        hints = replace(hints, final_scale=float(named[1]))
    # the first layout whose keys these are renames, reads the sizes, and is checked
    layout = next((layout for layout in LAYOUTS if layout.matches(stripped)), None)
    try:
        if layout is None:
            name, first = foreign_name(stripped), ", ".join(sorted(stripped)[:3])
            others = f"its {len(stripped)} tensors ({first}, …) are those of no network known here"
            what = f"it is a {name}" if name else others
            raise ArchitectureError(f"{what}; upscale runs {', '.join(MODELS)} networks")
        native = layout.rename(stripped)
        config, rules = layout.read(native, hints)
        state = check_state(layout.architecture, config, native)
        network = Checkpoint(layout.architecture, config, state, layout=layout.name, rules=rules)
        if hints.scale not in (None, network.scale):
            raise ArchitectureError(
                f"its layers enlarge by {network.scale}, not by the {hints.scale} given; leave it "
                f"out"
            )
        return network
    except ArchitectureError as refusal:  # no layout, or a variant of one: spandrel may know it
        try:
            other, _ = recognised(stripped)
        except CheckpointError as reason:
            if layout:
                raise refusal from None
            raise ArchitectureError(f"{refusal}; {reason}") from reason
        state = check_state("spandrel", other, stripped)
        return Checkpoint("spandrel", other, state, layout="spandrel")


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
    # one flat list body.N of convolutions (even) and PReLUs (odd), nothing else
    flat = [re.fullmatch(r"body\.(\d+)\.(?:weight|bias)", key) for key in listed]
    numbers = {int(match[1]) for match in flat if match}
    if all(flat) and len(numbers) > 3 and numbers == set(range(len(numbers))):
        return "SRVGGNetCompact (realesr-general-x4v3, realesr-animevideov3 and the like)"
    for name, patterns in _SIGNATURES:
        if all(any(re.match(pattern, key) for key in listed) for pattern in patterns):
            return name
    return ""


# --- what the layouts share -----------------------------------------------------------------------


def dims(state: State, key: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor that must have ``count`` dimensions, none of them 0."""
    if key not in state:
        raise ArchitectureError(f"it lacks the tensor {key}; fetch or save the file again")
    shape = tuple(state[key].shape)
    if len(shape) != count or 0 in shape:
        raise ArchitectureError(
            f"its {key} is {list(shape)}, where {count} dimensions are needed; the file is damaged"
        )
    return shape


def picture_channels(entering: int, leaving: int) -> int:
    """The channels of the picture, which must be 1 or 3 and the same in and out."""
    if entering != leaving or entering not in (1, 3):
        raise ArchitectureError(
            f"it takes {entering} channels and gives {leaving}; upscale runs networks that take "
            f"and give 1 (gray) or 3 (RGB)"
        )
    return entering


def count_of(pattern: str, keys: Iterable[str]) -> int:
    """One more than the largest number that group 1 of ``pattern`` matches; 0 when none does."""
    matches = (re.match(pattern, key) for key in keys)
    return max((int(m[1]) + 1 for m in matches if m), default=0)


def nearest_scale(state: State, hints: Hints, unshuffle: int = 1) -> Scale:
    """The enlargement of stages of nearest neighbour and a convolution."""
    stages = max(0, count_of(r"conv_up(\d+)\.weight", state) - 1)
    if stages != 1:
        return 2**stages, ()
    if hints.scale is not None and hints.scale * unshuffle == 3:
        return 3, ("scale 3 by the scale given",)
    return 2, ("scale 2 by the rule: one upsampling stage is x2, or x3",)


# --- ESRGAN ---------------------------------------------------------------------------------------

# Three ways of naming an RRDB network; the last is the native one.
#
# role  | old (a Sequential)               | new (xinntao, BSRGAN)         | BasicSR, Real-ESRGAN
# ----- | -------------------------------- | ----------------------------- | -----------------------
# first | model.0                          | conv_first                    | conv_first
# dense | model.1.sub.{i}.RDB{r}.conv{c}.0 | RRDB_trunk.{i}.RDB{r}.conv{c} | body.{i}.rdb{r}.conv{c}
# trunk | model.1.sub.{nb}                 | trunk_conv                    | conv_body
# up k  | model.{3k}                       | upconv{k}                     | conv_up{k}
# HR    | model.{3n+2}                     | HRconv                        | conv_hr
# last  | model.{3n+4}                     | conv_last                     | conv_last

_OLD_DENSE = re.compile(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(1x1|\d)(?:\.0)?\.(?:weight|bias)")
_NEW_DENSE = re.compile(r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(1x1|\d)(?:\.0)?\.(?:weight|bias)")
_NEW_OUTER = {
    "trunk_conv": "conv_body",
    "HRconv": "conv_hr",
    **{f"upconv{k}": f"conv_up{k}" for k in range(1, 9)},
}


def _renamed(state: State, dense: re.Pattern[str], outer: Mapping[str, str]) -> dict[str, Tensor]:
    """Native keys: those of the dense blocks by their pattern, the others by name."""
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, value = key.rpartition(".")
        match = dense.fullmatch(key)
        native = f"body.{match[1]}.rdb{match[2]}.conv{match[3]}" if match else outer.get(layer)
        renamed[f"{native}.{value}" if native else key] = tensor
    return renamed


def _old_outer(state: State) -> dict[str, str]:
    """Layers of the Sequential around the blocks: where they stand tells how often it enlarges."""
    after = sorted({int(m[1]) for k in state if (m := re.match(r"model\.(\d+)\.", k))} - {0, 1})
    stages = len(after) - 2
    wanted = [*(3 * k for k in range(1, stages + 1)), 3 * stages + 2, 3 * stages + 4]
    if stages < 0 or after != wanted:
        raise ArchitectureError(
            f"its layers after the trunk stand at {after}, which is not where an ESRGAN with "
            f"nearest-neighbour upsampling has them; it is a variant that is not supported"
        )
    trunk = count_of(r"model\.1\.sub\.(\d+)\.(?:weight|bias)$", state) - 1
    outer = {"model.0": "conv_first", f"model.1.sub.{trunk}": "conv_body"}
    outer |= {f"model.{3 * k}": f"conv_up{k}" for k in range(1, stages + 1)}
    return outer | {f"model.{wanted[-2]}": "conv_hr", f"model.{wanted[-1]}": "conv_last"}


def _read_esrgan(state: State, hints: Hints) -> Sizes:
    num_feat, entering = dims(state, "conv_first.weight", 4)[:2]
    leaving = dims(state, "conv_last.weight", 4)[0]
    # pixel-unshuffle: 4 or 16 times more channels come in than go out
    ratio = entering // leaving if entering in (4 * leaving, 16 * leaving) else 1
    unshuffle = math.isqrt(ratio)
    enlarged, rules = nearest_scale(state, hints, unshuffle)
    if enlarged % unshuffle:
        raise ArchitectureError(
            f"it enlarges by {enlarged} after a pixel-unshuffle by {unshuffle}, which is no whole "
            f"scale; it is a variant not supported"
        )
    config = ESRGANConfig(
        scale=enlarged // unshuffle,
        num_feat=num_feat,
        num_block=count_of(r"body\.(\d+)\.", state),
        num_grow=dims(state, "body.0.rdb1.conv1.weight", 4)[0],
        in_channels=picture_channels(entering // unshuffle**2, leaving),
        out_channels=leaving,
        unshuffle=unshuffle,
        plus=any(".conv1x1." in key for key in state),
    )
    return config, rules


ESRGAN_OLD = KeyLayout(
    "esrgan-old",
    "esrgan",
    lambda state: any(map(_OLD_DENSE.match, state)),
    lambda state: _renamed(state, _OLD_DENSE, _old_outer(state)),
    _read_esrgan,
)
ESRGAN_NEW = KeyLayout(
    "esrgan-new",
    "esrgan",
    lambda state: any(map(_NEW_DENSE.match, state)),
    lambda state: _renamed(state, _NEW_DENSE, _NEW_OUTER),
    _read_esrgan,
)
BASICSR = KeyLayout(
    "basicsr", "esrgan", lambda state: "body.0.rdb1.conv1.weight" in state, dict, _read_esrgan
)


# --- SwinIR ---------------------------------------------------------------------------------------

# The published keys are the native ones; buffers stored beside them are left out.
_BLOCK = "layers.{}.residual_group.blocks.{}."
_DERIVED = ("attn_mask", "attn.relative_position_index")  # follow from the sizes


def _is_swinir(state: State) -> bool:
    # of the relatives, Swin2SR, HAT, SRFormer, … have keys of their own; they are named as foreign
    parts = ("attn.qkv.weight", "attn.relative_position_bias_table", "mlp.fc1.weight")
    keys = ("conv_first.weight", *(_BLOCK.format(0, 0) + part for part in parts))
    foreign = any("overlap_attn" in key or ".conv_block." in key for key in state)
    return all(key in state for key in keys) and not foreign


def _read_swinir(state: State, hints: Hints) -> Sizes:
    dim, channels = dims(state, "conv_first.weight", 4)[:2]
    if "conv_last.weight" in state:
        channels = picture_channels(channels, dims(state, "conv_last.weight", 4)[0])
    groups = count_of(r"layers\.(\d+)\.", state)
    depths = [
        count_of(rf"layers\.{g}\.residual_group\.blocks\.(\d+)\.", state) for g in range(groups)
    ]
    tables = [
        dims(state, _BLOCK.format(g, 0) + "attn.relative_position_bias_table", 2)
        for g in range(groups)
    ]
    window = (math.isqrt(tables[0][0]) + 1) // 2
    head, (scale, rules) = _head(state, picture_channels(channels, channels), hints)
    hidden = dims(state, _BLOCK.format(0, 0) + "mlp.fc1.weight", 2)[0]
    ratio = hidden / dim  # such that int(dim * ratio) is hidden again
    img_range = 255.0 if window == 7 else 1.0
    if hints.img_range is None:
        rules += (f"img_range {img_range:g} by the rule for window {window}",)
    config = SwinIRConfig(
        scale=scale,
        channels=channels,
        embed_dim=dim,
        depths=tuple(depths),
        num_heads=tuple(table[1] for table in tables),
        window_size=window,
        mlp_ratio=ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf),
        upsampler=head,
        resi_connection="1conv" if "conv_after_body.weight" in state else "3conv",
        img_range=img_range if hints.img_range is None else hints.img_range,
    )
    return config, rules


def _head(state: State, channels: int, hints: Hints) -> tuple[Head, Scale]:
    """The reconstruction head, and the enlargement that its layers make."""
    if "conv_before_upsample.0.weight" not in state:
        if "upsample.0.weight" not in state:
            return "", (1, ())
        leaving = dims(state, "upsample.0.weight", 4)[0]
        return "pixelshuffledirect", (math.isqrt(leaving // channels), ())
    if "conv_up1.weight" in state:
        return "nearest+conv", nearest_scale(state, hints)
    keys = [k for k in state if k.startswith("upsample.") and k.endswith(".weight")]
    shapes = [dims(state, key, 4) for key in keys]
    return "pixelshuffle", (math.prod(math.isqrt(shape[0] // shape[1]) for shape in shapes), ())


SWINIR = KeyLayout(
    "swinir",
    "swinir",
    _is_swinir,
    lambda state: {key: t for key, t in state.items() if not key.endswith(_DERIVED)},
    _read_swinir,
)


# --- SRCNN ----------------------------------------------------------------------------------------

# Its three convolutions by number (conv1, native) or by role (features, …).
_NATIVE = {f"conv{k}.{kind}" for k in (1, 2, 3) for kind in ("weight", "bias")}
_ROLES = {"features": "conv1", "map": "conv2", "reconstruction": "conv3"}


def _from_roles(state: State) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        match = re.fullmatch(r"(features|map|reconstruction)(?:\.0)?\.(weight|bias)", key)
        renamed[f"{_ROLES[match[1]]}.{match[2]}" if match else key] = tensor
    return renamed


def _read_srcnn(state: State, hints: Hints) -> Sizes:
    shapes = [dims(state, f"conv{k}.weight", 4) for k in (1, 2, 3)]
    (n1, entering, f1, _), (n2, _, f2, _), (leaving, _, f3, _) = shapes
    for k, shape in enumerate(shapes, 1):
        if shape[2] != shape[3] or shape[2] % 2 == 0:
            raise ArchitectureError(
                f"its conv{k} has a {shape[2]}x{shape[3]} kernel, and SRCNN's are square and odd; "
                f"it is another network"
            )
    channels = picture_channels(entering, leaving)
    scale = hints.scale or hints.final_scale
    if scale is None or scale != int(scale):
        raise ArchitectureError(
            "it is an SRCNN, whose scale no file stores; give the one it was trained for, a whole "
            "number (--scale)"
        )
    scale = int(scale)
    config = SRCNNConfig(scale=scale, channels=channels, kernels=(f1, f2, f3), filters=(n1, n2))
    rules = (f"scale {scale} as given, by the file's name or the run: no layer tells it",)
    return config, rules


SRCNN = KeyLayout("srcnn", "srcnn", lambda s: set(s) == _NATIVE, dict, _read_srcnn)
SRCNN_ROLES = KeyLayout(
    "srcnn-roles", "srcnn", lambda s: set(_from_roles(s)) == _NATIVE, _from_roles, _read_srcnn
)

LAYOUTS = (ESRGAN_OLD, ESRGAN_NEW, BASICSR, SWINIR, SRCNN, SRCNN_ROLES)

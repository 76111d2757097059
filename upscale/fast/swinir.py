"""SwinIR's form for inference on a CPU: a compiled step for each layer and each convolution."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.fast.native import (
    MOST_NARROW,
    NONE,
    Kernels,
    Program,
    View,
    begin,
    grow,
    padded,
)
from upscale.models.layers import upsample_factors
from upscale.models.swinir import HEAD_FEATURES, SLOPE, SwinIR, shift_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from upscale.models.swinir import RSTB, SwinLayer

BEYOND = -1e30  # logit of a column that only fills a vector up


class NativeSwinIR(SwinIR):
    """The same numbers from one program; the weights lie packed in it."""

    def __init__(self, network: SwinIR, kernels: Kernels) -> None:
        begin(self, network, kernels)
        self.register_buffer("mean", network.mean, persistent=False)
        self.program = _program(network, kernels)

    def _reconstruct(self, x: Tensor) -> Tensor:
        out = self.program(x)
        if self.config.upsampler == "pixelshuffledirect":
            return F.pixel_shuffle(out, self.scale)
        return out


def _program(network: SwinIR, kernels: Kernels) -> Program:
    """From pixels, padded and centred, to pixels (before the shuffle of the light head)."""
    dim, colours = network.config.embed_dim, network.config.channels
    program = Program(kernels, colours, tight=colours <= MOST_NARROW)
    shallow, at, inside = (program.buffer(dim) for _ in range(3))
    is_three = network.config.resi_connection == "3conv"
    inner = [program.buffer(dim // 4) for _ in range(2 * is_three)]
    program.convolve(network.conv_first, program.input, shallow)
    embed = network.patch_embed.norm
    program.norm(shallow, at, embed.weight, embed.bias)
    for group in cast("Iterable[RSTB]", network.layers):
        source = at
        for layer in cast("Iterable[SwinLayer]", group.residual_group.blocks):
            source = program.swin(source, inside, _attention(program, layer))
        _residual(program, group.conv, inside, at, add=at, inner=inner)
    program.norm(at, inside, network.norm.weight, network.norm.bias)
    _residual(program, network.conv_after_body, inside, shallow, add=shallow, inner=inner)
    _head(program, network, shallow)
    return program


def _residual(
    program: Program,
    layers: nn.Module,
    source: View,
    out: View,
    *,
    add: View,
    inner: Sequence[View],
) -> None:
    """See :func:`upscale.models.swinir.residual_convolution`; ``inner`` lies between its three."""
    *first, last = [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)]
    for layer, place in zip(first, inner, strict=True):
        source = program.convolve(layer, source, place, slope=SLOPE)
    program.convolve(last, source, out, add=add)


def _head(program: Program, network: SwinIR, at: View) -> None:
    """See :meth:`SwinIR._reconstruct`; bfloat16 would cost more here than in all layers."""
    head, colours = network.config.upsampler, network.config.channels
    convolve = partial(program.convolve, exact=True)
    if head == "pixelshuffledirect":
        direct = cast("nn.Conv2d", network.upsample.get_submodule("0"))
        convolve(direct, at, program.buffer(direct.out_channels))
        return
    rate = 1
    if head != "":
        first, relu = network.conv_before_upsample
        wide = program.buffer(HEAD_FEATURES)
        at = convolve(first, at, wide, slope=relu.negative_slope)
        for k, factor in enumerate(upsample_factors(network.scale)):
            rate *= factor
            larger = program.buffer(HEAD_FEATURES, rate=rate)
            if head == "pixelshuffle":
                layer = network.upsample.get_submodule(f"{2 * k}")
                at = convolve(layer, at, larger, shuffle=factor)
            else:
                layer = network.get_submodule(f"conv_up{k + 1}")
                at = convolve(layer, at, larger, slope=SLOPE, nearest=factor)
    if head == "nearest+conv":
        larger = program.buffer(HEAD_FEATURES, rate=rate)
        at = convolve(network.conv_hr, at, larger, slope=SLOPE)
    out = program.picture(colours, rate)
    convolve(network.conv_last, at, out, add=program.input if head == "" else NONE)


def _attention(program: Program, layer: SwinLayer) -> dict[str, int | Tensor | None]:
    """A layer's weights as ``Attention`` in ``kernels.h`` has them.

    LayerNorm's weight and bias go into the matrix behind it, the scale of the logits into q.
    """
    attention, mlp, tokens = layer.attn, layer.mlp, layer.window**2
    dim = attention.proj.in_features
    qkv, qkv_bias = folded(attention.qkv, layer.norm1)
    scale = torch.ones_like(qkv_bias)
    scale[:dim] = attention.scale
    fc1, fc1_bias = folded(mlp.fc1, layer.norm2)
    mask = None
    if layer.shift:
        masks = shift_mask(2 * layer.window, 2 * layer.window, layer.window, layer.shift)
        mask = grow(masks, padded(tokens), 2)

    def packed(name: str, weight: Tensor, bias: Tensor) -> dict[str, int | Tensor | None]:
        outputs = padded(len(weight))
        return {name: program.pack(grow(weight, outputs)), f"{name}_bias": grow(bias, outputs)}

    position = F.pad(attention.bias(tokens), (0, padded(tokens) - tokens), value=BEYOND)
    return {
        "heads": attention.heads,
        "head_features": dim // attention.heads,
        "window": layer.window,
        "shift": layer.shift,
        "hidden": mlp.fc1.out_features,
        "position": position,
        "mask": mask,
        **packed("qkv", qkv * scale[:, None], qkv_bias * scale),
        **packed("proj", attention.proj.weight, attention.proj.bias),
        **packed("fc1", fc1, fc1_bias),
        **packed("fc2", mlp.fc2.weight, mlp.fc2.bias),
    }


def folded(linear: nn.Linear, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """``linear(norm(x))`` as a matrix and bias for the normalised x alone."""
    weight = linear.weight.double()
    bias = linear.bias.double() + weight @ norm.bias.double()
    return (weight * norm.weight.double()).float(), bias.float()

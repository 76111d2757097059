"""SwinIR's form for inference on a GPU, in PyTorch.

Tokens stay in the order of windows from layer to layer: shifting, cutting into windows and back is
one gather where it changes. The windows of a shifted layer come in four sorts (inside, at the right
edge, at the bottom, in the corner), each with one sum of bias and mask, whatever the picture's
size. Attention is one fused call; LayerNorm's weight and bias lie in the matrix behind it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.fast.swinir import folded
from upscale.models.swinir import SwinIR, partition, shift_mask

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upscale.models.swinir import RSTB, SwinLayer

HEAD_MULTIPLE = 8  # fused attention wants a head's features to be a multiple of it


class WindowedLayer(nn.Module):
    """A Swin layer over tokens in the order of its windows: (N, windows, T, C) to the same."""

    biases: Tensor

    def __init__(self, layer: SwinLayer) -> None:
        super().__init__()
        attention = layer.attn
        self.heads, self.shift = attention.heads, layer.shift
        tokens, dim = layer.window**2, attention.proj.in_features
        self.width = -(-dim // self.heads // HEAD_MULTIPLE) * HEAD_MULTIPLE  # of a head
        weight, bias = folded(attention.qkv, layer.norm1)
        scale = torch.ones_like(bias)[:, None]
        scale[:dim] = attention.scale
        self.qkv = linear(
            _widened(weight * scale, 3 * self.heads, self.width),
            _widened(bias[:, None] * scale, 3 * self.heads, self.width)[:, 0],
        )
        proj = _widened(attention.proj.weight.T, self.heads, self.width).T
        self.proj = linear(proj, attention.proj.bias)
        self.fc1, self.fc2 = linear(*folded(layer.mlp.fc1, layer.norm2)), layer.mlp.fc2
        biases = attention.bias(tokens)[None]  # 1 or 4, heads, T, T
        if self.shift:
            mask = shift_mask(2 * layer.window, 2 * layer.window, layer.window, self.shift)
            biases = biases + mask[:, None].to(biases)
        self.register_buffer("biases", biases)

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Attention and MLP, with their residuals.

        Args:
            x: (N, windows, T, C).
            counts: Windows of each sort, in their order.
        """
        size = x.shape[-1:]
        qkv = self.qkv(F.layer_norm(x, size))
        if self.shift:
            parts = torch.split(qkv, counts, 1)
            pairs = zip(parts, self.biases, strict=True)
            attended = torch.cat([self._attend(part, bias) for part, bias in pairs], 1)
        else:
            attended = self._attend(qkv, self.biases[0])
        x = x + self.proj(attended)
        out: Tensor = x + self.fc2(F.gelu(self.fc1(F.layer_norm(x, size))))
        return out

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """(N, W, T, 3 * heads * width) to (N, W, T, heads * width)."""
        n, windows, tokens, _ = qkv.shape
        split = qkv.reshape(n * windows, tokens, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None], scale=1.0)
        return out.transpose(1, 2).reshape(n, windows, tokens, self.heads * self.width)


class WindowedSwinIR(SwinIR):
    """The same numbers; shares the convolutions of the network that it is made of."""

    def __init__(self, network: SwinIR) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({k: v for k, v in vars(network).items() if not k.startswith("_")})
        self._buffers = dict(network._buffers)
        self._modules = dict(network._modules)
        groups = copy.copy(network.layers)
        groups._modules = {}
        for name, group in network.layers.named_children():
            made = copy.copy(group)
            made._modules = dict(group._modules)
            layers = cast("Iterable[SwinLayer]", cast("RSTB", group).residual_group.blocks)
            made.residual_group = nn.ModuleList(WindowedLayer(layer) for layer in layers)
            groups.add_module(name, made)
        self.layers = groups

    def features(self, shallow: Tensor) -> Tensor:
        """See :meth:`SwinIR.features`."""
        n, dim, h, w = shallow.shape
        window = self.config.window_size
        straight, shifted, counts = orders(h, w, window, shallow.device)
        x = self.patch_embed.norm(shallow.permute(0, 2, 3, 1)).reshape(n, h * w, dim)
        for group in cast("Iterable[RSTB]", self.layers):
            order, y = None, x
            for layer in cast("Iterable[WindowedLayer]", group.residual_group):
                # 1. Tokens in the order of this layer's windows.
                needed = shifted if layer.shift else straight
                if needed is not order:
                    y = y.index_select(1, needed if order is None else _inverse(order)[needed])
                    order = needed
                # 2. The layer, window by window.
                y = layer(y.view(n, -1, window**2, dim), counts).view(n, h * w, dim)
            # 3. Back to rows of pixels for the group's convolution and residual.
            if order is not None:
                y = y.index_select(1, _inverse(order))
            y = group.conv(y.view(n, h, w, dim).permute(0, 3, 1, 2))
            x = x + y.permute(0, 2, 3, 1).reshape(n, h * w, dim)
        out: Tensor = self.norm(x).view(n, h, w, dim).permute(0, 3, 1, 2)
        return out


def orders(
    height: int, width: int, window: int, device: torch.device
) -> tuple[Tensor, Tensor, list[int]]:
    """Pixels in the order of windows, of shifted windows by sort; windows of each sort."""
    pixels = torch.arange(height * width, device=device).view(1, height, width, 1)
    straight = partition(pixels, window).flatten()
    half = window // 2
    rolled = partition(torch.roll(pixels, (-half, -half), (1, 2)), window).squeeze(-1)
    down, across = height // window, width // window
    grid = torch.arange(down * across, device=device).view(down, across)
    sorts = (grid[:-1, :-1], grid[:-1, -1:], grid[-1:, :-1], grid[-1:, -1:])
    by_sort = torch.cat([windows.flatten() for windows in sorts])
    return straight, rolled[by_sort].flatten(), [windows.numel() for windows in sorts]


def _inverse(order: Tensor) -> Tensor:
    """Where each token of a picture lies in an order."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return back


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer with these values."""
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    made.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    made.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return made


def _widened(rows: Tensor, heads: int, width: int) -> Tensor:
    """Rows of each head followed by zeros, up to ``width``: they add nothing to any product."""
    each = rows.reshape(heads, -1, rows.shape[-1])
    return F.pad(each, (0, 0, 0, width - each.shape[1])).flatten(0, 1)

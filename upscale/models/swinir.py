"""SwinIR: Liang et al., "Image Restoration Using Swin Transformer", arXiv 2108.10257.

Keys are those of the published checkpoints. ``attn_mask`` and ``relative_position_index``, which
those files store, follow from the sizes and are made here: the picture may have any size. Dropout
and the unused options of the Swin backbone (absolute position, patch merging) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.models import Config, Network
from upscale.models.layers import Upsample, upsample_factors
from upscale.tiling import pad

Head = Literal["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""]
RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, in [0, 1]
HEAD_FEATURES = 64  # of the pixelshuffle and nearest+conv heads
SLOPE = 0.2  # of the LeakyReLUs but the one in front of the upsampling
MASKED = -100.0  # added to the logits of token pairs from different regions


@dataclass(frozen=True)
class SwinIRConfig(Config):
    """Sizes of a SwinIR."""

    scale: int = 4  # enlargement; 1 for denoising and JPEG artefacts
    channels: int = 3  # 1 gray, 3 RGB; of input and output
    embed_dim: int = 60  # features
    depths: tuple[int, ...] = (6, 6, 6, 6)  # blocks (STL) in each residual group (RSTB)
    num_heads: tuple[int, ...] = (6, 6, 6, 6)  # of each group; each divides ``embed_dim``
    window_size: int = 8  # side of an attention window in pixels
    mlp_ratio: float = 2.0  # hidden features of the MLP over ``embed_dim``
    # Reconstruction head: "pixelshuffle" (classical), "pixelshuffledirect" (lightweight),
    # "nearest+conv" (real-world), "" (scale 1: residual).
    upsampler: Head = "pixelshuffledirect"
    resi_connection: Literal["1conv", "3conv"] = "1conv"  # at the end of each group and of the body
    img_range: float = 1.0  # the network's own value range; 255 in the JPEG nets


@lru_cache(maxsize=8)
def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for every pair of tokens of a window: (window**2, window**2) int64."""
    along = torch.arange(window, device="cpu")  # also when the network itself is built on "meta"
    at = torch.stack(torch.meshgrid(along, along, indexing="ij"))
    flat = at.flatten(1)
    offset = flat[:, :, None] - flat[:, None, :] + window - 1  # 2, w*w, w*w
    return offset[0] * (2 * window - 1) + offset[1]


def shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """Mask of shifted windows: 0 between tokens of one region, -100 between regions.

    After the cyclic shift a window may hold pixels from opposite edges of the picture; they must
    not see each other (Swin, arXiv 2103.14030, section 3.2).

    Returns:
        (number of windows, window**2, window**2) float32.
    """
    # 1. A picture of 2 x 2 windows has one of each sort: inside, at the right edge, at the bottom,
    # in the corner. Nine regions come together in them.
    marks = torch.zeros(2 * window)
    marks[-window:-shift] = 1
    marks[-shift:] = 2
    region = marks[:, None] * 3 + marks[None, :]
    tokens = partition(region[None, :, :, None], window).squeeze(-1)  # 4, w*w
    # 2. Pairs of tokens from different regions.
    masks = (tokens[:, None, :] != tokens[:, :, None]).float() * MASKED
    # 3. The mask of each window by its place in the picture.
    bottom = torch.arange(height // window) == height // window - 1
    right = torch.arange(width // window) == width // window - 1
    return masks[(2 * bottom[:, None] + 1 * right[None, :]).flatten()]  # nW, w*w, w*w


def partition(x: Tensor, window: int) -> Tensor:
    """Cut (B, H, W, C) into windows: (B*nW, window**2, C)."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c)
    return x.transpose(2, 3).reshape(-1, window * window, c)  # B*nW, w*w, C


def reverse(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Inverse of :func:`partition`: (B*nW, window**2, C) to (B, H, W, C)."""
    c = windows.shape[-1]
    x = windows.view(-1, height // window, width // window, window, window, c)
    return x.transpose(2, 3).reshape(-1, height, width, c)


class WindowAttention(nn.Module):
    """Multi-head self-attention in a window with relative position bias (eq. 4 and 5)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer(
            "relative_position_index", relative_position_index(window).flatten(), persistent=False
        )
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self, tokens: int) -> Tensor:
        """Relative position bias, (heads, tokens, tokens)."""
        table = self.relative_position_bias_table.index_select(0, self.relative_position_index)
        return table.view(tokens, tokens, self.heads).permute(2, 0, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows.

        Args:
            x: (B*nW, T, C), T tokens a window.
            mask: (nW, T, T) for shifted windows, else None.

        Returns:
            (B*nW, T, C).
        """
        # 1. Queries, keys and values of every head.
        n, t, c = x.shape
        qkv = self.qkv(x).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # n, heads, T, C/heads
        # 2. How much each token attends to each other: their product, their places, their regions.
        bias = self.bias(t).to(query.dtype)
        logits = (query * self.scale) @ key.transpose(-2, -1)
        if mask is None:
            logits = logits + bias
        else:
            both = bias + mask[:, None].to(query.dtype)  # nW, heads, T, T
            logits = (logits.view(-1, *both.shape) + both).view(n, self.heads, t, t)
        # 3. The values, so weighed, of all heads together.
        out = torch.softmax(logits, -1).to(value.dtype) @ value
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(n, t, c))
        return projected


class MLP(nn.Module):
    """Two linear layers with GELU between (eq. 6)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) to the same."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwinLayer(nn.Module):
    """Swin transformer layer (STL, fig. 2): attention, MLP, each with norm and residual."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) to the same; H and W are multiples of the window."""
        _, h, w, _ = x.shape
        y = self.norm1(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.attn(partition(y, self.window), mask if self.shift else None)
        y = reverse(y, self.window, h, w)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def residual_convolution(dim: int, connection: str) -> nn.Module:
    """The convolution at a group's end: one 3x3, or 3x3 - 1x1 - 3x3 of a quarter's width."""
    if connection == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(dim // 4, dim, 3, padding=1),
    )


class ResidualGroup(nn.Module):
    """The layers of one RSTB; the odd ones shift by half a window."""

    def __init__(self, config: SwinIRConfig, depth: int, heads: int) -> None:
        super().__init__()
        half = config.window_size // 2
        self.blocks = nn.ModuleList(
            SwinLayer(config.embed_dim, heads, config.window_size, half * (k % 2), config.mlp_ratio)
            for k in range(depth)
        )


class RSTB(nn.Module):
    """Residual Swin transformer block (eq. 3): layers, a convolution, a residual."""

    def __init__(self, config: SwinIRConfig, depth: int, heads: int) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(config, depth, heads)
        self.conv = residual_convolution(config.embed_dim, config.resi_connection)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) to the same."""
        y = x
        for layer in self.residual_group.blocks:
            y = layer(y, mask)
        out: Tensor = x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return out


class PatchEmbed(nn.Module):
    """Holds the LayerNorm that follows the shallow features (key ``patch_embed.norm``)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)


class SwinIR(Network):
    """Shallow convolution, RSTBs, reconstruction by one of four heads (section 3.1)."""

    architecture: ClassVar[str] = "swinir"
    config_type: ClassVar[type[Config]] = SwinIRConfig
    precisions: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16)

    config: SwinIRConfig
    mean: Tensor

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__()
        if config.upsampler == "" and config.scale != 1:
            raise ValueError(f"a SwinIR without upsampler has scale 1, not {config.scale}")
        self.config = config
        self.scale = config.scale
        self.channels = config.channels
        self.multiple_of = config.window_size
        self.halo = 2 * config.window_size
        dim = config.embed_dim
        mean = RGB_MEAN if config.channels == 3 else (0.0,) * config.channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(config.channels, dim, 3, padding=1)
        self.patch_embed = PatchEmbed(dim)
        self.layers = nn.ModuleList(
            RSTB(config, depth, heads)
            for depth, heads in zip(config.depths, config.num_heads, strict=True)
        )
        self.norm = nn.LayerNorm(dim)
        self.conv_after_body = residual_convolution(dim, config.resi_connection)
        self._add_head(config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def _add_head(self, config: SwinIRConfig) -> None:
        dim, out = config.embed_dim, config.channels
        features = HEAD_FEATURES
        if config.upsampler in ("pixelshuffle", "nearest+conv"):
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(dim, features, 3, padding=1), nn.LeakyReLU()
            )
        if config.upsampler == "pixelshuffle":
            self.upsample: nn.Module = Upsample(config.scale, features)
            self.conv_last = nn.Conv2d(features, out, 3, padding=1)
        elif config.upsampler == "pixelshuffledirect":
            direct = nn.Conv2d(dim, out * config.scale**2, 3, padding=1)
            self.upsample = nn.Sequential(direct, nn.PixelShuffle(config.scale))
        elif config.upsampler == "nearest+conv":
            for k, _ in enumerate(upsample_factors(config.scale), 1):
                self.add_module(f"conv_up{k}", nn.Conv2d(features, features, 3, padding=1))
            self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
            self.conv_last = nn.Conv2d(features, out, 3, padding=1)
        else:
            self.conv_last = nn.Conv2d(dim, out, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1] to (N, channels, scale*H, scale*W); any H and W from 1."""
        height, width = lr.shape[-2] * self.scale, lr.shape[-1] * self.scale
        mean = self.mean.to(lr.dtype)
        x = (pad(lr, self.config.window_size) - mean) * self.config.img_range
        y = self._reconstruct(x)
        return (y / self.config.img_range + mean)[..., :height, :width]

    def features(self, shallow: Tensor) -> Tensor:
        """Deep features (N, C, H, W) from shallow ones, without the residual around the body."""
        _, _, h, w = shallow.shape
        window = self.config.window_size
        mask = shift_mask(h, w, window, window // 2).to(shallow.device, shallow.dtype)
        x = self.patch_embed.norm(shallow.permute(0, 2, 3, 1))
        for layer in self.layers:
            x = layer(x, mask)
        out: Tensor = self.norm(x).permute(0, 3, 1, 2)
        return out

    def _reconstruct(self, x: Tensor) -> Tensor:
        shallow = self.conv_first(x)
        deep = self.conv_after_body(self.features(shallow))
        if self.config.upsampler == "":
            out: Tensor = x + self.conv_last(shallow + deep)
        elif self.config.upsampler == "pixelshuffledirect":
            out = self.upsample(shallow + deep)
        else:
            out = self._enlarge(self.conv_before_upsample(shallow + deep))
        return out

    def _enlarge(self, y: Tensor) -> Tensor:
        if self.config.upsampler == "pixelshuffle":
            shuffled: Tensor = self.conv_last(self.upsample(y))
            return shuffled
        for k, factor in enumerate(upsample_factors(self.scale), 1):
            nearest = F.interpolate(y, scale_factor=factor, mode="nearest")
            y = F.leaky_relu(self.get_submodule(f"conv_up{k}")(nearest), SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(y), SLOPE))
        return out

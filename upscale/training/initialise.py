"""Initial weights that make a network give bicubic (or the identity at scale 1) at step 0.

None of these networks has a global bicubic skip, so from the usual initialisation they spend their
first thousands of steps on learning to enlarge at all. Here the first convolution copies the pixels
of the 3x3 neighbourhood into its first features, the body leaves those alone, and the head holds
Keys' bicubic kernel (a = -0.5) phase by phase, each offset split into a tap of the head and one of
the first convolution. All other weights that reach the output start small, and training owns every
one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from upscale.models import ESRGAN, SRCNN, VAE, Network, SwinIR
from upscale.models.layers import upsample_factors
from upscale.resample import cubic

SMALL = 0.02  # factor on the remaining weights of the last convolution
SHIFTS = (-1, 0, 1)
Kernel = NDArray[np.float64]  # [shift + 1, tap + 1] of one axis


@torch.no_grad()
def from_interpolation(network: Network) -> None:
    """Set the weights of ``network`` in place so that it interpolates."""
    if isinstance(network, SRCNN):
        _srcnn(network)
    elif isinstance(network, ESRGAN):
        _esrgan(network)
    elif isinstance(network, SwinIR):
        _swinir(network)
    elif isinstance(network, VAE):
        # The part that knows nothing of z interpolates; what is added to it is small.
        _kaiming(network)
        _esrgan(network.base)
        _only_small(network.conv_detail)
        _only_small(network.conv_sigma)
    else:
        raise ValueError(f"no interpolating initialisation for {type(network).__name__}")


def bicubic_taps(scale: int, position: int) -> Kernel:
    """Weights of source pixels -2 … 2 for the fine pixel ``position`` (0 is phase 0 of pixel 0)."""
    centre = (position + 0.5) / scale - 0.5
    weight = cubic(np.arange(-2, 3, dtype=np.float64) - centre)
    return np.asarray(weight / weight.sum())


def split_taps(weights: Kernel) -> Kernel:
    """Weights of offsets -2 … 2 as [shift of the copied feature + 1, tap + 1]."""
    kernel = np.zeros((3, 3))
    for offset in range(-2, 3):
        tap = int(np.clip(offset, -1, 1))
        kernel[offset - tap + 1, tap + 1] = weights[offset + 2]
    return kernel


def nearest_kernel(factor: int, shift: int) -> Kernel:
    """The 3-tap kernel after nearest-neighbour enlargement that comes closest to bicubic.

    One kernel serves all phases; what source pixel a tap sees depends on the phase. Least squares
    over the phases, exact for ``shift`` 0 at factor 2 and 3; ``shift`` is the fine pixel, relative
    to the pixel in hand. Weights as of :func:`split_taps`.
    """
    offsets = np.arange(-3, 4)
    # A row for each phase and source pixel: what the nine weights give it, and what bicubic gives.
    rows: list[list[float]] = []
    bicubic: list[float] = []
    for phase in range(factor):
        seen = [(phase + tap) // factor for tap in (-1, 0, 1)]
        rows += [[float(s + source == k) for s in SHIFTS for source in seen] for k in offsets]
        bicubic += [0.0, *bicubic_taps(factor, phase + shift), 0.0]
    rows += [[100.0] * 9]  # flat stays flat
    bicubic += [100.0]
    weights: Kernel = np.linalg.lstsq(np.asarray(rows), np.asarray(bicubic), rcond=None)[0]
    return weights.reshape(3, 3)


def _outer(rows: Kernel, columns: Kernel) -> Tensor:
    """Two axes' kernels as (9 features, 3, 3)."""
    both = np.einsum("st,uv->sutv", rows, columns).reshape(9, 3, 3)
    return torch.from_numpy(both).float()


def _copy_neighbourhood(conv: nn.Conv2d, channels: int) -> int:
    """Let the first 9 * channels features be the pixels around; how many those are."""
    count = 9 * channels
    if conv.out_channels < count:
        raise ValueError(f"{conv.out_channels} features cannot hold {count}; use at least {count}")
    _clear(conv, slice(count))
    for k in range(count):
        conv.weight[k, k // 9, k % 9 // 3, k % 3] = 1
    return count


def _clear(conv: nn.Conv2d, features: slice | int) -> None:
    conv.weight[features] = 0
    if conv.bias is not None:
        conv.bias[features] = 0


def _pass_through(conv: nn.Conv2d, count: int) -> None:
    """The first ``count`` features go through unchanged."""
    centre = conv.kernel_size[0] // 2
    _clear(conv, slice(count))
    for k in range(count):
        conv.weight[k, k, centre, centre] = 1


def _leave_alone(block: nn.Module, count: int) -> None:
    """The body adds nothing to the first ``count`` features, and little to the rest."""
    last = [m for m in block.modules() if isinstance(m, nn.Conv2d)][-1]
    last.weight.mul_(0.1)
    _clear(last, slice(count))


def _only_small(conv: nn.Conv2d) -> None:
    conv.weight.mul_(SMALL)
    if conv.bias is not None:
        conv.bias.zero_()


def _phase_kernels(factor: int, shift: int) -> list[Kernel]:
    """Of a sub-pixel convolution along one axis, a kernel each phase."""
    return [split_taps(bicubic_taps(factor, phase + shift)) for phase in range(factor)]


def _nearest_kernels(factor: int, shift: int) -> list[Kernel]:
    return [nearest_kernel(factor, shift)]


def _stages(
    convs: Sequence[nn.Conv2d],
    factors: Sequence[int],
    channels: int,
    along: Callable[[int, int], list[Kernel]],
) -> None:
    """Stages of an enlargement, of whose kernels ``along`` has those of one axis at a shift.

    All but the last keep the whole neighbourhood.
    """
    for k, (conv, factor) in enumerate(zip(convs, factors, strict=True)):
        axis = [along(factor, s) for s in (SHIFTS if k < len(convs) - 1 else (0,))]
        kernels = [_outer(y, x) for ys, xs in product(axis, axis) for y, x in product(ys, xs)]
        for at, (c, kernel) in enumerate(product(range(channels), kernels)):
            _clear(conv, at)
            conv.weight[at, 9 * c : 9 * c + 9] = kernel


def _take(conv: nn.Conv2d, features: Sequence[int], offset: float) -> None:
    """Let the outputs of the last convolution be the given features, less ``offset``."""
    _only_small(conv)
    for c, feature in enumerate(features):
        conv.weight[c, features] = 0
        conv.weight[c, feature, 1, 1] = 1
        if conv.bias is not None:
            conv.bias[c] = -offset


def _srcnn(network: SRCNN) -> None:
    count = network.channels
    conv1, conv2, conv3 = network.conv1, network.conv2, network.conv3
    for conv in (conv1, conv2):
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        _pass_through(conv, count)
    nn.init.kaiming_normal_(conv3.weight)
    _only_small(conv3)
    conv3.weight.mul_(0.1)
    conv3.weight[:, :count] = 0
    centre = conv3.kernel_size[0] // 2
    for c in range(count):
        conv3.weight[c, c, centre, centre] = 1


def _kaiming(network: Network) -> None:
    """He's initialisation for leaky rectifiers; RRDBs start smaller (ESRGAN, section 3.1)."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if name.startswith("body."):
                module.weight.mul_(0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _esrgan(network: ESRGAN) -> None:
    config = network.config
    if config.unshuffle > 1:
        raise ValueError("no interpolating initialisation behind a pixel-unshuffle")
    _kaiming(network)
    channels = config.in_channels
    count = _copy_neighbourhood(network.conv_first, channels)
    _leave_alone(network.conv_body, count)
    if network.factors:
        _stages(network.conv_ups, network.factors, channels, _nearest_kernels)
        pixels = list(range(channels))
    else:
        pixels = [9 * c + 4 for c in range(channels)]
    _pass_through(network.conv_hr, count)
    _take(network.conv_last, pixels, 0.0)


def _swinir(network: SwinIR) -> None:
    config, channels = network.config, network.channels
    head = config.upsampler
    if head == "":  # residual around the whole network: the identity
        _only_small(network.conv_last)
        return
    count = _copy_neighbourhood(network.conv_first, channels)
    _leave_alone(network.conv_after_body, count)
    if head == "pixelshuffledirect":
        conv = network.upsample.get_submodule("0")
        assert isinstance(conv, nn.Conv2d)
        _only_small(conv)
        _stages([conv], [config.scale], channels, _phase_kernels)
        return
    before = network.conv_before_upsample.get_submodule("0")
    assert isinstance(before, nn.Conv2d)
    _pass_through(before, count)
    offset = config.img_range  # keeps the mean-free pixels positive: LeakyReLU lets them pass
    assert before.bias is not None
    before.bias[:count] = offset
    factors = upsample_factors(config.scale)
    if head == "nearest+conv":
        ups = [network.get_submodule(f"conv_up{k + 1}") for k in range(len(factors))]
        convs = [m for m in ups if isinstance(m, nn.Conv2d)]
        _stages(convs, factors, channels, _nearest_kernels)
        _pass_through(network.conv_hr, channels)
    else:
        convs = [m for m in network.upsample.modules() if isinstance(m, nn.Conv2d)]
        _stages(convs, factors, channels, _phase_kernels)
    _take(network.conv_last, range(channels), offset)

"""Programs of compiled kernels: steps over channels-last buffers (``kernels/kernels.h``).

The kernels are built with the package where a compiler is; :func:`load` is None where they are not,
or where the environment sets ``UPSCALE_KERNELS=off``. ``UPSCALE_KERNELS=avx2`` (or ``avx512``,
``baseline``) picks an instruction set instead of the best that the CPU has.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Array, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import UsageError
from upscale.models.base import Network
from upscale.models.steps import step

LIBRARY = Path(__file__).parent / "kernels" / "upscale_kernels.so"
PANEL = 16  # channels that a step writes are a multiple of it
MOST_NARROW = 4  # outputs of a convolution that runs along its inputs
WORTH_TELLING = 1e9  # products after which a run says how far it is: some 20 ms
WINOGRAD, DIRECT, NARROW, NORM, SWIN = range(5)


class _Place(Structure):
    _fields_ = [("buffer", c_int64), ("stride", c_int64), ("offset", c_int64)]


class _Attention(Structure):
    _fields_ = [
        *((name, c_int64) for name in ("heads", "head_features", "window", "shift", "hidden")),
        *(
            (name, c_void_p)
            for name in (
                *("qkv", "qkv_bias", "position", "mask", "proj", "proj_bias"),
                *("fc1", "fc1_bias", "fc2", "fc2_bias"),
            )
        ),
    ]


class _Step(Structure):
    _fields_ = [
        ("kind", c_int64),
        ("rate", c_int64),
        *((name, _Place) for name in ("source", "out", "add", "base")),
        *(
            (name, c_int64)
            for name in (*("channels", "features", "kernel", "nearest", "shuffle", "replicate"),)
        ),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("slope", c_float),
        ("beta", c_float),
        ("attention", POINTER(_Attention)),
    ]


@dataclass(frozen=True)
class Kernels:
    """The library and the name of the instruction set in use."""

    library: ctypes.CDLL
    name: str


@lru_cache(maxsize=1)
def load() -> Kernels | None:
    """The kernels of this machine; None where they are not built or switched off.

    Raises:
        UsageError: ``UPSCALE_KERNELS`` names what this build or this CPU does not have.
    """
    wanted = os.environ.get("UPSCALE_KERNELS", "")
    if wanted == "off" or not LIBRARY.exists():
        return None
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:  # built for another machine
        return None
    library.upscale_select.restype = c_char_p
    library.upscale_select.argtypes = [c_char_p]
    library.upscale_run.restype = c_int32
    library.upscale_run.argtypes = [
        *(POINTER(_Step), c_int64, POINTER(c_void_p), c_int64, c_int64, c_int64),
    ]
    library.upscale_pack_matrix.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    library.upscale_pack_matrix.restype = None
    library.upscale_pack_winograd.argtypes = [c_void_p, c_int64, c_int64, c_int64, c_void_p]
    library.upscale_pack_winograd.restype = None
    name = library.upscale_select(wanted.encode())
    if not name:
        raise UsageError(
            f"UPSCALE_KERNELS={wanted}: neither off nor an instruction set of this build and CPU; "
            "unset it for the best there is"
        )
    return Kernels(library, name.decode())


def padded(channels: int) -> int:
    """``channels`` rounded up to what a step writes."""
    return -(-channels // PANEL) * PANEL


@dataclass(frozen=True)
class Place:
    """Channels of a buffer: ``parts`` lie one after the other, each padded to ``PANEL``."""

    buffer: int
    stride: int
    offset: int
    parts: tuple[int, ...]

    @property
    def channels(self) -> int:
        """With their padding."""
        return sum(padded(part) for part in self.parts)

    def struct(self) -> _Place:
        """For the library."""
        return _Place(self.buffer, self.stride, self.offset)

    def __getitem__(self, index: slice) -> Place:
        """Some of the parts."""
        start, stop, _ = index.indices(len(self.parts))
        before = sum(padded(part) for part in self.parts[:start])
        return Place(self.buffer, self.stride, self.offset + before, self.parts[start:stop])


NOWHERE = Place(-1, 0, 0, ())


class Program:
    """Steps that a network runs over one picture, and the buffers between them.

    A buffer is (H * rate, W * rate, channels) float32; buffer 0 is the input, which the caller
    gives, and the last step's output is the result.
    """

    def __init__(
        self, kernels: Kernels, channels: int, rate: int = 1, *, tight: bool = True
    ) -> None:
        self.kernels = kernels
        self.buffers: list[tuple[int, int]] = []  # rate, stride
        self.steps: list[_Step] = []
        self.work: list[float] = []  # of each step: products for a pixel of the program's input
        self.kept: list[object] = []  # what the steps point to
        self.input = self.buffer(channels, rate=rate, tight=tight)

    def buffer(self, *parts: int, rate: int = 1, tight: bool = False) -> Place:
        """A new buffer for channels in ``parts``; ``tight``: without padding."""
        stride = sum(parts) if tight else sum(padded(part) for part in parts)
        self.buffers.append((rate, stride))
        return Place(len(self.buffers) - 1, stride, 0, parts)

    def convolution(
        self,
        source: Place,
        out: Place,
        weight: Tensor,
        bias: Tensor | None,
        *,
        slope: float = 1.0,
        add: Place = NOWHERE,
        base: Place = NOWHERE,
        beta: float = 1.0,
        nearest: int = 1,
        shuffle: int = 1,
        replicate: bool = False,
    ) -> Place:
        """``out = base + beta * (add + leaky(conv(source)))``; gives ``out``.

        Args:
            source: Read after enlargement ``nearest``.
            out: Written; at ``shuffle`` times the size where that is a pixel shuffle.
            weight: (O, C, k, k) with C the real channels of ``source``; k odd.
            bias: (O,).
            slope: Of LeakyReLU; 1 for none, 0 for ReLU.
            add: See above.
            base: See above.
            beta: See above.
            nearest: Nearest-neighbour enlargement in front.
            shuffle: Pixel shuffle behind.
            replicate: Padding by the edge pixel instead of zeros.
        """
        weight = weight.detach().float()
        outputs, channels, side, _ = weight.shape
        bias = torch.zeros(outputs) if bias is None else bias.detach().float()
        if shuffle > 1:
            weight, bias = _by_phase(weight, shuffle), _by_phase(bias, shuffle)
        tight = self.buffers[source.buffer][1] == channels  # nothing between its pixels
        if not tight:
            weight = _spread(weight, source.parts)
        narrow = out.stride == outputs <= MOST_NARROW and weight.shape[1] % PANEL == 0
        if not narrow:
            if out.stride % PANEL:
                raise ValueError(f"a buffer of {out.stride} channels cannot take this convolution")
            weight, bias = _grow(weight), _grow(bias)
        outputs, channels = weight.shape[:2]
        if narrow:
            kind, packed = NARROW, weight.permute(0, 2, 3, 1).contiguous()
        elif side in (3, 5) and channels % PANEL == 0:
            kind, packed = WINOGRAD, self._pack_winograd(weight)
        else:
            kind, packed = DIRECT, self.pack(weight.permute(0, 2, 3, 1).reshape(outputs, -1))
        rate = self.buffers[source.buffer][0] * nearest
        self.work.append(float(rate**2 * outputs * channels * side**2))
        self.steps.append(
            _Step(
                *(kind, rate, source.struct(), out.struct(), add.struct(), base.struct()),
                *(channels, outputs, side, nearest, shuffle, int(replicate)),
                *(self._keep(packed), self._keep(bias), slope, beta, None),
            )
        )
        return out

    def norm(self, source: Place, out: Place, weight: Tensor, bias: Tensor) -> Place:
        """LayerNorm over the channels, which are one part; gives ``out``."""
        self._pixelwise(NORM, source, out, self._keep(weight), self._keep(bias), None)
        return out

    def swin(self, source: Place, out: Place, attention: dict[str, int | Tensor | None]) -> Place:
        """A Swin layer; ``attention`` has the fields of ``Attention`` in ``kernels.h``."""
        matrices = [
            v for k, v in attention.items() if isinstance(v, Tensor) and f"{k}_bias" in attention
        ]
        values = {
            name: self._keep(value) if isinstance(value, Tensor) else value
            for name, value in attention.items()
        }
        struct = _Attention(**values)
        self.kept.append(struct)
        self._pixelwise(SWIN, source, out, None, None, ctypes.pointer(struct))
        self.work[-1] = float(sum(matrix.numel() for matrix in matrices))
        return out

    def _pixelwise(
        self, kind: int, source: Place, out: Place, weight: int | None, bias: int | None, more: Any
    ) -> None:
        nowhere = NOWHERE.struct()
        self.work.append(0.0)
        rate = self.buffers[source.buffer][0]
        self.steps.append(
            _Step(
                *(kind, rate, source.struct(), out.struct(), nowhere, nowhere),
                *(source.parts[0], out.channels, 1, 1, 1, 0, weight, bias, 1.0, 1.0, more),
            )
        )

    def run(self, picture: Tensor, out: Place) -> Tensor:
        """Run the steps over (1, C, H, W) float32.

        Args:
            picture: What the input buffer holds; cheapest in channels-last order.
            out: Its channels are the result.

        Returns:
            (1, channels of ``out``, H', W') in channels-last order.

        Raises:
            MemoryError: A thread's working memory could not be had.
        """
        rate, stride = self.buffers[0]
        height, width = picture.shape[-2] // rate, picture.shape[-1] // rate
        first = _with_channels(picture[0].permute(1, 2, 0), stride)
        tensors = [first] + [torch.empty(height * r, width * r, s) for r, s in self.buffers[1:]]
        pointers = (c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
        for steps, work in self._calls(height * width):
            if self.kernels.library.upscale_run(
                steps, len(steps), pointers, height, width, torch.get_num_threads()
            ):
                raise MemoryError("no memory for the kernels' work")
            step(work)
        channels = out.parts[0]
        return tensors[out.buffer][..., out.offset : out.offset + channels].permute(2, 0, 1)[None]

    def _calls(self, pixels: int) -> Iterator[tuple[Array[_Step], float]]:
        """The steps in groups, each worth telling that it is done, with their work."""
        group: list[_Step] = []
        work = 0.0
        for at, (part, each_pixel) in enumerate(zip(self.steps, self.work, strict=True), 1):
            group.append(part)
            work += each_pixel * pixels
            if work >= WORTH_TELLING or at == len(self.steps):
                yield (_Step * len(group))(*group), work
                group, work = [], 0.0

    def pack(self, weight: Tensor) -> Tensor:
        """(outputs, inputs) for the library's product; outputs a multiple of ``PANEL``."""
        weight = weight.detach().float().contiguous()
        packed = torch.empty(weight.numel())
        self.kernels.library.upscale_pack_matrix(
            weight.data_ptr(), *weight.shape, packed.data_ptr()
        )
        return packed

    def _pack_winograd(self, weight: Tensor) -> Tensor:
        weight = weight.contiguous()
        outputs, channels, side, _ = weight.shape
        packed = torch.empty(36 * outputs * channels)
        self.kernels.library.upscale_pack_winograd(
            weight.data_ptr(), outputs, channels, side, packed.data_ptr()
        )
        return packed

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.detach().float().contiguous()
        self.kept.append(tensor)
        return tensor.data_ptr()


def take_contract(fast: Network, network: Network) -> None:
    """Give a form for inference what every network says of itself."""
    fast.scale, fast.channels = network.scale, network.channels
    fast.noise_channels, fast.multiple_of = network.noise_channels, network.multiple_of
    fast.halo, fast.halo_is_exact = network.halo, network.halo_is_exact


def each(program: Program, pictures: Tensor, out: Place) -> Tensor:
    """Run a program over (N, C, H, W), picture by picture."""
    results = [program.run(picture, out) for picture in torch.split(pictures, 1)]
    return results[0] if len(results) == 1 else torch.cat(results)


def convolve(
    program: Program, layer: nn.Module | Tensor, source: Place, out: Place, **options: Any
) -> Place:
    """A step with the weights of a convolution."""
    layer = cast("nn.Conv2d", layer)
    return program.convolution(source, out, layer.weight, layer.bias, **options)


def grow(tensor: Tensor, size: int, axis: int = 0) -> Tensor:
    """Zeros appended along an axis up to ``size``."""
    missing = size - tensor.shape[axis]
    pads = [0, 0] * (tensor.ndim - 1 - axis) + [0, missing]
    return F.pad(tensor, pads)


def _grow(tensor: Tensor) -> Tensor:
    return grow(tensor.contiguous(), padded(tensor.shape[0]))


def _spread(weight: Tensor, parts: Sequence[int]) -> Tensor:
    """Inputs (axis 1) moved to where padded parts have them."""
    split = torch.split(weight, list(parts), 1)
    return torch.cat([grow(part, padded(part.shape[1]), 1) for part in split], 1)


def _by_phase(tensor: Tensor, factor: int) -> Tensor:
    """Outputs of a pixel shuffle, (C * r * r, ...) to (r * r * padded C, ...)."""
    each = tensor.reshape(-1, factor**2, *tensor.shape[1:]).transpose(0, 1)  # r*r, C, ...
    return grow(each, padded(each.shape[1]), 1).flatten(0, 1)


def _with_channels(picture: Tensor, channels: int) -> Tensor:
    """(H, W, C) contiguous float32 with zeros behind the channels that it has."""
    return grow(picture.float(), channels, 2).contiguous()

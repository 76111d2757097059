"""Programs of compiled kernels: steps over channels-last buffers.

``kernels/kernels.h`` is the other side of this file: the structures here mirror those there. A
:class:`Program` is what a network's form is made of, step by step, once; it runs over any picture.

The kernels are built with the package where a compiler is; :func:`load` is None where they are not,
or where the environment sets ``UPSCALE_KERNELS=off``. ``UPSCALE_KERNELS=avx2`` (or ``avx512``,
``baseline``) picks an instruction set instead of the best that the CPU has.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Array, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import UsageError
from upscale.models import Network, step

LIBRARY = Path(__file__).parent / "kernels" / "upscale_kernels.so"
PANEL = 16  # channels that a step writes are a multiple of it
MOST_NARROW = 4  # outputs of a convolution that runs along its inputs
WORTH_TELLING = 1e9  # products of a thread after which a run says how far it is: some 20 ms
WINOGRAD, DIRECT, NARROW, NORM, SWIN = range(5)


class KernelView(Structure):
    """``Place`` of the header."""

    _fields_ = [("buffer", c_int64), ("stride", c_int64), ("offset", c_int64)]


class KernelAttention(Structure):
    """``Attention`` of the header."""

    _fields_ = [
        *((name, c_int64) for name in ("heads", "head_features", "window", "shift", "hidden")),
        *((name, c_void_p) for name in ("qkv", "position", "mask", "proj", "fc1", "fc2")),
        *((name, c_void_p) for name in ("qkv_bias", "proj_bias", "fc1_bias", "fc2_bias")),
    ]


class KernelStep(Structure):
    """``Step`` of the header."""

    _fields_ = [
        ("kind", c_int64),
        ("rate", c_int64),
        *((name, KernelView) for name in ("source", "out", "add", "base")),  # "in" is Python's
        *((name, c_int64) for name in ("channels", "features", "kernel")),
        *((name, c_int64) for name in ("nearest", "shuffle", "replicate", "bf16")),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("slope", c_float),
        ("beta", c_float),
        ("attention", POINTER(KernelAttention)),
    ]


INTERFACE = 2  # upscale_interface() of kernels.h, changed with every change there
SIZES = (ctypes.sizeof(KernelStep), ctypes.sizeof(KernelAttention))


@dataclass(frozen=True)
class Kernels:
    """The library, the instruction set in use, and whether its products are bfloat16."""

    library: ctypes.CDLL
    name: str
    bf16: bool = False

    def in_bf16(self) -> Kernels | None:
        """The same with products of bfloat16; None where the CPU has none."""
        return replace(self, bf16=True) if self.library.upscale_has_bf16() else None


@lru_cache(maxsize=1)
def load() -> Kernels | None:
    """The kernels of this machine; None where they are not built or switched off.

    Raises:
        UsageError: ``UPSCALE_KERNELS`` names what this build or this CPU does not have.
    """
    chosen = os.environ.get("UPSCALE_KERNELS", "")
    reason = trouble()
    if chosen == "off" or (reason and not chosen):
        return None
    name = None if reason else _library().upscale_select(chosen.encode())
    if not name:
        raise UsageError(
            f"UPSCALE_KERNELS={chosen}: neither off nor an instruction set of this build and CPU; "
            "unset it for the best there is"
        )
    return Kernels(_library(), name.decode())


def trouble() -> str:
    """Why there are no kernels here; empty where there are."""
    if not LIBRARY.exists():
        return "not built: no C++ compiler (GCC 11 or Clang) when upscale was installed"
    try:
        library = _library()
    except (OSError, AttributeError) as error:  # of another machine, or too old for a symbol
        return f"cannot be loaded: {error}"
    sizes = (c_int64 * 2)()
    if library.upscale_interface(sizes) != INTERFACE or tuple(sizes) != SIZES:
        return "built from other sources: install upscale again"
    return ""


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(LIBRARY))
    library.upscale_interface.argtypes = [POINTER(c_int64)]
    library.upscale_select.restype = c_char_p
    library.upscale_select.argtypes = [c_char_p]
    library.upscale_run.restype = c_int32
    library.upscale_run.argtypes = [
        *(POINTER(KernelStep), c_int64, POINTER(c_void_p), c_int64, c_int64, c_int64),
    ]
    library.upscale_pack_matrix.argtypes = [c_void_p, c_int64, c_int64, c_void_p]
    library.upscale_pack_matrix.restype = None
    library.upscale_pack_winograd.argtypes = [c_void_p, c_int64, c_int64, c_int64, c_void_p]
    library.upscale_pack_winograd.restype = None
    return library


def floats(*size: int) -> Tensor:
    """Memory for the library, whatever PyTorch's default dtype and device are."""
    return torch.empty(size, dtype=torch.float32, device="cpu")


def padded(channels: int) -> int:
    """``channels`` rounded up to what a step writes."""
    return -(-channels // PANEL) * PANEL


@dataclass(frozen=True)
class View:
    """Channels of a buffer: ``parts`` lie one after the other, each padded to ``PANEL``."""

    buffer: int
    stride: int
    offset: int
    parts: tuple[int, ...]

    @property
    def channels(self) -> int:
        """With their padding."""
        return sum(padded(part) for part in self.parts)

    def struct(self) -> KernelView:
        """For the library."""
        return KernelView(self.buffer, self.stride, self.offset)

    def __getitem__(self, index: slice) -> View:
        """Some of the parts."""
        start, stop, _ = index.indices(len(self.parts))
        before = sum(padded(part) for part in self.parts[:start])
        return View(self.buffer, self.stride, self.offset + before, self.parts[start:stop])


NONE = View(-1, 0, 0, ())


class Program:
    """Steps that a network runs over one picture, and the buffers between them.

    A buffer is (H * rate, W * rate, channels) float32; buffer 0 is the input, which the caller
    gives, and what the last step wrote is the result.
    """

    def __init__(self, kernels: Kernels, channels: int, *, tight: bool = True) -> None:
        self.kernels = kernels
        self.buffers: list[tuple[int, int]] = []  # rate, stride
        self.steps: list[KernelStep] = []
        self.work: list[float] = []  # of each step: products for a pixel of the program's input
        self.memory: list[object] = []  # what the steps point to
        self.input = self.out = self.buffer(channels, tight=tight)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        """Itself: nothing changes after it was made."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: it points into memory."""
        raise TypeError("a network's compiled form cannot be sent: send the network and prepare it")

    def buffer(self, *parts: int, rate: int = 1, tight: bool = False) -> View:
        """A new buffer for channels in ``parts``; ``tight``: without padding."""
        stride = sum(parts) if tight else sum(padded(part) for part in parts)
        self.buffers.append((rate, stride))
        return View(len(self.buffers) - 1, stride, 0, parts)

    def picture(self, channels: int, rate: int) -> View:
        """A buffer for a result, without padding where a convolution can leave it out."""
        return self.buffer(channels, rate=rate, tight=channels <= MOST_NARROW)

    def convolve(self, layer: nn.Module | Tensor, source: View, out: View, **options: Any) -> View:
        """A step with the weights of a layer; see :meth:`convolution`."""
        layer = cast("nn.Conv2d", layer)
        return self.convolution(source, out, layer.weight, layer.bias, **options)

    def convolution(
        self,
        source: View,
        out: View,
        weight: Tensor,
        bias: Tensor | None,
        *,
        slope: float = 1.0,
        add: View = NONE,
        base: View = NONE,
        beta: float = 1.0,
        nearest: int = 1,
        shuffle: int = 1,
        replicate: bool = False,
        exact: bool = False,
    ) -> View:
        """``out = base + beta * (add + leaky(conv(source)))``; gives ``out``.

        Args:
            source: Read after nearest-neighbour enlargement by ``nearest``.
            out: Written, ``shuffle`` times as large.
            weight: (O, C, k, k) with C the real channels of ``source``; k odd.
            bias: (O,).
            slope: Of LeakyReLU; 1 for none, 0 for ReLU.
            add: Added before ``beta`` multiplies.
            base: Added after it.
            beta: See above.
            nearest: Enlargement in front.
            shuffle: Pixel shuffle behind.
            replicate: Padding by the edge pixel instead of zeros.
            exact: Products of float32 in every program.
        """
        rate = self.buffers[source.buffer][0] * nearest
        # 1. Outputs in the order of the shuffle's phases; inputs where the source has them.
        weight, bias = self._aligned(source, weight, bias, shuffle)
        # 2. A few outputs run along the inputs; more of them fill whole panels.
        narrow = out.stride == len(weight) <= MOST_NARROW and weight.shape[1] % PANEL == 0
        if not narrow:
            self._check_padded(out, add, base)
            weight, bias = _whole_panels(weight), _whole_panels(bias)
        # 3. The step, and the weights as it reads them.
        kind, packed = self._packed(weight, narrow=narrow, exact=exact)
        more: dict[str, float] = {"nearest": nearest, "shuffle": shuffle, "replicate": replicate}
        more |= {"slope": slope, "beta": beta}
        return self._step(
            kind,
            source,
            out,
            products=float(rate**2 * weight.numel()),
            rate=rate,
            add=add.struct(),
            base=base.struct(),
            channels=weight.shape[1],
            features=len(weight),
            kernel=weight.shape[2],
            bf16=int(packed.dtype == torch.bfloat16),
            weight=self._keep(packed),
            bias=self._keep(bias),
            **more,
        )

    def _check_padded(self, *views: View) -> None:
        if any(view.stride % PANEL for view in views):
            raise ValueError("a convolution of many outputs writes and adds padded buffers")

    def _aligned(
        self, source: View, weight: Tensor, bias: Tensor | None, shuffle: int
    ) -> tuple[Tensor, Tensor]:
        """Weight and bias in float32, their channels in the order of the buffers."""
        weight = weight.detach().float()
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float()
        if shuffle > 1:
            weight, bias = _by_phase(weight, shuffle), _by_phase(bias, shuffle)
        if self.buffers[source.buffer][1] != weight.shape[1]:  # padding between its pixels
            weight = _spread(weight, source.parts)
        return weight, bias

    def _packed(self, weight: Tensor, *, narrow: bool, exact: bool) -> tuple[int, Tensor]:
        """The kind of a convolution's step, and its weights as that reads them."""
        by_pixel = weight.permute(0, 2, 3, 1)
        if narrow:  # vectors run along the inputs; it makes the pixels, so it stays in float32
            return NARROW, by_pixel.contiguous()
        whole = weight.shape[1] % PANEL == 0
        if weight.shape[2] in (3, 5) and whole:
            kind, packed = WINOGRAD, self._pack_winograd(weight)
        else:
            kind, packed = DIRECT, self.pack(by_pixel.reshape(len(weight), -1))
        return kind, packed if exact or not whole else self._halved(packed)

    def norm(self, source: View, out: View, weight: Tensor, bias: Tensor) -> View:
        """LayerNorm over the channels, which are one part; gives ``out``."""
        memory = {"weight": self._keep(weight), "bias": self._keep(bias)}
        return self._step(NORM, source, out, products=0.0, **memory)

    def swin(self, source: View, out: View, attention: dict[str, int | Tensor | None]) -> View:
        """A Swin layer; ``attention`` has the fields of ``Attention`` in ``kernels.h``."""
        weights = {
            name: cast("Tensor", value)
            for name, value in attention.items()
            if f"{name}_bias" in attention
        }
        depths = (source.parts[0], cast("int", attention["hidden"]))
        bf16 = self.kernels.bf16 and not any(depth % 2 for depth in depths)
        if bf16:
            attention |= {name: self._halved(weight) for name, weight in weights.items()}
        values = {
            name: self._keep(value) if isinstance(value, Tensor) else value
            for name, value in attention.items()
        }
        struct = KernelAttention(**values)
        self.memory.append(struct)
        products = float(sum(weight.numel() for weight in weights.values()))
        fields = {"bf16": int(bf16), "attention": ctypes.pointer(struct)}
        return self._step(SWIN, source, out, products=products, **fields)

    def _step(self, kind: int, source: View, out: View, *, products: float, **fields: Any) -> View:
        """Append a step; ``fields`` are those that differ from the plainest step's."""
        plain = {
            "add": NONE.struct(),
            "base": NONE.struct(),
            "rate": self.buffers[source.buffer][0],
        }
        plain |= {"channels": source.parts[0], "features": out.channels}
        plain |= {"kernel": 1, "nearest": 1, "shuffle": 1, "slope": 1.0, "beta": 1.0, "bf16": 0}
        views = {"source": source.struct(), "out": out.struct()}
        self.steps.append(KernelStep(kind, **views, **(plain | fields)))
        self.work.append(products)
        self.out = out
        return out

    def run(self, picture: Tensor) -> Tensor:
        """Run the steps over (1, C, H, W) float32; cheapest in channels-last order.

        Returns:
            (1, C', H', W'), what the last step wrote, in channels-last order.

        Raises:
            MemoryError: No thread could have its working memory.
            ValueError: ``picture`` has another shape or is elsewhere.
        """
        channels, (height, width) = self.input.parts[0], picture.shape[-2:]
        if picture.shape[:2] != (1, channels) or picture.device.type != "cpu":
            raise ValueError(
                f"{tuple(picture.shape)} on {picture.device} is no (1, {channels}, H, W) on the CPU"
            )
        # 1. Memory for every buffer: the input's is filled, the others are written by their steps.
        first = grow(picture[0].permute(1, 2, 0).float(), self.input.stride, 2).contiguous()
        tensors = [first] + [floats(height * r, width * r, s) for r, s in self.buffers[1:]]
        pointers = (c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
        # 2. The steps, a group at a time, so that progress is told.
        threads = torch.get_num_threads()
        for steps, work in self._calls(height * width, threads):
            if self.kernels.library.upscale_run(
                steps, len(steps), pointers, height, width, threads
            ):
                raise MemoryError("no memory for the kernels' work")
            step(work)
        # 3. The result's channels, without their padding.
        channels, out = self.out.parts[0], self.out
        return tensors[out.buffer][..., out.offset : out.offset + channels].permute(2, 0, 1)[None]

    def __call__(self, pictures: Tensor) -> Tensor:
        """:meth:`run` over each picture of (N, C, H, W)."""
        results = [self.run(picture) for picture in torch.split(pictures, 1)]
        return results[0] if len(results) == 1 else torch.cat(results)

    def _calls(self, pixels: int, threads: int) -> Iterator[tuple[Array[KernelStep], float]]:
        """The steps in groups, each worth telling that it is done, with their work."""
        group: list[KernelStep] = []
        work = 0.0
        for at, (part, each_pixel) in enumerate(zip(self.steps, self.work, strict=True), 1):
            group.append(part)
            work += each_pixel * pixels
            if work >= WORTH_TELLING * threads or at == len(self.steps):
                yield (KernelStep * len(group))(*group), work
                group, work = [], 0.0

    def pack(self, weight: Tensor) -> Tensor:
        """(outputs, inputs) for the library's product; outputs a multiple of ``PANEL``."""
        weight = weight.detach().float().contiguous()
        packed = floats(weight.numel())
        self.kernels.library.upscale_pack_matrix(
            weight.data_ptr(), *weight.shape, packed.data_ptr()
        )
        return packed

    def _halved(self, packed: Tensor) -> Tensor:
        """What was packed, for products of bfloat16: rounded, its rows by pairs."""
        if not self.kernels.bf16:
            return packed
        return packed.view(-1, 2, PANEL).transpose(1, 2).bfloat16()

    def _pack_winograd(self, weight: Tensor) -> Tensor:
        weight = weight.contiguous()
        outputs, channels, side, _ = weight.shape
        packed = floats(36 * outputs * channels)
        self.kernels.library.upscale_pack_winograd(
            weight.data_ptr(), outputs, channels, side, packed.data_ptr()
        )
        return packed

    def _keep(self, tensor: Tensor) -> int:
        if tensor.dtype != torch.bfloat16:
            tensor = tensor.detach().float()
        self.memory.append(tensor := tensor.contiguous())
        return tensor.data_ptr()


def begin(fast: Network, network: Network, kernels: Kernels) -> None:
    """Make ``fast``, which has no parameters yet, say of itself what ``network`` does."""
    nn.Module.__init__(fast)
    fast.config, fast.backend = network.config, f"native {kernels.name}"
    fast.scale, fast.channels = network.scale, network.channels
    fast.noise_channels, fast.multiple_of = network.noise_channels, network.multiple_of
    fast.halo, fast.halo_is_exact = network.halo, network.halo_is_exact


def grow(tensor: Tensor, size: int, axis: int = 0) -> Tensor:
    """Zeros appended along an axis up to ``size``."""
    missing = size - tensor.shape[axis]
    if missing == 0:
        return tensor
    return F.pad(tensor, [0, 0] * (tensor.ndim - 1 - axis) + [0, missing])


def _whole_panels(tensor: Tensor) -> Tensor:
    return grow(tensor.contiguous(), padded(len(tensor)))


def _spread(weight: Tensor, parts: Sequence[int]) -> Tensor:
    """Inputs (axis 1) moved to where padded parts have them."""
    split = torch.split(weight, list(parts), 1)
    return torch.cat([grow(part, padded(part.shape[1]), 1) for part in split], 1)


def _by_phase(tensor: Tensor, factor: int) -> Tensor:
    """Outputs of a pixel shuffle, (C * r * r, ...) to (r * r * padded C, ...)."""
    each = tensor.reshape(-1, factor**2, *tensor.shape[1:]).transpose(0, 1)  # r*r, C, ...
    return grow(each, padded(each.shape[1]), 1).flatten(0, 1)

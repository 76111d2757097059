"""ncnn's models: a text graph (``.param``) and the values of its layers (``.bin`` beside it).

A line of the graph names a layer, the blobs that it reads and writes, and numbered parameters; the
values stand in the ``.bin`` in the order of the lines. Here both become steps that lead from the
picture to the result; ``layouts/ncnn.py`` says which network they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscale.errors import ArchitectureError, CheckpointError

MAGIC = "7767517"
HALF, INT8 = 0x01306B47, 0x000D4B38  # what stands before a layer's weights; 0: float32
TRAINED = ("Convolution", "PReLU")
KNOWN = (
    *("Input", "Split", "Noop", "Dropout", "LeakyReLU", "ReLU", "Concat", "Eltwise", "BinaryOp"),
    *("Interp", "PixelShuffle", "Reorg", *TRAINED),
)
MOST_JOINED = 64  # sources of a concatenation; dense blocks have 5
ARRAY = -23300  # parameter k that holds several values is written as -23300 - k
MAX_TEXT = 1 << 24

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NcnnLayer:
    """A line of the graph; its inputs and outputs are names of blobs, its parameters numbered."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, tuple[float, ...]]

    def number(self, key: int, default: float = 0) -> float:
        """A parameter that is one number."""
        (value,) = self.parameters.get(key, (default,))
        return value

    def whole(self, key: int, default: int = 0) -> int:
        """A parameter that is one whole number."""
        value = self.number(key, default)
        if value != int(value):
            raise ValueError(f"parameter {key} is {value:g}")
        return int(value)

    def __str__(self) -> str:
        return f"its layer {self.name} ({self.type})"


@dataclass(frozen=True, eq=False)
class Node:
    """A step of the graph in one of few forms, whichever way a converter wrote it."""

    # "input", "conv", "prelu", "concat", "sum", "nearest", "resize", "shuffle", "unshuffle"
    operation: str
    layer: NcnnLayer  # the line that it came from, for messages
    sources: tuple[Node, ...] = ()  # what it reads
    factors: tuple[Fraction, ...] = ()  # of a sum, one for each source; of resizing steps, one
    slope: float | None = None  # of the LeakyReLU after a convolution; None without
    tensors: dict[str, Tensor] = field(default_factory=dict)  # by name: weight, bias


def read_graph(graph: bytes, values: bytes) -> tuple[Node, int]:
    """Of a ``.param`` and its ``.bin`` the step that makes the output, and how many hold values."""
    layers = parse(graph)
    for layer in layers:
        if layer.type not in KNOWN:
            raise ArchitectureError(
                f"{layer} is of no network that is read from ncnn's form; these are ESRGAN (RRDB) "
                f"and SRVGGNet Compact"
            )
    nodes = dict(_nodes(layers, _Values(values)))
    return nodes[_end(layers)], sum(layer.type in TRAINED for layer in layers)


def parse(graph: bytes) -> list[NcnnLayer]:
    """The lines of a ``.param``."""
    if len(graph) > MAX_TEXT:
        raise CheckpointError(f"it has {len(graph):,} bytes, too many for a graph; fetch it again")
    try:
        first, *lines = graph.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            "it is no text; give the .param as text, and ncnn's binary form is not read"
        ) from error
    lines = [line for line in lines if line.strip()]
    if first.strip() != MAGIC:
        raise CheckpointError(
            f"it is no ncnn model: it does not begin with {MAGIC}; fetch it again"
        )
    try:
        count = int(lines[0].split()[0])
        layers = [_layer(line) for line in lines[1:]]
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"it is damaged: its graph cannot be read ({error}); fetch it again"
        ) from error
    if len(layers) != count or not layers:
        raise CheckpointError(
            f"it is cut short or damaged: it has {len(layers)} layers and claims {count}; fetch it "
            f"again"
        )
    return layers


def _layer(line: str) -> NcnnLayer:
    kind, name, reads, writes, *rest = line.split()
    ins, outs = int(reads), int(writes)
    if min(ins, outs) < 0 or len(rest) < ins + outs:
        raise ValueError(f"layer {name} names too few blobs")
    parameters: dict[int, tuple[float, ...]] = {}
    for text in rest[ins + outs :]:
        key, _, value = text.partition("=")
        numbers = tuple(float(number) for number in value.split(","))
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"layer {name} has {value!r}")
        if int(key) <= ARRAY:
            if numbers[0] != len(numbers) - 1:
                raise ValueError(f"layer {name} has {value!r}")
            parameters[ARRAY - int(key)] = numbers[1:]
        else:
            parameters[int(key)] = numbers
    return NcnnLayer(kind, name, tuple(rest[:ins]), tuple(rest[ins : ins + outs]), parameters)


class _Values:
    """The ``.bin``, read from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, size: int, layer: NcnnLayer) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            raise CheckpointError(
                f"its .bin is cut short: it has {len(self._data):,} bytes and ends within "
                f"{layer.name}; fetch it again"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def floats(self, count: int, layer: NcnnLayer) -> Array:
        """Values that are always stored as float32."""
        return np.frombuffer(self._take(4 * count, layer), "<f4").astype(np.float32)

    def weights(self, count: int, layer: NcnnLayer) -> Array:
        """Weights: a word that names their storage, then they, padded to four bytes."""
        storage = int.from_bytes(self._take(4, layer), "little")
        if storage == HALF:
            data = self._take((2 * count + 3) // 4 * 4, layer)
            return np.frombuffer(data, "<f2", max(count, 0)).astype(np.float32)
        if storage:
            how = "as int8" if storage == INT8 else f"in a way unknown here ({storage:#010x})"
            raise CheckpointError(
                f"{layer} is stored {how}, or the .bin is another model's; give the model in fp16 "
                f"or fp32"
            )
        return self.floats(count, layer)

    def end(self) -> None:
        """Refuse what is left."""
        if self._at != len(self._data):
            raise CheckpointError(
                f"its .bin is too long: its layers need {self._at:,} bytes and it has "
                f"{len(self._data):,}; give the .bin of this .param"
            )


def _nodes(layers: list[NcnnLayer], values: _Values) -> Iterator[tuple[str, Node]]:
    """Every blob with the step that makes it, in the order of the graph."""
    blobs: dict[str, Node] = {}
    for layer in layers:
        try:
            sources = tuple(blobs[name] for name in layer.inputs)
        except KeyError as error:
            raise CheckpointError(
                f"{layer} reads {error}, which nothing before it makes; fetch it again"
            ) from error
        if (layer.type == "Input") == bool(sources):
            raise ArchitectureError(f"{layer} reads {len(sources)} blobs; fetch it again")
        try:
            node = _node(layer, sources, values)
        except ValueError as error:
            raise CheckpointError(f"{layer} cannot be read ({error}); fetch it again") from error
        for name in layer.outputs:
            blobs[name] = node
            yield name, node
    values.end()


def _end(layers: list[NcnnLayer]) -> str:
    """The blob that nothing reads."""
    read = {name for layer in layers for name in layer.inputs}
    ends = [name for layer in layers for name in layer.outputs if name not in read]
    inputs = [layer for layer in layers if layer.type == "Input"]
    if len(ends) != 1 or len(inputs) != 1:
        raise ArchitectureError(
            f"it has {len(inputs)} inputs and {len(ends)} outputs; upscale runs networks from one "
            f"picture to one"
        )
    return ends[0]


def _node(layer: NcnnLayer, sources: tuple[Node, ...], values: _Values) -> Node:
    """What a layer does, in one of the forms of :class:`Node`."""
    match layer.type:
        case "Input":
            return Node("input", layer)
        case "Split" | "Noop" | "Dropout" if len(sources) == 1:
            return sources[0]
        case "Convolution":
            return _convolution(layer, sources, values)
        case "PReLU":
            slopes = torch.from_numpy(values.floats(layer.whole(0), layer))
            return Node("prelu", layer, sources, tensors={"weight": slopes})
        case "LeakyReLU" | "ReLU" if sources[0].operation == "conv" and sources[0].slope is None:
            return replace(sources[0], slope=layer.number(0))
        case "Concat" if layer.whole(0) == 0:
            flat = [n for s in sources for n in (s.sources if s.operation == "concat" else (s,))]
            if len(flat) <= MOST_JOINED:
                return Node("concat", layer, tuple(flat))
        case "Eltwise" if layer.whole(0) == 1:
            return _sum(layer, sources, layer.parameters.get(1) or (1.0,) * len(sources))
        case "BinaryOp" if layer.whole(0) == 0 and len(sources) == 2:
            return _sum(layer, sources, (1.0, 1.0))
        case "BinaryOp" if layer.whole(0) == 2 and len(sources) == 1 and layer.whole(1) == 1:
            return _sum(layer, sources, (layer.number(2),))
        case "Interp" if 1 <= layer.whole(0) <= 3 and len(sources) == 1:
            sides = [Fraction(layer.number(k)).limit_denominator(16) for k in (1, 2)]
            if sides[0] == sides[1] > 0:
                operation = "nearest" if layer.whole(0) == 1 else "resize"
                return Node(operation, layer, sources, (sides[0],))
        case "PixelShuffle" | "Reorg" if layer.whole(0) > 0 and layer.whole(1) == 0:
            operation = "shuffle" if layer.type == "PixelShuffle" else "unshuffle"
            return Node(operation, layer, sources, (Fraction(layer.whole(0)),))
    return refuse(layer)


def refuse(layer: NcnnLayer) -> NoReturn:
    """Say which layer is of no network that is read here."""
    raise ArchitectureError(
        f"{layer} is not as ESRGAN (RRDB) or SRVGGNet Compact has it; it is another network, or a "
        f"variant that is not supported"
    )


def _convolution(layer: NcnnLayer, sources: tuple[Node, ...], values: _Values) -> Node:
    """A convolution that keeps the picture's size, with the activation that ncnn fused into it."""
    if layer.whole(8) or layer.whole(19):
        raise CheckpointError(
            f"{layer} is quantised or has values that change; give the model in fp16 or fp32"
        )
    features, side, size = layer.whole(0), layer.whole(1), layer.whole(6)
    pads = [layer.whole(k, layer.whole(4)) for k in (4, 14, 15, 16)]
    square = layer.whole(11, side) == side and layer.whole(13, layer.whole(3, 1)) == 1
    undilated = layer.whole(2, 1) == layer.whole(12, layer.whole(2, 1)) == 1
    plain = undilated and layer.whole(3, 1) == 1 and layer.number(18) == 0
    if features < 1 or side < 1 or size < 1 or size % (features * side * side):
        raise CheckpointError(f"{layer} has sizes that cannot be; fetch it again")
    if not (square and plain and set(pads) == {side // 2}) or len(sources) != 1:
        refuse(layer)
    weight = values.weights(size, layer).reshape(features, -1, side, side)
    bias = values.floats(features, layer) if layer.whole(5) else np.zeros(features, np.float32)
    activation = layer.whole(9)
    # by ncnn's number: none, ReLU, LeakyReLU
    slopes = (None, 0.0, *layer.parameters.get(10, ())[:1])
    if not 0 <= activation < len(slopes):
        refuse(layer)
    tensors = {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
    return Node("conv", layer, sources, slope=slopes[activation], tensors=tensors)


def _sum(layer: NcnnLayer, sources: tuple[Node, ...], factors: tuple[float, ...]) -> Node:
    """A weighted sum; a source that was only multiplied gives its factor."""
    if len(factors) != len(sources):
        refuse(layer)
    added, shares = list(sources), [Fraction(f).limit_denominator(1000) for f in factors]
    for k, source in enumerate(sources):
        if source.operation == "sum" and len(source.sources) == 1:
            added[k], shares[k] = source.sources[0], shares[k] * source.factors[0]
    return Node("sum", layer, tuple(added), tuple(shares))

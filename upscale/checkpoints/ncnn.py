"""ncnn's models: a text graph (``.param``) and the values of its layers (``.bin`` beside it).

A line of the graph names a layer, the blobs that it reads and writes, and numbered parameters; the
values stand in the ``.bin`` in the order of the lines. Both become steps that lead from the picture
to the result. These are followed from the output back to the picture and compared, layer by layer
and join by join, with the two networks that people keep in this form: ESRGAN's RRDB network, which
runs here, and SRVGGNet Compact, which spandrel runs. What differs is refused by the layer's name.
"""

from __future__ import annotations

import math
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

SLOPE = 0.2  # of ESRGAN's LeakyReLU
ONES = (Fraction(1), Fraction(1))

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


@dataclass(frozen=True)
class NcnnNetwork:
    """What the two files hold, under names that the layouts know."""

    tensors: dict[str, Tensor]  # ESRGAN's in BasicSR's names, or SRVGGNet Compact's
    scale: int  # enlargement, read from the graph
    final_scale: int = 0  # to which it shrinks its result at its end; 0 where it does not


def read_ncnn(graph: bytes, values: bytes) -> NcnnNetwork:
    """Read the content of a ``.param`` and of its ``.bin``.

    Raises:
        CheckpointError: No ncnn model, damaged, values that are too few, too many or quantised.
        ArchitectureError: A layer that neither network has, or has at another place.
    """
    layers = parse(graph)
    for layer in layers:
        if layer.type not in KNOWN:
            raise ArchitectureError(
                f"{layer} is of no network that is read from ncnn's form; these are ESRGAN (RRDB) "
                f"and SRVGGNet Compact"
            )
    output = _nodes(layers, _Values(values))[_end(layers)]
    before = output.sources[0] if output.operation == "resize" else output
    shuffled = any(source.operation == "shuffle" for source in before.sources)
    network = _compact(output) if shuffled else _rrdb(output)
    trained = sum(layer.type in TRAINED for layer in layers)
    used = sum(key.endswith(".weight") for key in network.tensors)
    if used != trained:
        raise ArchitectureError(
            f"of its {trained} layers with values {used} make the picture; it is another network, "
            f"or a variant that is not supported"
        )
    return network


# --- the graph and its values ---------------------------------------------------------------------


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


def _nodes(layers: list[NcnnLayer], values: _Values) -> dict[str, Node]:
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
        blobs |= dict.fromkeys(layer.outputs, node)
    values.end()
    return blobs


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


# --- which network it is --------------------------------------------------------------------------


def _need(condition: bool, node: Node) -> None:
    if not condition:
        refuse(node.layer)


def _source(node: Node, operation: str) -> Node:
    """What a step of this form with one source reads."""
    _need(node.operation == operation and len(node.sources) == 1, node)
    return node.sources[0]


def _conv(node: Node, *, activated: bool) -> Node:
    """What a convolution reads; it has the LeakyReLU of ESRGAN after it, or nothing."""
    slope = node.slope
    fits = slope is not None and math.isclose(slope, SLOPE, rel_tol=1e-3)
    _need(fits if activated else slope is None, node)
    return _source(node, "conv")


def _residual(node: Node) -> tuple[Node, Node]:
    """The branch and the start of ``0.2 * branch + start``."""
    terms = dict(zip(node.factors, node.sources, strict=False))
    _need(node.operation == "sum" and set(terms) == {Fraction(1, 5), Fraction(1)}, node)
    return terms[Fraction(1, 5)], terms[Fraction(1)]


def _rrdb(output: Node) -> NcnnNetwork:
    """ESRGAN's generator, followed from its output back to its input."""
    # the head, from the last convolution back: conv_last, conv_hr, stages of nearest and conv_up
    named = {"conv_last": output}
    named["conv_hr"] = node = _conv(output, activated=False)
    node = _conv(node, activated=True)
    stages: list[tuple[Node, Fraction]] = []
    while node.operation == "conv":
        near = _conv(node, activated=True)
        _need(near.operation == "nearest", near)
        stages.append((node, near.factors[0]))
        node = near.sources[0]
    # the trunk's result is added to what the first convolution made of the picture
    _need(node.operation == "sum" and node.factors == ONES, node)
    first, body = sorted(node.sources, key=lambda n: _is_first(n) is None)
    picture = _is_first(first)
    if picture is None:
        refuse(first.layer)
    named |= {"conv_first": first, "conv_body": body}
    # the blocks, from the last back to the first convolution
    blocks: list[dict[str, Node]] = []
    at = _conv(body, activated=False)
    while at is not first:
        at, block = _block(at)
        blocks.append(block)
    for k, block in enumerate(reversed(blocks)):
        named |= {f"body.{k}.{name}": node for name, node in block.items()}
    named |= {f"conv_up{k}": node for k, (node, _) in enumerate(reversed(stages), 1)}
    # values under BasicSR's names, and the scale that the stages make
    tensors = {f"{name}.{key}": t for name, n in named.items() for key, t in n.tensors.items()}
    factors = [factor for _, factor in stages]
    scale = math.prod(factors) / picture
    _need(scale.denominator == 1 and (factors == [3] or set(factors) <= {2}), output)
    return NcnnNetwork(tensors, int(scale))


def _is_first(node: Node) -> Fraction | None:
    """Of the convolution that reads the picture, the pixel-unshuffle before it; None of others."""
    if node.operation != "conv" or node.slope is not None:
        return None
    source = node.sources[0]
    if source.operation == "unshuffle" and source.sources[0].operation == "input":
        return source.factors[0]
    return Fraction(1) if source.operation == "input" else None


def _block(end: Node) -> tuple[Node, dict[str, Node]]:
    """A residual-in-residual dense block: what it reads, and its convolutions by name."""
    node, start = _residual(end)
    convs: dict[str, Node] = {}
    for r in (3, 2, 1):
        last, before = _residual(node)
        source = _conv(last, activated=False)
        convs[f"rdb{r}.conv5"] = last
        for c in (4, 3, 2, 1):  # each reads the start and all layers before it, in this order
            _need(source.operation == "concat" and len(source.sources) == c + 1, source)
            layer, others = source.sources[-1], source.sources[:-1]
            convs[f"rdb{r}.conv{c}"] = layer
            source = _conv(layer, activated=True)
            read = source.sources if source.operation == "concat" else (source,)
            _need(others[0] is before and len(read) == len(others), layer)
            _need(all(a is b for a, b in zip(read, others, strict=True)), layer)
        node = before
    _need(node is start, end)
    return start, convs


def _compact(output: Node) -> NcnnNetwork:
    """SRVGGNet Compact: convolutions and PReLUs in a row, beside the picture enlarged."""
    shrink = Fraction(1)
    if output.operation in ("nearest", "resize"):
        shrink, output = output.factors[0], output.sources[0]
    _need(output.operation == "sum" and output.factors == ONES, output)
    shuffle, base = sorted(output.sources, key=lambda n: n.operation != "shuffle")
    _need(_source(base, "nearest").operation == "input" and base.factors == shuffle.factors, base)
    node = _source(shuffle, "shuffle")
    row: list[Node] = []
    while node.operation != "input":
        _need(node.operation == ("prelu" if len(row) % 2 else "conv"), node)
        _need(node.slope is None, node)
        row.append(node)
        node = node.sources[0]
    _need(len(row) % 2 == 1, row[-1] if row else shuffle)
    tensors = {
        f"body.{k}.{key}": tensor
        for k, step in enumerate(reversed(row))
        for key, tensor in step.tensors.items()
    }
    scale = int(shuffle.factors[0])
    final = scale * shrink
    _need(final.denominator == 1 and final <= scale, output)
    return NcnnNetwork(tensors, scale, int(final) if final < scale else 0)

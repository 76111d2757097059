"""ncnn's models: which network the steps of a graph are, and the names of its layers.

The graph is followed from its output back to the picture and compared, layer by layer and join by
join, with the two networks that people keep in this form: ESRGAN's RRDB network, which runs here,
and SRVGGNet Compact, which spandrel runs. Whatever differs is refused by the layer's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from upscale.checkpoints.ncnn import Node, read_graph, refuse
from upscale.errors import ArchitectureError

SLOPE = 0.2  # of ESRGAN's LeakyReLU
ONES = (Fraction(1), Fraction(1))


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
    output, trained = read_graph(graph, values)
    before = output.sources[0] if output.operation == "resize" else output
    shuffled = any(source.operation == "shuffle" for source in before.sources)
    network = _compact(output) if shuffled else _rrdb(output)
    used = sum(key.endswith(".weight") for key in network.tensors)
    if used != trained:
        raise ArchitectureError(
            f"of its {trained} layers with values {used} make the picture; it is another network, "
            f"or a variant that is not supported"
        )
    return network


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
    scale = math.prod(factor for _, factor in stages) / picture
    three = any(factor == 3 for _, factor in stages)
    _need(scale.denominator == 1 and (not three or len(stages) == 1), output)
    _need(all(factor in (2, 3) for _, factor in stages), output)
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

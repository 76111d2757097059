"""ESRGAN's form for inference on a CPU: every convolution a compiled step, no concatenation."""

from __future__ import annotations

from torch import Tensor

from upscale.fast.native import NONE, Kernels, Program, View, begin
from upscale.models.esrgan import ESRGAN, RESIDUAL_SCALING, RRDB, SLOPE, DenseBlock


class NativeESRGAN(ESRGAN):
    """The same numbers from two programs, trunk and head; the weights lie packed in them."""

    def __init__(self, network: ESRGAN, kernels: Kernels) -> None:
        begin(self, network, kernels)
        self.trunk = _trunk(network, kernels)
        self.head = _head(network, kernels)

    def features(self, lr: Tensor) -> Tensor:
        """See :meth:`ESRGAN.features`."""
        return self.trunk(self.unshuffled(lr))

    def enlarge(self, features: Tensor) -> Tensor:
        """See :meth:`ESRGAN.enlarge`."""
        return self.head(features)


def _trunk(network: ESRGAN, kernels: Kernels) -> Program:
    """From pixels to features.

    The layers of a dense block write slices of one buffer, which the next layers read whole; three
    such buffers take turns, so that what entered a block of three is still there at its end.
    """
    config = network.config
    program = Program(kernels, network.conv_first.in_channels)
    features = program.buffer(config.num_feat)
    turns = [program.buffer(config.num_feat, *(config.num_grow,) * 4) for _ in range(3)]
    program.convolve(network.conv_first, program.input, features)
    program.convolve(network.conv_first, program.input, turns[0][:1])  # cheaper than a copy step
    for block in network.body.modules():
        if isinstance(block, RRDB):
            _dense(program, block.rdb1, turns[0], turns[1][:1])
            _dense(program, block.rdb2, turns[1], turns[2][:1])
            _dense(program, block.rdb3, turns[2], turns[0][:1], base=turns[0][:1])
    program.convolve(network.conv_body, turns[0][:1], features, add=features)
    return program


def _dense(program: Program, block: DenseBlock, at: View, out: View, base: View = NONE) -> None:
    """``out = at + 0.2 * block(at)``, or ``base + 0.2 *`` that; see :meth:`DenseBlock.forward`."""
    program.convolve(block.conv1, at[:1], at[1:2], slope=SLOPE)
    program.convolve(block.conv2, at[:2], at[2:3], slope=SLOPE)
    if block.conv1x1 is not None:
        program.convolve(block.conv1x1, at[:1], at[2:3], add=at[2:3])
    program.convolve(block.conv3, at[:3], at[3:4], slope=SLOPE)
    skip = NONE if block.conv1x1 is None else at[2:3]
    program.convolve(block.conv4, at[:4], at[4:5], slope=SLOPE, add=skip)
    last = block.conv5
    bias = None if last.bias is None else last.bias * RESIDUAL_SCALING
    weight = last.weight * RESIDUAL_SCALING
    program.convolution(at, out, weight, bias, add=at[:1], base=base, beta=RESIDUAL_SCALING)


def _head(network: ESRGAN, kernels: Kernels) -> Program:
    """From features to the picture."""
    nf, rate = network.config.num_feat, 1
    program = Program(kernels, nf, tight=False)
    at = program.input
    for factor, layer in zip(network.factors, network.conv_ups, strict=True):
        rate *= factor
        larger = program.buffer(nf, rate=rate)
        at = program.convolve(layer, at, larger, slope=SLOPE, nearest=factor)
    last = program.buffer(nf, rate=rate)  # in bfloat16 it would cost up to 5 dB
    at = program.convolve(network.conv_hr, at, last, slope=SLOPE, exact=True)
    out = program.picture(network.conv_last.out_channels, rate)
    program.convolve(network.conv_last, at, out)
    return program

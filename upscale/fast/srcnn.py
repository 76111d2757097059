"""SRCNN's form for inference on a CPU: three compiled steps after the bicubic enlargement."""

from __future__ import annotations

from torch import Tensor

from upscale.fast.native import Kernels, Program, begin
from upscale.models.srcnn import SRCNN


class NativeSRCNN(SRCNN):
    """The same numbers from one program; the weights lie packed in it."""

    def __init__(self, network: SRCNN, kernels: Kernels) -> None:
        begin(self, network, kernels)
        self.program = _program(network, kernels)

    def refine(self, enlarged: Tensor, *, padded: bool = True) -> Tensor:
        """See :meth:`SRCNN.refine`; the unpadded form only trains."""
        if not padded:
            raise ValueError("the compiled form pads")
        return self.program(enlarged)


def _program(network: SRCNN, kernels: Kernels) -> Program:
    """The three convolutions, each padded by the edge pixel."""
    (n1, n2), channels = network.config.filters, network.config.channels
    program = Program(kernels, channels)
    first, second = program.buffer(n1), program.buffer(n2)
    out = program.picture(channels, 1)
    program.convolve(network.conv1, program.input, first, slope=0.0, replicate=True)
    program.convolve(network.conv2, first, second, slope=0.0, replicate=True)
    program.convolve(network.conv3, second, out, replicate=True)
    return program

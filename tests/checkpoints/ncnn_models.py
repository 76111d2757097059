"""Models in ncnn's form, as a converter writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from upscale.models import Network

HALF = (0x01306B47).to_bytes(4, "little")


@dataclass
class Written:
    """A model as a converter writes it, line by line."""

    half: bool = False
    fused: bool = True  # the activation in the convolution, sums by Eltwise
    lines: list[str] = field(default_factory=list)
    values: bytes = b""
    blobs: int = 0

    def layer(self, kind: str, inputs: list[str], parameters: str = "", out: str = "") -> str:
        self.blobs += 1
        out = out or f"b{self.blobs}"
        names = " ".join([*inputs, out])
        self.lines.append(f"{kind} l{self.blobs} {len(inputs)} 1 {names} {parameters}".rstrip())
        return out

    def conv(self, tensors: dict[str, Tensor], name: str, x: str, act: bool, out: str = "") -> str:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        size = weight.numel()
        said = f"0={len(weight)} 1={weight.shape[2]} 4=1 5=1 6={size}"
        data = weight.numpy().astype("<f2" if self.half else "<f4").tobytes()
        self.values += (HALF if self.half else bytes(4)) + data + bytes(-len(data) % 4)
        self.values += bias.numpy().astype("<f4").tobytes()
        fused = " 9=2 -23310=1,2.0e-01" if act and self.fused else ""
        x = self.layer("Convolution", [x], said + fused, out)
        return self.layer("LeakyReLU", [x], "0=2.0e-01") if act and not self.fused else x

    def add(self, x: str, y: str) -> str:
        return self.layer("BinaryOp", [x, y], "0=0")

    def residual(self, branch: str, start: str) -> str:
        if self.fused:
            return self.layer("Eltwise", [branch, start], "0=1 -23301=2,2.0e-01,1.0")
        return self.add(self.layer("BinaryOp", [branch], "0=2 1=1 2=2.0e-01"), start)

    def save(self, path: Path) -> Path:
        """The files, with the Split layers that ncnn wants for what is read more than once."""
        lines = [line.split() for line in self.lines]
        reads = [name for line in lines for name in line[4 : 4 + int(line[2])]]
        done: list[str] = []
        for line in lines:
            for k in range(4, 4 + int(line[2])):
                if (left := reads.count(line[k])) > 1 or f"Split s_{line[k]}" in "\n".join(done):
                    reads.remove(line[k])
                    line[k] = f"{line[k]}_{left - 1}"
            done.append(" ".join(line))
            out = line[4 + int(line[2])]
            if (count := reads.count(out)) > 1:
                outs = " ".join(f"{out}_{k}" for k in range(count))
                done.append(f"Split s_{out} 1 {count} {out} {outs}")
        blobs = sum(int(line.split()[3]) for line in done)
        path.write_text("\n".join(["7767517", f"{len(done)} {blobs}", *done, ""]))
        path.with_suffix(".bin").write_bytes(self.values)
        return path


def written(network: Network, path: Path, *, half: bool = False, fused: bool = True) -> Path:
    """An ESRGAN in ncnn's form."""
    config: Any = network.config
    w, t = Written(half, fused), dict(network.state_dict())
    x = w.layer("Input", [], out="data")
    if config.unshuffle > 1:
        x = w.layer("Reorg", [x], f"0={config.unshuffle}")
    first = x = w.conv(t, "conv_first", x, False)
    for b in range(config.num_block):
        start = x
        for r in (1, 2, 3):
            read = [x]
            for c in (1, 2, 3, 4):
                joined = w.layer("Concat", read, "0=0") if c > 1 else x
                read.append(w.conv(t, f"body.{b}.rdb{r}.conv{c}", joined, True))
            joined = w.layer("Concat", read, "0=0")
            x = w.residual(w.conv(t, f"body.{b}.rdb{r}.conv5", joined, False), x)
        x = w.residual(x, start)
    x = w.add(w.conv(t, "conv_body", x, False), first)
    for k, factor in enumerate(network.factors, 1):  # type: ignore[arg-type]
        x = w.layer("Interp", [x], f"0=1 1={factor}.0 2={factor}.0")
        x = w.conv(t, f"conv_up{k}", x, True)
    w.conv(t, "conv_last", w.conv(t, "conv_hr", x, True), False, out="output")
    return w.save(path)

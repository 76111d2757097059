"""How far a run is: within one tile too, never backwards, never ahead of the work."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.test_inference import joined, picture
from tests.toys import Toy
from upscale.fast import optimized
from upscale.fast.native import load
from upscale.inference import Noise, prepare, run, shared
from upscale.models import (
    ESRGAN,
    SRCNN,
    VAE,
    ESRGANConfig,
    Network,
    SRCNNConfig,
    SwinIR,
    SwinIRConfig,
    VAEConfig,
    step,
)
from upscale.models.bicubic import Bicubic, BicubicConfig

SIDE = 130  # LR pixels: one tile, and large enough to be told of
NETWORKS = {
    "esrgan": lambda: ESRGAN(ESRGANConfig(scale=4, num_feat=4, num_block=2, num_grow=2)),
    "swinir": lambda: SwinIR(SwinIRConfig(scale=2, embed_dim=12, depths=(2, 2), num_heads=(2, 2))),
    "vae": lambda: VAE(VAEConfig(num_feat=4, num_block=1, num_grow=2, num_hidden=8)),
    "srcnn": lambda: SRCNN(SRCNNConfig(scale=2, channels=3, filters=(4, 4))),
}


@pytest.fixture(autouse=True)
def as_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks run layer by layer in PyTorch, the way that GPUs and half precision go."""
    monkeypatch.setattr("upscale.inference.engine.optimized", lambda network, device: network)


class Layers:
    """Counts the convolutions and linear layers that have run, apart from the package."""

    def __init__(self, network: Network) -> None:
        self.done = 0
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.done += 1


def followed(network: Network, lr: Tensor, **more: object) -> tuple[Tensor, list[float]]:
    """The result, and the shares of it that were told."""
    seen: list[float] = []
    progress = lambda done, total: seen.append(done / total)  # noqa: E731
    return joined(run(prepare(network), lr, progress=progress, **more)), seen  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("more", [{}, {"tta": True}, {"noise": Noise(samples=3)}])
def test_one_tile_is_told_of_as_its_layers_finish(kind: str, more: dict[str, object]) -> None:
    torch.manual_seed(3)
    network = NETWORKS[kind]()
    lr = picture(SIDE, SIDE)
    plain = joined(run(prepare(network), lr, **more))  # type: ignore[arg-type]
    got, seen = followed(network, lr, **more)
    assert torch.equal(got, plain), "to be looked at changes nothing"
    assert all(before <= after for before, after in pairwise(seen)), "it never goes back"
    assert seen[-1] == 1
    parts = [share for share in seen if 0 < share < 1]
    assert len(parts) >= (3 if kind != "srcnn" else 2), "the bar moves within the tile"
    assert 0.99 < seen[-2] <= 1, "what the layers do in all is known beforehand"


@pytest.mark.skipif(load() is None, reason="the kernels were not built")
@pytest.mark.parametrize(
    "network",
    [
        lambda: ESRGAN(ESRGANConfig(num_feat=32, num_block=4, num_grow=16)),
        lambda: SwinIR(SwinIRConfig(depths=(2, 2), num_heads=(6, 6), upsampler="pixelshuffle")),
        lambda: VAE(VAEConfig()),
    ],
)
def test_programs_of_kernels_tell_too(
    network: Callable[[], Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale.inference.engine.optimized", optimized)
    made, lr = network(), picture(SIDE, SIDE)
    got, seen = followed(made, lr)
    assert torch.equal(got, joined(run(prepare(made), lr))), "to be looked at changes nothing"
    assert all(before <= after for before, after in pairwise(seen)), "it never goes back"
    assert len([share for share in seen if 0 < share < 1]) >= 5, "the bar moves within the tile"
    assert seen[-1] == 1


def test_it_is_never_ahead_of_the_work() -> None:
    network = prepare(NETWORKS["esrgan"]())
    lr = picture(SIDE, SIDE)
    list(run(network, lr, progress=lambda done, total: None))  # measures what a pixel takes
    layers, at = Layers(network.network), []
    for _ in run(network, lr, progress=lambda done, total: at.append((layers.done, done))):
        pass
    assert at[0][1] < 0.05, "after the first of many convolutions"
    assert [done for done, _ in at[:-1]] == list(range(len(at) - 1)), "told once for each"


def test_a_tile_that_does_not_fit_begins_anew_without_going_back() -> None:
    class Late(Toy):
        """Runs out of memory after half of its work."""

        def forward(self, lr: Tensor) -> Tensor:
            step(lr.numel() * 1e6)
            if lr[0, 0].numel() > SIDE * SIDE // 3:
                raise MemoryError
            step(lr.numel() * 1e6)
            return super().forward(lr)

    got, seen = followed(Late(), picture(SIDE, SIDE), tile="off")
    assert torch.isfinite(got).all()
    assert seen[0] == pytest.approx(0.5, abs=0.01), "so far it had come"
    assert all(before <= after for before, after in pairwise(seen))
    assert seen[-1] == 1


def test_small_and_silent_runs_tell_whole_tiles() -> None:
    assert followed(NETWORKS["esrgan"](), picture(40, 40))[1] == [1]
    assert followed(Bicubic(BicubicConfig()), picture(SIDE, SIDE))[1] == [1]


def test_code_that_calls_no_modules_tells_by_itself() -> None:
    class Told(Bicubic):
        def forward(self, lr: Tensor) -> Tensor:
            for _ in range(4):
                step(lr.numel())
            return lr.clone()

    assert followed(Told(BicubicConfig()), picture(SIDE, SIDE))[1] == [0.25, 0.5, 0.75, 1, 1]


def test_what_it_raises_ends_the_forward_pass() -> None:
    class Enough(BaseException):
        """As when a run is stopped."""

    network = prepare(NETWORKS["esrgan"]())
    list(run(network, picture(SIDE, SIDE), progress=lambda done, total: None))
    layers = Layers(network.network)

    def stop(done: float, total: int) -> None:
        if done >= 0.5:
            raise Enough

    with pytest.raises(Enough):
        list(run(network, picture(SIDE, SIDE), progress=stop))
    every = sum(isinstance(module, torch.nn.Conv2d) for module in network.network.modules())
    assert 0 < layers.done < every
    assert torch.isfinite(joined(run(network, picture(9, 9)))).all(), "and leaves it whole"


def test_runs_that_belong_together_tell_one_share() -> None:
    seen: list[tuple[float, int]] = []
    one, other = shared(lambda *at: seen.append(at), 2)
    assert one is not None
    assert other is not None
    one(1, 2)
    other(3, 4)
    one(2, 2)
    other(4, 4)
    assert seen == [(0.5, 2), (2.5, 4), (1.75, 2), (4, 4)]
    assert shared(None, 3) == [None] * 3

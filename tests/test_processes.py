"""A loaded model and other processes: forked, spawned, Ray's."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import draw
from upscale import load
from upscale.errors import DeviceError

PICTURE = draw(150, 160, 4)

# The parent computes with two threads, which the child has not; it must end, and with these bytes.
FORKED = """
import os, sys
import numpy as np, torch
import upscale
torch.set_num_threads(2)
up = upscale.load(sys.argv[1], device="cpu")
picture = np.load(sys.argv[2])
expected = up.image(picture)
pid = os.fork()
if pid == 0:
    results = [up.image(picture), upscale.load(sys.argv[1], device="cpu").image(picture)]
    same = all(np.array_equal(result, expected) for result in results)
    from upscale.image import Image, encode
    again = upscale.Image(np.ascontiguousarray(picture[:20, :20]))
    same &= len(up.bytes(encode(again, "png"))) > 0
    os._exit(0 if same else 3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks after threads were used")
@pytest.mark.parametrize("kernels", ["", pytest.param("off", marks=pytest.mark.slow)])
def test_a_forked_child_goes_on(kernels: str, duo: str, tmp_path: Path) -> None:
    np.save(tmp_path / "picture.npy", PICTURE)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", FORKED, duo, str(tmp_path / "picture.npy")],
        env=environment | ({"UPSCALE_KERNELS": kernels} if kernels else {}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "0\n", done.stderr
    assert "one thread computes; for more, load the model in the child" in done.stderr


def test_a_gpu_is_refused_in_a_forked_child(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    up = load(tiny, device="cpu")
    up.device = torch.device("cuda:0")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(DeviceError, match=r"forked after tiny was loaded on cuda:0.*spawn"):
        up.image(PICTURE)


def test_it_is_sent_as_model_and_settings(quad: str) -> None:
    up = load(quad, device="cpu", alpha=0.3, denoise=0.5, scale=1.5, tile=32, seamless="x")
    sent = pickle.dumps(up)
    assert len(sent) < 1000
    there, again = pickle.loads(sent), pickle.loads(sent)
    small = PICTURE[:30, :40]
    assert there is again
    assert (there.settings, there.device) == (up.settings, up.device)
    assert np.array_equal(there.image(small), up.image(small))
    assert pickle.loads(pickle.dumps(load(quad))).device_name == "auto"


def test_a_spawned_process_runs_it(duo: str) -> None:
    up = load(duo, device="cpu")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(up.image, [PICTURE, PICTURE[::-1]]))
    for result, picture in zip(results, (PICTURE, PICTURE[::-1]), strict=True):
        assert np.array_equal(result, up.image(picture))


@pytest.fixture
def ray(tiny_cache: Path) -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray, of the extra ray, is not installed")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_a_worker_of_ray_runs_it(duo: str, ray: Any) -> None:
    up = load(duo, device="cpu")
    found = ray.get(ray.remote(lambda up, picture: up.image(picture)).remote(up, PICTURE))
    assert np.array_equal(found, up.image(PICTURE))

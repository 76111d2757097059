"""Ray: the same bytes as one process, and a killed worker loses nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.ncnn_models import written
from tests.checkpoints.nets import esrgan
from tests.conftest import Finished, only_pictures, png

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray, of the extra ray, is not installed"
)


@pytest.fixture(scope="module")
def ray(tiny_cache: Path) -> Iterator[Any]:
    """Ray on this machine, for all tests of this file."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


def workers_of(ray: Any) -> list[int]:
    """Processes of Ray's workers that hold a model."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "ray::Worker" in line]


def test_every_checkpoint_of_a_chain_travels(
    tmp_path: Path, duo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upscale import checkpoints
    from upscale.batch.cluster import pack, unpack

    graph = written(esrgan(), tmp_path / "net.param")  # and its values beside it
    model = f"bicubic,{duo},{graph},srcnn"
    weights = pack(model)
    names = [file for _, _, contents in weights for file in contents]
    assert names == [
        *("duo-psnr-x2.safetensors", "duo-gan-x2.safetensors"),
        *("net.param", "net.bin"),
    ]
    monkeypatch.setenv("UPSCALE_CACHE", "")  # put back at the end
    first, second, third, fourth = unpack(weights, tmp_path / "there", model).split(",")
    assert (first, second, fourth) == ("bicubic", duo, "srcnn")
    assert checkpoints.load(third).sha256 == checkpoints.load(graph).sha256
    assert checkpoints.load(third).path == tmp_path / "there" / "weights" / "net.param"
    assert len(checkpoints.select(duo)) == 2


def test_the_first_failure_ends_the_run(tmp_path: Path) -> None:
    from upscale.batch.cluster import run_on_cluster
    from upscale.batch.inputs import Input
    from upscale.batch.plan import Plan
    from upscale.batch.task import Task
    from upscale.options import RunOptions

    tasks = tuple(
        Task(Input(f"{n}.png", f"{n}.png"), f"out/{n}.png", "png", action="fail", reason="no")
        for n in range(3)
    )
    plan = Plan(tasks)
    for fail_fast, count in ((True, 1), (False, 3)):
        run = run_on_cluster(plan, RunOptions(fail_fast=fail_fast))
        assert len(list(run)) == count


@pytest.mark.slow
def test_a_full_disk_ends_the_run(
    ray: Any, tiny: str, tmp_path: Path, cli: Callable[..., Finished]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        (tmp_path / "in").mkdir()
        for index in range(40):
            (tmp_path / "in" / f"{index:02}.png").write_bytes(png(60, 60, seed=index))
        result = cli(
            *(tmp_path / "in", "-o", disk / "out", "-m", tiny, "--json"),
            *("--engine", "ray", "--workers", "2"),
        )
        records = [json.loads(line) for line in result.text.splitlines()]
        failed = [record for record in records if record["status"] == "failed"]
        assert result.code == 1
        assert "no space left" in failed[0]["error"]
        assert 1 <= len(failed) <= 2, "it goes no further than what the workers have in hand"
        assert len(records) < 40
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_same_bytes_and_a_killed_worker(
    ray: Any, cli: Callable[..., Finished], duo: str, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    for index in range(24):
        path = source / f"{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(30, 30, seed=index))
    (source / "bad.png").write_bytes(b"bad")
    base = (source, "-r", "-m", duo, "--json")
    alone = cli(*base, "-o", tmp_path / "alone")
    assert alone.code == 1

    from upscale.batch.cluster import run_on_cluster
    from upscale.batch.inputs import discover
    from upscale.batch.plan import load, plan_for
    from upscale.options import Outputs, RunOptions, Selection
    from upscale.settings import Settings

    settings, outputs = Settings(model=duo), Outputs(str(tmp_path / "many"))
    sources = discover([str(source)], Selection(recursive=True), outputs.output)
    plan = plan_for(load(settings, RunOptions())[0], sources, settings, outputs)
    records = []
    for result in run_on_cluster(plan, RunOptions(), workers=2):
        records.append(result)
        if len(records) == 3:
            victims = workers_of(ray)
            assert victims
            os.kill(victims[0], signal.SIGKILL)
    statuses = [record.status for record in records]
    # a worker may be killed between its output and its answer: that one is found done
    late = [r for r in records if r.status == "skipped" and r.error == "done by another process"]
    done = statuses.count("ok") + len(late)
    assert (done, statuses.count("failed")) == (24, 1), records
    assert len(late) <= 1, records
    names = only_pictures(tmp_path / "alone")
    assert only_pictures(tmp_path / "many") == names
    for name in names:
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

    again = cli(*base, "-o", tmp_path / "many", "--engine", "ray")
    statuses = [json.loads(line)["status"] for line in again.text.splitlines()]
    assert (statuses.count("skipped"), statuses.count("failed")) == (24, 1)


@pytest.mark.slow
def test_a_worker_keeps_to_its_threads(ray: Any) -> None:
    """Whatever the machine has: PyTorch and OpenCV each have a pool of their own."""

    def threads(count: int) -> tuple[int, int]:
        import cv2
        import torch

        from upscale.batch.cluster import use_threads

        use_threads(count)
        return torch.get_num_threads(), cv2.getNumThreads()

    remote = ray.remote(num_cpus=1, runtime_env={"env_vars": {"OMP_NUM_THREADS": "2"}})(threads)
    assert ray.get(remote.remote(1)) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals of POSIX")
def test_the_bar_follows_a_worker_and_sigterm_ends_it(
    command: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Within its one tile: the picture is discarded whole, with the status of a run by threads."""
    (tmp_path / "a.png").write_bytes(png(250, 250))
    ours, theirs = os.openpty()
    more = {"TERM": "xterm", "COLUMNS": "100"}
    options = ("-m", "esrgan", "-x", "--engine", "ray", "--report", tmp_path / "report")
    process = command(tmp_path / "a.png", *options, stderr=theirs, env=more)
    os.close(theirs)
    seen = ""
    try:
        while part := os.read(ours, 4096).decode():
            seen += part
            if re.search("[1-9][0-9]* %", seen) and "terminated" not in seen:
                process.send_signal(signal.SIGTERM)
                break
        while part := os.read(ours, 4096).decode():
            seen += part
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(ours)
    assert process.wait(60) == 143, repr(seen)
    assert "terminated; 0 done, 1 not tried" in seen
    assert (tmp_path / "report").read_text() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "report"]

"""Runs: failures, resuming, two at once, any file system, hostile names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import upscale.batch
from tests.conftest import Finished, only_pictures, png
from upscale import storage
from upscale.batch.inputs import Input
from upscale.batch.plan import Plan
from upscale.batch.task import Task
from upscale.batch.work import Budget, Stopped, Worker
from upscale.image import Reader, probe
from upscale.inference import Progress
from upscale.settings import Settings
from upscale.upscaler import Result, load
from upscale.upscaler.job import Write, process

Cli = Callable[..., Finished]
Command = Callable[..., subprocess.Popen[bytes]]

BROKEN = [
    b"",
    b"text\n",
    png(30, 30)[:200],
    png(30, 30)[:50],
    b"\xff\xd8\xff\xe0garbage",
    b"RIFF\x10\0\0\0WEBPVP8 ",
    b"II*\0\xff\xff\xff\xff",
    b"BM" + b"\0" * 60,
]


def tree(folder: Path, good: int, bad: int) -> None:
    """Small pictures in nested folders, some of them broken in different ways."""
    for index in range(good):
        path = folder / f"{index % 7}" / f"{index % 3}" / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(5 + index % 4, 6, seed=index))
    for index in range(bad):
        (folder / f"{index % 7}" / f"bad{index}.png").write_bytes(BROKEN[index % len(BROKEN)])


def records(result: Finished) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.text.splitlines()]


def test_good_ones_are_done_bad_ones_are_named(cli: Cli, duo: str, tmp_path: Path) -> None:
    """Then the same command does nothing, and another alpha redoes all."""
    tree(tmp_path / "in", 40, 8)
    arguments = (tmp_path / "in", "-r", "-o", tmp_path / "out", "-m", duo, "--json")
    first = cli(*arguments)
    assert first.code == 1
    assert len(only_pictures(tmp_path / "out")) == 40
    assert {p.replace("bad", "") for p in only_pictures(tmp_path / "in") if "bad" not in p} == set(
        only_pictures(tmp_path / "out")
    )
    failed = [r for r in records(first) if r["status"] == "failed"]
    assert len(failed) == 8
    assert all(r["error"] and "internal" not in str(r["error"]) for r in failed), failed
    assert sum("upscale: error:" in line for line in first.lines) == 8
    before = {p: (tmp_path / "out" / p).read_bytes() for p in only_pictures(tmp_path / "out")}

    second = cli(*arguments)
    assert second.code == 1  # the broken ones are tried again
    assert [r["status"] for r in records(second)].count("skipped") == 40
    assert {p: (tmp_path / "out" / p).read_bytes() for p in before} == before

    third = cli(*arguments, "--alpha", "0.3")
    assert [r["status"] for r in records(third)].count("ok") == 40
    assert {p: (tmp_path / "out" / p).read_bytes() for p in before} != before


def test_failures_can_be_fed_back(cli: Cli, tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 3, 2)
    report = tmp_path / "report.ndjson"
    base = ("-m", tiny, "-o", tmp_path / "out", "--report", report)
    assert cli(tmp_path / "in", "-r", *base).code == 1
    assert len(report.read_text().splitlines()) == 5
    for path in (tmp_path / "in").rglob("bad*.png"):
        path.write_bytes(png(4, 4))
    again = cli("--files-from", report, *base, "--json")
    assert again.code == 0, again.err
    assert [r["status"] for r in records(again)] == ["ok", "ok"]
    assert only_pictures(tmp_path / "out") == only_pictures(tmp_path / "in")


def test_a_report_replaces_no_picture(cli: Cli, tiny: str, picture: Path) -> None:
    result = cli(picture, "-m", tiny, "--report", picture)
    assert result.code == 2
    assert "is no report" in result.err
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_fail_fast_stops(cli: Cli, tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 30, 0)
    (tmp_path / "in" / "0" / "0" / "0000.png").write_bytes(b"bad")
    result = cli(
        *(tmp_path / "in", "-r", "-o", tmp_path / "out", "-m", tiny, "--fail-fast", "-j", "1")
    )
    assert result.code == 1
    assert len(only_pictures(tmp_path / "out")) < 29


def test_input_deleted_or_changed_in_mid_run(tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 12, 0)
    paths = sorted((tmp_path / "in").rglob("*.png"))
    run = upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True, jobs=1)
    first = next(run)
    later = [p for p in paths if str(p) != first.input]
    later[-1].unlink()
    later[-2].write_bytes(png(40, 40, seed=99))
    results = {first.input: first} | {record.input: record for record in run}
    assert results[str(later[-1])].status == "failed"
    assert results[str(later[-1])].error == "no such file"
    assert results[str(later[-2])].width == 40
    again = list(upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True))
    assert {record.status for record in again} == {"skipped"}


def test_leaving_the_loop_stops_and_the_same_call_resumes(tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 20, 0)
    for _ in upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True):
        break
    done = only_pictures(tmp_path / "out")
    assert 0 < len(done) < 20
    rest = list(upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True))
    assert sum(record.status == "skipped" for record in rest) == len(done)
    assert len(only_pictures(tmp_path / "out")) == 20


def test_an_output_that_another_process_makes_while_this_one_plans(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line came after the journal was read: that is no output in the way."""
    from upscale.batch import plan

    tree(tmp_path / "in", 5, 0)
    look = plan._output_stat
    others: list[Result] = []

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(plan, "_output_stat", look)
        others.extend(upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True))
        return look(*arguments)

    monkeypatch.setattr(plan, "_output_stat", meanwhile)
    mine = list(upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True))
    assert {record.status for record in others} == {"ok"}
    assert {record.status for record in mine} == {"skipped"}


def test_two_at_once_share_the_work(tiny: str, tmp_path: Path) -> None:
    """Two runs side by side: everything is done once, both end well."""
    import threading

    tree(tmp_path / "in", 30, 0)
    results: list[list[Result]] = [[], []]

    def go(which: int) -> None:
        results[which] = list(
            upscale.batch(tmp_path / "in", tmp_path / "out", model=tiny, recursive=True)
        )

    threads = [threading.Thread(target=go, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [record.output for result in results for record in result if record.status == "ok"]
    assert sorted(done) == sorted(set(done))
    assert len(done) == 30
    assert [len(result) for result in results] == [30, 30]
    assert not [r for result in results for r in result if r.status == "failed"]


@pytest.mark.parametrize(
    "name",
    [
        "new\nline.png",
        "quo'te\".png",
        "<b>html.png",
        "\x1b[31mred\x1b[0m.png",
        "-o.png",
        "--help.png",
        " space .png",
        "x" * 251 + ".png",
        os.fsdecode(b"caf\xe9.png"),
        "模型.png",
        "rtl\u202egnp.png",
        "{stem}.png",
    ],
)
def test_hostile_names(cli: Cli, tiny: str, tmp_path: Path, name: str) -> None:
    """No name is interpreted: the output bears it, the terminal never sees its controls."""
    source = tmp_path / "in"
    source.mkdir()
    (source / name).write_bytes(png(4, 5))
    (source / "bad").mkdir()
    (source / "bad" / name).write_bytes(b"bad")
    result = cli(source, "-r", "-o", tmp_path / "out", "-m", tiny, "--json", "-v")
    assert result.code == 1
    assert os.listdir(tmp_path / "out") in ([".upscale", name], [name, ".upscale"])
    assert {record["input"] for record in records(result)} == {
        str(source / name),
        str(source / "bad" / name),
    }
    for text in (result.text, result.err):
        assert not set(text) & set("\x1b\x07\u202e"), text
    dry = cli(source, "-r", "-o", tmp_path / "out", "-m", tiny, "--dry-run")
    assert not set(dry.text + dry.err) & set("\x1b\x07\u202e")
    assert len(dry.out.splitlines()) == 2


def test_positional_name_that_looks_like_an_option(
    cli: Cli, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-x.png").write_bytes(png(4, 5))
    Path("models").write_bytes(png(4, 5))
    assert cli("-m", tiny, "--", "-x.png").code == 0
    assert cli("run", "models", "-m", tiny, "-o", "o.png").code == 0
    assert probe(Path("o.png").read_bytes()).width == 10


def test_object_store_in_and_out(tiny: str) -> None:
    for name in ("a.png", "sub/b.png"):
        storage.write(f"memory://run-in/{name}", png(4, 5), replace=True)
    target = "memory://run-out"
    first = list(upscale.batch("memory://run-in", target, model=tiny, recursive=True))
    assert [record.status for record in first] == ["ok", "ok"], first
    assert probe(storage.read("memory://run-out/sub/b.png")[0]).width == 10
    second = list(upscale.batch("memory://run-in", target, model=tiny, recursive=True))
    assert [record.status for record in second] == ["skipped", "skipped"]
    storage.write("memory://run-in/a.png", png(6, 6), replace=True)
    third = list(upscale.batch("memory://run-in", target, model=tiny, recursive=True))
    assert sorted(record.status for record in third) == ["ok", "skipped"]


def test_s3(tiny: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bucket of a server that speaks S3, started here."""
    pytest.importorskip("s3fs", reason="s3fs, of the extra s3, is not installed")
    pytest.importorskip("moto", reason="moto, of the extra test, is not installed")
    import socket

    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, server)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import s3fs

        s3fs.S3FileSystem().mkdir("s3://pictures")
        for name in ("a.png", "sub/b.png"):
            storage.write(f"s3://pictures/in/{name}", png(4, 5), replace=True)
        storage.write("s3://pictures/in/bad.png", b"bad", replace=True)
        expected = [["failed", "ok", "ok"], ["failed", "skipped", "skipped"]]
        for statuses in expected:
            run = upscale.batch("s3://pictures/in", "s3://pictures/out", model=tiny, recursive=True)
            assert sorted(record.status for record in run) == statuses
        assert probe(storage.read("s3://pictures/out/sub/b.png")[0]).width == 10
        down = upscale.batch("s3://pictures/in/a.png", f"{tmp_path}/", model=tiny)
        assert [record.status for record in down] == ["ok"]
        assert (tmp_path / "a.png").exists()
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    import socket

    for _ in range(150):
        assert server.poll() is None
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError("the S3 server did not start")


def test_kill_leaves_no_half_file(command: Command, cli: Cli, tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 60, 0)
    arguments = (tmp_path / "in", "-r", "-o", tmp_path / "out", "-m", "tiny", "--json")
    process = command(*arguments)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.kill()
    process.wait()
    for name in only_pictures(tmp_path / "out"):
        if not os.path.basename(name).startswith(".upscale-"):
            assert probe((tmp_path / "out" / name).read_bytes()).width == 12
    again = cli(*arguments)
    assert again.code == 0, again.err
    statuses = [record["status"] for record in records(again)]
    assert statuses.count("skipped") >= 4
    assert len(only_pictures(tmp_path / "out")) == 60  # and no temporary file


def test_the_budget_bounds_and_never_blocks_one() -> None:
    import threading

    budget, inside = Budget(10), threading.Event()

    def wait() -> None:
        with budget.of(5):
            inside.set()

    thread = threading.Thread(target=wait)
    with budget.of(100):
        thread.start()
        assert not inside.wait(0.1)
    assert inside.wait(5)
    thread.join()
    budget.close()
    with pytest.raises(Stopped), budget.of(1):
        pytest.fail("nobody is let in any more")


def test_seconds_are_work_without_waiting(tiny: str, picture: Path) -> None:
    settings, up = Settings(model=tiny), load(tiny, device="cpu")

    def queue(reader: Reader, write: Write, settings: Settings, progress: Progress) -> Result:
        time.sleep(0.5)  # in which it waits for others
        return process(reader, write, up, settings, progress)

    task = Task(Input(str(picture), picture.name), str(picture.with_name("o.png")), "png")
    started = time.perf_counter()
    worker = Worker(Plan(settings=settings), up, queue)
    result = worker.do(task, lambda done, total: None)
    elapsed = time.perf_counter() - started
    assert result is not None
    assert result.status == "ok", result.error
    assert 0 < result.network_seconds < result.seconds <= elapsed - 0.5


def test_one_network_runs_one_picture_at_a_time(cli: Cli, tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 6, 0)
    started = time.perf_counter()
    result = cli(tmp_path / "in", "-r", "-o", tmp_path / "out", "-m", tiny, "--json")
    elapsed = time.perf_counter() - started
    assert result.code == 0, result.err
    found = records(result)
    assert all(0 < r["network_seconds"] <= r["seconds"] for r in found)
    assert sum(r["network_seconds"] for r in found) <= elapsed


def test_dry_run_writes_nothing(cli: Cli, tiny: str, tmp_path: Path) -> None:
    tree(tmp_path / "in", 3, 1)
    before = sorted(tmp_path.rglob("*"))
    result = cli(tmp_path / "in", "-r", "-o", tmp_path / "out", "-m", tiny, "--dry-run", "--json")
    assert result.code == 1
    assert sorted(tmp_path.rglob("*")) == before
    lines = records(result)
    assert [line["action"] for line in lines].count("do") == 3
    assert [line["action"] for line in lines].count("fail") == 1
    good = next(line for line in lines if line["action"] == "do")
    assert good["out_width"] == 12
    assert "nothing was written" in result.err
    wide = cli(
        tmp_path / "in",
        "-r",
        "-o",
        tmp_path / "out",
        "-m",
        tiny,
        "--dry-run",
        "-f",
        "jpg",
        "--width",
        "70000",
    )
    assert "65500" in wide.err

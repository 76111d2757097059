"""The journal: what counts as done, torn lines, several processes; and the claims beside it."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from upscale import storage
from upscale.batch.journal import JournalLine, LocalJournal, claim, open_journal
from upscale.storage import Stat


def entry(name: str = "a.png", **changes: object) -> JournalLine:
    base = JournalLine(name, "in/a.png", 3, "1", "0" * 64, "settings", 4, "2", "1" * 64)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_lines_come_back(tmp_path: Path) -> None:
    journal = LocalJournal(str(tmp_path))
    assert not (tmp_path / ".upscale").exists()  # reading makes nothing
    journal.add(entry())
    journal.add(entry("b\n\x1b.png"))
    journal.add(entry(settings="other"))
    journal.close()
    again = LocalJournal(str(tmp_path))
    assert again.get("a.png") == entry(settings="other")
    assert again.get("b\n\x1b.png") == entry("b\n\x1b.png")
    assert again.get("c.png") is None


def test_undecodable_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    LocalJournal(str(tmp_path)).add(entry(name))
    assert LocalJournal(str(tmp_path)).get(name) == entry(name)


def test_a_torn_line_is_no_line(tmp_path: Path) -> None:
    journal = LocalJournal(str(tmp_path))
    journal.add(entry())
    journal.close()
    path = tmp_path / ".upscale" / "journal.ndjson"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole + whole[:end])
        torn = LocalJournal(str(tmp_path))
        assert torn.get("a.png") == entry()
        torn.add(entry("b.png"))
        torn.close()
        again = LocalJournal(str(tmp_path))
        assert (again.get("a.png"), again.get("b.png")) == (entry(), entry("b.png"))


def test_foreign_lines_are_ignored(tmp_path: Path) -> None:
    folder = tmp_path / ".upscale"
    folder.mkdir()
    (folder / "journal.ndjson").write_bytes(b'{"output": 1}\n[]\n\xff\n\nnull\n')
    assert LocalJournal(str(tmp_path)).get("1") is None


def test_news_of_other_processes(tmp_path: Path) -> None:
    one, two = LocalJournal(str(tmp_path)), LocalJournal(str(tmp_path))
    one.add(entry())
    assert two.get("a.png") is None
    two.refresh()
    assert two.get("a.png") == entry()
    assert two.is_news("a.png")
    one.refresh()
    assert not one.is_news("a.png")


def test_done_by_time_or_by_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"data")
    stat = storage.stat(str(path))
    known = entry(output_size=4, output_stamp=stat.stamp, output_sha256=storage.sha256(b"data"))
    assert known.is_output(str(path), stat)
    os.utime(path, (1, 1))  # copied: another time, the same content
    assert known.is_output(str(path), storage.stat(str(path)))
    path.write_bytes(b"atad")
    os.utime(path, (2, 2))
    assert not known.is_output(str(path), storage.stat(str(path)))
    assert not known.is_output(str(path), Stat(5, stat.stamp))


def test_object_store() -> None:
    journal = open_journal("memory://journal-test")
    journal.add(entry(output_stamp=""))
    journal.add(entry(output_stamp="tag"))
    journal.add(entry("b.png"))
    again = open_journal("memory://journal-test")
    assert again.get("a.png") == entry(output_stamp="tag")
    assert again.get("b.png") == entry("b.png")


def _take(folder: str, pipe: Connection, leave: bool) -> None:
    with claim(folder, "a.png") as is_mine:
        pipe.send(is_mine)
        if leave:
            os.kill(os.getpid(), 9)


def test_claims_between_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")

    def other(leave: bool = False) -> bool:
        here, there = context.Pipe()
        process = context.Process(target=_take, args=(str(tmp_path), there, leave))
        process.start()
        assert here.poll(60)
        taken = here.recv()
        process.join()
        return bool(taken)

    with claim(str(tmp_path), "a.png") as is_mine:
        assert is_mine
        assert not other()
    assert other(leave=True)  # killed with the claim in hand
    with claim(str(tmp_path), "a.png") as is_mine:
        assert is_mine
    assert not list((tmp_path / ".upscale" / "locks").iterdir()), "nothing is left to clean up"


def test_claims_within_a_process(tmp_path: Path) -> None:
    root = str(tmp_path)
    with (
        claim(root, "a.png") as first,
        claim(root, "a.png") as second,
        claim(root, "b.png") as other,
    ):
        assert (first, second, other) == (True, False, True)
    with claim(root, "a.png") as again:
        assert again

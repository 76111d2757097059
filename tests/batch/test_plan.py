"""The plan: what is found, how it is named, what is refused before any work."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from upscale import storage
from upscale.batch import naming
from upscale.batch.inputs import Input, discover, read_list
from upscale.batch.journal import JournalLine, LocalJournal
from upscale.batch.plan import Plan, make_plan
from upscale.errors import UsageError
from upscale.options import Outputs, Selection
from upscale.settings import Settings


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))


def find(*names: str | Path, output: str | None = None, **selection: Any) -> list[Input]:
    return discover([str(name) for name in names], Selection(**selection), output)


def plan_of(
    sources: list[Input],
    output: str | None = None,
    *,
    digest: str = "",
    format: str | None = None,  # noqa: A002 - the name of the option
    **outputs: Any,
) -> Plan:
    labels = {"model": "esrgan", "scale": "4", "alpha": "", "denoise": ""}
    places, settings = Outputs(output, **outputs), Settings(format=format)
    return make_plan(sources, places, settings, labels, lambda page: digest)


def list_file(folder: Path, data: bytes, *, null: bool = False) -> Selection:
    (folder / "list").write_bytes(data)
    return Selection(files_from=str(folder / "list"), null=null)


def report(*lines: dict[str, str]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def relatives(sources: list[Input]) -> list[str]:
    return [source.relative for source in sources]


def outputs(plan: Plan) -> list[str]:
    return [task.output for task in plan.tasks]


def test_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "c.txt", ".hidden.png", "sub/d.png", ".git/e.png")
    assert relatives(find(tmp_path)) == ["a.JPG", "b.png"]
    assert relatives(find(tmp_path, recursive=True)) == ["a.JPG", "b.png", "sub/d.png"]


def test_include_and_exclude(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a2.png", "raw/a.png", "sub/a.png", "sub/raw/b.png")

    def names(**filters: object) -> list[str]:
        return relatives(find(tmp_path, recursive=True, **filters))

    assert names(include=("a.png",)) == ["a.png", "raw/a.png", "sub/a.png"]
    assert names(include=("sub/*",)) == ["sub/a.png", "sub/raw/b.png"]
    assert names(exclude=("raw",)) == ["a.png", "a2.png", "sub/a.png"]
    assert names(include=("a*",), exclude=("a2*", "sub")) == ["a.png", "raw/a.png"]


def test_globs(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.txt", "sub/c.png", "sub/deep/d.png", "photo[1].png")
    assert relatives(find(tmp_path / "*.png")) == ["a.png", "photo[1].png"]
    assert relatives(find(tmp_path / "**" / "*.png")) == [
        "a.png",
        "photo[1].png",
        "sub/c.png",
        "sub/deep/d.png",
    ]
    assert relatives(find(tmp_path / "photo[1].png")) == ["photo[1].png"]  # a name, not a glob
    assert find(tmp_path / "*.gif")[0].error == "no picture matches"


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "self").symlink_to("self")
    (tmp_path / "twin").symlink_to(tmp_path / "sub")
    assert len(find(tmp_path, recursive=True)) == 2
    assert len(find(tmp_path / "**" / "*.png")) == 2


def test_the_output_folder_is_not_an_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    found = find(tmp_path, recursive=True, output=str(tmp_path / "out"))
    assert relatives(found) == ["a.png"]


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.png", "sub/a.png", "new\nline.png")
    data = b"./a.png\0sub\0sub/a.png\0new\nline.png\0sub/../a.png\0"
    listed = list_file(tmp_path, data, null=True)
    found = discover([], listed)
    assert relatives(found) == ["a.png", "sub/a.png", "new\nline.png", "a.png"]
    plan = plan_of(found[:3], "out")
    assert outputs(plan) == ["out/a.png", "out/sub/a.png", "out/new\nline.png"]
    names = read_list(list_file(tmp_path, b"a.png\r\n\nb c.png\n"))
    assert names == [("a.png", ""), ("b c.png", "")]
    with pytest.raises(UsageError, match="-0"):
        read_list(list_file(tmp_path, data))


def test_lists_never_lead_out_of_the_output_folder(tmp_path: Path) -> None:
    listed = list_file(tmp_path, b"../../x.png\n/etc/y.png\na/../../z.png")
    found = discover([], listed)
    plan = plan_of([s for s in found if not s.error] or found, str(tmp_path / "out"))
    for output in outputs(plan):
        assert Path(os.path.normpath(output)).is_relative_to(tmp_path / "out")


def test_failures_of_a_report_are_a_list(tmp_path: Path) -> None:
    data = report(
        {"input": "a.png", "status": "failed"},
        {"input": "b.png", "status": "ok"},
        {"input": "c\n.png", "output": "o/c\n.png", "status": "failed"},
        {"input": "a.png", "status": "ok"},
    )
    assert read_list(list_file(tmp_path, data)) == [("c\n.png", "o/c\n.png")]


def test_failures_of_a_report_keep_their_places(tmp_path: Path) -> None:
    """The places that they had in the output folder; elsewhere, their own paths."""
    touch(tmp_path, "in/sub/a.jpg")
    name, out = str(tmp_path / "in" / "sub" / "a.jpg"), str(tmp_path / "out")
    for recorded, output, expected in (
        (f"{out}/sub/a.png", out, "sub/a.jpg"),
        (f"{out}/a.png", out + "/", "a.jpg"),
        ("memory://o/sub/a.png", "memory://o/", "sub/a.jpg"),
        (f"{out}/../a.png", out, name[1:]),
        (f"{out}/sub/a.png", "elsewhere", name[1:]),
        (f"{out}/sub/a.png", None, name[1:]),
        ("", out, name[1:]),
    ):
        line = {"input": name, "output": recorded, "status": "failed"}
        found = discover([], list_file(tmp_path, report(line)), output)
        assert relatives(found) == [expected]


def test_missing_inputs_are_failures_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    plan = plan_of(find(tmp_path / "a.png", tmp_path / "no.png"), str(tmp_path / "o"))
    assert [(task.action, task.reason) for task in plan.tasks] == [
        ("do", ""),
        ("fail", "no such file"),
    ]


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x/a.png", "../../evil.png", "b.txt", "/abs.png"):
            archive.writestr(name, name)
    found = find(f"zip://::{path}", recursive=True)
    plan = plan_of(found, str(tmp_path / "out"))
    assert sorted(os.path.relpath(name, tmp_path / "out") for name in outputs(plan)) == [
        "abs.png",
        "evil.png",
        "x/a.png",
    ]
    one = find(f"zip://x/a.png::{path}")
    assert storage.read(one[0].location)[0] == b"x/a.png"
    with pytest.raises(UsageError, match="can be read, not written"):
        plan_of(found, f"zip://out::{path}")


def test_memory_file_system() -> None:
    for name in ("m/a.png", "m/sub/b.png", "m/c.txt"):
        storage.write(f"memory://{name}", b"x", replace=False)
    assert relatives(find("memory://m")) == ["a.png"]
    found = find("memory://m", recursive=True)
    assert relatives(found) == ["a.png", "sub/b.png"]
    plan = plan_of(found, "memory://m-out")
    assert outputs(plan) == ["memory://m-out/a.png", "memory://m-out/sub/b.png"]
    assert relatives(find("memory://m/*.png")) == ["a.png"]


def test_formats(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.jpg")
    both = find(tmp_path)
    assert [t.format for t in plan_of(both, str(tmp_path / "o")).tasks] == [
        "png",
        "jpeg",
    ]
    webp = plan_of(both, str(tmp_path / "o"), format="webp")
    assert [os.path.basename(name) for name in outputs(webp)] == ["a.webp", "b.webp"]
    with pytest.raises(UsageError, match="xyz"):
        plan_of(both, str(tmp_path / "o"), format="xyz")


def test_two_inputs_one_output(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png", "y/a.jpg")
    inputs = find(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png")
    with pytest.raises(UsageError, match=r"would both become .*; use a template"):
        plan_of(inputs, str(tmp_path / "o"))
    plan_of(inputs, str(tmp_path / "o" / "{parent}_{stem}.{ext}"))
    with pytest.raises(UsageError, match="would both become"):
        plan_of(find(tmp_path / "y"), str(tmp_path / "o"), format="png")


def test_names_that_differ_in_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x/a.png", "y/A.png")
    inputs = find(tmp_path / "x" / "a.png", tmp_path / "y" / "A.png")
    monkeypatch.setattr("upscale.batch.plan._tells_case", lambda output: False)
    with pytest.raises(UsageError, match="ignores case"):
        plan_of(inputs, str(tmp_path / "o"))
    monkeypatch.setattr("upscale.batch.plan._tells_case", lambda output: True)
    plan_of(inputs, str(tmp_path / "o"))


def test_an_output_that_is_another_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    sources = find(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(UsageError, match="is an input too"):
        plan_of(sources, str(tmp_path), overwrite=True)


def test_outputs_that_exist(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/b.png", "out/a.png")
    sources = find(tmp_path / "in")
    out = str(tmp_path / "out")
    with pytest.raises(UsageError, match=r"out/a\.png exists; give --overwrite or --skip"):
        plan_of(sources, out)
    skip = plan_of(sources, out, skip_existing=True)
    assert [task.action for task in skip.tasks] == ["skip", "do"]
    replace = plan_of(sources, out, overwrite=True)
    assert [task.replace for task in replace.tasks] == [True, False]


def test_the_journal_decides(tmp_path: Path) -> None:
    """Done, other settings, changed input, changed output."""
    touch(tmp_path, "in/a.png", "out/a.png")
    source, output = tmp_path / "in" / "a.png", tmp_path / "out" / "a.png"
    before, after = storage.stat(str(source)), storage.stat(str(output))
    journal = LocalJournal(str(tmp_path / "out"))
    journal.add(
        JournalLine(
            output="a.png",
            input=str(source),
            input_size=before.size,
            input_stamp=before.stamp,
            input_sha256=storage.sha256(source.read_bytes()),
            settings="now",
            output_size=after.size,
            output_stamp=after.stamp,
            output_sha256=storage.sha256(output.read_bytes()),
        )
    )
    journal.close()

    def action(settings: str = "now", **more: bool) -> tuple[str, bool]:
        task = plan_of(find(tmp_path / "in"), str(tmp_path / "out"), digest=settings, **more).tasks[
            0
        ]
        return task.action, task.replace

    assert action() == ("skip", False)
    assert action("other") == ("do", True)
    assert action("other", skip_existing=True) == ("skip", False)
    assert action(overwrite=True) == ("do", True)
    os.utime(source, (5, 5))  # touched, not changed
    assert action() == ("skip", False)
    source.write_bytes(b"changed!")
    assert action() == ("do", True)
    output.write_bytes(b"edited by hand")
    with pytest.raises(UsageError, match="exists"):
        action()


def test_outputs_beside_are_no_inputs_the_second_time(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_esrgan_x4.png")
    output = tmp_path / "a_esrgan_x4.png"
    after = storage.stat(str(output))
    journal = LocalJournal(str(tmp_path))
    journal.add(
        JournalLine("a_esrgan_x4.png", str(tmp_path / "a.png"), 5, "", "", "", after.size, "", "")
    )
    journal.close()
    plan = plan_of(find(tmp_path), overwrite=True)
    assert outputs(plan) == [str(output)]


def test_shards_cover_everything_once(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{index}.png" for index in range(40)))
    parts = [
        set(outputs(plan_of(find(tmp_path), str(tmp_path / "o"), shard=(i, 3)))) for i in (1, 2, 3)
    ]
    assert sum(len(part) for part in parts) == 40
    assert len(set.union(*parts)) == 40
    assert min(len(part) for part in parts) > 3


def test_missing_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "file")
    sources = find(tmp_path / "a.png")
    with pytest.raises(UsageError, match="does not exist"):
        plan_of(sources, str(tmp_path / "no" / "b.png"))
    plan_of(sources, str(tmp_path / "no" / "deep") + "/")
    with pytest.raises(UsageError, match="is a file"):
        plan_of(sources, str(tmp_path / "file") + "/")


@pytest.mark.parametrize(
    ("given", "size", "want"),
    [
        ({"size": (100, 50)}, (7, 9), (100, 50)),
        ({"width": 20}, (10, 7), (20, 14)),
        ({"height": 14}, (10, 7), (20, 14)),
        ({"max_side": 30}, (10, 7), (30, 21)),
        ({"max_side": 30}, (7, 10), (21, 30)),
        ({"width": 3}, (1000, 1), (3, 1)),
        ({"scale": 1.5}, (101, 99), (152, 149)),
        ({}, (10, 7), (40, 28)),
    ],
)
def test_sizes(given: dict[str, Any], size: tuple[int, int], want: tuple[int, int]) -> None:
    width, height = size
    assert Settings(**given).final_shape(height, width, 4) == want[::-1]


def test_digest_tells_settings_apart() -> None:
    def digest(weights: str = "a", alpha: float = 0.5, **given: Any) -> str:
        return Settings(**given).digest((weights,), alpha=alpha, scale=2.0)

    digests = {
        digest(),
        digest("b"),
        digest(alpha=0.6),
        digest(quality=3),
        digest(size=(3, 4)),
        digest(tile=64),
    }
    assert len(digests) == 6
    assert digest(scale=2.0) == digest(), "what is the default, said or not"
    assert digest(model="another name of these weights") == digest()


def test_labels() -> None:
    assert naming.suffix({"model": "esrgan", "scale": "4"}) == "_esrgan_x4"
    assert naming.suffix({"model": "a/b", "scale": "max99"}) == "_a_b_max99"

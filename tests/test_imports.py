"""Imports point one way: a module imports only what stands to its left."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ORDER = [
    *(
        "errors",
        "bars",
        "files",
        "options",
        "settings",
        "storage",
        "device",
        "strips",
        "memory",
        "resample",
        "icc",
        "metadata",
        "image",
        "color",
        "tiling",
        "models",
        "checkpoints",
    ),
    *(
        "metrics",
        "perceptual",
        "degradations",
        "fast",
        "inference",
        "upscaler",
        "benchmark",
        "evaluate",
        "compare",
        "batch",
        "training",
        "cli",
    ),
]
PACKAGE = Path(__file__).parents[1] / "upscale"
OPEN = {"__init__", "__main__"}  # the package itself offers names of any room; __main__ starts cli
HEAVY = {"torch", "cv2", "numpy", "PIL", "safetensors", "tifffile", "rich", "fsspec"}


@cache
def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@cache
def imported(path: Path) -> list[tuple[int, str]]:
    """Line and full name of every import of the package's own modules, lazy ones too."""
    found = []
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, base]).strip(".")
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    own = {name_of(module) for module in modules()}
    resolved = []
    for line, name in found:
        if not name.startswith("upscale"):
            continue
        known = [module for module in own if f"{name}.".startswith(f"{module}.")]
        resolved.append((line, max(known, key=len)))  # from upscale.errors import UsageError
    return resolved


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name_of(path)) for path in modules()} - OPEN
    assert rooms <= set(ORDER), f"no place in the order: {sorted(rooms - set(ORDER))}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_to_the_left(path: Path) -> None:
    room = room_of(name_of(path))
    if room in OPEN:
        return
    wrong = []
    for line, name in imported(path):
        target = room_of(name)
        if target == "__init__":
            continue  # the version
        if target != room and ORDER.index(target) > ORDER.index(room):
            wrong.append(f"line {line}: {room} imports {name}")
    assert not wrong, "; ".join(wrong)


def test_only_the_command_line_imports_training() -> None:
    for path in modules():
        if room_of(name_of(path)) not in ("training", "cli"):
            assert all(room_of(name) != "training" for _, name in imported(path)), path


def test_only_the_command_line_prints() -> None:
    for path in modules():
        if room_of(name_of(path)) in ("cli", "__main__"):
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
        printed = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
        assert not printed, f"{path} prints in lines {printed}"


def test_there_are_no_cycles() -> None:
    """Among all modules, imports inside functions included, those for type checkers left out."""
    graph = {name_of(path): _needed(path) for path in modules()}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " -> ".join([*trail, name])
        if name in state:
            return
        state[name] = 1
        for target in graph[name]:
            visit(target, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def _needed(path: Path) -> set[str]:
    """What a module imports when it is imported or when its functions run.

    A package that loads its names on first use (PEP 562) imports nothing by itself.
    """
    tree = ast.parse(path.read_text("utf-8"))
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines.add(node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            lines -= set(range(node.lineno, node.end_lineno or node.lineno))
            lines -= {node.end_lineno}  # type: ignore[arg-type]
    return {target for line, target in imported(path) if line in lines} - {name_of(path)}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['upscale', *{arguments!r}]\n"
        "try: runpy.run_module('upscale', run_name='__main__')\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        f"print('HEAVY', sorted({HEAVY - {'rich'}!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.parametrize("module", ["upscale", "upscale.errors", "upscale.image", "upscale.batch"])
def test_these_rooms_do_without_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_a_command_imports_nothing_heavy() -> None:
    names = [name_of(path) for path in sorted((PACKAGE / "cli").glob("*.py"))]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = sorted({HEAVY - {'rich'}!r} & set(sys.modules))\n"
        "    if heavy: sys.exit(f'{name} imports {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Which checkpoints there are: embedded, cached, by family, by name. Nothing here loads torch.

An ``index.toml`` stands beside the files it describes, one table per file; the SHA-256 in it is
checked whenever the file is loaded. There are two: the embedded one (``weights/`` in a checkout,
``upscale/_weights`` in a wheel) and the one of the cache, which ``pull`` writes.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from upscale.checkpoints.files import check_sha256, digest
from upscale.checkpoints.names import CLEAN, REAL, SUFFIXES, Role, normal, suggestion
from upscale.checkpoints.published import lookup, official, refused
from upscale.errors import CheckpointError, UnknownModelError, UsageError
from upscale.files import write_bytes

if TYPE_CHECKING:
    from filelock import FileLock

Origin = Literal["embedded", "cached", "file"]
INDEX = "index.toml"


@dataclass(frozen=True)
class Entry:
    """A checkpoint that can be loaded: a row of an index, or a file given by its path.

    Attributes:
        name: Unique name, such as ``swinir-light-x2``; of a file given by path, its stem.
        file: File name, beside the index.
        sha256: Of the file, 64 lower-case hex digits; empty when no index vouches for it.
        bytes: Size of the file.
        architecture: Key of ``MODELS``.
        scale: Enlargement.
        family: What ``--model`` may say in its stead; its rows differ in scale and role.
        role: "psnr" or "gan" where the family has a pair to interpolate between; "real-psnr" or
            "real-gan" of a second pair, for compressed and noisy pictures.
        default: Preferred over other rows of the same family, scale and role.
        title: One line for people.
        license: SPDX identifier, or a sentence.
        parameters: Number of trained values.
        dtype: Of the stored values: "float32" or "float16".
        recipe: Training recipe that made it.
        data: What it was trained on.
        source: Address it was fetched from.
        source_sha256: SHA-256 of what was fetched, before conversion.
        scores: Figures of the card, such as ``set5_psnr_y``.
        path: Where the file lies.
        origin: Which index holds the row; "file" for none.
    """

    name: str
    file: str
    sha256: str
    bytes: int
    architecture: str
    scale: int
    family: str = ""
    role: Role = ""
    default: bool = False
    title: str = ""
    license: str = ""
    parameters: int = 0
    dtype: str = "float32"
    recipe: str = ""
    data: str = ""
    source: str = ""
    source_sha256: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    path: Path = Path()
    origin: Origin = "file"

    def verify(self) -> str:
        """Compare the file with the index and return its SHA-256.

        Raises:
            HashError: It is another file.
            CheckpointError: It is missing.
        """
        found = digest(self.path)
        if self.sha256:
            check_sha256(self.path, found, self.sha256, self.remedy)
        return found

    @property
    def remedy(self) -> str:
        """What to do when the file is not the recorded one."""
        if self.origin == "cached":
            return f"fetch it again with 'upscale weights pull {self.name} --overwrite'"
        return "restore it, or install upscale again"


_OWN = {"name", "path", "origin"}  # not stored in the table
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("bytes", "scale", "parameters"), int),
    "default": bool,
    "scores": dict,
}


def embedded_folder() -> Path:
    """The folder of the embedded weights: of the wheel, else of the checkout."""
    package = Path(__file__).resolve().parent.parent
    packed = package / "weights"
    return packed if packed.is_dir() else package.parent / "weights"


def cache_folder() -> Path:
    """The folder of pulled weights: ``$UPSCALE_CACHE/weights``, else below the platform's cache."""
    chosen = os.environ.get("UPSCALE_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("upscale", appauthor=False) / "weights"


def read_index(folder: Path, origin: Origin) -> dict[str, Entry]:
    """The rows of ``folder/index.toml`` by name; none where there is no index.

    Raises:
        CheckpointError: The index cannot be read, or a row is incomplete or has an unknown key.
    """
    path = folder / INDEX
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(
            f"{path}: not a readable index ({error}); restore it, or delete it and pull again"
        ) from error
    return {name: _entry(path, name, table, origin) for name, table in tables.items()}


def _entry(path: Path, name: str, table: Any, origin: Origin) -> Entry:
    known = {f.name for f in fields(Entry)} - _OWN
    if not isinstance(table, dict) or (unknown := set(table) - known):
        what = "it is no table" if not isinstance(table, dict) else f"unknown key {min(unknown)!r}"
        raise CheckpointError(f"{path}: [{name}]: {what}; keys are {', '.join(sorted(known))}")
    missing = {"file", "sha256", "bytes", "architecture", "scale"} - set(table)
    if missing:
        raise CheckpointError(f"{path}: [{name}]: {min(missing)!r} is missing; add it")
    for key, value in table.items():
        if not isinstance(value, _KINDS.get(key, str)):
            raise CheckpointError(
                f"{path}: [{name}]: {key} = {value!r} has the wrong type; mend it"
            )
    if table.get("role", "") not in get_args(Role):
        roles = ", ".join(get_args(Role)[1:])
        raise CheckpointError(
            f"{path}: [{name}]: role = {table['role']!r} is none of {roles}; mend it"
        )
    if Path(table["file"]).name != table["file"]:
        raise CheckpointError(
            f"{path}: [{name}]: file = {table['file']!r} leaves the folder; give a plain file name"
        )
    return Entry(name=name, path=path.parent / table["file"], origin=origin, **table)


def entries() -> list[Entry]:
    """All that can be loaded by name: embedded rows first, then cached ones.

    Raises:
        CheckpointError: An index cannot be read.
    """
    embedded = read_index(embedded_folder(), "embedded")
    cached = read_index(cache_folder(), "cached")
    return [*embedded.values(), *(e for name, e in cached.items() if name not in embedded)]


def families(rows: Iterable[Entry] | None = None) -> dict[str, list[Entry]]:
    """Family name -> its rows, in the order of the indexes."""
    found: dict[str, list[Entry]] = {}
    for entry in entries() if rows is None else rows:
        if entry.family:
            found.setdefault(entry.family, []).append(entry)
    return found


def select(name: str | os.PathLike[str], *, scale: float | None = None) -> tuple[Entry, ...]:
    """What ``--model NAME`` means: one entry, a (PSNR, GAN) pair, or two pairs, clean and real.

    A family gives its nearest native scale at or above ``scale`` (else its largest), and at that
    scale the pairs it has; a weights name or a file gives itself, whatever ``scale`` says.

    Args:
        name: A family, a weights name, or the path of a checkpoint file.
        scale: Enlargement wanted; None for the family's default row, else its largest scale.

    Raises:
        CheckpointError: There is no such family, weights, or file; close names are in the message.
    """
    rows = families().get(normal(os.fspath(name)))
    if rows is None:
        return (find(name),)
    chosen = _native_scale(rows, scale)
    at_scale = sorted((e for e in rows if e.scale == chosen), key=lambda e: not e.default)
    by_role: dict[str, Entry] = {}
    for entry in at_scale:
        by_role.setdefault(entry.role, entry)
    if at_scale[0].role and set(CLEAN) <= set(by_role):
        roles = (*CLEAN, *REAL) if set(REAL) <= set(by_role) else CLEAN
        return tuple(by_role[role] for role in roles)
    return (at_scale[0],)


def _native_scale(rows: list[Entry], scale: float | None) -> int:
    scales = sorted({e.scale for e in rows})
    if scale is None:
        return next((e.scale for e in rows if e.default), scales[-1])
    return next((s for s in scales if s >= scale), scales[-1])


def find(name: str | os.PathLike[str]) -> Entry:
    """One checkpoint by its weights name, its family, or its path.

    Names come first: a file called like one is meant with ``./`` before it. A family that has a
    pair gives its GAN net (for clean pictures); :func:`select` gives all.

    Raises:
        CheckpointError: Nothing of that name; an official checkpoint not pulled yet; no such file.
    """
    text = os.fspath(name)
    is_path = isinstance(name, os.PathLike) or os.sep in text or "/" in text
    if not is_path:
        rows = entries()
        for entry in rows:
            if normal(text) in (entry.name, normal(entry.file)):
                return entry
        if normal(text) in families(rows):
            return select(text)[:2][-1]
    path = Path(text).expanduser()
    if path.is_file():
        return by_path(path)
    if is_path or text.lower().endswith(SUFFIXES):
        raise _missing_file(path, text)
    raise _unknown_name(text)


def by_path(path: Path) -> Entry:
    """An entry for a file; the row of an index where the file is one of its own."""
    resolved = path.resolve()
    for entry in entries():
        if entry.path.resolve() == resolved:
            return entry
    size = path.stat().st_size
    return Entry(path.stem, path.name, "", size, architecture="", scale=0, path=path)


def _missing_file(path: Path, text: str) -> CheckpointError:
    if path.is_dir():
        return CheckpointError(f"{text} is a folder; give a .safetensors file or a weights name")
    bare = path.name == text
    if bare and (reason := refused(text)) is not None:
        return CheckpointError(reason)
    if bare and (found := lookup(text)) is not None:
        return _not_pulled(found.name)
    return CheckpointError(f"no checkpoint file {text}; check the path, or see 'upscale models'")


def _not_pulled(name: str) -> CheckpointError:
    return CheckpointError(f"{name} is not in the cache; run 'upscale weights pull {name}' first")


def _unknown_name(name: str) -> CheckpointError:
    """The error for a name that is nothing: how to get it, or which names come close."""
    if (reason := refused(name)) is not None:
        return CheckpointError(reason)
    for entry in official().values():
        if entry.answers_to(name):
            return _not_pulled(entry.name)
        if entry.family and normal(name) == entry.family:
            return _not_pulled(entry.family)
    rows = entries()
    names = [*families(rows), *(e.name for e in rows), *official()]
    return UnknownModelError(f"no model or weights named {name!r}; {suggestion(name, names)}")


def update_index(folder: Path, entry: Entry) -> None:
    """Write one row into ``folder/index.toml``, in place of the row of that name, else at the end.

    Comments at the top of the file are kept; the others are not.

    Raises:
        UsageError: The file of the row is not in the folder.
        OutputError: The index cannot be written.
    """
    if not (folder / entry.file).is_file():
        raise UsageError(f"{entry.file} is not in {folder}; save the checkpoint there first")
    with _lock(folder):
        rows = read_index(folder, entry.origin)
        rows[entry.name] = replace(entry, path=folder / entry.file)
        _write_index(folder / INDEX, rows.values())


def _lock(folder: Path) -> FileLock:
    """One writer at a time; the lock lies among the temporary files, not among the weights."""
    from filelock import FileLock

    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    return FileLock(Path(tempfile.gettempdir()) / f"upscale-{user}-{key}.lock")


def _write_index(path: Path, rows: Iterable[Entry]) -> None:
    head = path.read_text("utf-8").splitlines() if path.exists() else []
    comments = []
    for line in head:
        if line.strip() and not line.startswith("#"):
            break
        comments.append(line)
    text = "\n".join(comments).strip()
    tables = "\n\n".join(_table(row) for row in rows)
    write_bytes(path, [f"{text}\n\n{tables}\n".lstrip("\n").encode()], overwrite=True)


def _table(entry: Entry) -> str:
    lines = [f"[{_key(entry.name)}]"]
    for f in fields(Entry):
        value = getattr(entry, f.name)
        optional = f.name not in ("file", "sha256", "bytes", "architecture", "scale")
        if f.name in _OWN or (optional and not value):
            continue
        lines.append(f"{f.name} = {_value(value)}")
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return repr(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    plain = (c if c.isprintable() else f"\\U{ord(c):08X}" for c in escaped)
    return '"' + "".join(plain) + '"'


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _quoted(name)

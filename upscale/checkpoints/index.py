"""Which checkpoints there are: embedded, cached, published, given by a path. Nothing loads torch.

An ``index.toml`` stands beside the files it describes, one table per file; the SHA-256 in it is
checked whenever the file is loaded. There are two: the embedded one (``weights/`` in a checkout,
``upscale/_weights`` in a wheel) and the one of the cache, which ``pull`` writes. What can be
fetched stands in ``published.toml``.
"""

from __future__ import annotations

import contextlib
import difflib
import getpass
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from upscale.errors import CheckpointError, HashError, UnknownModelError, UsageError, reason
from upscale.files import write_bytes

Role = Literal["", "psnr", "gan", "real-psnr", "real-gan"]
CLEAN: tuple[Role, Role] = ("psnr", "gan")  # trained on clean pictures; alpha walks between them
REAL: tuple[Role, Role] = ("real-psnr", "real-gan")  # the same for pictures as people have them
BICUBIC = "bicubic"  # the model that is no network and has no file
SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".mat", ".param", ".onnx")
Origin = Literal["embedded", "cached", "published", "file"]
INDEX = "index.toml"


@dataclass(frozen=True)
class WeightsFile:
    """A checkpoint file with a name: a row of an index, a published one, or one given by a path."""

    name: str  # unique, such as swinir-light-x2; of a file given by path, its stem
    file: str  # name beside the index; of a published one, the last part of its address
    sha256: str  # of the file, 64 lower-case hex digits; empty when nobody vouches for it
    bytes: int  # size of the file; 0 where it is not published
    architecture: str  # key of MODELS
    scale: int  # enlargement
    family: str = ""  # what --model may say in its stead; its rows differ in scale and role
    role: Role = ""  # in a pair to interpolate between, for clean pictures or for real ones
    default: bool = False  # preferred over other rows of the same family, scale and role
    title: str = ""  # one line for people
    license: str = ""  # SPDX identifier, or a sentence
    parameters: int = 0  # number of trained values
    dtype: str = "float32"  # of the stored values; or "float16"
    recipe: str = ""  # training recipe that made it
    data: str = ""  # what it was trained on
    source: str = ""  # address that it was or can be fetched from
    source_sha256: str = ""  # of what was fetched, before conversion
    scores: Mapping[str, float] = field(default_factory=dict)  # of the card, such as set5_psnr_y
    path: Path = Path()  # where the file lies
    origin: Origin = "file"  # which index holds the row; "file": none
    # of published ones alone
    author: str = ""  # who made it
    task: str = ""  # "sr" clean pictures, "real" real-world ones, "denoise", "jpeg" artefacts
    sha256_prefix: str = ""  # the first digits where only these are published
    member: str = ""  # the end of the path inside a zip archive of several
    channels: int = 3  # 1 gray, 3 RGB
    note: str = ""  # what a user should know

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
    def paths(self) -> list[Path]:
        """The file, and beside an ncnn graph the values that belong to it."""
        graph, values = self.path.suffix.lower() == ".param", self.path.with_suffix(".bin")
        return [self.path, values] if graph and values.is_file() else [self.path]

    @property
    def remedy(self) -> str:
        """What to do when the file is not the recorded one."""
        if self.origin == "cached":
            return f"fetch it again with 'upscale weights pull {self.name} --overwrite'"
        return "restore it, or install upscale again"

    def answers_to(self, name: str) -> bool:
        """Whether ``name`` is the weights name, or the published file's, in any case."""
        return normal(name) == self.name or (not self.member and normal(name) == normal(self.file))


REQUIRED = ("file", "sha256", "bytes", "architecture", "scale")
# what an index does not store: the rest, and what only published files have
_STORED = [f.name for f in fields(WeightsFile)][1:18]
_TYPES = {"bytes": int, "scale": int, "parameters": int, "default": bool, "scores": dict}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The file, open for reading; :class:`CheckpointError` in place of :class:`OSError`."""
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint file {path}; check the path") from error
    except IsADirectoryError as error:
        raise CheckpointError(f"{path} is a folder; give a checkpoint file") from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({reason(error)}); check its permissions"
        ) from error


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The file, or its first bytes; ``CheckpointError`` where it cannot be read."""
    with _opened(path) as file:
        return file.read(size)


def digest(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hex digits; ``CheckpointError`` where it cannot be read."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, found: str, recorded: str, remedy: str) -> None:
    """Raise :class:`HashError` unless ``found`` begins with ``recorded``."""
    if not recorded or not found.startswith(recorded.lower()):
        raise HashError(
            f"{path}: its SHA-256 is {found[:16]}…, recorded is {recorded[:16]}…; {remedy}"
        )


def embedded_folder() -> Path:
    """The folder of the embedded weights: of the wheel, else of the checkout."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "weights"
    return packed if packed.is_dir() else package.parent / "weights"


def cache_folder() -> Path:
    """The folder of pulled weights: ``$UPSCALE_CACHE/weights``, else below the platform's cache."""
    if chosen := os.environ.get("UPSCALE_CACHE"):
        return Path(chosen).expanduser() / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("upscale", appauthor=False) / "weights"


def read_index(folder: Path, origin: Origin) -> dict[str, WeightsFile]:
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
    for name, table in tables.items():
        if wrong := _wrong(table):
            raise CheckpointError(f"{path}: [{name}]: {wrong}")
    return {
        name: WeightsFile(name=name, path=folder / table["file"], origin=origin, **table)
        for name, table in tables.items()
    }


def _wrong(table: Any) -> str:
    """What is wrong with a table of an index, and the remedy; or ""."""
    if not isinstance(table, dict):
        return f"it is no table; keys are {', '.join(sorted(_STORED))}"
    if unknown := set(table) - set(_STORED):
        return f"unknown key {min(unknown)!r}; keys are {', '.join(sorted(_STORED))}"
    if missing := set(REQUIRED) - set(table):
        return f"{min(missing)!r} is missing; add it"
    for key, value in table.items():
        if not isinstance(value, _TYPES.get(key, str)):
            return f"{key} = {value!r} has the wrong type; mend it"
    if table.get("role", "") not in get_args(Role):
        return f"role = {table['role']!r} is none of {', '.join(get_args(Role)[1:])}; mend it"
    if Path(table["file"]).name != table["file"]:
        return f"file = {table['file']!r} leaves the folder; give a plain file name"
    return ""


def update_index(folder: Path, entry: WeightsFile) -> None:
    """Write one row into ``folder/index.toml``, in place of the row of that name, else at the end.

    Raises:
        UsageError: The file of the row is not in the folder.
        OutputError: The index cannot be written.
    """
    import tomlkit
    from filelock import FileLock

    if not (folder / entry.file).is_file():
        raise UsageError(f"{entry.file} is not in {folder}; save the checkpoint there first")
    # the row as a table: what is required, and what is not empty
    table = tomlkit.table()
    for key, value in asdict(entry).items():
        if key in _STORED and (value or key in REQUIRED):
            inline = tomlkit.inline_table()
            table[key] = inline.update(value) or inline if key == "scores" else value
    # one writer at a time; the lock lies among the temporary files, not among the weights
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    with FileLock(Path(tempfile.gettempdir()) / f"upscale-{user}-{key}.lock"):
        read_index(folder, entry.origin)  # what is damaged is not written over
        path = folder / INDEX
        document = tomlkit.parse(path.read_text("utf-8") if path.exists() else "")
        if entry.name not in document and document.as_string().strip():
            document.add(tomlkit.nl())
        document[entry.name] = table
        write_bytes(path, [document.as_string().encode()], overwrite=True)


def entries() -> list[WeightsFile]:
    """All that can be loaded by name: embedded rows first, then cached ones."""
    embedded = read_index(embedded_folder(), "embedded")
    cached = read_index(cache_folder(), "cached")
    return [*embedded.values(), *(e for name, e in cached.items() if name not in embedded)]


def families(rows: Iterable[WeightsFile] | None = None) -> dict[str, list[WeightsFile]]:
    """Family name -> its rows, in the order of the indexes."""
    rows = [entry for entry in (entries() if rows is None else rows) if entry.family]
    return {name: [e for e in rows if e.family == name] for name in (e.family for e in rows)}


def select(name: str | os.PathLike[str], *, scale: float | None = None) -> tuple[WeightsFile, ...]:
    """What ``--model NAME`` means: one file, a (PSNR, GAN) pair, or two pairs, clean and real.

    A family gives its nearest native scale at or above ``scale``, else its largest (where None, its
    default row's), and at that scale the pairs it has; a weights name or the path of a file gives
    itself, whatever ``scale`` says.

    Raises:
        CheckpointError: There is no such family, weights, or file; close names are in the message.
    """
    rows = families().get(normal(os.fspath(name)))
    if rows is None:
        return (find(name),)
    scales = sorted({e.scale for e in rows})
    if scale is None:
        chosen = next((e.scale for e in rows if e.default), scales[-1])
    else:
        chosen = next((s for s in scales if s >= scale), scales[-1])
    at_scale = sorted((e for e in rows if e.scale == chosen), key=lambda e: not e.default)
    by_role = {entry.role: entry for entry in reversed(at_scale)}  # of several the first
    if at_scale[0].role and set(CLEAN) <= set(by_role):
        roles = (*CLEAN, *REAL) if set(REAL) <= set(by_role) else CLEAN
        return tuple(by_role[role] for role in roles)
    return (at_scale[0],)


def find(name: str | os.PathLike[str]) -> WeightsFile:
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
        if named := [entry for entry in rows if entry.answers_to(text)]:
            return named[0]
        if normal(text) in families(rows):
            return select(text)[:2][-1]
    path = Path(text).expanduser()
    if path.is_file():
        return by_path(path)
    if path.is_dir() and (is_path or text.lower().endswith(SUFFIXES)):
        raise CheckpointError(f"{text} is a folder; give a .safetensors file or a weights name")
    if is_path:
        raise CheckpointError(f"no checkpoint file {text}; check the path, or see 'upscale models'")
    raise _unknown_name(text)


def by_path(path: Path) -> WeightsFile:
    """The row of a file; without a hash where the file is in no index."""
    if known := [entry for entry in entries() if entry.path.resolve() == path.resolve()]:
        return known[0]
    size = path.stat().st_size if path.exists() else 0
    return WeightsFile(path.stem, path.name, "", size, architecture="", scale=0, path=path)


def _unknown_name(name: str) -> CheckpointError:
    """The error for a name that is nothing: how to get it, or which names come close."""
    if (why := refused(name)) is not None:
        return CheckpointError(why)
    for entry in official().values():
        if entry.answers_to(name) or normal(name) == entry.family != "":
            known = entry.name if entry.answers_to(name) else entry.family
            return CheckpointError(
                f"{known} is not in the cache; run 'upscale weights pull {known}' first"
            )
    if name.lower().endswith(SUFFIXES):
        return CheckpointError(
            f"no checkpoint file {name}; check the path, or see 'upscale models'"
        )
    rows = entries()
    names = [*families(rows), *(e.name for e in rows), *official()]
    return UnknownModelError(f"no model or weights named {name!r}; {suggestion(name, names)}")


@lru_cache(maxsize=1)
def _published() -> dict[str, dict[str, dict[str, Any]]]:
    text = Path(__file__).with_name("published.toml").read_text("utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=1)
def official() -> dict[str, WeightsFile]:
    """All published checkpoints by weights name, in the order of the table."""
    unknown = {"sha256": "", "bytes": 0, "origin": "published"}
    return {
        name: WeightsFile(
            name=name,
            file=unquote(urlsplit(row["source"]).path).rpartition("/")[2],
            **(unknown | row),  # type: ignore[arg-type]
        )
        for name, row in _published()["weights"].items()
    }


def require(name: str) -> WeightsFile:
    """The published checkpoint of that name or file name; else an error with close names."""
    if named := [entry for entry in official().values() if entry.answers_to(name)]:
        return named[0]
    if (why := refused(name)) is not None:
        raise CheckpointError(why)
    close = suggestion(name, official())
    raise UnknownModelError(f"no official checkpoint is named {name!r}; {close}")


def members(name: str) -> list[WeightsFile]:
    """The published checkpoint of that name, or all of the family of that name."""
    family = [entry for entry in official().values() if entry.family == normal(name)]
    return family or [require(name)]


def refused(name: str) -> str | None:
    """Why a published checkpoint of that name cannot be had here; None for other names."""
    for row in _published()["refused"].values():
        if normal(name) in map(normal, row["names"]):
            why = row.get("reason", f"is an {row.get('network')} network, which is not run here")
            return f"{name} {why}; or take {row['instead']}"
    return None


def chain_of(model: str) -> list[str]:
    """The models of a chain ``A,B``; a file whose name holds commas is one model."""
    names = [name.strip() for name in model.split(",")]
    return [model] if len(names) == 1 or Path(model).is_file() else names


def normal(name: str) -> str:
    """The form in which names are compared: lower case, ``-`` for ``_``, no file suffix."""
    lowered = name.strip().lower().replace("_", "-")
    for suffix in (".pth.tar", *SUFFIXES[:-2]):  # no weights are named like an ncnn or ONNX file
        lowered = lowered.removesuffix(suffix)
    return lowered


def suggestion(name: str, names: Iterable[str]) -> str:
    """``did you mean …?`` with the closest names, else where to look them up."""
    close = difflib.get_close_matches(normal(name), list(names), n=3, cutoff=0.5)
    return (
        f"did you mean {' or '.join(close)}?" if close else "'upscale models' lists what there is"
    )

"""From an input to the name of its output, which never leaves the output folder."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from string import Formatter
from typing import Literal

from upscale import storage
from upscale.errors import UsageError

FIELDS = (  # of templates
    *("stem", "parent", "input_ext", "model", "scale"),
    *("alpha", "denoise", "sample", "page", "ext"),
)
SAMPLE = "\x00"  # in a name that is not settled yet: the number of the draw
BETWEEN = "-_ .+~"  # what stands between the fields of a name
MAX_NAME_BYTES = 255


def suffix(labels: Mapping[str, str]) -> str:
    """What an output beside its input has in its name: ``_esrgan_x4``."""
    scale = labels["scale"]
    is_factor = scale.replace(".", "", 1).isdigit()
    return f"_{component(labels['model'])}_{component(f'x{scale}' if is_factor else scale)}"


def component(name: str) -> str:
    """Return ``name`` as one harmless component of a path.

    Separators and NUL become ``_``; ``.`` and ``..`` too. Control characters stay: they are legal
    in a name, and an output is to be found under the name of its input.
    """
    name = re.sub(r"[/\x00]" if os.sep == "/" else r'[/\\:*?"<>|\x00-\x1f]', "_", name)
    return "_" * len(name) if name in {".", ".."} else name


def relative(path: str) -> str:
    """Return a relative path with forward slashes that has no empty, ``.`` or ``..`` component."""
    parts = path.replace(os.sep, "/").split("/")
    return "/".join(component(part) for part in parts if part not in {"", ".", ".."})


def split_name(path: str) -> tuple[str, str, str]:
    """Return (parent folder, stem, extension without dot) of a location."""
    if storage.is_url(path):
        path = path.partition("::")[0]
        path = path.partition("?")[0] if path.startswith(("http:", "https:")) else path
        path = path.partition("://")[2]
    parts = [part for part in path.replace(os.sep, "/").split("/") if part not in {"", "."}]
    stem, ext = os.path.splitext(parts[-1] if parts else "")
    return (parts[-2] if len(parts) > 1 else ""), stem, ext[1:]


def fit(name: str) -> str:
    """Return ``name`` in at most 255 bytes; a longer one ends in a hash of the whole."""
    encoded = os.fsencode(name)
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    stem, ext = os.path.splitext(name)
    tail = f"~{hashlib.sha256(encoded).hexdigest()[:8]}{ext}"
    room = MAX_NAME_BYTES - len(os.fsencode(tail))
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + tail


def is_template(output: str) -> bool:
    """Whether an output names fields in braces."""
    return "{" in output or "}" in output


def kind_of(
    output: str | None, *, many: bool
) -> Literal["beside", "stdout", "template", "folder", "file"]:
    """Return what an ``--output`` means for one picture or for many."""
    if output is None:
        return "beside"
    if output == "-":
        return "stdout"
    if not storage.is_url(output) and os.path.isdir(output):
        return "folder"
    if is_template(output):
        return "template"
    return "folder" if many or output.endswith(("/", os.sep)) else "file"


def check_template(template: str) -> None:
    """Refuse, by a ``UsageError``, unbalanced braces and fields that do not exist."""
    known = ", ".join("{" + field + "}" for field in FIELDS)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"output {template!r}: {error}; a brace itself is written {{{{") from error
    for _, field, spec, conversion in parts:
        if field is None:
            continue
        if field not in FIELDS or spec or conversion:
            raise UsageError(f"output {template!r}: {{{field}}} is not one of {known}")


def has_page(output: str | None) -> bool:
    """Whether an output is a template that names the page."""
    if output is None or "{page}" not in output or kind_of(output, many=True) != "template":
        return False
    check_template(output)
    # The braces may be doubled.
    return any(field == "page" for _, field, _, _ in Formatter().parse(output))


def fill(template: str, location: str, ext: str, labels: Mapping[str, str]) -> str:
    """Return a template filled for one input; what is filled in is one component each.

    A field that is empty takes with it what stands between it and its neighbour, before it, or
    behind it where it is the first of its component: ``{stem}_{alpha}.{ext}`` becomes ``a.png``.
    """
    if not storage.is_url(location) and not os.path.isabs(location):
        location = os.path.abspath(location)
    parent, stem, input_ext = split_name(location)
    values = {"stem": stem, "parent": parent, "ext": ext, "input_ext": input_ext, "page": "1"}
    values |= labels
    filled, is_first = "", False  # is_first: an empty field stood at the start of a component
    for literal, field, _, _ in Formatter().parse(template):
        if is_first:
            literal = literal.lstrip(BETWEEN.replace(".", ""))  # noqa: PLW2901
            literal = literal[filled.endswith("/") and literal.startswith("/") :]  # noqa: PLW2901
        value = SAMPLE if field == "sample" else component(values[field]) if field else ""
        is_empty = field is not None and not value
        filled += (literal.rstrip(BETWEEN) if is_empty else literal) + value
        is_first = is_empty and (not filled or filled.endswith("/"))
    head, separator, name = filled.rpartition("/")
    return head + separator + fit(name)


def numbered(path: str, number: int) -> str:
    """Return a path with a number behind its stem: ``out_3.png``."""
    stem, ext = os.path.splitext(path)
    head, separator, name = f"{stem}_{number}{ext}".rpartition("/")
    return head + separator + fit(name) if path else path


def template_root(template: str) -> str:
    """Return the folder that a template's outputs lie in: what stands before its first field."""
    head = template.partition("{")[0]
    if storage.is_url(template):
        return head.rpartition("/")[0] or head
    return os.path.dirname(head) or "."


def beside(location: str, ext: str, labels: Mapping[str, str]) -> str:
    """Return the default output of an input: beside it, ``{stem}_{model}_x{scale}.{ext}``."""
    _, stem, _ = split_name(location)
    name = fit(f"{component(stem)}{suffix(labels)}.{ext}")
    if storage.is_url(location):
        head, separator, chain = location.partition("::")
        return f"{head.rpartition('/')[0]}/{name}{separator}{chain}"
    return os.path.join(os.path.dirname(location), name)


def within(root: str, rel: str, ext: str) -> str:
    """Return the output in a folder for an input at ``rel`` in its own tree: same name, ``ext``."""
    rel = relative(rel)
    head, separator, name = rel.rpartition("/")
    stem = os.path.splitext(name)[0] or "_"
    path = head + separator + fit(f"{stem}.{ext}")
    if storage.is_url(root):
        return f"{root.rstrip('/')}/{path}"
    return os.path.join(root, *path.split("/"))


def is_inside(path: str, root: str) -> bool:
    """Whether a location lies in a folder, both taken literally (links are not followed)."""
    if storage.is_url(path) or storage.is_url(root):
        return ".." not in path.split("/") and path.startswith(root.rstrip("/") + "/")
    inner, outer = os.path.abspath(path), os.path.abspath(root)
    return inner.startswith(outer.rstrip(os.sep) + os.sep)


def parent(location: str) -> str:
    """Return the folder that a location lies in."""
    if storage.is_url(location):
        return location.partition("::")[0].rpartition("/")[0]
    return os.path.dirname(location) or "."


def last(path: str) -> str:
    """Return the last component of a location."""
    inner = path.partition("::")[0] if storage.is_url(path) else path
    return inner.replace(os.sep, "/").rstrip("/").rpartition("/")[2] or path


def relative_to(path: str, root: str) -> str:
    """Return the place of a location in a folder that it lies in, with forward slashes."""
    if storage.is_url(path):
        return path[len(root.rstrip("/")) :].lstrip("/")
    return os.path.relpath(path, root).replace(os.sep, "/")


def key(path: str) -> str:
    """Return what identifies a location on a case-sensitive file system."""
    if storage.is_url(path):
        return path
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def folded(path: str) -> str:
    """Return what identifies a location on a file system that ignores case and Unicode forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())

"""A template with ``{page}``: each page of an input is a task, as a picture of its own would be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Formatter

from upscale import storage
from upscale.batch import naming
from upscale.batch.inputs import Input
from upscale.errors import ImageError, reason
from upscale.image import probe
from upscale.settings import Settings

STREAM = (
    "a stream or a video does not tell how many pictures it has, which {page} needs to know: make "
    "pictures of it first (ffmpeg -i - %06d.png)"
)


@dataclass(frozen=True)
class PageInput:
    """One page of an input.

    Attributes:
        source: The input; where its pages cannot be told, why.
        number: From 1; 0 where they cannot.
        count: How many the input has.
        labels: What templates may name for it.
    """

    source: Input
    number: int
    count: int
    labels: Mapping[str, str]


def by_page(
    sources: Sequence[Input], template: str, settings: Settings, labels: Mapping[str, str]
) -> list[PageInput]:
    """The pages of all sources that are taken, as their headers tell.

    Args:
        sources: What has pages, or one.
        template: Of the outputs, with ``{page}`` somewhere.
        settings: Which pages are taken.
        labels: What templates may name besides.

    Raises:
        UsageError: The template cannot be filled.
    """
    if naming.kind_of(template, many=True) == "template":
        naming.check_template(template)
        if any(field == "page" for _, field, _, _ in Formatter().parse(template)):
            return [page for s in sources for page in _pages_of(s, settings.page, labels)]
    # The braces are doubled, or stand in the name of a folder.
    return [PageInput(s, 0, 0, labels) for s in sources]


def _pages_of(
    source: Input, pages: tuple[int, int] | None, labels: Mapping[str, str]
) -> Iterator[PageInput]:
    """The pages of a source, or one in their place where there are none."""
    source, count = _counted(source)
    first, last = pages or (1, count)
    if first > count and not source.error:
        error = f"there is no page {first}: give --page 1 to {count}"
        source = replace(source, error=error)
    if source.error:
        yield PageInput(source, 0, 0, {**labels, "page": str(first)})
        return
    for number in range(first, min(last, count) + 1):
        label = str(number).zfill(len(str(count)))
        yield PageInput(source, number, count, {**labels, "page": label})


def _counted(source: Input) -> tuple[Input, int]:
    """A source, or why it cannot be read, with the number of its pages.

    What can be read once, a named pipe, is kept with it: each page is read again.
    """
    if source.error:
        return source, 0
    is_stream = source.data is not None and not isinstance(source.data, bytes)
    try:
        content = None if is_stream else storage.content(source.location, source.data)
        info = None if content is None else probe(content.where)
    except (OSError, ImageError) as error:
        return replace(source, error=reason(error)), 0
    if content is None or info is None or info.format == "y4m":
        return replace(source, error=STREAM), 0
    is_kept = storage.is_url(source.location) or os.path.isfile(source.location)
    if source.data is None and not is_kept:
        source = replace(source, data=content.where)
    return source, info.frames

"""Batches from Python: ``for record in upscale.batch("photos", "out", recursive=True): ...``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from upscale.batch.engines import load_engines
from upscale.batch.job import Job
from upscale.batch.plan import Request
from upscale.batch.report import Record
from upscale.batch.run import Options
from upscale.batch.settings import AlphaMode, IccMode, Settings, Size
from upscale.errors import UsageError

Location = str | os.PathLike[str]


def batch(
    inputs: Location | Iterable[Location],
    output: Location | None = None,
    *,
    model: str = "esrgan",
    alpha: float | None = None,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    tile: str | int = "auto",
    overlap: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    tta: bool = False,
    format: str | None = None,  # noqa: A002 - the name of the option
    quality: int | None = None,
    lossless: bool = False,
    strip_metadata: bool = False,
    background: str | None = None,
    icc: IccMode = "keep",
    assume_icc: Location | None = None,
    alpha_mode: AlphaMode = "network",
    color_fix: bool = False,
    palette: bool = False,
    recursive: bool = False,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    overwrite: bool = False,
    skip_existing: bool = False,
    shard: tuple[int, int] | None = None,
    jobs: int = 0,
    fail_fast: bool = False,
) -> Iterator[Record]:
    """Enlarge many pictures; yield a record for each as it finishes.

    A picture that fails is a record with ``status == "failed"`` and does not end the batch. Leaving
    the loop stops the batch: what is written stays, and the same call goes on with the rest.

    Args:
        inputs: Files, folders, globs, URLs of any fsspec file system.
        output: A folder (the tree is mirrored), a file (one input), a template, or ``None``: beside
            the inputs.
        model: Family, weights name, or checkpoint file.
        alpha: Share of the GAN net in an ESRGAN pair, in [0, 1]; ``None``: 0.8.
        scale: Final scale; ``None``: the model's.
        size: Final (width, height) in pixels instead of a scale.
        tile: Side of the tiles in LR pixels, ``"auto"`` or ``"off"``.
        overlap: LR pixels that tiles share; ``None``: what the network needs.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, several with commas: ``"cuda:0,cuda:1"``.
        dtype: ``"auto"``, ``"fp16"``, ``"bf16"``, ``"fp32"``.
        tta: Mean over the eight flips and turns.
        format: Output format; ``None``: the input's where it can hold the result.
        quality: Of lossy formats, 1 to 100.
        lossless: Lossless coding where the format has both.
        strip_metadata: Drop EXIF, XMP, and provenance.
        background: Colour to put under alpha where the format holds none.
        icc: Keep colour profiles, or leave results in sRGB.
        assume_icc: File of an ICC profile for CMYK pictures that carry none.
        alpha_mode: Enlarge alpha by the network or by bicubic.
        color_fix: Put the input's low frequencies back.
        palette: Write PNG with a palette of at most 256 colours.
        recursive: Folders in folders too.
        include: Globs that names in folders must match.
        exclude: Globs that names in folders must not match.
        overwrite: Replace outputs that exist.
        skip_existing: Leave outputs that exist.
        shard: (i, N): do the i-th of N parts, from 1.
        jobs: Threads that decode, and as many that encode; 0: automatic.
        fail_fast: Stop at the first failure.

    Raises:
        UsageError: The plan is impossible (before the first record; nothing was started).
        CheckpointError: There is no such model.
        DeviceError: There is no such device.
    """
    job = Job(
        inputs=_locations(inputs),
        settings=Settings(
            model=os.fspath(model),
            alpha=alpha,
            scale=scale,
            size=None if size is None else Size(*size),
            tile=tile,
            overlap=overlap,
            device=device,
            dtype=dtype,
            tta=tta,
            format=format,
            quality=quality,
            lossless=lossless,
            strip_metadata=strip_metadata,
            background=background,
            icc=icc,
            assume_icc=None if assume_icc is None else os.fspath(assume_icc),
            alpha_mode=alpha_mode,
            color_fix=color_fix,
            palette=palette,
        ),
        request=Request(_output(output), overwrite, skip_existing, shard),
        recursive=recursive,
        include=tuple(include),
        exclude=tuple(exclude),
    )
    return _records(job, Options(jobs=jobs, fail_fast=fail_fast))


def _records(job: Job, options: Options) -> Iterator[Record]:
    """Plan a job at once; do it as its records are asked for."""
    sources = job.discover()
    upscalers = load_engines(job.settings)
    plan = job.plan(sources, upscalers[0])
    return (payload.record for payload in job.run(plan, upscalers, options))


def _locations(inputs: Location | Iterable[Location]) -> tuple[str, ...]:
    if isinstance(inputs, str | os.PathLike):
        inputs = (inputs,)
    names = tuple(os.fspath(name) for name in inputs)
    if not names or "-" in names:
        raise UsageError("inputs: give files, folders, globs, or URLs; stdin is for the shell")
    return names


def _output(output: Location | None) -> str | None:
    if output is None:
        return None
    name = os.fspath(output)
    if name == "-":
        raise UsageError("output '-' is for the shell; give a file or a folder")
    return name

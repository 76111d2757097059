"""``upscale INPUT...``: the main job."""

from __future__ import annotations

from upscale.cli import options as o
from upscale.cli.command import VersionOption
from upscale.cli.console import Console


def run(
    inputs: o.Inputs = None,
    output: o.Output = None,
    format: o.Format = None,  # noqa: A002 - the name of the option
    quality: o.Quality = None,
    lossless: o.Lossless = False,
    background: o.Background = None,
    icc: o.Icc = "keep",
    assume_icc: o.AssumeIcc = None,
    palette: o.Palette = False,
    strip_metadata: o.StripMetadata = False,
    overwrite: o.Overwrite = False,
    skip_existing: o.SkipExisting = False,
    model: o.Model = "esrgan",
    scale: o.Scale = None,
    size: o.SizeOption = None,
    width: o.Width = None,
    height: o.Height = None,
    max_side: o.MaxSide = None,
    alpha: o.Alpha = None,
    tta: o.Tta = False,
    alpha_mode: o.AlphaModeOption = "network",
    color_fix: o.ColorFix = False,
    tile: o.Tile = "auto",
    overlap: o.Overlap = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    jobs: o.Jobs = 0,
    max_pixels: o.MaxPixels = None,
    recursive: o.Recursive = False,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    shard: o.Shard = None,
    watch: o.Watch = False,
    engine: o.Engine = "local",
    workers: o.Workers = 0,
    json: o.Json = False,
    report: o.Report = None,
    dry_run: o.DryRun = False,
    fail_fast: o.FailFast = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: VersionOption = False,
) -> int:
    """Enlarge pictures with super-resolution networks.

    Writes IMAGE_esrgan_x4.png beside IMAGE.png unless -o says otherwise. Nothing that exists is
    replaced silently, an output appears whole or not at all, and the same command resumes.
    """
    from upscale.batch.job import Job
    from upscale.batch.plan import Request
    from upscale.batch.settings import Settings
    from upscale.cli import main_job

    settings = Settings(
        model=model,
        alpha=alpha,
        scale=scale,
        size=main_job.parse_size(size, width, height, max_side),
        tile=o.tile_of(tile),
        overlap=overlap,
        device=device,
        dtype=dtype,
        tta=tta,
        format=format,
        quality=quality,
        lossless=lossless,
        strip_metadata=strip_metadata,
        background=background,
        icc=icc,  # type: ignore[arg-type]
        assume_icc=assume_icc,
        alpha_mode=alpha_mode,  # type: ignore[arg-type]
        color_fix=color_fix,
        palette=palette,
    )
    request = Request(output, overwrite, skip_existing, main_job.parse_shard(shard))
    job = Job(
        inputs=tuple(inputs or ()),
        listed=main_job.read_listed(files_from, inputs or (), null=null),
        settings=settings,
        request=request,
        recursive=recursive,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
    )
    show = main_job.Show(Console(quiet, verbose), json=json, report=report)
    how = main_job.How(jobs, fail_fast, max_pixels, watch, engine, workers)
    if dry_run:
        return main_job.rehearse(job, show, how)
    return main_job.execute(job, show, how)

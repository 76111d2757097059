"""``upscale INPUT...``: the main job."""

from __future__ import annotations

from upscale.cli.options import CommandOptions, Inputs, VersionOption, flat
from upscale.settings import Outputs, RunOptions, Selection, Settings


@flat
def run(
    inputs: Inputs = None,
    *,
    outputs: Outputs,
    settings: Settings,
    options: RunOptions,
    selection: Selection,
    command: CommandOptions,
    version: VersionOption = False,
) -> int:
    """Enlarge pictures with super-resolution networks.

    Writes IMAGE_esrgan_x4.png beside IMAGE.png unless -o says otherwise. Nothing that exists is
    replaced silently, an output appears whole or not at all, and the same command resumes.
    """
    from upscale.batch.job import Job
    from upscale.cli import main_job

    job = Job(tuple(inputs or ()), settings, outputs, selection, options)
    return main_job.dry_run(job, command) if command.dry_run else main_job.execute(job, command)

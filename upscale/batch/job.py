"""A job: what was asked for, from the names of the inputs to the iteration over the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from upscale.batch.discover import Filters, Listed, Source, discover
from upscale.batch.plan import Plan, Request, kind_of, make_plan
from upscale.batch.settings import Settings
from upscale.batch.storage import is_url, localize
from upscale.files import remove_stale

if TYPE_CHECKING:
    from upscale.batch.cluster import Cluster, ClusterRun
    from upscale.batch.run import Options, Run
    from upscale.upscaler import Upscaler


@dataclass(frozen=True)
class Job:
    """Inputs, outputs and settings of a batch.

    Attributes:
        inputs: Files, folders, globs, URLs, or ``-``.
        listed: Files from a list; ``None``: no list was given.
        settings: What the outputs depend on.
        request: Where outputs go; labels and digest are filled in by ``plan``.
        recursive: Folders in folders too.
        include: Globs that names in folders must match.
        exclude: Globs that names in folders must not match.
    """

    inputs: tuple[str, ...]
    listed: tuple[Listed, ...] | None = None
    settings: Settings = field(default_factory=Settings)
    request: Request = field(default_factory=Request)
    recursive: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def discover(self) -> list[Source]:
        """Return the pictures that were named; nothing is decoded, no model is loaded."""
        filters = Filters(
            recursive=self.recursive,
            include=self.include,
            exclude=self.exclude,
            extensions=extensions(),
            output=self._output_folder(),
        )
        return discover(self.inputs, self.listed or (), filters)

    def _output_folder(self) -> str | None:
        output = self.request.output
        if output is None or kind_of(output, many=True) != "folder":
            return None
        return localize(output)

    def plan(self, sources: Sequence[Source], upscaler: Upscaler) -> Plan:
        """Name the outputs of the sources.

        Raises:
            UsageError: The plan is impossible; nothing was started.
        """
        from upscale.batch.engines import digest_of, labels_of

        request = replace(
            self.request,
            labels=labels_of(self.settings, upscaler),
            settings=digest_of(self.settings, upscaler),
            format=self.settings.format,
        )
        return make_plan(sources, request)

    def run_on(self, cluster: Cluster, plan: Plan, options: Options) -> ClusterRun:
        """Clean up, and prepare the run on a cluster of Ray."""
        from upscale.batch.cluster import ClusterRun

        clean(plan)
        return ClusterRun(plan, self.settings, options, cluster)

    def run(self, plan: Plan, upscalers: Sequence[Upscaler], options: Options) -> Run:
        """Clean up after processes that were killed, and prepare the run."""
        from upscale.batch.run import Run

        clean(plan)
        return Run(plan, upscalers, self.settings, options)


def extensions() -> frozenset[str]:
    """Return the extensions of pictures that can be read."""
    from upscale.image import FORMATS

    return frozenset(ext for kind in FORMATS.values() for ext in kind.extensions)


def clean(plan: Plan) -> int:
    """Remove what killed processes left in the folders of a plan's outputs; return how many."""
    import os

    folders = {os.path.dirname(task.output) or "." for task in plan.tasks if task.root}
    return sum(remove_stale(folder) for folder in folders if not is_url(folder))

"""A job: what was asked for, from the names of the inputs to the iteration over the outcomes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from upscale.batch.discover import STDIN, Filters, Input, discover, listed_in
from upscale.batch.naming import Labels
from upscale.batch.plan import Plan, kind_of, make_plan
from upscale.batch.task import STDOUT, Request
from upscale.errors import UsageError
from upscale.files import remove_stale
from upscale.settings import Outputs, RunOptions, Selection, Settings
from upscale.storage import is_url, localize

if TYPE_CHECKING:
    from upscale.batch.run import Run, TaskProgress
    from upscale.upscaler import Upscaler


@dataclass(frozen=True)
class Job:
    """A batch as it was asked for.

    Attributes:
        inputs: Files, folders, globs, URLs, or ``-``.
        settings: What the outputs depend on.
        outputs: Where they go.
        selection: What is taken from folders, and a list of further inputs.
        options: How it is carried out.
    """

    inputs: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    outputs: Outputs = field(default_factory=Outputs)
    selection: Selection = field(default_factory=Selection)
    options: RunOptions = field(default_factory=RunOptions)

    def discover(self) -> list[Input]:
        """Return the pictures that were named; nothing is decoded, no model is loaded.

        Raises:
            UsageError: Nothing is named, or stdin is named as the list and as a picture.
        """
        selection = self.selection
        if not self.inputs and selection.files_from is None:
            raise UsageError(
                "no input: name files, folders, globs, URLs, or -; see 'upscale --help'"
            )
        if selection.files_from == STDIN and STDIN in self.inputs:
            raise UsageError("stdin is named as the list and as a picture: give one of the two")
        filters = Filters(**vars(selection), extensions=extensions(), output=self._output_folder())
        return discover(self.inputs, listed_in(selection), filters)

    def _output_folder(self) -> str | None:
        output = self.outputs.output
        if output is None or kind_of(output, many=True) != "folder":
            return None
        return localize(output)

    def load(self) -> list[Upscaler]:
        """Load the model once on each device.

        Raises:
            CheckpointError: There is no such model, or its file is damaged.
            DeviceError: There is no such device.
            UsageError: A device is named twice.
        """
        from upscale.upscaler import load_settings

        return [load_settings(self.settings, device) for device in self.options.devices]

    def plan(self, sources: Sequence[Input], upscaler: Upscaler) -> Plan:
        """Name the outputs of the sources.

        Raises:
            UsageError: The plan is impossible; nothing was started.
        """
        from upscale.upscaler import model_label

        native, settings = upscaler.native(), self.settings
        if settings.fit != "distort" and settings.box is None:
            raise UsageError(f"fit {settings.fit!r} needs a width and a height: give --size WxH")
        weights = tuple(f"{name}:{sha256}" for name, sha256 in upscaler.weights.items())
        denoise = next((s.denoise for s in upscaler.chain() if s.denoise is not None), None)
        labels = Labels(
            model=model_label(settings.model),
            scale=settings.size_label if settings.has_size else f"{upscaler.scale:g}",
            alpha="" if native.alpha is None else f"{native.alpha:g}",
            denoise="" if denoise is None else f"{denoise:g}",
        )
        digest = settings.digest(weights, alpha=native.alpha, scale=upscaler.scale)
        request = Request(
            **vars(self.outputs),
            labels=labels,
            digest=digest,
            format=settings.format,
            samples=settings.samples,
            seed=settings.seed,
        )
        if settings.fit == "cover" and (request.uncertainty or request.uncertainty_view):
            raise UsageError("--fit cover cuts what the map shows: give contain or distort with it")
        if needs := request.needs_draws:
            upscaler.check_draws(needs)
        return make_plan(sources, request)

    def run(
        self, plan: Plan, upscalers: Sequence[Upscaler], progress: TaskProgress | None = None
    ) -> Run:
        """Clean up after processes that were killed, and prepare the run in this process."""
        from upscale.batch.run import run_here

        clean(plan)
        return run_here(plan, upscalers, self.settings, self.options, progress)

    def run_on_cluster(
        self,
        plan: Plan,
        progress: TaskProgress | None = None,
        *,
        workers: int = 0,
        gpus: float = 0,
    ) -> Run:
        """Clean up, and prepare the run on a cluster of Ray."""
        from upscale.batch.cluster import run_on_cluster

        clean(plan)
        return run_on_cluster(
            plan, self.settings, self.options, progress, workers=workers, gpus=gpus
        )


def extensions() -> frozenset[str]:
    """Return the extensions of pictures that can be read."""
    from upscale.image import FORMATS

    return frozenset(ext for kind in FORMATS.values() for ext in kind.extensions)


def clean(plan: Plan) -> int:
    """Remove what killed processes left in the folders of a plan's outputs; return how many."""
    written = [path for task in plan.tasks for path in (task.output, *(m.path for m in task.maps))]
    folders = {os.path.dirname(path) or "." for path in written if path != STDOUT}
    return sum(remove_stale(folder) for folder in folders if not is_url(folder))

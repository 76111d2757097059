"""The networks of a model, and the streams that run them."""

from __future__ import annotations

import threading

import torch

from upscale.checkpoints import families
from upscale.checkpoints.names import normal
from upscale.image import Reader
from upscale.inference import Progress
from upscale.settings import Settings
from upscale.upscaler.loading import Loaded, load_native
from upscale.upscaler.stream import Stream

Size = tuple[int, int]  # height, width


class Networks:
    """The networks of a model on a device; a further one is loaded when it is first needed.

    A family of several native scales runs the nearest one at or above the enlargement asked for.
    The rest of the way is bicubic.

    Attributes:
        settings: What was asked for.
        device: Where the networks run.
        native_scale: Enlargement of the network that runs by default.
        scale: Final enlargement by default.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self._lock = threading.Lock()
        self._loaded: dict[int, Loaded] = {}
        self._family = {entry.scale for entry in families().get(normal(settings.model), ())}
        first = self._load(settings.scale)
        self.native_scale = first.scale
        self.scale = float(settings.scale or first.scale)

    def _load(self, wanted: float | None) -> Loaded:
        loaded = load_native(self.settings, self.device, wanted)
        self._family.add(loaded.scale)
        self._loaded[loaded.scale] = loaded
        return loaded

    def native(self, scale: float | None = None) -> Loaded:
        """The network that runs for an enlargement of ``scale`` (None: the default)."""
        wanted = self.scale if scale is None else scale
        with self._lock:
            scales = sorted(self._family)
            chosen = next((s for s in scales if s >= wanted), scales[-1])
            return self._loaded.get(chosen) or self._load(chosen)

    def stages(self, before: Size, after: Size) -> tuple[Loaded, ...]:
        """The networks that bring a picture from one (height, width) to another, in order."""
        return (self.native(max(after[0] / before[0], after[1] / before[1])),)

    def stream_of(
        self, reader: Reader, settings: Settings, progress: Progress | None = None
    ) -> Stream:
        """Prepare to enlarge a picture; the result leaves in strips."""
        before = (reader.height, reader.width)
        after = settings.final_size(*before, self.scale)
        return Stream(reader, self.stages(before, after), settings, after, progress)

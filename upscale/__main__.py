"""``python -m upscale`` and the console script."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):  # until the command line takes them over
        signal.signal(number, lambda number, frame: os._exit(128 + number))
    from upscale.cli import main as run

    run()


if __name__ == "__main__":
    main()

"""``python -m upscale`` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from upscale.cli import main as run
    except KeyboardInterrupt:  # Ctrl-C while Python still imports
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

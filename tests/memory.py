"""How much memory it takes to decode files, measured in a process of its own.

The peak is that of the program alone (``VmHWM``): what ``getrusage`` says counts the process that
started it too, which may have taken more before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pictures import sample
from upscale.image import encode

PEAK = """
import re, sys
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
"""  # MiB of this very program

PROGRAM = f"""{PEAK}
import json
from upscale import image
from upscale.errors import ImageError
image.decode(Path(sys.argv[1]).read_bytes())  # what is loaded once
before, found = peak(), []
for path in sys.argv[2:]:
    try:
        picture = image.decode(Path(path).read_bytes(), max_pixels=2**62)
        said = [*picture.metadata.notes, picture.metadata.text]
    except ImageError as error:
        said = str(error)
    found.append([peak() - before, said])
print(json.dumps(found))
"""

linux_only = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc"
)


def decoded(folder: Path, files: list[bytes]) -> list[tuple[int, str | list[object]]]:
    """For each file the peak after it, MiB above that of a small picture, and what was said.

    That is the message of the error, or, of a picture, its notes and then its text.
    """
    for name, data in enumerate([encode(sample(3, 8), "png"), *files]):
        (folder / f"{name:03}").write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, *sorted(folder.glob("[0-9][0-9][0-9]"))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True
    )
    return [(grown, said) for grown, said in json.loads(done.stdout)]

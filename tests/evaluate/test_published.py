"""The papers' rows are found under the names that weights and folders have."""

from __future__ import annotations

import pytest

from upscale.evaluate import published


@pytest.mark.parametrize(
    ("names", "set_name", "scale", "want"),
    [
        (["srcnn-x3"], "Set5", 3, (32.75, 0.9090)),
        (["swinir-light-x4"], "Set14/HR", 4, (28.77, 0.7858)),
        (["002_lightweightSR_DIV2K_s64w8_SwinIR-S_x2"], "set5", 2, (38.14, 0.9611)),
        (["001_classicalSR_DF2K_s64w8_SwinIR-M_x4"], "BSDS100", 4, (27.92, 0.7489)),
        (["001_classicalSR_DIV2K_s48w8_SwinIR-M_x3"], "Urban100", 3, (29.29, 0.8744)),
        (["esrgan-psnr-x4"], "B100", 4, (27.85, 0.7455)),
        (["RRDB_PSNR_x4"], "Manga109", 4, (31.66, 0.9196)),
        (["swinir-s-x4"], "Set5", 4, (32.44, 0.8976)),
        (["swinir-m-df2k-x2"], "Set5", 2, (38.42, 0.9623)),
        (["srcnn-955-imagenet-x2"], "Set5", 2, (36.66, 0.9542)),
        (["srcnn-915-91-x3"], "Set5", 3, None),
        (["srcnn-mmagic-x4"], "Set5", 4, None),
        (["real-esrgan-x4plus"], "Set5", 4, None),
        (["real-esrnet-x4plus"], "Set5", 4, None),
        (["swinir-real-m-psnr-x4"], "Set5", 4, None),
        (["bicubic"], "Set14", 2, (30.23, 0.8687)),
        (["srcnn-x3"], "Urban100", 3, None),
        (["esrgan-gan-x4"], "Set5", 4, None),
        (["swinir-light-x8"], "Set5", 8, None),
        (["srcnn-x3"], "holidays", 3, None),
        (["srcnn-x3"], "set5000", 3, None),
        (["mine"], "Set5", 3, None),
    ],
)
def test_rows(
    names: list[str], set_name: str, scale: int, want: tuple[float, float] | None
) -> None:
    assert published(names, set_name, scale) == want


def test_between_the_nets_there_is_no_row() -> None:
    names = ["esrgan-psnr-x4", "esrgan-gan-x4"]
    assert published(names, "Set5", 4, 0.0) == (32.73, 0.9011)
    assert published(names, "Set5", 4, 0.8) is None

"""Names of outputs: harmless, inside the output folder, the same for the same input."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.batch import naming
from upscale.errors import UsageError


def labels_of(model: str, scale: str, alpha: str = "", denoise: str = "") -> dict[str, str]:
    return {"model": model, "scale": scale, "alpha": alpha, "denoise": denoise}


LABELS = labels_of("esrgan", "4", "0.8")
HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..",
    ".",
    "",
    "\x1b[31mred\x07",
    "new\nline",
    "<img src=x onerror=alert(1)>",
    "quo'te\"",
    "x" * 250,
    "é" * 125,
    os.fsdecode(b"caf\xe9"),
    "{model}",
]
paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(st.one_of(paths, st.sampled_from(HOSTILE)))
def test_outputs_stay_in_their_folder(relative: str) -> None:
    for root in ("out", "/out", "memory://out", "s3://bucket/a"):
        output = naming.within(root, relative, "png")
        assert naming.is_inside(output, root), output
        assert len(os.fsencode(output.rpartition("/")[2])) <= 255


@given(st.one_of(paths, st.sampled_from(HOSTILE)))
def test_templates_stay_in_their_folder(name: str) -> None:
    template = "out/{parent}/{stem}_{model}{scale}.{ext}"
    location = f"/photos/{name}"
    filled = naming.fill(template, location, "png", LABELS)
    assert naming.is_inside(filled, naming.template_root(template)), filled


@pytest.mark.parametrize("template", ["{stem", "}", "{name}", "{stem!r}", "{stem:>9}", "{}", "{0}"])
def test_templates_that_cannot_be_filled(template: str) -> None:
    with pytest.raises(UsageError, match="output"):
        naming.check_template(template)


def test_template_fields() -> None:
    template = "o/{parent}-{stem}-{model}-{scale}-{alpha}.{ext}"
    naming.check_template(template)
    filled = naming.fill(template, "/p/q/a.b.jpg", "png", LABELS)
    assert filled == "o/q-a.b-esrgan-4-0.8.png"


def test_beside() -> None:
    assert naming.beside("p/a.JPG", "JPG", LABELS) == "p/a_esrgan_x4.JPG"
    assert naming.beside("a.png", "png", labels_of("srcnn", "2.5")) == "a_srcnn_x2.5.png"
    assert naming.beside("a.png", "png", labels_of("m", "1920x1080")) == "a_m_1920x1080.png"
    assert naming.beside("s3://b/p/a.png", "png", LABELS) == "s3://b/p/a_esrgan_x4.png"


def test_long_names_differ_after_they_are_cut() -> None:
    one = naming.beside("x" * 250 + "1.png", "png", LABELS)
    two = naming.beside("x" * 250 + "2.png", "png", LABELS)
    assert one != two
    assert max(len(os.fsencode(one)), len(os.fsencode(two))) <= 255
    assert one.endswith(".png")


def test_folded_names_meet() -> None:
    assert naming.folded("Ä.PNG") == naming.folded("a\u0308.png")
    assert naming.folded("a.png") != naming.folded("b.png")


@pytest.mark.parametrize(
    ("template", "without"),
    [
        ("{stem}_{alpha}.{ext}", "a.png"),
        ("{stem}_{model}_{alpha}_{scale}.{ext}", "a_srcnn_4.png"),
        ("{alpha}_{stem}.{ext}", "a.png"),
        ("{alpha}_{denoise}_{stem}.{ext}", "a.png"),
        ("{stem}_{alpha}{denoise}.{ext}", "a.png"),
        ("{stem}.{alpha}.{ext}", "a.png"),
        ("o/{alpha}/{stem}.{ext}", "o/a.png"),
        ("o/{stem} - {alpha}.{ext}", "o/a.png"),
        ("{{{stem}_{alpha}}}.{ext}", "{a}.png"),
        ("{stem}{alpha}_{scale}.{ext}", "a_4.png"),
    ],
)
def test_an_empty_field_takes_its_separator_with_it(template: str, without: str) -> None:
    assert naming.fill(template, "/p/a.jpg", "png", labels_of("srcnn", "4")) == without
    full = naming.fill(template, "/p/a.jpg", "png", labels_of("srcnn", "4", "0.8", "0.5"))
    values = {"stem": "a", "model": "srcnn", "scale": "4", "alpha": "0.8", "denoise": "0.5"}
    assert full == template.format(ext="png", **values)


def test_the_input_extension() -> None:
    assert naming.fill("o/{stem}_{input_ext}.{ext}", "/p/a.jpg", "webp", LABELS) == "o/a_jpg.webp"
    assert naming.fill("o/{stem}_{input_ext}.{ext}", "/p/a", "webp", LABELS) == "o/a.webp"

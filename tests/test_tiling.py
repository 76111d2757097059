"""Plans cover, weights sum to exactly 1, starts are multiples, halos weigh nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.errors import UsageError
from upscale.tiling import (
    BLEND,
    MIN_TILE,
    Grid,
    Span,
    check,
    crop,
    default_overlap,
    pad,
    plan,
    plan_axis,
)

_MULTIPLES = st.sampled_from([1, 2, 4, 7, 8, 16])


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """length, tile, overlap, multiple_of, halo of an axis that can be planned."""
    multiple = draw(_MULTIPLES)
    length = multiple * draw(st.integers(1, 900 // multiple + 1))
    halo = draw(st.integers(0, 40))
    overlap = draw(st.one_of(st.integers(0, 100), st.just(2 * halo + BLEND)))
    return length, draw(st.integers(MIN_TILE, 300)), overlap, multiple, halo


def _sum_of_weights(spans: tuple[Span, ...], length: int, scale: int) -> torch.Tensor:
    total = torch.zeros(length * scale)
    for span in spans:
        total[span.first * scale : span.end * scale] += span.weights(scale)
    return total


@settings(max_examples=400, deadline=None)
@given(axis=axes(), scale=st.integers(1, 8))
def test_weights_sum_to_exactly_one(axis: tuple[int, int, int, int, int], scale: int) -> None:
    length, tile, overlap, multiple, halo = axis
    spans = plan_axis(length, tile=tile, overlap=overlap, multiple_of=multiple, halo=halo)
    total = _sum_of_weights(spans, length, scale)
    wrong = (total != 1).nonzero().flatten().tolist()
    assert not wrong, f"sum is not 1 at output pixels {wrong[:5]} of {spans}"
    assert all(((s.weights(scale) > 0) & (s.weights(scale) <= 1)).all() for s in spans)


@settings(max_examples=400, deadline=None)
@given(axis=axes())
def test_spans_are_even_multiples_and_inside(axis: tuple[int, int, int, int, int]) -> None:
    length, tile, overlap, multiple, halo = axis
    spans = plan_axis(length, tile=tile, overlap=overlap, multiple_of=multiple, halo=halo)
    assert spans[0].start == spans[0].first == 0
    assert spans[-1].stop == spans[-1].end == length
    assert all(s.start % multiple == 0 and s.size % multiple == 0 for s in spans)
    assert len({s.size for s in spans}) == 1, "one size, so that tiles can be batched"
    rounded = -(-overlap // multiple) * multiple
    if len(spans) > 1:
        assert spans[0].size <= max(multiple, tile // multiple * multiple) + rounded
    steps = [b.start - a.start for a, b in pairwise(spans)]
    assert all(step > 0 for step in steps)
    assert not steps or max(steps) - min(steps) <= multiple, f"uneven: {steps}"


@settings(max_examples=400, deadline=None)
@given(axis=axes())
def test_the_outer_halo_weighs_nothing(axis: tuple[int, int, int, int, int]) -> None:
    length, tile, overlap, multiple, halo = axis
    spans = plan_axis(length, tile=tile, overlap=overlap, multiple_of=multiple, halo=halo)
    rounded = -(-overlap // multiple) * multiple
    if rounded < 2 * halo:
        return  # the caller asked for less context than the network needs
    for span in spans[1:]:
        assert span.first - span.start >= halo, span
    for span in spans[:-1]:
        assert span.stop - span.end >= halo, span


@settings(max_examples=100, deadline=None)
@given(axis=axes())
def test_the_default_overlap_has_room_for_halo_and_ramp(
    axis: tuple[int, int, int, int, int],
) -> None:
    length, tile, _, multiple, halo = axis
    overlap = default_overlap(halo, multiple, exact=False)
    spans = plan_axis(length, tile=tile, overlap=overlap, multiple_of=multiple, halo=halo)
    steps = [b.start - a.start for a, b in pairwise(spans)]
    assert all(s.rise == min(BLEND, *steps, BLEND) for s in spans[1:])


def test_blending_constant_pictures_gives_the_constant() -> None:
    grid = plan(200, 333, tile=48, overlap=20, halo=6)
    out = torch.zeros(1, 1, 400, 666)
    for _, tiles in grid.bands():
        for tile in tiles:
            rows, cols = tile.rows, tile.cols
            sr = torch.full((1, 1, rows.size * 2, cols.size * 2), 0.3)
            target = out[..., rows.first * 2 : rows.end * 2, cols.first * 2 : cols.end * 2]
            target += tile.weigh(sr, 2)
    assert (out - 0.3).abs().max() <= 6e-8


def test_a_plan_counts_its_tiles_and_a_small_picture_is_one() -> None:
    grid = plan(1000, 500, tile=100, overlap=10)
    assert len(grid) == sum(len(tiles) for _, tiles in grid.bands()) == 10 * 5
    whole = plan(64, 32, tile=64, overlap=0)
    assert whole == Grid((Span(0, 64, 0, 64, 0, 0),), (Span(0, 32, 0, 32, 0, 0),))


@pytest.mark.parametrize(("tile", "overlap"), [(3, 8), (0, 0), (-1, 0), (64, -1)])
def test_bad_values_are_usage_errors(tile: int, overlap: int) -> None:
    with pytest.raises(UsageError, match=str(tile if tile < MIN_TILE else overlap)):
        check(tile, overlap)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=_MULTIPLES)
def test_crop_undoes_pad(height: int, width: int, multiple: int) -> None:
    lr = torch.rand(1, 2, height, width)
    padded = pad(lr, multiple)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert padded.shape[-2] - height < multiple
    assert torch.equal(crop(padded, height, width), lr)


def test_pad_reflects_about_the_outermost_pixel() -> None:
    lr = torch.arange(5.0).reshape(1, 1, 1, 5).expand(1, 1, 5, 5)
    assert pad(lr, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]


def test_pad_repeats_where_there_is_too_little_to_reflect() -> None:
    assert pad(torch.arange(3.0).reshape(1, 1, 3, 1), 8)[0, 0, :, 0].tolist() == [0, 1] + [2] * 6
    assert pad(torch.full((1, 3, 1, 1), 0.7), 8).eq(0.7).all()


@pytest.mark.parametrize("size", [(13, 21), (1, 1), (3, 30), (8, 5), (17, 3)])
def test_rows_are_padded_as_the_whole_is(size: tuple[int, int]) -> None:
    """What the loop over tiles reads row by row is what a network would pad itself."""
    lr, (height, width) = torch.rand(1, 3, *size), size
    whole = pad(lr, 8)
    head = pad(lr[:, :, :8], 8, height=height, is_end=height <= 8)
    assert torch.equal(head, whole[:, :, :8])
    if height > 8:
        begin = min(8, height - 1 - (-height % 8))
        tail = pad(lr[:, :, max(0, begin) :], 8, height=height)
        assert torch.equal(tail, whole[:, :, max(0, begin) :])
    assert whole.shape[-1] == width + -width % 8

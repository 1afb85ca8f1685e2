"""Memory in large pages: pieces that are apart, begin a line, and are given back."""

from __future__ import annotations

import weakref

import pytest

from crane_app.backends.torch.pages import CHUNK, LARGE, LINE, PAGE, Pages


@pytest.mark.parametrize("sizes", [(1, 63, 64, 65), (PAGE, 3 * PAGE + 1, 7), (CHUNK, 1, CHUNK + 1), (CHUNK - 1, 2)])
@pytest.mark.parametrize("most", [1, PAGE - 1, PAGE, 5 * PAGE, 2 * CHUNK])
def test_pieces_are_zero_begin_a_line_and_keep_apart(sizes, most):
    pages = Pages(most)
    pieces = [pages.take(n) for n in sizes]
    for number, (piece, n) in enumerate(zip(pieces, sizes, strict=True), 1):
        assert len(piece) == n
        assert piece.ctypes.data % LINE == 0
        assert not piece.any()
        piece[:] = number
    assert all((piece == number).all() for number, piece in enumerate(pieces, 1))


def test_what_fills_a_large_page_begins_one():
    begins = PAGE if LARGE else LINE
    assert Pages(4 * PAGE).take(4 * PAGE).ctypes.data % begins == 0
    assert Pages().take(CHUNK + 1).ctypes.data % begins == 0


def test_memory_lasts_as_long_as_one_of_its_pieces():
    pages = Pages()
    one, other = pages.take(100), pages.take(100)
    chunks = [weakref.ref(piece.base) for piece in (one, other)]
    del one
    assert chunks[1]() is not None
    del other
    assert [chunk() for chunk in chunks] == [None, None]
    assert len(pages.take(10)) == 10


def test_memory_that_there_is_not_is_told():
    with pytest.raises(MemoryError):
        Pages().take(2**62)

"""That what is left in a cache is seen, whether its engine is open or closed."""

from __future__ import annotations

import pytest

from crane_app.engine.null import NullRunner
from crane_app.engine.request import Asked, Request
from tests.engine.nulls import VOCABULARY, engine, events, shelved, table
from tests.engine.test_scheduler import ROW


def test_an_open_engine_ends_what_it_was_asked_and_forgets_what_it_kept(watch):
    model = shelved(NullRunner(table, VOCABULARY))
    made = engine(model)
    stream = made.submit(Request("null", tokens=(1,) * 600, asked=Asked(max_tokens=5, ignore_eos=True)))
    events(stream)
    assert model.cache.nbytes() > 0, "its prompt is kept"
    assert watch.left() == 0
    made.close()


@pytest.mark.parametrize("closed", [False, True])
def test_a_row_that_nobody_closes_is_found(watch, closed):
    model = shelved(NullRunner(table, VOCABULARY))
    made, row = engine(model), model.cache.open(10)
    if closed:
        made.close()
    assert watch.left() == ROW
    model.cache.close(row)
    made.close()

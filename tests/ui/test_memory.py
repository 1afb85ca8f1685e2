"""What everything loaded holds of the memory, in numbers and in words."""

from fakes import GIB, card, holding, stats

from crane_app.engine.request import Holding
from crane_app.ui.models.memory import left, limit, parts, taken

READER = Holding("built-in reader", "pictures", "cpu", 250_000_000)
LISTENER = Holding("voice finder", "voice", "cpu", 40_000_000, busy=True)


def test_everything_loaded_counts():
    # GIVEN two models with their conversations, the reader, and somebody who listens
    held = holding(card(nbytes=GIB), rows_nbytes=GIB // 2), holding(card("ear", GIB // 4, hears=True))
    now = stats(held=(*held, READER, LISTENER), limit_nbytes=8 * GIB)
    # THEN all of it is held, of what the device allows
    assert taken(now) == GIB + GIB // 2 + GIB // 4 + 290_000_000
    assert limit(now, 16 * GIB) == 8 * GIB
    assert parts(now) == [
        "Qwen3-0.6B 1.1 GB",
        "ear 268 MB",
        "the built-in reader 250 MB",
        "the voice finder 40 MB",
        "conversations 537 MB",
    ]


def test_without_an_engine_nothing_is_held():
    assert taken(None) == 0
    assert parts(None) == []
    assert limit(None, 16 * GIB) == limit(stats(), 16 * GIB) == 16 * GIB


def test_where_nothing_left_nothing_is_said():
    assert left([]) == ""

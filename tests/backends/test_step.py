"""What a step says of its works, and what is refused before any row has changed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from crane_app.contract import BLOCK, Inputs, Outputs, Sampling, Slot, Span, Work
from tests.ops import oracle
from tests.ops.oracle import leaf, normal

LAYOUT = (Slot("full", 1, 4),)
VOCABULARY = 11

pytestmark = pytest.mark.parametrize("dtype", ["float32"])


@pytest.fixture
def cache(backend):
    return backend.cache(LAYOUT)


def work(row, new=1, **more):
    return Work(row, np.zeros(new, np.int32), **more)


class Bigram:
    """Logits of the next token are a row of a table: a model with a cache that it fills and a head."""

    layout = LAYOUT
    vocabulary = VOCABULARY

    def __init__(self, backend):
        rng = np.random.default_rng(20)
        self.ops = backend.ops
        self.host = (
            normal(rng, VOCABULARY, 4, dtype=backend.dtype),
            normal(rng, VOCABULARY, 4, dtype=backend.dtype),
        )
        self.table, self.head = leaf(backend, self.host[0], use="tied"), leaf(backend, self.host[1])

    def forward(self, inputs, step, draw):
        x = self.ops.embed(inputs.tokens, self.table)
        heads = x.reshape(-1, 1, 4)
        self.ops.attend(heads, heads, heads, step, 0)
        logits = self.ops.linear(self.ops.take(x, step.out), self.head)
        return Outputs(draw(logits, 0), logits)

    def logits(self, tokens):
        return oracle.linear(self.host[0][tokens], self.host[1])


# What a step says


def test_spans_lie_one_behind_the_other_and_know_what_was_cached(backend, cache):
    a, b, c = (cache.open(64) for _ in range(3))
    assert backend.step(cache, [work(a, 5), work(b, 2)]).spans == (Span(a, 0, 5, 0), Span(b, 0, 2, 5))
    step = backend.step(cache, [work(c, 3), work(a, 1), work(b, 4)])
    assert step.spans == (Span(c, 0, 3, 0), Span(a, 5, 1, 3), Span(b, 2, 4, 4))
    assert [cache.length(row) for row in (a, b, c)] == [6, 6, 3]


def test_positions_count_on_from_each_rows_length(backend, cache):
    a, b = cache.open(64), cache.open(64)
    backend.step(cache, [work(a, 5), work(b, 2)])
    step = backend.step(cache, [work(b, 3), work(a, 1)])
    assert str(step.positions.dtype).endswith("int32")
    assert backend.numpy(step.positions).tolist() == [2, 3, 4, 5]


def test_positions_start_again_where_a_row_was_cut(backend, cache):
    row = cache.open(64)
    backend.step(cache, [work(row, 9)])
    cache.truncate(row, 4)
    assert backend.numpy(backend.step(cache, [work(row, 2)]).positions).tolist() == [4, 5]


def test_positions_of_an_image_are_taken_as_given(backend, cache):
    row = cache.open(64)
    given = np.array([[0, 1, 1, 1], [0, 1, 1, 2], [0, 1, 2, 1]], np.int32)
    step = backend.step(cache, [work(row, 4, positions=given)])
    assert backend.numpy(step.positions).tolist() == given.tolist()
    after = np.full((3, 1), 3, np.int32)  # text after an image goes on from its greatest position
    assert backend.numpy(backend.step(cache, [work(row, 1, positions=after)]).positions).tolist() == after.tolist()
    assert cache.length(row) == 5


def test_beside_an_image_row_text_counts_in_all_three_streams(backend, cache):
    text, image = cache.open(64), cache.open(64)
    backend.step(cache, [work(text, 7)])
    given = np.arange(6, dtype=np.int32).reshape(3, 2)
    step = backend.step(cache, [work(text, 2), work(image, 2, positions=given)])
    assert backend.numpy(step.positions).tolist() == [[7, 8, 0, 1], [7, 8, 2, 3], [7, 8, 4, 5]]


@pytest.mark.parametrize(
    ("news", "logits", "want"),
    [
        ([5], [1], [4]),
        ([5], [0], []),
        ([5], [5], [0, 1, 2, 3, 4]),
        ([5, 1, 3], [1, 1, 1], [4, 5, 8]),
        ([5, 1, 3], [0, 1, 2], [5, 7, 8]),
        ([1, 1, 1], [1, 0, 1], [0, 2]),
    ],
)
def test_out_are_the_last_tokens_that_want_logits(backend, cache, news, logits, want):
    works = [work(cache.open(64), new, logits=count) for new, count in zip(news, logits, strict=True)]
    out = backend.step(cache, works).out
    assert str(out.dtype).endswith("int32")
    assert backend.numpy(out).tolist() == want


@pytest.mark.parametrize(("news", "form"), [([1], "decode"), ([1, 1, 1], "decode"), ([1, 2], "mixed"), ([3], "mixed")])
def test_the_form_is_decode_when_each_row_has_one_token(backend, cache, news, form):
    assert backend.step(cache, [work(cache.open(64), new) for new in news]).form == form


def test_a_token_still_on_the_device_is_one_token(backend, cache):
    row = cache.open(64)
    backend.step(cache, [work(row, 3)])
    step = backend.step(cache, [Work(row, None)])
    assert step.spans == (Span(row, 3, 1, 0),)
    assert cache.length(row) == 4


@pytest.mark.parametrize("left", [0, 1])
def test_a_row_may_be_filled_to_its_last_position(backend, cache, left):
    row = cache.open(BLOCK)
    backend.step(cache, [work(row, cache.room(row) - left)])
    assert cache.length(row) == cache.room(row) - left


# What is refused


@pytest.fixture
def rows(backend, cache):
    """Three rows with 3, 1 and all but two positions of their room taken."""
    rows = [cache.open(64) for _ in range(3)]
    backend.step(cache, [work(rows[0], 3), work(rows[1], 1), work(rows[2], cache.room(rows[2]) - 2)])
    return rows


@pytest.fixture
def refused(backend, cache, rows):
    """Asserts that a step is refused and that no row has changed, also none that was in order."""

    def check(*works, match):
        def state():
            return [(cache.length(row), cache.room(row)) for row in rows], cache.nbytes()

        before = state()
        for order in (works, works[::-1]):
            with pytest.raises(ValueError, match=match):
                backend.step(cache, order)
            assert state() == before

    return check


def test_no_work_at_all(refused):
    refused(match="work")


def test_an_unknown_row(rows, refused):
    refused(work(rows[0]), work(77), match="77")


def test_a_closed_row(backend, cache, rows):
    cache.close(rows[1])
    with pytest.raises(ValueError, match=str(rows[1])):
        backend.step(cache, [work(rows[0]), work(rows[1])])
    assert cache.length(rows[0]) == 3


@pytest.mark.parametrize("news", [(1, 1), (2, 1), (1, 4)])
def test_a_row_twice(rows, refused, news):
    refused(work(rows[0], news[0]), work(rows[1]), work(rows[0], news[1]), match="row")


@pytest.mark.parametrize("new", [3, 4, 10_000])
def test_a_row_without_room(backend, cache, rows, refused, new):
    refused(work(rows[0]), work(rows[2], new), match="room")
    backend.step(cache, [work(rows[2], 2)])
    refused(work(rows[0]), work(rows[2], 1), match="room")
    refused(work(rows[0]), Work(rows[2], None), match="room")


def test_room_may_be_made_after_a_refusal(backend, cache, rows, refused):
    refused(work(rows[2], 3), match="room")
    cache.reserve(rows[2], cache.length(rows[2]) + 3)
    assert backend.step(cache, [work(rows[2], 3)]).spans[0].start == cache.length(rows[2]) - 3


def test_a_work_without_tokens(rows, refused):
    refused(work(rows[0]), work(rows[1], 0), match="token")
    refused(work(rows[1], 0, logits=0), match="token")


def test_a_copy_that_cannot_be(backend, cache, rows):
    source, other, _ = rows
    target = cache.open(1)
    cache.reserve(source, cache.room(target) + 1)
    copy = work(target, 0, fork=source)
    for works, match in (
        ([work(source, 2, logits=0), copy], "draws nothing before it"),
        ([work(other), copy], "draws nothing before it"),
        ([work(source, cache.room(target) - 2), copy], "has room for"),
        ([work(source), work(target, 1, fork=source)], "a copy with tokens"),
        ([work(source), work(target, 0, fork=source, logits=2)], "asks for logits of 2"),
    ):
        with pytest.raises(ValueError, match=match):
            backend.step(cache, works)
    with pytest.raises(ValueError, match="draws nothing before it"):
        backend.step(cache, [copy, work(source)])
    assert [cache.length(row) for row in (source, target)] == [3, 0]


@pytest.mark.parametrize(("new", "logits"), [(1, 2), (3, 4), (3, -1)])
def test_more_logits_than_tokens(rows, refused, new, logits):
    refused(work(rows[0]), work(rows[1], new, logits=logits), match="logits")


def test_more_logits_than_the_one_token_on_the_device(rows, refused):
    refused(work(rows[0]), Work(rows[1], None, logits=2), match="logits")


@pytest.mark.parametrize("shape", [(3, 1), (3, 3), (2,), (1, 2), (2, 3)])
def test_positions_of_another_shape_than_the_tokens(rows, refused, shape):
    refused(work(rows[0]), work(rows[1], 2, positions=np.zeros(shape, np.int32)), match="positions")


# Through a runner


@pytest.fixture
def runner(backend):
    return backend.runner(Bigram(backend))


MAY = np.array([1 << 4 | 1 << 9], np.uint32)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"allowed": np.zeros(1, np.uint32)}, "no token at all"),
        ({"allowed": np.array([1 << VOCABULARY], np.uint32)}, "no token at all"),
        ({"allowed": np.ones(2, np.uint32)}, "uint32 \\[1\\]"),
        ({"allowed": np.ones(1, np.int32)}, "uint32 \\[1\\]"),
        ({"allowed": MAY, "logits": 0}, "0 logits"),
        ({"allowed": MAY, "logits": 2, "new": 2}, "2 logits"),
    ],
)
def test_a_mask_that_cannot_be(runner, more, match):
    rows = [runner.cache.open(64) for _ in range(2)]
    with pytest.raises(ValueError, match=match):
        runner.launch([work(rows[0]), work(rows[1], **more)])
    assert [runner.cache.length(row) for row in rows] == [0, 0]


def test_a_masked_row_draws_the_best_of_what_is_allowed_beside_others(runner):
    a, b, c = (runner.cache.open(64) for _ in range(3))
    chunk = Work(a, np.array([1, 2, 3], np.int32), logits=2)
    works = [chunk, Work(b, np.array([7], np.int32), allowed=MAY), work(c, 3, logits=0)]
    drawn = runner.launch(works).read().drawn
    want = runner.model.logits([2, 3, 7])
    assert [d.token for d in drawn[0]] == want[:2].argmax(-1).tolist()
    assert drawn[1][0].token == (4 if want[2][4] >= want[2][9] else 9)


def test_a_runner_has_its_models_layout_and_a_cache_of_its_own(backend, runner):
    assert runner.layout == runner.cache.layout == LAYOUT
    assert runner.batched is True
    other = backend.runner(Bigram(backend))
    other.cache.open(1)
    assert runner.cache.nbytes() == 0


def test_a_launch_draws_one_token_for_each_logit(runner):
    a, b, c = (runner.cache.open(64) for _ in range(3))
    tokens = [np.array(t, np.int32) for t in ([0, 10, 4], [7], [3, 2])]
    works = [Work(a, tokens[0], logits=2), Work(b, tokens[1]), Work(c, tokens[2], logits=0)]
    result = runner.launch(works, keep_logits=True).read()
    want = runner.model.logits([10, 4, 7])
    assert [[d.token for d in drawn] for drawn in result.drawn] == [
        want[:2].argmax(-1).tolist(),
        [want[2].argmax()],
        [],
    ]
    assert result.logits.dtype == np.float32
    oracle.assert_close(result.logits, want, "float32")
    assert [runner.cache.length(row) for row in (a, b, c)] == [3, 1, 2]


def test_logits_are_kept_only_when_asked_for(runner):
    row = runner.cache.open(64)
    assert runner.launch([Work(row, np.array([1], np.int32))]).read().logits is None


def test_a_launch_of_a_middle_chunk_draws_nothing(runner):
    row = runner.cache.open(64)
    result = runner.launch([Work(row, np.array([1, 2, 3], np.int32), logits=0)]).read()
    assert result.drawn == ((),)
    assert runner.cache.length(row) == 3


def test_the_likeliest_tokens_are_reported_with_their_log_probabilities(runner):
    row, other = runner.cache.open(64), runner.cache.open(64)
    works = [Work(row, np.array([5, 6], np.int32), logits=2, top=3), Work(other, np.array([1], np.int32))]
    drawn = runner.launch(works).read().drawn
    for at, token in enumerate((5, 6)):
        logprobs = np.log(oracle.softmax(runner.model.logits([token])))[0]
        best = np.argsort(-logprobs, kind="stable")[:3]
        assert drawn[0][at].token == best[0]
        assert drawn[0][at].logprob == pytest.approx(logprobs[best[0]], abs=1e-5)
        assert [i for i, _ in drawn[0][at].top] == best.tolist()
        assert [p for _, p in drawn[0][at].top] == pytest.approx(logprobs[best].tolist(), abs=1e-5)
    assert (drawn[1][0].logprob, drawn[1][0].top) == (None, ())


def test_a_drawn_token_goes_on_without_a_look_at_it(runner):
    """Rows that leave, stay and change places between two steps."""
    a, b, c = (runner.cache.open(64) for _ in range(3))
    first = runner.launch([Work(r, np.array([t], np.int32)) for r, t in ((a, 1), (b, 2), (c, 3))])
    second = runner.launch([Work(c, None), Work(a, None)], previous=first)
    step = lambda token: int(runner.model.logits([token]).argmax())  # noqa: E731
    assert [d[0].token for d in first.read().drawn] == [step(1), step(2), step(3)]
    assert [d[0].token for d in second.read().drawn] == [step(step(3)), step(step(1))]


def test_a_copy_draws_from_the_same_logits_and_goes_on_by_itself(runner):
    """Two copies of one row's last position beside a row that decodes, each with a draw of its own."""
    a, b, c, d = (runner.cache.open(64) for _ in range(4))
    best = runner.model.logits([4])[0].argsort()[::-1]
    never = Sampling(logit_bias={int(best[0]): -np.inf})
    first = runner.launch(
        [work(d), Work(a, np.array([9, 4], np.int32)), work(b, 0, fork=a), work(c, 0, fork=a, draw=never, top=1)]
    )
    assert [runner.cache.length(row) for row in (a, b, c)] == [2, 2, 2]
    second = runner.launch([Work(c, None), Work(b, None)], previous=first)
    drawn = [one[0] for one in first.read().drawn]
    assert [one.token for one in drawn[1:]] == [best[0], best[0], best[1]]
    assert drawn[3].top[0][0] == best[0]
    want = runner.model.logits([best[1], best[0]]).argmax(-1).tolist()
    assert [one[0].token for one in second.read().drawn] == want
    assert [runner.cache.length(row) for row in (a, b, c)] == [2, 3, 3]


@pytest.mark.parametrize("token", [-1, VOCABULARY, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_token_outside_the_vocabulary_is_refused(runner, token, place):
    a, b = runner.cache.open(64), runner.cache.open(64)
    tokens = np.array([0, VOCABULARY - 1, 4], np.int32)
    tokens[place] = token
    with pytest.raises(ValueError, match=str(token)):
        runner.launch([Work(a, np.array([1], np.int32)), Work(b, tokens)])
    assert (runner.cache.length(a), runner.cache.length(b)) == (0, 0)
    runner.launch([Work(a, np.array([0, VOCABULARY - 1], np.int32))]).read()


@pytest.mark.parametrize(
    ("match", "second"),
    [
        ("row 9", lambda a, b: work(9)),
        ("row", lambda a, b: work(a)),
        ("room", lambda a, b: work(b, 100_000)),
        ("token", lambda a, b: work(b, 0)),
        ("logits", lambda a, b: work(b, 2, logits=3)),
        ("token", lambda a, b: Work(b, None)),
    ],
    ids=["unknown row", "row twice", "no room", "no tokens", "too many logits", "no step before"],
)
def test_a_launch_refuses_what_a_step_refuses(runner, match, second):
    a, b = runner.cache.open(64), runner.cache.open(64)
    with pytest.raises(ValueError, match=match):
        runner.launch([work(a), second(a, b)])
    assert (runner.cache.length(a), runner.cache.length(b)) == (0, 0)


def test_a_token_of_a_row_that_drew_none_is_refused(runner):
    a, b = runner.cache.open(64), runner.cache.open(64)
    first = runner.launch([work(a), work(b, 2, logits=0)])
    with pytest.raises(ValueError, match=str(b)):
        runner.launch([Work(a, None), Work(b, None)], previous=first)
    assert (runner.cache.length(a), runner.cache.length(b)) == (1, 2)


def test_a_forward_that_fails_advances_nothing(backend):
    def forward(inputs: Inputs, step, draw):
        raise RuntimeError("no")

    runner = backend.runner(SimpleNamespace(layout=LAYOUT, vocabulary=VOCABULARY, forward=forward))
    row = runner.cache.open(64)
    with pytest.raises(RuntimeError, match="no"):
        runner.launch([work(row, 2)])
    assert runner.cache.length(row) == 0

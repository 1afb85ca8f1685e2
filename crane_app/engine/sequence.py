"""One choice of a request while it is made: its tokens, its place in the cache, its text, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace

import numpy as np

from crane_app.contract import BLOCK, Drawn, Sampling, Saved, Work
from crane_app.engine import lookup, prefixes
from crane_app.engine.grammar import State
from crane_app.engine.request import LANES, Piece, Reason, Resolved
from crane_app.engine.thought import Thought
from crane_app.media.detokenize import Detokenizer, StopText

AGEING = 2.0  # seconds of waiting that are worth one lane, for rows and prompts of one model


@dataclass(eq=False)
class Sequence:
    """What the scheduler knows of a choice.

    launched: prompt tokens handed to the device. flying: tokens drawn but not read yet. made: how many are read.
    slot: its cache row, None before admission, while evicted and after its end. grammar: where it stands in what it is
    held to. held: it may not run ahead of what was read, since what may come next depends on it. again: made tokens
    that are not in the row yet, since it was evicted. saved: the evicted row, where it could not be computed again to
    the bit. cached: prompt tokens found computed. exact: all its keys are as if it were alone.
    thought: holds what it thinks within a budget. reach: tokens of its next guess. led: a draft model goes ahead of it,
    from what was read.
    """

    id: str
    choice: int
    prompt: np.ndarray
    resolved: Resolved
    context: int
    emit: Callable[[Piece], None]
    arrived: float
    lane: str = "chat"
    salt: str = ""
    owner: str = ""
    words: Detokenizer | None = None
    thought: Thought | None = None
    grammar: State | None = None
    held: bool = False
    slot: int | None = None
    room: int = 0
    saved: Saved | None = None
    launched: int = 0
    cached: int = 0
    exact: bool = True
    again: int = 0
    flying: int = 0
    made: int = 0
    reach: int = lookup.FIRST
    led: bool = False
    finish: Reason | None = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self.due = self.arrived + AGEING * LANES.index(self.lane)  # earlier goes first; all age alike
        self.held = self.held or self.grammar is not None
        self.limit = min(self.resolved.max_tokens, self.context - len(self.prompt))
        self.tokens = np.zeros(len(self.prompt) + max(self.limit, 0), np.int32)
        self.tokens[: len(self.prompt)] = self.prompt
        self.keys = prefixes.keys(self.prompt, salt=self.salt)  # of its whole blocks
        self.whole = prefixes.whole(self.prompt, self.keys, self.salt)
        self._stops = StopText(self.resolved.stop) if self.resolved.stop else None
        s = replace(self.resolved.sampling, choice=self.choice)
        self._draw, self._early = s, s
        if self.resolved.min_tokens and self.resolved.stop_ids and self.grammar is None:
            never = dict.fromkeys(self.resolved.stop_ids, float("-inf"))
            self._early = replace(s, logit_bias={**s.logit_bias, **never})
        self._looks_back = s.penalised

    @property
    def prefilling(self) -> bool:
        return self.launched < len(self.prompt)

    @property
    def cut(self) -> int:
        """Where the next piece of the prompt ends: at the next line of the grid, or with the prompt."""
        return min((self.launched // BLOCK + 1) * BLOCK, len(self.prompt))

    @property
    def length(self) -> int:
        """Positions in the cache once everything launched has run."""
        return self.launched + max(self.made + self.flying - 1, 0) - self.again

    @property
    def reserve(self) -> int:
        """Positions that its row has room for at first; the same each time, so that it grows at the same lengths."""
        return len(self.prompt) + min(self.limit, BLOCK)

    @property
    def full(self) -> bool:
        """It wants another position and its row has none."""
        return self.length >= self.room and not self.prefilling and (self.again > 0 or self.ready)

    @property
    def reusable(self) -> int:
        """Whole blocks of the prompt that may be taken from elsewhere: at least one token is left to draw from."""
        return (len(self.prompt) - 1) // BLOCK

    @property
    def waits(self) -> bool:
        """The token in flight must be read before another one can be started."""
        thinks = self.thought is not None and self.thought.waits(self.made + self.flying)
        return self.flying > 0 and (self.held or self.led or thinks)

    @property
    def ready(self) -> bool:
        """Another token may be started, the prompt being in: there is one to come, and it is at most one step ahead."""
        return self.made + self.flying < self.limit and self.flying <= 1 and not self.waits

    def chunk(self) -> Work:
        """The next piece of the prompt; the last one draws a token."""
        assert self.slot is not None
        start, end = self.launched, self.cut
        self.launched = end
        if end < len(self.prompt) or self.made:
            return Work(self.slot, self.prompt[start:end], logits=0)
        return self._first(self.prompt[start:end])

    def fork(self, source: Sequence) -> Work:
        """The whole prompt as a copy of a row that ends the same one in this step, and a token from its logits."""
        self.cached += len(self.prompt) - self.launched
        self.launched, self.exact = len(self.prompt), source.exact
        return replace(self._first(self.prompt[:0]), fork=source.slot)

    def _first(self, tokens: np.ndarray) -> Work:
        """The end of the prompt and a token drawn behind it."""
        assert self.slot is not None
        self.flying += 1
        seen = self.prompt if self._looks_back else None
        return Work(self.slot, tokens, 1, self._sampling(0), seen, 0, self.resolved.logprobs, self._allowed(0))

    def step(self) -> Work:
        """One more token, after the one in flight or the last one read."""
        assert self.slot is not None
        made, end = self.made, len(self.prompt) + self.made
        tokens = None if self.flying else self.tokens[end - 1 : end]
        draw, allowed = self._sampling(made + self.flying), self._allowed(made)
        self.flying += 1
        seen = self.tokens[:end] if self._looks_back else None
        return Work(self.slot, tokens, 1, draw, seen, made, self.resolved.logprobs, allowed)

    @property
    def known(self) -> np.ndarray:
        """The prompt and what was made, int32 [L]."""
        return self.tokens[: len(self.prompt) + self.made]

    @property
    def foresight(self) -> int:
        """Tokens that may be guessed behind what is known; 0 where they could not be checked in one step."""
        early = self.made < self.resolved.min_tokens and self._early is not self._draw
        if self.held or self.thought is not None or early or self.finish is not None:
            return 0
        if self.slot is None or self.prefilling or self.again:
            return 0
        return max(min(self.reach, self.limit - self.made - 1, self.room - self.length - 1), 0)

    def guess(self, draft: np.ndarray) -> Work:
        """The last token and a draft behind it, each as a span of its own with a draw."""
        assert self.slot is not None
        assert not self.flying
        end, count = len(self.prompt) + self.made, len(draft)
        self.tokens[end : end + count] = draft
        self.flying = count + 1
        tokens, seen = (
            self.tokens[end - 1 : end + count].copy(),
            self.tokens[: end + count] if self._looks_back else None,
        )
        top, draw = self.resolved.logprobs, self._sampling(self.made)
        return Work(self.slot, tokens, count + 1, draw, seen, self.made + count, top, singly=True)

    def replay(self, most: int) -> Work:
        """Up to `most` made tokens once more, each as a span of its own, as they ran before the row was evicted."""
        assert self.slot is not None
        start = len(self.prompt) + self.made - 1 - self.again
        count = min(most, self.again, self.room - self.length)
        self.again -= count
        return Work(self.slot, self.tokens[start : start + count], logits=0, singly=True)

    def set_back(self, length: int, drew: int) -> None:
        """As it was before a step that began at `length` cached positions and drew so many tokens."""
        self.flying -= drew
        self.launched = min(self.launched, length)
        if not self.made:
            self.cached = min(self.cached, self.launched)
        self.again = max(self.launched + max(self.made + self.flying - 1, 0) - length, 0)

    def take_over(self, blocks: int, exact: bool) -> None:
        """So many blocks of the prompt were found computed."""
        self.launched += blocks * BLOCK
        self.exact = self.exact and exact
        if not self.made:
            self.cached += blocks * BLOCK

    def vacate(self, saved: Saved | None) -> None:
        """It has lost its row, and goes on later: with what was saved of it, else by running everything again."""
        self.slot, self.saved, self.again = None, saved, 0
        if not (self.made or self.flying):
            self.cached = 0
        if saved is None:
            self.launched, self.exact = 0, True

    def move_in(self, slot: int, room: int) -> None:
        """It has a row."""
        self.slot, self.room = slot, room
        if self.saved is None:
            self.again = max(self.made - 1, 0)
        self.saved = None

    def _sampling(self, ahead: int) -> Sampling:
        forced = self.thought.forced() if self.thought is not None else None
        if forced is not None:
            return forced
        return self._early if ahead < self.resolved.min_tokens else self._draw

    def _allowed(self, made: int) -> np.ndarray | None:
        return None if self.grammar is None else self.grammar.allowed(made < self.resolved.min_tokens)

    def take(self, drawn: Drawn) -> None:
        """A drawn token has been read: keep it, show its text, see whether it is the end; a surplus one is dropped."""
        self.flying -= 1
        if self.finish is not None:
            return
        token, resolved, text = drawn.token, self.resolved, ""
        raw, spelled = self._spelled(drawn) if resolved.logprobs else ((), {})
        self.tokens[len(self.prompt) + self.made] = token
        self.made += 1
        stopped = token in resolved.stop_ids
        if self.words is not None and not stopped:
            text = self.words.push(token)
            if self.thought is not None:
                self.thought.take(text, self.made)
            if self._stops is not None and self.made > resolved.min_tokens:
                text, stopped = self._stops.push(text)
        if self.grammar is not None and not stopped:
            self.grammar.take(token)
            stopped = self.grammar.complete
        if stopped or self.made >= self.limit:
            self.finish = "stop" if stopped else "length"
            text += self._rest()
        logprobs, matched = (drawn,) if resolved.logprobs else (), self._matched(token)
        self.emit(Piece(text, (token,), self.choice, logprobs, self.finish, matched, raw, spelled, self.cached))

    def take_guess(self, drawn: Many[Drawn], draft: np.ndarray) -> int:
        """Take what was drawn behind a draft as far as the draft was right; how many that are."""
        right = 0
        while right < len(draft) and drawn[right].token == draft[right]:
            right += 1
        for one in drawn[: right + 1]:
            self.take(one)
        self.flying -= len(drawn) - right - 1
        if len(draft):
            self.reach = min(2 * self.reach, lookup.MOST) if right == len(draft) else max(right + 1, 2)
        return right + 1

    def end(self, reason: Reason, error: BaseException | None = None) -> None:
        """End it from outside: cancelled, or an error. Text that was held back is shown."""
        if self.finish is None:
            self.finish, self.error = reason, error
            self.emit(Piece(self._rest(), (), self.choice, (), reason))

    def fail(self, error: BaseException) -> None:
        """End it with an error although its text cannot be finished."""
        self.words = self.finish = None
        self.end("error", error)

    def _matched(self, token: int) -> str | int | None:
        """What ended it, if a stop text or a token did."""
        if self.finish != "stop":
            return None
        if self._stops is not None and self._stops.matched is not None:
            return self._stops.matched
        return token if token in self.resolved.stop_ids else None

    def _spelled(self, drawn: Drawn) -> tuple[tuple[bytes, ...], dict[int, bytes]]:
        """The bytes that a token is about to add to the text, and those of all ids that are named with it."""
        if self.words is None:
            return (), {}
        shown = b"" if drawn.token in self.resolved.stop_ids else self.words.raw(drawn.token)
        ids = {drawn.token, *(id for id, _ in drawn.top)}
        return (shown,), {id: self.words.raw(id, hidden=True) for id in ids}

    def _rest(self) -> str:
        """What the detokeniser and the stop strings still hold."""
        if self.words is None:
            return ""
        text = self.words.flush()
        if self._stops is None:
            return text
        shown, _ = self._stops.push(text)
        shown += self._stops.flush()
        if self._stops.matched is not None and self.finish == "length":
            self.finish = "stop"
        return shown

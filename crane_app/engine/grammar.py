"""Answers held to a grammar: which tokens may come next, choice by choice.

llguidance knows the grammars; a `Vocabulary` lays a model's tokens out for it once, at the first use, and compiles
grammars to a `State` that one choice advances. Compiling is host work, bounded in size and time. Nothing here knows a
tensor. Limits and their costs: llguidance's documentation of LLParserLimits; syntax: its docs/syntax.md.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from crane_app.engine.grammar_source import reason, source
from crane_app.engine.request import Grammar
from crane_app.errors import BadGrammar, BadInput

COMPILE_S = 10.0  # seconds, far more than the limits of size leave room for
SEATS = 3  # compilations at once; one that runs on past its time keeps its seat
LIMITS: dict[str, Any] = {
    "max_grammar_size": 50_000,  # symbols
    "max_items_in_row": 5000,  # 1,000 properties that may all be left out need 4,000
    "max_lexer_states": 50_000,  # of some 2 kB
    "initial_lexer_fuel": 300_000,
    "step_lexer_fuel": 200_000,  # some 15 ms
    "step_max_items": 50_000,  # some 3 ms
    "verbose_errors": False,
}
Found = TypeVar("Found")
_seats = threading.BoundedSemaphore(SEATS)


class State:
    """Where one choice stands in its grammar. complete: nothing but an end may come.

    ends, stops: bits of the model's own ends and of the ids that end this answer; with `open_ended` it does not end
    before it must.
    """

    def __init__(self, matcher: Any, ends: np.ndarray, stops: np.ndarray, open_ended: bool, field: str) -> None:
        self.complete = False
        self._matcher, self._field = matcher, field
        self._ends, self._stops, self._open_ended = ends, stops, open_ended
        self._bits = ends
        self._look()

    def copy(self) -> State:
        """As far as this one, for another choice."""
        return State(self._matcher.deep_copy(), self._ends, self._stops, self._open_ended, self._field)

    def allowed(self, early: bool = False) -> np.ndarray:
        """Bits of the tokens that may be drawn, as contract.Work has them; with `early` no end if anything else may."""
        held = self._ends if self._open_ended else np.zeros_like(self._ends)
        held = held | self._stops if early else held
        others = self._bits & ~held
        return others if others.any() else self._bits

    def take(self, token: int) -> None:
        """A token was drawn. BadGrammar if the grammar takes more work from here on than a step may cost."""
        if not self._matcher.consume_token(token):
            raise BadGrammar(self._sentence(self._matcher.get_error()))
        self._look()

    def _look(self) -> None:
        """Find what may come."""
        if self._matcher.is_stopped() and not self._matcher.is_error():
            self.complete = True
            return
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)[: len(self._ends)]
        if self._matcher.is_error():
            raise BadGrammar(self._sentence(self._matcher.get_error()))
        self.complete = not (bits & ~self._ends).any()
        if self.complete and not self._matcher.is_accepting():
            raise BadGrammar(self._sentence("NoExtensionBias"))
        self._bits = bits

    def _sentence(self, words: str) -> str:
        return f"{self._field} cannot be kept to: {reason(words)}."


class Vocabulary:
    """A model's tokens, laid out for grammars at the first use. size: of the model. Safe to share between threads."""

    def __init__(self, tokenizer: Any, size: int, ends: Iterable[int]) -> None:
        self.size, self.ends = size, tuple(ends)
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._laid_out: Any = None

    def compile(self, grammar: Grammar, stops: Iterable[int] = (), open_ended: bool = False) -> State:
        """The beginning of an answer in that grammar; stops, open_ended: as State has them. Raises BadGrammar."""
        field = grammar.field
        written, tokens = source(grammar), self._tokens()
        matcher = _bounded(field, lambda: _matcher(tokens, written))
        if error := matcher.get_error():
            raise BadGrammar(f"{field} cannot be used: {reason(error)}.")
        state = _bounded(field, lambda: State(matcher, self._bits(self.ends), self._bits(stops), open_ended, field))
        if state.complete:
            raise BadGrammar(f"{field} cannot be used: it allows nothing but an empty answer.")
        return state

    def _bits(self, ids: Iterable[int]) -> np.ndarray:
        found = np.zeros((self.size + 31) // 32, np.uint32)
        for id in ids:
            found[id // 32] |= np.uint32(1 << id % 32)
        return found

    def _tokens(self) -> Any:
        """The layout; about a second for 150,000 tokens."""
        with self._lock:
            if self._laid_out is None:
                from llguidance import LLTokenizer

                # A model without an end gets one past its vocabulary, which is never drawn.
                words: Any = _Words(self._tokenizer, self.size, self.ends or (self.size,))
                self._laid_out = LLTokenizer(
                    words, n_vocab=len(words.tokens), eos_token=list(self.ends or (self.size,))
                )
            return self._laid_out


class _Words:
    """What llguidance.TokenizerWrapper asks of a tokenizer, but for encoding a text, which grammars without forcing
    never need. Tokens that stand for nothing are special ones without a name, and never allowed."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Any, size: int, ends: tuple[int, ...]) -> None:
        self.eos_token_id = ends[0]
        self.tokens: list[bytes] = []
        self.special_token_ids: list[int] = []
        for id in range(max(size, *(end + 1 for end in ends))):
            shown = tokenizer.piece(id, first=False)
            if shown is None or id in ends:
                self.special_token_ids.append(id)
                shown = tokenizer.piece(id, first=False, special=True) or f"<[{id}]>".encode()
            self.tokens.append(shown)

    def __call__(self, text: str) -> list[int]:
        raise NotImplementedError


def _matcher(tokens: Any, written: dict[str, Any]) -> Any:
    from llguidance import LLMatcher, LLParserLimits

    return LLMatcher(tokens, json.dumps(written), log_level=0, limits=LLParserLimits(**LIMITS))


def _bounded(field: str, work: Callable[[], Found]) -> Found:
    """What `work` returns, if that does not take too long; its thread cannot be stopped, and is left to itself."""
    if not _seats.acquire(timeout=COMPILE_S):
        raise BadInput("Other grammars are still being compiled. Try again in a moment.")
    came: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            came.put((work(), None))
        except BaseException as error:  # a panic of the library is no Exception
            came.put((None, error))
        finally:
            _seats.release()

    threading.Thread(target=run, name="crane-grammar", daemon=True).start()
    try:
        found, error = came.get(timeout=COMPILE_S)
    except queue.Empty:
        sentence = f"{field} cannot be used: after {COMPILE_S:.0f} seconds it is still not compiled. Make it smaller."
        raise BadGrammar(sentence) from None
    if isinstance(error, BadInput):
        raise error
    if error is not None:
        raise BadGrammar(f"{field} cannot be used: {reason(str(error))}.") from error
    return found  # type: ignore[no-any-return]

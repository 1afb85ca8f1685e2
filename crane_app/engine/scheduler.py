"""Who runs next on one model: prompts in chunks on the fixed grid, mixed with one token of every row that is ready.

Plain Python: knows the Runner's contract, no tensor library and no clock. The next step is launched before the last is
read, unless the next token of one of its rows hangs on that; a token drawn past an end is dropped and the row closed
when it has been read.

When memory is short, kept prefixes go first. Then the row with the longest output gives up its place and waits; its
tokens stay, and when it is back its keys are made again as they were made the first time, to the bit.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Sequence as Many
from itertools import chain

from crane_app.contract import BLOCK, Drawn, Runner, Work
from crane_app.engine.drafting import NONE, Draft, Lookups
from crane_app.engine.lookup import NOTHING, Gain
from crane_app.engine.prefixes import Kept, Prefixes, Reuse, keys
from crane_app.engine.request import LANES
from crane_app.engine.sequence import Sequence
from crane_app.engine.steps import Failed, Launched, Plan, alike, known, never
from crane_app.engine.storing import Nowhere, Stored
from crane_app.errors import CraneError, NotEnoughMemory

log = logging.getLogger(__name__)

MOST_ROWS = 64
STEP_TOKENS = 2 * BLOCK  # prompt tokens a step takes at most; what a decoding row waits for
REPLAY = 64  # made tokens that an evicted row runs again in a step; each costs an attention call of its own


class Scheduler:
    """The rows of one model. Only the device thread calls it; others may read its numbers.

    cache_nbytes: keys and values of all rows and kept prefixes after the last step. evictions: rows that lost their
    place. cap: rows at most, fewer while memory is short. ahead: makes guesses. gain: whether they pay, None for none.
    """

    def __init__(
        self,
        runner: Runner,
        most_rows: int = MOST_ROWS,
        step_tokens: int = STEP_TOKENS,
        reuse: Reuse = "all",
        gain: Gain | None = None,
    ):
        self.runner, self.reuse = runner, reuse
        self.gain = gain if runner.batched else None
        self.cache = runner.cache
        self.prefixes = Prefixes(runner.cache)
        self.ahead = Lookups()
        self.stored: Stored | Nowhere = Nowhere()
        self.most_rows = self.cap = most_rows if runner.batched else 1
        self.step_tokens = step_tokens
        self.waiting: list[Sequence] = []  # the one that is due first in front
        self.running: list[Sequence] = []
        self.steps = self.tokens = self.cache_nbytes = self.evictions = 0
        self._flight: Launched | None = None
        self._ended = 0  # choices since the cap was changed

    @property
    def occupied(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self.waiting or self.running or self._flight)

    @property
    def busy(self) -> bool:
        return self.occupied or self.stored.busy

    @property
    def lane(self) -> int:
        """The place in LANES of the most urgent choice."""
        return min((LANES.index(s.lane) for s in chain(self.running, self.waiting)), default=len(LANES))

    def add(self, sequence: Sequence) -> None:
        """A choice to make; it is admitted when there is room."""
        insort(self.waiting, sequence, key=lambda s: s.due)

    def step(self) -> None:
        """Launch the next step, then read the one before; first read it where a row's next token hangs on it."""
        self._sweep()
        self._admit()
        before, self._flight = self._flight, None
        failed = None
        if before is not None and any(s.waits and s.finish is None for s in before.plan.sequences):
            failed, before = self._read(before), None
        if failed is None:
            failed = self._launch(before)
        if before is not None:
            failed = self._read(before) or failed
        if failed is not None:
            self._alone(failed)
        self._sweep()
        self.stored.advance(self.prefixes)
        if not self.runner.batched:
            self._weigh()  # an adapted row grows as it is filled

    # Who has a row

    def _admit(self) -> None:
        """Give the waiting choices a row each in the order of their dues, as long as there is room."""
        if not self.waiting:
            self.cap = self.most_rows
        while self.waiting and len(self.running) < self.cap:
            sequence = self.waiting[0]
            if sequence.finish is None and not self._open(sequence):
                return
            self.running.append(self.waiting.pop(0))

    def _open(self, sequence: Sequence) -> bool:
        """A row for it, its own again if it was evicted; False when it must wait for others to end."""
        most = self.cache.most()
        if len(sequence.prompt) >= most:
            sequence.end("error", never(len(sequence.prompt), most))
            return True
        if not sequence.made:
            sequence.limit = min(sequence.limit, most - len(sequence.prompt))
        needed = max(sequence.reserve, len(sequence.prompt) + sequence.made)
        self.prefixes.make_room(needed)
        if not self.cache.affords(needed) and any(other.slot is not None for other in self.running):
            self._weigh()
            return False
        try:
            saved = sequence.saved
            slot = self.cache.open(sequence.reserve) if saved is None else self.cache.load(saved)
            sequence.move_in(slot, self.cache.room(slot))
            if saved is not None:
                self.cache.truncate(slot, sequence.length)
        except Exception as error:
            sequence.end("error", known(error))
        self._weigh()
        return True

    def _evict(self) -> bool:
        """Take the row of the longest output, so that others may go on; False if one alone has all there is.

        One that cannot be saved ends with an error, and leaves its row with the next step.
        """
        rows = [s for s in self.running if s.slot is not None and s.finish is None]
        if len(rows) < 2:
            return False
        victim = max(rows, key=lambda s: (s.made, s.due, s.choice))
        assert victim.slot is not None
        started = victim.made or victim.flying
        try:
            saved = self.cache.save(victim.slot) if started and not victim.exact else None
        except Exception as error:
            victim.end("error", known(error))
            return True
        self.cache.close(victim.slot)
        self.ahead.leave(victim)
        victim.vacate(saved)
        self.running.remove(victim)
        self.add(victim)
        self.cap, self._ended = max(len(rows) - 1, 1), 0
        self.evictions += 1
        self._weigh()
        log.info("short of memory: a row of %d tokens waits, %d rows go on", victim.made, self.cap)
        return True

    def _grow(self, sequence: Sequence) -> None:
        """Room for one more position, if need be from others. What cannot have it even alone ends with an error."""
        while sequence.slot is not None:
            try:
                self.cache.reserve(sequence.slot, sequence.length + 1)
            except NotEnoughMemory as error:
                if self.prefixes.shed():
                    continue
                if any(other.finish is not None and other.slot is not None for other in self.running):
                    return  # their rows go with the next step
                if not self._evict():
                    sequence.end("error", known(error))
                    return
            except Exception as error:
                sequence.end("error", known(error))
                return
            else:
                sequence.room = self.cache.room(sequence.slot)
                return

    # A step

    def _launch(self, before: Launched | None) -> Failed | None:
        at = 0.0 if self.gain is None else self.gain.clock()
        plan = self._plan(before.plan.making if before is not None else set())
        if not plan.works:
            return None
        try:
            pending = self.runner.launch(plan.works, None if before is None else before.pending)
        except Exception as error:
            self._set_back(plan)
            return Failed(plan.sequences, error)
        self.steps += 1
        self._flight = Launched(pending, plan, at)
        return None

    def _plan(self, making: set[bytes]) -> Plan:
        """A token of every ready row, and chunks of prompts up to the step's share, the one due first before others."""
        for sequence in [s for s in self.running if s.full and s.finish is None]:
            self._grow(sequence)
            self._weigh()
        drafts = NONE if self.gain is None else self.ahead.drafts(self.running, self.gain)
        plan, prompts = Plan(way=drafts.way), []
        for sequence in self.running:
            if sequence.finish is not None:
                continue
            if sequence.prefilling or sequence.again:
                prompts.append(sequence)
            elif sequence.ready and sequence.length < sequence.room:
                self._add_token(plan, sequence, drafts.of.get(sequence))
        if len(prompts) > 1:
            prompts.sort(key=lambda s: s.due)
        share = self.step_tokens
        for first, others in alike(prompts):
            taken = self._add_prompt(plan, first, share, making)
            share -= taken
            if taken and not first.prefilling:
                for other in others:
                    plan.add(other, other.length, other.fork(first))
        return plan

    def _add_token(self, plan: Plan, sequence: Sequence, draft: Draft | None) -> None:
        """The row's next token into the plan; with a draft of more, once the one in flight has been read."""
        if draft is None:
            plan.add(sequence, sequence.length, sequence.step())
        elif not sequence.flying:
            plan.add(sequence, sequence.length, sequence.guess(draft.tokens))
            plan.way = max(plan.way, draft.way)

    def _add_prompt(self, plan: Plan, sequence: Sequence, share: int, making: set[bytes]) -> int:
        """Put the next piece of a prompt, or of what an evicted row made, into the plan; how much of the share it took.

        A block that another row is just making is waited for.
        """
        if sequence.prefilling and self._reuse(sequence, making | plan.making):
            return 0
        start = sequence.length
        count = sequence.cut - start if sequence.prefilling else min(sequence.again, REPLAY, sequence.room - start)
        if count <= 0 or (count > share and share != self.step_tokens):
            return 0
        if sequence.prefilling:
            if count == BLOCK:
                plan.making.add(sequence.keys[start // BLOCK])
            plan.add(sequence, start, sequence.chunk())
        else:
            plan.add(sequence, start, sequence.replay(count))
        return count

    def _reuse(self, sequence: Sequence, making: set[bytes]) -> bool:
        """Take over what is kept of the prompt from here on. True if there is nothing to compute in this step."""
        place, inside = divmod(sequence.launched, BLOCK)
        if inside or place >= sequence.reusable or not self.cache.shares or self.reuse == "none":
            return False
        wanted, evicted = sequence.keys[: sequence.reusable], bool(sequence.made)
        kept = self.prefixes.find(wanted, place, exact=evicted)
        self._paste(sequence, kept)
        place += len(kept)
        if place == len(wanted) or sequence.finish is not None or wanted[place] in making:
            return sequence.finish is not None or place < len(wanted)
        # From the disk. Pasted at once: by the next step it may have gone again for another's.
        found = self.stored.recall(sequence.owner, wanted, place, self.prefixes, evicted)
        self._paste(sequence, found)
        return bool(found)

    def _paste(self, sequence: Sequence, kept: list[Kept]) -> None:
        try:
            if kept and sequence.slot is not None:
                self.cache.paste(sequence.slot, [one.block for one in kept])
                sequence.take_over(len(kept), all(one.exact for one in kept))
                self._weigh()
        except Exception as error:
            sequence.end("error", known(error))

    def _read(self, launched: Launched) -> Failed | None:
        plan = launched.plan
        try:
            result = launched.pending.read()
        except Exception as error:
            # What was launched on top of it never happened either.
            for step in (self._flight, launched):
                if step is not None:
                    self._set_back(step.plan)
            self._flight = None
            return Failed(plan.sequences, error)
        before = self.tokens
        for work, sequence, drawn in zip(plan.works, plan.sequences, result.drawn, strict=True):
            if drawn:
                self._take(work, sequence, drawn)
        if self.gain is not None and all(result.drawn):
            self.gain.note(len(plan.works), plan.way, self.tokens - before, launched.at)
        if plan.making and self.reuse != "none":
            self._keep(plan)
        return None

    def _keep(self, plan: Plan) -> None:
        """Keep the whole prompt blocks that a step has made."""
        for work, sequence, start in zip(plan.works, plan.sequences, plan.lengths, strict=True):
            whole = not work.singly and work.tokens is not None and len(work.tokens) == BLOCK
            if whole and sequence.slot == work.row and sequence.launched >= start + BLOCK:
                self.prefixes.keep(work.row, sequence.keys, start // BLOCK, sequence.exact)
        self._weigh()

    def _take(self, work: Work, sequence: Sequence, drawn: Many[Drawn]) -> None:
        """Take what a work has drawn, and cut off its row what a wrong guess has left there."""
        draft = NOTHING if work.tokens is None or len(drawn) == 1 else work.tokens[1:]
        try:
            self.tokens += sequence.take_guess(drawn, draft)
            if len(draft) and sequence.slot == work.row:
                self.cache.truncate(work.row, sequence.length)
        except CraneError as error:
            sequence.end("error", error)
        except Exception as error:
            log.exception("a token could not be taken")
            sequence.fail(CraneError(f"The reply could not be put into text ({type(error).__name__}: {error})."))

    def _set_back(self, plan: Plan) -> None:
        """As it was before a step."""
        for work, sequence, length in zip(plan.works, plan.sequences, plan.lengths, strict=True):
            sequence.set_back(length, work.logits)
            if sequence.slot == work.row and self.cache.length(work.row) > length:
                self.cache.truncate(work.row, length)

    def _alone(self, failed: Failed) -> None:
        """Run each row of a failed step by itself, so that only the row at fault ends with an error."""
        log.warning("a step of %d rows failed", len(failed.sequences), exc_info=failed.error)
        for sequence in failed.sequences:
            if sequence.finish is not None or sequence.slot is None:
                continue
            if len(failed.sequences) == 1:
                sequence.end("error", known(failed.error))
                continue
            plan = Plan()
            if sequence.again and not sequence.prefilling:
                plan.add(sequence, sequence.length, sequence.replay(REPLAY))
            else:
                plan.add(sequence, sequence.length, sequence.chunk() if sequence.prefilling else sequence.step())
            try:
                drawn = self.runner.launch(plan.works).read().drawn[0]
            except Exception as error:
                self._set_back(plan)
                sequence.end("error", known(error))
            else:
                self.steps += 1
                if drawn:
                    self._take(plan.works[0], sequence, drawn)

    def _sweep(self) -> None:
        """Close the rows of choices that have ended and have nothing in flight."""
        ended = [s for s in self.running if s.finish is not None and not self._flying(s)]
        for sequence in ended:
            self.ahead.leave(sequence)
            if sequence.slot is not None:
                self._keep_reply(sequence)
                self.cache.close(sequence.slot)
                sequence.slot = None
        if ended:
            self.running = [s for s in self.running if s not in ended]
            self._ended += len(ended)
            if self._ended >= self.cap < self.most_rows:
                self.cap, self._ended = self.cap + 1, 0
            self._weigh()

    def _keep_reply(self, sequence: Sequence) -> None:
        """Keep the whole blocks that end in its reply, for the next turn."""
        chain = sequence.keys
        if sequence.finish != "error" and not sequence.prefilling and not sequence.again and self.reuse == "all":
            assert sequence.slot is not None
            whole = sequence.tokens[: len(sequence.prompt) + max(sequence.made - 1, 0)]
            chain = keys(whole, chain, sequence.salt)
            for index in range(len(sequence.keys), min(len(chain), self.cache.length(sequence.slot) // BLOCK)):
                self.prefixes.keep(sequence.slot, chain, index, exact=False)
        if self.reuse != "none":
            self.stored.want(sequence.owner, chain)

    def _flying(self, sequence: Sequence) -> bool:
        return self._flight is not None and any(s is sequence for s in self._flight.plan.sequences)

    def _weigh(self) -> None:
        self.cache_nbytes = self.cache.nbytes()

    def forget(self) -> None:
        """Drop the kept prefixes."""
        self.prefixes.clear()
        self._weigh()

    def close(self) -> None:
        """Forget everything; the caller has ended the choices."""
        self._flight = None
        self.stored.forget()
        self.ahead.shed()
        self.prefixes.clear()
        for sequence in self.running:
            if sequence.slot is not None:
                self.cache.close(sequence.slot)
                sequence.slot = None
        self.running, self.waiting = [], []
        self._weigh()

"""The messages of the conversation in view, as widgets in the transcript: the last at once, those before in slices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from crane_app.ui.chat.message import Message, Question
from crane_app.ui.chat.reply import Reply
from crane_app.ui.slices import slices

if TYPE_CHECKING:
    from crane_app.library.chats import Turn
    from crane_app.ui.chat.talk import Talk
    from crane_app.ui.chat.transcript import Transcript

AT_ONCE = 6  # messages that are built when a conversation is opened: about a screen
AT_FIRST = 30  # that follow in slices, in all
EARLIER = 30  # more, each time the reader comes near the top
COST = 4000  # of building one, as slices count


class Cards(QObject):
    """Follows `talk`; `made` carries each new Message, so that what a person asks of it can be heard."""

    made = Signal(object)

    def __init__(self, talk: Talk, transcript: Transcript):
        super().__init__(transcript)
        self._talk, self._transcript = talk, transcript
        self.of: dict[int, Message] = {}  # a turn's id to its card
        self._unfinished: dict[int, str] = {}  # a question's turn to what stood in its editor when it went out of sight
        self._first = self._wanted = 0  # indices in talk.turns: of the first that is built, and that should be
        talk.added.connect(self._add)
        talk.removed.connect(self._cut)
        talk.said.connect(self._said)
        talk.waiting.connect(self._waits)
        talk.ended.connect(self._ended)
        transcript.earlier.connect(self.show_earlier)

    def show(self) -> None:
        """Another conversation."""
        self._remember(self.of.values())
        self.of.clear()
        self._transcript.clear()
        turns = self._talk.turns
        self._first = max(0, len(turns) - AT_ONCE)
        self._wanted = max(0, len(turns) - AT_FIRST)
        for turn in turns[self._first :]:
            self._build(turn)
        self.refresh()
        self._transcript.to_end()
        slices().ask(self._transcript, "cards", self._build_one)

    def show_earlier(self) -> None:
        """Those before, as the reader comes near the top."""
        self._wanted = max(0, min(self._wanted, self._first) - EARLIER)
        slices().ask(self._transcript, "cards", self._build_one)

    def refresh(self) -> None:
        """What may be done with each as things stand."""
        turns = self._talk.turns
        last = turns[-1].id if turns else None
        for id, card in self.of.items():
            self._settle(card, id == last)

    def text_of(self, turn: Turn) -> str:
        """An answer as it is read; as it was written where not all of it is laid out yet."""
        card = self.of.get(turn.id)
        whole = isinstance(card, Reply) and not card.body.busy()
        return card.body.plain() if whole else ""

    def _build_one(self) -> int:
        """A step of building those before; what it cost."""
        if self._first <= self._wanted:
            return 0
        self._first -= 1
        self._build(self._talk.turns[self._first], 0)
        return COST

    def _build(self, turn: Turn, at: int | None = None) -> None:
        running = self._talk.running.get(turn.id)
        card: Message
        if turn.role == "user":
            card = Question(turn)
        else:
            card = Reply(turn if running is None else running.turn(), _name(turn.model))
        self.of[turn.id] = card
        if at is None:
            self._transcript.add(card)
        else:
            self._transcript.insert(at, card)
        if running is not None and not running.text:
            card.wait(running.percent or 0)
        self._settle(card, turn.id == self._talk.turns[-1].id)
        self.made.emit(card)
        if isinstance(card, Question) and turn.id in self._unfinished:
            card.begin_edit(self._unfinished.pop(turn.id))

    def _remember(self, cards: Iterable[Message]) -> None:
        """What is being edited, before the cards go."""
        for card in cards:
            if isinstance(card, Question) and (text := card.unfinished()) is not None:
                self._unfinished[card.turn.id] = text

    def _settle(self, card: Message, last: bool) -> None:
        card.set_busy(self._talk.busy)
        if isinstance(card, Reply):
            card.set_last(last)

    def _add(self, turn: Turn) -> None:
        self._build(turn)
        self._transcript.to_end()

    def _cut(self, _turn: Turn) -> None:
        kept = {each.id for each in self._talk.turns}
        gone = [id for id in self.of if id not in kept]
        self._remember([self.of[id] for id in gone])
        for id in gone:
            self._transcript.remove(self.of.pop(id))
        self._first = min(self._first, len(self._talk.turns))

    def _said(self, id: int, said: Any) -> None:
        if id in self.of:
            self.of[id].say(said)

    def _waits(self, id: int, percent: int | None) -> None:
        if id in self.of:
            self.of[id].wait(percent)

    def _ended(self, turn: Turn) -> None:
        if turn.id in self.of:
            self.of[turn.id].end(turn)


def _name(folder: str) -> str:
    from crane_app.library.models import name_of

    return name_of(Path(folder)) if folder else ""

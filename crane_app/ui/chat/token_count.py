"""How much of the model's context the conversation and what is typed would take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import QLocale, QObject

from crane_app.ui.worker import Worker


class TokenCount(QObject):
    """Counted by the engine, once the model is loaded; not while an answer is made, when it has better things to do."""

    def __init__(self, connection: Any, preferences: Any, talk: Any, composer: Any):
        super().__init__()
        self._connection, self._preferences = connection, preferences
        self._talk, self._composer = talk, composer
        self._counting: Worker | None = None
        connection.changed.connect(self._connection_changed)

    def count(self) -> None:
        """Begin to count; the label shows it when it is known."""
        if self._counting is not None:
            self._counting.cancel()
            self._counting = None
        card = self._card()
        if card is None or not card.chat:
            self._show("", False)
        elif not self._talk.busy:
            worker = self._connection.run(_counted(card.name, self._talk, self._composer))
            worker.returned.connect(lambda count: self._counted(count, card.context))
            self._counting = worker

    def _counted(self, count: int, context: int) -> None:
        self._counting = None
        words = self.tr("{count} of {context} tokens")
        number = QLocale().toString
        self._show(words.format(count=number(count), context=number(context)), count >= context)

    def _show(self, words: str, full: bool) -> None:
        label = self._composer.counter
        label.setText(words)
        look = "danger" if full else "muted"
        if label.property("look") != look:
            label.setProperty("look", look)
            label.style().unpolish(label)
            label.style().polish(label)

    def _connection_changed(self) -> None:
        loaded, shown = self._card() is not None, bool(self._composer.counter.text())
        if loaded != shown and self._counting is None:
            self.count()

    def _card(self) -> Any:
        folder = Path(str(self._preferences.get("model") or "")).expanduser().absolute()
        return next((card for card in self._connection.cards if Path(card.folder) == folder), None)


def _counted(model: str, talk: Any, composer: Any) -> Any:
    """What is there now, to be counted on a thread."""
    turns, system, options = list(talk.turns), talk.system, dict(talk.options)
    typed, files = composer.text(), tuple(composer.attachments)

    def steps(engine: Any) -> Iterator[Any]:
        from crane_app.library.export import with_attachments
        from crane_app.pipelines.chat import Message
        from crane_app.pipelines.conversation import count_tokens, messages_of

        asked = with_attachments(typed, files)
        told = [*messages_of(system, turns), *([Message("user", asked)] if asked else [])]
        return count_tokens(engine, model, told, options) if told else 0
        yield

    return steps

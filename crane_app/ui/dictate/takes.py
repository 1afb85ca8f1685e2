"""The list of takes beside the text: look at one, play it, copy it, have it written again, delete it.

What it does to files happens on a worker's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction, QGuiApplication
from PySide6.QtWidgets import QAbstractItemView, QHBoxLayout, QLabel, QListView, QMenu, QVBoxLayout, QWidget

from crane_app.ui.dictate.take_rows import TAKE, TakePainter, TakeRows
from crane_app.ui.icons import icon
from crane_app.ui.models.card import Question
from crane_app.ui.parts import Words, button
from crane_app.ui.theme import SPACE
from crane_app.ui.worker import Worker, sentence

Player = Callable[[Path], Iterator[Any]]  # plays a sound file until it is closed


class TakesPane(QWidget):
    """`takes`: library.takes.Takes; models: the speech models that are there, by name.

    question: asks before something is deleted; the view places it where there is room for a sentence.
    """

    picked = Signal(object)  # the take that a person chose
    again = Signal(object, object)  # write this take again, with this model
    said = Signal(str)

    def __init__(self, takes: Any, models: Callable[[], list[Any]], play: Player | None = None):
        super().__init__()
        self.takes, self._models, self._play = takes, models, play or _played
        self._playing: Worker | None = None
        self._working: Worker | None = None
        self._asked: list[Any] | None = None  # what is to be deleted; None: all
        self._make_actions()
        self._make_widgets()
        self._refresh_actions()

    # What can be done

    def rescan(self, choose: str = "") -> None:
        """Look at the folder again; choose: the id of the take to select."""
        self._on_disk(lambda: None, choose)

    def sweep(self, days: float, count: int, size: float) -> None:
        """Remove what is too old, too many or too big (MiB)."""
        self._on_disk(lambda: self.takes.sweep(days, count, size))

    def keep(self, take: Any, **changed: Any) -> None:
        """Keep what is known of a take now."""
        self._on_disk(lambda: self.takes.update(take, **changed), take.id)

    def rewrite(self, take: Any, transcript: Any) -> None:
        """Another text for a take: pipelines.transcript.Transcript."""
        from crane_app.library.takes import Said

        said = tuple(Said(segment.start, segment.end, segment.text) for segment in transcript.segments)
        self.keep(take, state="done", text=transcript.text, segments=said, model=transcript.model)

    def chosen(self) -> Any:
        """The selected take, or None."""
        index = self.list.currentIndex()
        return index.data(TAKE) if index.isValid() else None

    def chosen_id(self) -> str:
        take = self.chosen()
        return take.id if take is not None else ""

    def play(self) -> None:
        """Play the chosen take, or stop what is playing."""
        if self._playing is not None:
            self.stop()
            return
        take = self.chosen()
        if take is None:
            return
        self._playing = Worker(self._play(take.sound))
        self._playing.returned.connect(lambda _: self._played())
        self._playing.failed.connect(lambda error: (self._played(), self.said.emit(sentence(error))))
        self._playing.start()
        self._refresh_actions()

    def stop(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            self._played()

    def copy(self) -> None:
        take = self.chosen()
        if take is not None and take.text:
            QGuiApplication.clipboard().setText(take.text)
            self.said.emit(self.tr("Copied the text."))

    def write_again(self) -> None:
        """By the chosen model; where there are several, a menu asks by which."""
        take, models = self.chosen(), self._models()
        if take is None:
            return
        if len(models) < 2:
            self.again.emit(take, None)
            return
        self.again_menu.clear()
        for model in models:
            action = self.again_menu.addAction(self.tr("With {model}").format(model=model.name))
            action.triggered.connect(lambda _checked=False, model=model: self.again.emit(take, model))
        self.again_menu.popup(self.again_button.mapToGlobal(self.again_button.rect().bottomLeft()))

    def delete(self) -> None:
        take = self.chosen()
        if take is not None:
            self._asked = [take]
            self.question.ask(self.tr("Delete this recording and its text for good?"))

    def delete_all(self) -> None:
        if self.rows.takes:
            self._asked = None
            number = self.tr("Delete all {count} recordings for good?")
            self.question.ask(number.format(count=len(self.rows.takes)))

    # What it is made of

    def _make_actions(self) -> None:
        tr = self.tr
        self.play_action = self._action("play_take", tr("Play"), self.play, "play")
        self.copy_action = self._action("copy_take", tr("Copy text"), self.copy, "copy")
        self.again_action = self._action("write_again", tr("Write again"), self.write_again, "refresh")
        self.delete_action = self._action("delete_take", tr("Delete"), self.delete, "delete")
        self.delete_all_action = self._action("delete_takes", tr("Delete all…"), self.delete_all)

    def _action(self, name: str, text: str, does: Callable[[], None], drawing: str = "") -> QAction:
        made = QAction(text, self)
        made.setObjectName(name)
        if drawing:
            made.setIcon(icon(drawing))
        made.triggered.connect(lambda _checked=False: does())
        return made

    def _make_widgets(self) -> None:
        self.rows = TakeRows()
        self.list = QListView()
        self.list.setProperty("look", "plain")
        self.list.setAccessibleName(self.tr("Takes"))
        self.list.setModel(self.rows)
        self.list.setItemDelegate(TakePainter(self.list))
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.selectionModel().currentChanged.connect(self._picked)
        self.list.activated.connect(lambda _: self.play())
        self.empty = Words(self.tr("About this list"))
        self.empty.setProperty("look", "muted")
        self.empty.setText(self.tr("Your recordings are kept here for a while, on this computer only."))
        self.question = Question(self.tr("Delete"), self.tr("Keep"), self._delete)
        heading = QLabel(self.tr("Takes"))
        heading.setProperty("look", "heading")
        self.again_button = button(self.again_action, look="flat", shows="icon")
        self.again_menu = QMenu(self)
        before = [button(action, look="flat", shows="icon") for action in (self.play_action, self.copy_action)]
        buttons = [*before, self.again_button, button(self.delete_action, look="flat", shows="icon")]
        self.below = QWidget()
        row = QHBoxLayout(self.below)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACE // 2)
        for each in buttons:
            row.addWidget(each)
        row.addStretch(1)
        above = QHBoxLayout()
        above.addWidget(heading, 1)
        self.delete_all_button = button(self.delete_all_action, look="flat small")
        above.addWidget(self.delete_all_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(above)
        column.addWidget(self.empty)
        column.addWidget(self.list, 1)
        column.addWidget(self.below)
        column.addStretch(0)

    # How it is

    def _show(self, takes: list[Any], choose: str) -> None:
        self.rows.show_takes(takes)
        index = self.rows.place(choose)
        if index.isValid():
            blocked = self.list.selectionModel().blockSignals(True)
            self.list.setCurrentIndex(index)
            self.list.selectionModel().blockSignals(blocked)
            self.list.viewport().update()
        self._refresh_actions()

    def _picked(self, index, _before) -> None:
        self.stop()
        self.question.hide()
        self._refresh_actions()
        if index.isValid():
            self.picked.emit(index.data(TAKE))

    def _refresh_actions(self) -> None:
        take, any_take = self.chosen(), bool(self.rows.takes)
        playing = self._playing is not None
        self.empty.setVisible(not any_take)
        self.list.setVisible(any_take)
        self.below.setVisible(any_take)
        self.delete_all_button.setVisible(any_take)
        self.play_action.setEnabled(playing or (take is not None and take.seconds > 0))
        self.play_action.setText(self.tr("Stop") if playing else self.tr("Play"))
        self.play_action.setIcon(icon("stop" if playing else "play"))
        self.copy_action.setEnabled(take is not None and bool(take.text))
        self.again_action.setEnabled(take is not None and take.state != "recording")
        self.delete_action.setEnabled(take is not None and take.state != "recording")

    def _played(self) -> None:
        self._playing = None
        self._refresh_actions()

    def _delete(self) -> None:
        asked, playing = self._asked, self._playing
        self.stop()

        def delete() -> None:
            if playing is not None:
                playing.wait()  # Windows deletes no file that is open
            self.takes.delete_all() if asked is None else self.takes.delete(asked)

        self._on_disk(delete, news=self._gone)

    def _gone(self) -> None:
        self.picked.emit(None)
        self.said.emit(self.tr("All recordings are deleted.") if self._asked is None else self.tr("It is deleted."))

    def _on_disk(self, does: Callable[[], object], choose: str = "", news: Callable[[], None] = lambda: None) -> None:
        """Do it after what was asked before, then list what there is; choose: the take to select, by its id."""
        worker = self._working = Worker(_done(self.takes, does), after=self._working)
        worker.returned.connect(lambda takes: (self._show(takes, choose or self.chosen_id()), news()))
        worker.failed.connect(lambda error: self.said.emit(sentence(error)))
        worker.start()


def _done(takes: Any, does: Callable[[], object]) -> Iterator[Any]:
    does()
    return takes.all()
    yield


def _played(sound: Path) -> Iterator[Any]:
    from crane_app.pipelines.playing import played

    yield from played(sound)

"""Pictures and PDFs in, their text beside them: drop, paste or open; read; copy.

Only shows: decoding and reading happen on a worker's thread.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QAction, QGuiApplication, QIcon, QImage, QKeySequence
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QSplitter,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from crane_app.ui.canvas import Canvas
from crane_app.ui.parts import ElidedLabel, Notice, button, gap, plain_tip
from crane_app.ui.queue import Entry, Queue, State
from crane_app.ui.sheets import PageReader, Source
from crane_app.ui.text import TextPane
from crane_app.ui.theme import SPACE
from crane_app.ui.welcome import Welcome

KINDS = "*.png *.jpg *.jpeg *.webp *.tif *.tiff *.bmp *.gif *.pdf"
Keys = QKeySequence.StandardKey


def usable(data: QMimeData) -> list[Source]:
    """The local files among what was dropped or pasted, else the picture itself."""
    files: list[Source] = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    if files or not data.hasImage():
        return files
    image = QImage(data.imageData())
    return [] if image.isNull() else [image]


class PicturesView(QWidget):
    """The view; `said` carries short news for the status line, `titled` the name of what is shown."""

    said = Signal(str)
    titled = Signal(str)

    def __init__(self, reader: PageReader | None = None, icon: QIcon | None = None):
        super().__init__()
        self._reader = reader or PageReader()
        self._shown: Entry | None = None
        self._dialog: QFileDialog | None = None
        self.folder = ""  # where the file dialog starts
        self.queue = Queue(self._reader)
        self.queue.changed.connect(self._refresh)
        self.queue.sheet_came.connect(self._sheet_came)
        self.queue.text_came.connect(self._text_came)
        self._make_actions()
        self._make_widgets(icon or QIcon())
        self._refresh()

    # What can be done

    def read(self, sources: list[Source]) -> None:
        """Read these one after another, instead of whatever was being read."""
        if not sources:
            return
        entries = [Entry(source, self._name(source)) for source in sources]
        self._shown = None
        self.files.clear()
        for entry in entries:
            item = QListWidgetItem(self.files)
            item.setToolTip(plain_tip(entry.name))
        self.files.setVisible(len(entries) > 1)
        self._layers.setCurrentIndex(1)
        self.queue.replace(entries)
        self._show_entry(entries[0])
        self.text.setFocus()

    def offer(self, data: QMimeData) -> str:
        """What dropping this here would do, or "" when it is of no use."""
        if data.hasImage() or any(url.isLocalFile() for url in data.urls()):
            return self.tr("Release to read the text")
        return ""

    def take(self, data: QMimeData) -> bool:
        sources = usable(data)
        self.read(sources)
        return bool(sources)

    def paste(self) -> None:
        if not self.take(QGuiApplication.clipboard().mimeData()):
            self.said.emit(self.tr("There is no picture or file on the clipboard."))

    def choose_files(self) -> None:
        if self._dialog is None:
            self._dialog = QFileDialog(self, self.tr("Open pictures or PDFs"), self.folder)
            self._dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
            pictures = self.tr("Pictures and PDFs ({kinds})").format(kinds=KINDS)
            self._dialog.setNameFilters([pictures, self.tr("All files (*)")])
            self._dialog.filesSelected.connect(self._open)
            self._dialog.finished.connect(self._forget_dialog)
        self._dialog.open()

    def stop(self) -> None:
        """Stop reading; what was read stays."""
        self.queue.stop()

    def copy(self) -> None:
        """The selection, or else everything read so far."""
        selected = self.text.selected()
        if selected:
            self._to_clipboard(selected, self.tr("Copied the selection."))
        else:
            self.copy_text()

    def copy_text(self) -> None:
        if pages := self._pages():
            self._to_clipboard(self._reader.as_text(pages), self.tr("Copied the text."))

    def copy_markdown(self) -> None:
        if pages := self._pages():
            self._to_clipboard(self._reader.as_markdown(pages), self.tr("Copied the text as Markdown."))

    def turn(self, pages: int) -> None:
        """Go some pages forward, or back."""
        entry = self._shown
        if entry is not None and entry.page + pages in entry.sheets:
            entry.page += pages
            self._show_page()
            self._refresh()

    def retry(self) -> None:
        """Read the shown document again."""
        if self._shown is not None and self._shown.state in (State.FAILED, State.STOPPED):
            self._show_entry(self.queue.again(self._shown))

    # How it is built

    def _make_actions(self) -> None:
        act, tr = self._action, self.tr
        self.open_action = act("open", tr("&Open…"), self.choose_files, Keys.Open)
        self.paste_action = act("paste", tr("&Paste"), self.paste, Keys.Paste)
        self.stop_action = act("stop", tr("&Stop"), self.stop, Qt.Key.Key_Escape)
        self.copy_action = act("copy", tr("&Copy"), self.copy, Keys.Copy)
        self.copy_text_action = act("copy_text", tr("Copy &text"), self.copy_text)
        markdown_keys = QKeySequence("Ctrl+Shift+C")
        self.copy_markdown_action = act("copy_markdown", tr("Copy as &Markdown"), self.copy_markdown, markdown_keys)
        self.previous_action = act("previous", tr("&Previous page"), lambda: self.turn(-1), "Alt+Left")
        self.next_action = act("next", tr("&Next page"), lambda: self.turn(1), "Alt+Right")
        self.zoom_in_action = act("zoom_in", tr("Zoom &in"), lambda: self.canvas.zoom_in(), Keys.ZoomIn)
        self.zoom_out_action = act("zoom_out", tr("Zoom &out"), lambda: self.canvas.zoom_out(), Keys.ZoomOut)
        self.fit_action = act("fit", tr("&Fit page"), lambda: self.canvas.fit(), "Ctrl+0")

    def _action(self, name: str, text: str, does: Callable[[], None], keys: Any = None) -> QAction:
        action = QAction(text, self)
        action.setObjectName(name)
        action.triggered.connect(lambda _checked=False: does())
        if keys is not None:
            action.setShortcut(QKeySequence(keys))
        self.addAction(action)
        return action

    def _make_widgets(self, icon: QIcon) -> None:
        self.welcome = Welcome(icon, self.open_action, self.paste_action)
        self.splitter = QSplitter()
        self.splitter.setHandleWidth(SPACE)
        self.splitter.setChildrenCollapsible(False)
        self.files = self._make_files()
        for pane, share in ((self.files, 0), (self._make_left(), 3), (self._make_right(), 2)):
            self.splitter.addWidget(pane)
            self.splitter.setStretchFactor(self.splitter.count() - 1, share)
        self.splitter.setSizes([180, 600, 420])

        reading = QWidget()
        column = QVBoxLayout(reading)
        column.setContentsMargins(SPACE, SPACE, SPACE, SPACE // 2)
        column.setSpacing(SPACE)
        column.addLayout(self._make_header())
        column.addWidget(self.splitter, 1)
        self._layers = QStackedLayout(self)
        self._layers.addWidget(self.welcome)
        self._layers.addWidget(reading)

        self.canvas.pointed.connect(self._point)
        self.text.pointed.connect(self._point)
        self.canvas.chosen.connect(self.text.choose)
        self.text.chosen.connect(self.canvas.choose)
        self.notice.retried.connect(self.retry)
        self.files.currentRowChanged.connect(self._pick)

    def _make_header(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(SPACE)
        row.addWidget(button(self.open_action))
        row.addWidget(button(self.paste_action))
        self.name = ElidedLabel(self.tr("Name of the document"))
        self.name.setAlignment(Qt.AlignmentFlag.AlignCenter)
        row.addWidget(self.name, 1)
        row.addWidget(button(self.copy_markdown_action))
        row.addWidget(button(self.copy_text_action, look="primary"))
        return row

    def _make_files(self) -> QListWidget:
        files = QListWidget()
        files.setAccessibleName(self.tr("Documents"))
        files.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        files.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        files.setMinimumWidth(140)
        files.hide()
        return files

    def _make_left(self) -> QWidget:
        self.canvas = Canvas()
        self.canvas.setAccessibleName(self.tr("Picture of the page"))
        self.page_label = QLabel()
        self.page_label.setAccessibleName(self.tr("Page in view"))
        self._pager = QWidget()
        turning = QHBoxLayout(self._pager)
        turning.setContentsMargins(0, 0, 0, 0)
        turning.addWidget(button(self.previous_action, look="flat", shows="‹"))
        turning.addWidget(self.page_label)
        turning.addWidget(button(self.next_action, look="flat", shows="›"))
        below = QHBoxLayout()
        below.setSpacing(SPACE // 2)
        below.addWidget(self._pager)
        below.addStretch()
        below.addWidget(button(self.zoom_out_action, look="flat", shows="−"))
        below.addWidget(button(self.fit_action, look="flat"))
        below.addWidget(button(self.zoom_in_action, look="flat", shows="+"))
        return _column(self.canvas, below)

    def _make_right(self) -> QWidget:
        self.text = TextPane()
        self.text.setAccessibleName(self.tr("Text of the page"))
        self.state_label = ElidedLabel(self.tr("Progress"))
        self.state_label.setProperty("look", "muted")
        self.progress = gap(QProgressBar())
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName(self.tr("Pages read"))
        self.notice = Notice(self.tr("Try again"))
        self._stop_button = gap(button(self.stop_action, look="flat"))
        below = QHBoxLayout()
        below.setSpacing(SPACE)
        below.addWidget(self.state_label, 1)
        below.addWidget(self._stop_button)
        return _column(self.notice, self.text, self.progress, below)

    # What is seen

    def _show_entry(self, entry: Entry) -> None:
        self._shown = entry
        self.files.setCurrentRow(self.queue.entries.index(entry))
        self.name.setText(entry.name)
        self.titled.emit(entry.name)
        self._show_page()
        self._refresh()

    def _show_page(self) -> None:
        entry = self._shown
        sheet = entry.sheets.get(entry.page)
        if sheet is None:
            self.canvas.clear()
        else:
            self.canvas.show_picture(QImage.fromData(sheet.picture), sheet.width, sheet.height)
        self._show_regions()

    def _show_regions(self) -> None:
        page = self._shown.texts.get(self._shown.page)
        regions = page.regions if page is not None else ()
        self.text.show_regions(regions)
        self.canvas.show_boxes([region.box for region in regions])

    def _sheet_came(self, entry: Entry, page: int) -> None:
        if entry is self._shown and page == entry.page:
            self._show_page()

    def _text_came(self, entry: Entry, page: int) -> None:
        if entry is self._shown and page == entry.page:
            self._show_regions()

    def _point(self, index: int) -> None:
        self.canvas.point(index)
        self.text.point(index)

    def _refresh(self) -> None:
        entry, busy = self._shown, self.queue.reading is not None
        page, count = (entry.page, entry.count) if entry else (1, 0)
        sheets, texts = (entry.sheets, entry.texts) if entry else ({}, {})
        self.stop_action.setEnabled(busy)
        self._stop_button.setVisible(busy)
        self.progress.setVisible(bool(entry and entry.state is State.READING))
        self.progress.setRange(0, count if count > 1 else 0)
        self.progress.setValue(len(texts))
        for action in (self.copy_action, self.copy_text_action, self.copy_markdown_action):
            action.setEnabled(bool(texts))
        for action in (self.zoom_in_action, self.zoom_out_action, self.fit_action):
            action.setEnabled(page in sheets)
        self.previous_action.setEnabled(page - 1 in sheets)
        self.next_action.setEnabled(page + 1 in sheets)
        self._pager.setVisible(count > 1)
        self.page_label.setText(self.tr("Page {page} of {count}").format(page=page, count=count))
        self.state_label.setText(self._status())
        self.text.setPlaceholderText(self._placeholder())
        self.notice.tell(entry.error if entry else "")
        for row, each in enumerate(self.queue.entries):
            self.files.item(row).setText(f"{each.name}\n{self._state_word(each)}")

    def _status(self) -> str:
        entry = self._shown
        if entry is None:
            return ""
        done, count = len(entry.texts), entry.count
        if entry.state is State.READING and not self.queue.warm:
            return self.tr("Loading the reader, a few seconds…")
        if entry.state is State.READING and count > 1:
            return self.tr("Reading page {page} of {count}…").format(page=min(done + 1, count), count=count)
        if entry.state in (State.STOPPED, State.FAILED) and count > 1:
            return self.tr("Stopped; {done} of {count} pages read.").format(done=done, count=count)
        if entry.state is State.DONE and count > 1:
            return self.tr("All {count} pages read.").format(count=count)
        return self._state_word(entry)

    def _state_word(self, entry: Entry) -> str:
        return {
            State.WAITING: self.tr("Waiting"),
            State.READING: self.tr("Reading…"),
            State.DONE: self.tr("Done"),
            State.STOPPED: self.tr("Stopped"),
            State.FAILED: self.tr("Not read"),
        }[entry.state]

    def _placeholder(self) -> str:
        entry = self._shown
        if entry is None or entry.page in entry.texts:
            return self.tr("No text was found on this page.")
        if entry.state in (State.WAITING, State.READING):
            return self.tr("The text appears here.")
        return self.tr("This page was not read.")

    # Small steps

    def _pages(self) -> list[Any]:
        texts = self._shown.texts if self._shown else {}
        return [texts[page] for page in sorted(texts)]

    def _to_clipboard(self, words: str, news: str) -> None:
        QGuiApplication.clipboard().setText(words)
        self.said.emit(news)

    def _name(self, source: Source) -> str:
        return source.name or str(source) if isinstance(source, Path) else self.tr("Pasted picture")

    def _open(self, names: list[str]) -> None:
        self.folder = str(Path(names[0]).parent)
        self.read([Path(name) for name in names])

    def _forget_dialog(self) -> None:
        self._dialog.deleteLater()
        self._dialog = None

    def _pick(self, row: int) -> None:
        if 0 <= row < len(self.queue.entries) and self.queue.entries[row] is not self._shown:
            self._show_entry(self.queue.entries[row])

    def sizeHint(self) -> QSize:
        return QSize(1080, 720)

    def closeEvent(self, event) -> None:
        self.stop()
        super().closeEvent(event)


def _column(*parts: QWidget | QHBoxLayout) -> QWidget:
    made = QWidget()
    column = QVBoxLayout(made)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(SPACE // 2)
    for part in parts:
        column.addLayout(part) if isinstance(part, QHBoxLayout) else column.addWidget(part)
    return made

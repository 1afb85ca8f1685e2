"""Pictures and PDFs in, their text beside them: drop, paste or open; read; copy, or hand on.

Only shows: reading and drawing pages happens elsewhere, in ui/pictures/queue.py and ui/pictures/sheets.py.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, QSize
from PySide6.QtGui import QGuiApplication, QIcon, QImage
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QSplitter, QStackedLayout, QVBoxLayout, QWidget

from crane_app.ui.parts import ElidedLabel, Notice, button
from crane_app.ui.pictures import words
from crane_app.ui.pictures.actions import MODES, enable, make_actions, menus
from crane_app.ui.pictures.panes import FilesPane, PagePane, Picker, ProgressLine, WordsPane
from crane_app.ui.pictures.queue import Entry, Queue, State
from crane_app.ui.pictures.sheets import Look, Looks, PageReader, Source, arranged, written
from crane_app.ui.pictures.start import Offer, Start
from crane_app.ui.theme import SPACE
from crane_app.ui.view import Commands, View
from crane_app.ui.worker import Worker, sentence

KINDS = "*.png *.jpg *.jpeg *.webp *.avif *.tif *.tiff *.bmp *.gif *.pdf"
Readable = Path | str | QImage


def usable(data: QMimeData | None) -> list[Readable]:
    """The local files and folders among what was dropped or pasted, else the picture itself."""
    if data is None:  # what Qt says of an empty clipboard on some systems
        return []
    files: list[Readable] = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    if files or not data.hasImage():
        return files
    image = QImage(data.imageData())
    return [] if image.isNull() else [image]


class PicturesView(View):
    """With a connection the engine's process reads, and what was read is kept; without, this one does."""

    def __init__(self, reader: PageReader | None = None, icon: QIcon | None = None, connection: Any = None):
        super().__init__()
        self._shown: Entry | None = None
        self._dialog: QFileDialog | None = None
        self._mode = "paragraphs"
        self._narrow = False
        self.folder = ""  # where the file dialog starts
        reader = reader or _reader(connection)
        self._reader = reader
        self.queue, self.looks = Queue(reader), Looks(reader)
        self.does = make_actions(self)
        self._make_widgets(icon or QIcon())
        self._connect()
        self._refresh()

    # What can be done

    def read(self, sources: Sequence[Readable]) -> None:
        """Read these after whatever is being read."""
        entries = [self._entry(each) for each in sources]
        busy = self.queue.reading is not None
        for path in {entry.source.path for entry in entries} - {""}:
            for there in [each for each in self.queue.entries if each.source.path == path]:
                self.queue.remove(there)
        if self._shown not in self.queue.entries:
            self._shown = None
        self.queue.add(entries)
        if entries and (not busy or self._shown is None):
            self._show_entry(entries[0])
            self.text.setFocus()

    def offer(self, data: QMimeData) -> str:
        if data.hasImage() or any(url.isLocalFile() for url in data.urls()):
            return self.tr("Release to read the text")
        return ""

    def take(self, data: QMimeData | None) -> bool:
        sources = usable(data)
        self.read(sources)
        return bool(sources)

    def receive(self, what: object) -> None:
        """A picture, a path, several of them, or what was dropped elsewhere."""
        if isinstance(what, QMimeData):
            self.take(what)
        else:
            self.read([what] if isinstance(what, Readable) else list(what))

    def commands(self) -> dict[str, Commands]:
        return menus(self.does)

    def enter(self) -> None:
        self.text.setFocus() if self._shown else self.open_button.setFocus()

    def leave(self) -> None:
        self.queue.leave()

    def paste(self) -> None:
        if not self.take(QGuiApplication.clipboard().mimeData()):
            self.said.emit(self.tr("There is no picture or file on the clipboard."))

    def choose_files(self) -> None:
        pictures = self.tr("Pictures and PDFs ({kinds})").format(kinds=KINDS)
        filters = [pictures, self.tr("All files (*)")]
        self._ask(self.tr("Open pictures or PDFs"), QFileDialog.FileMode.ExistingFiles, filters)

    def choose_folder(self) -> None:
        self._ask(self.tr("Open a folder of pictures or PDFs"), QFileDialog.FileMode.Directory, [])

    def stop(self) -> None:
        """Stop reading; what was read stays."""
        self.queue.stop()

    def clear(self) -> None:
        """Take all documents off the list."""
        self.queue.clear()
        self.looks.forget()
        self._show_entry(None)

    def remove(self) -> None:
        """Take the shown document off the list."""
        if self._shown is not None:
            row = self.queue.entries.index(self._shown)
            self.queue.remove(self._shown)
            left = self.queue.entries
            self._show_entry(left[min(row, len(left) - 1)] if left else None)

    def forget(self) -> None:
        """Drop every result that is kept on the disk, and the list."""
        self.clear()
        worker = self._reader.forget(self.queue.last)
        worker.returned.connect(lambda _: self.said.emit(self.tr("Nothing that was read is kept any more.")))
        worker.failed.connect(self._say_error)

    def retry(self) -> None:
        """Read what is missing of the shown document."""
        if self._shown is not None:
            self.queue.again([self._shown])

    def read_rest(self) -> None:
        """Read what is missing of every document that was stopped or could not be read."""
        self.queue.again(self.queue.entries)

    def turn(self, pages: int) -> None:
        """Go some pages forward, or back."""
        entry = self._shown
        if entry is not None and 1 <= entry.page + pages <= entry.count:
            entry.page += pages
            self._show_page()
            self._refresh()

    def arrange(self, mode: str) -> None:
        """Show and copy the text as paragraphs, lines or code."""
        self._mode = mode
        self.side.show_mode(mode)
        self.does[mode].setChecked(True)
        self._show_regions()

    def copy(self) -> None:
        """The selection, or else everything read so far."""
        selected = self.text.selected()
        if selected:
            self._to_clipboard(selected, self.tr("Copied the selection."))
        else:
            self.copy_text()

    def copy_text(self) -> None:
        self._write("as_text", lambda text: self._to_clipboard(text, self.tr("Copied the text.")))

    def copy_markdown(self) -> None:
        self._write("as_markdown", lambda text: self._to_clipboard(text, self.tr("Copied the text as Markdown.")))

    def send(self, view: str) -> None:
        """The selection, or else the whole text, to another view."""
        selected = self.text.selected()
        if selected:
            self.sent.emit(view, selected)
        else:
            self._write("as_text", lambda text: self.sent.emit(view, text))

    # How it is built

    def _make_widgets(self, icon: QIcon) -> None:
        a = self.does
        self.start, self.left_over = Start(icon, a["open"], a["open_folder"], a["paste"]), Offer()
        self.pane, self.page = FilesPane(self.queue, a), PagePane(a)
        self.side = WordsPane({mode: a[mode].text() for mode in MODES})
        self.line = ProgressLine(a)
        self.files, self.canvas, self.text = self.pane.list, self.page.canvas, self.side.text
        self.notice = Notice(self.tr("Try again"))
        self.splitter = QSplitter()
        self.splitter.setHandleWidth(2 * SPACE)
        self.splitter.setChildrenCollapsible(False)
        for pane, share in ((self.pane, 0), (self.page, 3), (self.side, 2)):
            self.splitter.addWidget(pane)
            self.splitter.setStretchFactor(self.splitter.count() - 1, share)
        self.splitter.setSizes([200, 560, 420])
        reading = QWidget()
        column = QVBoxLayout(reading)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addLayout(self._make_header())
        column.addWidget(self.notice)
        column.addWidget(self.splitter, 1)
        column.addWidget(self.line)
        self._layers = QStackedLayout()
        self._layers.addWidget(self.start)
        self._layers.addWidget(reading)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(2 * SPACE, SPACE, 2 * SPACE, SPACE)
        whole.setSpacing(SPACE)
        whole.addWidget(self.left_over)
        whole.addLayout(self._layers, 1)

    def _make_header(self) -> QHBoxLayout:
        a, row = self.does, QHBoxLayout()
        row.setSpacing(SPACE)
        self.open_button = button(a["open"])
        self.name = ElidedLabel(self.tr("Name of the document"))
        self.name.setProperty("look", "strong")
        self.picker = Picker(self.queue)
        row.addWidget(self.open_button)
        row.addWidget(button(a["paste"], shows="icon"))
        row.addSpacing(SPACE)
        row.addWidget(self.name, 1)
        row.addWidget(self.picker, 1)
        for name in ("send_to_chat", "send_to_speech", "copy_markdown"):
            row.addWidget(button(a[name], look="flat", shows="icon"))
        row.addWidget(button(a["copy_text"], look="primary"))
        return row

    def _connect(self) -> None:
        self.queue.changed.connect(self._refresh)
        self.queue.text_came.connect(self._text_came)
        self.queue.opened.connect(self._opened)
        self.queue.said.connect(self.said)
        self.looks.came.connect(self._look_came)
        self.looks.failed.connect(self._look_failed)
        self.left_over.accepted.connect(self._take_up)
        self.left_over.declined.connect(self.queue.drop_left_over)
        self.canvas.pointed.connect(self._point)
        self.text.pointed.connect(self._point)
        self.canvas.chosen.connect(self.text.choose)
        self.text.chosen.connect(self.canvas.choose)
        self.canvas.turned.connect(self.turn)
        self.side.mode_chosen.connect(self.arrange)
        self.notice.retried.connect(self.retry)
        self.picker.activated.connect(self._pick)
        self.files.selectionModel().currentRowChanged.connect(lambda now, _before: self._pick(now.row()))

    # What is seen

    def _show_entry(self, entry: Entry | None) -> None:
        self._shown = entry
        self._layers.setCurrentIndex(0 if entry is None else 1)
        self.titled.emit(entry.name if entry else "")
        if entry is not None:
            self.files.setCurrentIndex(self.queue.index(self.queue.entries.index(entry)))
            self.name.setText(entry.name)
            self.picker.setCurrentIndex(self.queue.entries.index(entry))
            self._show_page()
        self._refresh()

    def _show_page(self) -> None:
        look = self.looks.ask(self._shown, self._shown.page)
        if look is None:
            self.canvas.clear()
        else:
            self.canvas.show_picture(look.pictures, look.width, look.height)
        self._show_regions()

    def _show_regions(self) -> None:
        packed = self._shown.texts.get(self._shown.page) if self._shown else None
        regions = arranged(packed, self._mode) if packed else ()
        self.text.show_regions(regions)
        self.canvas.show_boxes([region.box for region in regions] if self.canvas.filled() else [])

    def _look_came(self, entry: Entry, look: Look) -> None:
        entry.count = entry.count or look.count
        if entry is self._shown and look.page == entry.page:
            self._show_page()
        self._refresh()

    def _look_failed(self, entry: Entry, page: int, why: str) -> None:
        told = entry.error or entry.unread or entry.state in (State.WAITING, State.READING)
        if entry is self._shown and page == entry.page and not told:
            self.said.emit(why)

    def _text_came(self, entry: Entry, page: int) -> None:
        if entry is self._shown and page == entry.page:
            self._show_regions()

    def _opened(self, folder: Entry, inside: list[Entry]) -> None:
        if folder is self._shown:
            self._show_entry(inside[0])

    def _point(self, index: int) -> None:
        self.canvas.point(index)
        self.text.point(index)

    def _refresh(self) -> None:
        entry, queue = self._shown, self.queue
        reading, several = queue.reading, len(queue.entries) > 1
        enable(self.does, entry, queue, self.canvas.filled())
        self.pane.tell(words.tally(queue))
        self._narrow = self._is_narrow()
        self.pane.setVisible(several and not self._narrow)
        self.picker.setVisible(several and self._narrow)
        self.name.setVisible(not self.picker.isVisibleTo(self))
        self.page.tell(*((entry.page, entry.count) if entry else (1, 0)))
        done, count = (len(reading.texts), reading.count) if reading else (0, 0)
        self.line.tell(words.status(entry, queue), done, count, reading is not None)
        self.text.set_hint(words.placeholder(entry))
        self.notice.tell(words.complaint(entry))
        self.left_over.tell(words.left_over(queue.left_over))

    # Small steps

    def _write(self, form: str, then: Callable[[str], None]) -> None:
        """All pages of the shown document as one text, written elsewhere: there may be thousands."""
        if self._shown is not None and self._shown.texts:
            worker = Worker(written(dict(self._shown.texts), form, self._mode))
            worker.returned.connect(then)
            worker.failed.connect(self._say_error)
            worker.start()

    def _to_clipboard(self, text: str, news: str) -> None:
        QGuiApplication.clipboard().setText(text)
        self.said.emit(news)

    def _say_error(self, error: Exception) -> None:
        self.said.emit(sentence(error))

    def _entry(self, what: Readable) -> Entry:
        source = Source.of(what)
        return Entry(source, Path(source.path).name or source.path or self.tr("Pasted picture"))

    def _take_up(self) -> None:
        entries = self.queue.take_up()
        if entries:
            self._show_entry(entries[0])

    def _ask(self, title: str, mode: QFileDialog.FileMode, filters: list[str]) -> None:
        if self._dialog is None:
            self._dialog = QFileDialog(self, title, self.folder)
            self._dialog.setFileMode(mode)
            if filters:
                self._dialog.setNameFilters(filters)
            self._dialog.filesSelected.connect(self._open)
            self._dialog.finished.connect(self._forget_dialog)
        self._dialog.open()

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

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        if self._is_narrow() != self._narrow:
            self._refresh()

    def _is_narrow(self) -> bool:
        """No room for three panes: the list of documents gives way to a choice above."""
        panes = (self.pane, self.page, self.side)
        return self.width() < sum(pane.minimumSizeHint().width() + 2 * SPACE for pane in panes) + 2 * SPACE


def _reader(connection: Any) -> PageReader:
    from crane_app.library.pages import Pages

    return PageReader(connection, Pages())

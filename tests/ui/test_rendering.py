"""Markdown that is meant to hurt: nothing is opened, nothing is lost, and no turn of the event loop has much to do."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from hands import clipboard
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication

from benchmarks._hostile import ADDRESSES, DOCUMENTS, FORMS
from crane_app.media.markdown import is_safe
from crane_app.ui import slices
from crane_app.ui.chat.transcript import Transcript
from crane_app.ui.markdown import links, prose
from crane_app.ui.markdown.code import Code
from crane_app.ui.markdown.passage import Passage
from crane_app.ui.markdown.view import MarkdownView

# Of what is handed to Qt between two turns of the event loop: two whole blocks more than a slice asks for.
MOST_CHARACTERS = slices.MOST + 2 * 4000
MOST_CELLS = 1200
MOST_BLOCKS = 800

OURS = tuple(map(str, (Path(__file__).parents[2], sys.prefix, sys.base_prefix)))
_watched: list[str] | None = None


def _audit(event: str, arguments: tuple) -> None:
    """Notes files that are opened outside of this program, and whatever has to do with other machines."""
    if _watched is None:
        return
    opened = event == "open" and isinstance(arguments[0], str) and not str(arguments[0]).startswith(OURS)
    if opened or event.startswith(("socket.", "subprocess.", "os.system", "webbrowser.", "urllib.")):
        _watched.append(f"{event} {arguments}")


sys.addaudithook(_audit)  # cannot be taken away again, so it looks at `_watched` first


@pytest.fixture
def watched(monkeypatch):
    """What was opened or asked for while a document was shown."""
    global _watched
    seen: list[str] = []
    monkeypatch.setattr(prose.Sealed, "loadResource", lambda _self, _kind, name: seen.append(f"resource {name}"))
    monkeypatch.setattr(links, "follow", lambda address: seen.append(f"followed {address}"))
    _watched = seen
    yield seen
    _watched = None


class Work:
    """Counts what is handed to Qt in each turn of the event loop."""

    def __init__(self, monkeypatch):
        self.turns: list[Counter] = []
        self.now: Counter = Counter()
        fit, dress, append = Passage.fit, Passage.dress, Code.append

        def counted_fit(piece, width):
            if width != piece.width:
                self.now["characters laid out"] += piece.length()
            return fit(piece, width)

        def counted_dress(piece, font):
            self.now["characters"] += len(piece.block.source)
            dress(piece, font)
            self.now["blocks"] += piece._document.blockCount()
            self.now["cells"] += piece._document.blockCount() if piece.block.kind == "table" else 0

        def counted_append(code, text):
            self.now["characters"] += len(text)
            append(code, text)

        monkeypatch.setattr(Passage, "fit", counted_fit)
        monkeypatch.setattr(Passage, "dress", counted_dress)
        monkeypatch.setattr(Code, "append", counted_append)

    def turn(self) -> None:
        QApplication.processEvents()
        self.turns.append(self.now)
        self.now = Counter()

    def most(self, what: str) -> int:
        return max(turn[what] for turn in self.turns)


@pytest.fixture
def work(monkeypatch):
    return Work(monkeypatch)


@pytest.fixture
def transcript(qtbot):
    made = Transcript()
    made.resize(800, 600)
    qtbot.addWidget(made)
    made.show()
    return made


def told(view: MarkdownView) -> str:
    """Everything that can be got back: the text as it is copied, where links lead, which languages code has."""
    view.selection.all()
    addresses = "".join(address for *_, address in view.links())
    languages = "".join(piece.language for piece in view._pieces if isinstance(piece, Code))
    return view.copied() + addresses + languages


def letters(text: str) -> Counter:
    return Counter(sign for sign in text if sign.isalnum())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_hostile_answer_opens_nothing_loses_nothing_and_never_takes_long(transcript, watched, work, name):
    text = DOCUMENTS[name]
    view = MarkdownView("Answer")
    transcript.add(view)
    # WHEN it is shown, and scrolled through
    view.set_text(text)
    assert work.now.total() == 0  # nothing at once
    while view.busy():
        work.turn()
    bar = transcript.verticalScrollBar()
    for step in range(12):
        bar.setValue(bar.maximum() * step // 11)
        work.turn()
        transcript.grab()
    # THEN nothing was opened or asked for
    assert watched == []
    # AND nothing is lost
    assert view.text() == text
    assert not letters(text) - letters(told(view))
    # AND no turn had much to do
    assert work.most("characters") <= MOST_CHARACTERS
    assert work.most("cells") <= MOST_CELLS
    assert work.most("blocks") <= MOST_BLOCKS


@pytest.mark.parametrize(
    "name", ["a megabyte of words", "1,000 rows of 5 cells", "5,000 items", "20,000 lines of code"]
)
def test_another_width_and_another_theme_never_take_long_either(transcript, work, name):
    from crane_app.ui import theme

    view = MarkdownView("Answer")
    transcript.add(view)
    view.set_text(DOCUMENTS[name])
    while view.busy():
        work.turn()
    work.turns.clear()
    # WHEN the window gets narrower, and dark
    transcript.resize(500, 600)
    while view.busy():
        work.turn()
    theme.set_scheme("dark")
    while view.busy():
        work.turn()
    # THEN each turn did some of it
    assert work.most("characters laid out") <= MOST_CHARACTERS
    assert work.most("characters") <= MOST_CHARACTERS
    assert all(piece.looks == view._looks for piece in view._pieces)


@pytest.mark.parametrize("name", ["addresses", "lists in a line", "both directions", "halves of signs", "emoji"])
def test_a_hostile_answer_may_also_arrive_in_small_pieces(qtbot, transcript, watched, name):
    text = DOCUMENTS[name][:20_000]
    view = MarkdownView("Answer")
    transcript.add(view)
    for start in range(0, len(text), 97):
        view.append(text[start : start + 97])
        if start % 970 == 0:
            QApplication.processEvents()
    view.finish()
    qtbot.waitUntil(lambda: not view.busy())
    assert watched == []
    assert view.text() == text
    assert not letters(text) - letters(told(view))


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_form_of_an_address_makes_a_link_to_anything_but_the_web_and_mail(qtbot, transcript, watched, address):
    view = MarkdownView("Answer")
    transcript.add(view)
    view.set_text("\n\n".join(form.format(address) for form in FORMS))
    qtbot.waitUntil(lambda: not view.busy())
    found = [each for *_, each in view.links()]
    assert all(map(is_safe, found))
    assert bool(found) == address.startswith("http")
    # AND wherever one clicks, nothing else is followed
    for y in range(4, view.height(), 8):
        for x in range(2, 400, 40):
            qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=QPoint(x, y))
    assert all(entry.startswith(f"followed {address}") for entry in watched)
    assert bool(watched) == address.startswith("http")


def test_halves_of_signs_can_be_copied(qtbot, transcript):
    view = MarkdownView("Answer")
    transcript.add(view)
    view.set_text(DOCUMENTS["halves of signs"] + "\n\n```\n\ud800 code\n```")
    qtbot.waitUntil(lambda: not view.busy())
    view.selection.all()
    view.copy()
    assert clipboard() == "a\ufffdb\ufffdc \ufffd end\n\n\ufffd code"
    view.copy_markdown()
    assert clipboard().startswith("a?b?c ? end")

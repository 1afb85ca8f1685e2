"""Every word in sight goes through tr(): in a language of brackets, what has none was forgotten, or is data."""

import re

import pytest
import scenes
from fakes import card, on_disk
from pseudo import OPEN, Pseudo, pseudo
from PySide6.QtGui import QAction
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QTextEdit,
    QTreeWidget,
    QWidget,
)
from sound_fakes import DEVICES, FakeVoice
from walk import QAbstractButton, told

from crane_app.library import fit
from crane_app.library.catalogue import OFFERS

# Names, numbers and units, which are the same in every language, and sentences of floors below the window.
KEYS = "Enter Ctrl Esc Return Alt Shift Home End PgUp PgDown Tab Del Space"
DATA = f"Crane GB MB kB CPU Markdown MLX PyTorch CUDA Metal curl Python JavaScript SGLang Ollama {KEYS}"
WORD = re.compile(r"[^\W\d_]{2,}")


@pytest.fixture
def language(qapp):
    translator = Pseudo()
    qapp.installTranslator(translator)
    yield translator
    qapp.removeTranslator(translator)


def vocabulary(stage) -> set[str]:
    """The words of everything that the fakes made up."""
    texts = [DATA, scenes.QUESTION, scenes.ANSWER, *scenes.OTHERS, "Cranes in shallow water", "And in winter?"]
    texts += ["Autumn report.pdf scan.png note.jpg page Grus grus", "The file is damaged. Open another copy."]
    texts.append(scenes.TAKEN)
    texts += [device.name for device in DEVICES] + [voice.name for voice in FakeVoice().voices()]
    cards = (*stage.connection.cards, *stage.shelf.entries, card(), on_disk())
    texts += [str(value) for each in cards for value in vars(each).values()]
    texts += [str(value) for value in stage.preferences.values.values()] + [str(stage.preferences.path)]
    for entry in (*stage.shelf.entries, *OFFERS):
        texts.append(fit.verdict(entry.nbytes, entry.cache, fit.memory()).sentence)
        texts += [str(value) for value in vars(entry).values()]
    return {word.casefold() for text in texts for word in WORD.findall(text)}


def words_of(widget: QWidget) -> list[str]:
    """What a widget says to eyes and to screen readers."""
    said = [widget.toolTip(), widget.accessibleName(), widget.accessibleDescription()]
    if isinstance(widget, QLabel | QAbstractButton):
        said.append(widget.text())
    if isinstance(widget, QLineEdit | QTextEdit | QPlainTextEdit):
        said.append(widget.placeholderText())
    if isinstance(widget, QComboBox):
        said += [widget.itemText(row) for row in range(widget.count())]
    if isinstance(widget, QTreeWidget):
        said += [widget.headerItem().text(column) for column in range(widget.columnCount())]
    if isinstance(widget, QMenu):
        said += [action.text() for action in widget.actions()] + [widget.title()]
    return said


def forgotten(root: QWidget, known: set[str]) -> list[str]:
    """Words that did not go through tr()."""
    found = []
    for widget in [root, *root.findChildren(QWidget)]:
        if widget.objectName().startswith("qt_"):
            continue
        for text in words_of(widget):
            plain = re.sub(r"<[^>]*>", " ", text)
            unknown = [word for word in WORD.findall(plain) if word.casefold() not in known]
            if unknown and OPEN not in text:
                found.append(f"{told(widget)}: {text!r}")
    return found


def test_the_language_is_longer_and_keeps_what_must_be_kept():
    assert pseudo("&Page {page} of <b>{count}</b>").count("{page}") == 1
    assert "&P" in pseudo("&Page")
    assert "<b>" in pseudo("a <b>word</b>")
    assert len(pseudo("Nothing leaves this machine")) > 1.4 * len("Nothing leaves this machine")


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_every_word_of_a_view_is_translated(language, stage, enter, scene):
    # GIVEN a view in use, in another language
    window = enter(scene)
    # THEN all it says is in that language, or is data
    assert forgotten(window, vocabulary(stage)) == []
    # AND so are its commands
    commands = [a.text() for a in window.findChildren(QAction) if a.text() and a.objectName()]
    assert [text for text in commands if OPEN not in text and WORD.search(text)] == []


def test_the_dialogs_of_help_are_translated(language, stage, enter):
    window = enter("settings")
    known = vocabulary(stage)
    for opens in (window.help.show_about, window.help.show_licences, window.help.show_shortcuts):
        opens()
        dialog = next(each for each in window.findChildren(QDialog) if each.isVisible())
        assert forgotten(dialog, known) == []
        assert OPEN in dialog.windowTitle()
        dialog.close()


@pytest.mark.parametrize("state", ["starting", "busy", "stalled", "lost", "failed"])
def test_the_state_of_the_engine_is_translated(language, stage, enter, state):
    window = enter("models, in use")
    stage.connection.become(state)
    for root in (window.status, window.toolbar):
        assert forgotten(root, vocabulary(stage)) == []

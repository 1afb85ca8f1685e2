import pytest
from hands import clipboard
from PySide6.QtCore import QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAccessible, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QScrollBar, QToolButton, QVBoxLayout, QWidget

from crane_app.errors import CraneError
from crane_app.ui import theme, worker
from crane_app.ui.markdown import highlight, links
from crane_app.ui.markdown import view as markdown
from crane_app.ui.markdown.code import Code
from crane_app.ui.markdown.passage import Passage
from crane_app.ui.markdown.view import MarkdownView
from crane_app.ui.slices import slices

ANSWER = """# Cranes

A **crane** lifts with a `hook`; see [the page](https://example.org/crane) or [mail](mailto:a@example.org).

1. Fasten it
2. Lift it
   - slowly

- [x] done
- [ ] open

| Part | Weight |
|:-----|-------:|
| Boom | 2.3 t |
| Hook | 0.1 t |

```python
def lift(load):
    return load  # up
```

> Quoted

---

The end.
"""
PLAIN = """Cranes

A crane lifts with a hook; see the page or mail.

1. Fasten it
2. Lift it
• slowly
[x] done
[ ] open

Part\tWeight
Boom\t2.3 t
Hook\t0.1 t

def lift(load):
    return load  # up

Quoted

---

The end."""


class Opened:
    """Stands for the system that opens addresses."""

    def __init__(self):
        self.addresses = []

    def openUrl(self, url: QUrl) -> bool:
        self.addresses.append(url.toString())
        return True


@pytest.fixture
def opened(monkeypatch):
    made = Opened()
    monkeypatch.setattr(links, "QDesktopServices", made)
    return made


@pytest.fixture
def view(qtbot):
    """A view in a window, 600 pixels wide."""
    window = QWidget()
    window.view = MarkdownView("Answer")
    column = QVBoxLayout(window)
    column.setContentsMargins(0, 0, 0, 0)
    column.addWidget(window.view, 0, Qt.AlignmentFlag.AlignTop)
    window.resize(600, 5000)
    qtbot.addWidget(window)
    window.show()
    with qtbot.waitActive(window):
        window.activateWindow()
    window.view.window_kept = window
    return window.view


def show(qtbot, view, text):
    view.set_text(text)
    settle(qtbot, view)


def settle(qtbot, view):
    qtbot.waitUntil(lambda: not view.busy())
    view.window().layout().activate()


def place_of(view, words: str, at: int = 0) -> QPoint:
    """Where words stand in the view; at: how many signs into them."""
    for index, piece in enumerate(view._pieces):
        text = piece.text() if isinstance(piece, Code) else piece._document.toPlainText()
        if words in text:
            rect = piece.place_rect(text.index(words))
            point = QPointF(rect.left(), rect.center().y() + view._tops[index])
            if isinstance(piece, Passage):
                point.setX(_x(piece, text.index(words) + at))
            return point.toPoint()
    raise AssertionError(f"{words} is not shown")


def _x(piece, place: int) -> float:
    block = piece._document.findBlock(place)
    line = block.layout().lineForTextPosition(place - block.position())
    area = piece._document.documentLayout().blockBoundingRect(block)
    return area.left() + line.cursorToX(place - block.position())[0] + 1


def code_of(view) -> Code:
    return next(piece for piece in view._pieces if isinstance(piece, Code))


# Arriving


def test_what_arrives_in_pieces_looks_as_what_comes_at_once(qtbot, view):
    # GIVEN an answer shown at once
    show(qtbot, view, ANSWER)
    plain, height = view.plain(), view.height_for(600)
    # WHEN it arrives in pieces
    view.set_text("")
    for start in range(0, len(ANSWER), 5):
        view.append(ANSWER[start : start + 5])
        if start % 50 == 0:
            qtbot.waitUntil(lambda: not view.busy())
    view.finish()
    settle(qtbot, view)
    # THEN nothing can be told from it
    assert view.text() == ANSWER
    assert view.plain() == plain
    assert view.height_for(600) == height


def test_plain_text_has_signs_lines_and_tabs(qtbot, view):
    show(qtbot, view, ANSWER)
    assert view.plain() == PLAIN


def test_finished_blocks_are_made_once_and_a_turn_takes_what_came_together(qtbot, view, monkeypatch):
    made = []
    monkeypatch.setattr(markdown, "Passage", lambda block, font: made.append(block.source) or Passage(block, font))
    # GIVEN twenty finished paragraphs
    view.append("".join(f"paragraph {i}\n\n" for i in range(20)) + "the first line\nthe")
    qtbot.waitUntil(lambda: not view.busy())
    assert len(made) == 21
    made.clear()
    # WHEN a hundred words come in one turn
    for _ in range(100):
        view.append(" word")
    qtbot.waitUntil(lambda: not view.busy())
    # THEN only the end was made, once
    assert made == ["the first line\nthe" + " word" * 100]


def test_code_under_way_grows_without_being_made_anew(qtbot, view):
    view.append("```python\nx = 1\n")
    qtbot.waitUntil(lambda: not view.busy())
    code = code_of(view)
    # WHEN more lines come, more than fit one block, and the end of it in two pieces
    for number in range(1000):
        view.append(f"y = {number}\n")
    qtbot.waitUntil(lambda: not view.busy())
    view.append("`")
    qtbot.waitUntil(lambda: not view.busy())
    assert code.text().endswith("y = 999\n")
    view.append("``\nafter")
    qtbot.waitUntil(lambda: not view.busy())
    # THEN it is the same code, whole
    assert code_of(view) is code
    assert code.text() == "x = 1\n" + "".join(f"y = {number}\n" for number in range(1000))
    assert [type(piece) for piece in view._pieces] == [Code, Passage]


def test_an_unfinished_mark_at_the_end_is_shown_when_nothing_more_comes(qtbot, view):
    view.append("```\ncode\n``")
    qtbot.waitUntil(lambda: not view.busy())
    assert code_of(view).text() == "code\n"
    view.finish()
    qtbot.waitUntil(lambda: not view.busy())
    assert code_of(view).text() == "code\n``"


def test_bold_words_under_way_show_no_stars(qtbot, view):
    view.append("so **bold")
    qtbot.waitUntil(lambda: view.plain() == "so bold")
    view.finish()
    qtbot.waitUntil(lambda: view.plain() == "so **bold")


def test_a_long_text_is_shown_in_slices(qtbot, view):
    # WHEN a long text is set
    view.set_text("A paragraph of some words.\n\n" * 3000)
    # THEN nothing is made at once, and it is there in the end
    assert view.busy()
    assert view._pieces == []
    turns = []
    slices()._timer.timeout.connect(lambda: turns.append(slices().done))
    qtbot.waitUntil(lambda: not view.busy(), timeout=30_000)
    assert len(turns) > 20
    assert view.plain().count("paragraph") == 3000


def test_another_text_replaces_the_first_even_while_it_is_shown(qtbot, view):
    view.set_text("first\n\n" * 3000)
    qtbot.waitUntil(lambda: len(view._pieces) > 10)
    show(qtbot, view, "second")
    assert view.plain() == "second"
    view.append(" and third")
    qtbot.waitUntil(lambda: view.plain() == "second and third")
    show(qtbot, view, "")
    assert (view.plain(), view.height_for(600)) == ("", 0)


def test_its_height_is_told_when_it_changes(qtbot, view):
    show(qtbot, view, "word " * 50)
    wide = view.height_for(600)
    # WHEN more comes
    with qtbot.waitSignal(view.grew):
        view.append("\n\nanother paragraph")
    assert view.height_for(600) > wide
    # THEN a narrow column is higher, and a wide one as before
    settle(qtbot, view)
    tall = view.height_for(600)
    assert view.height_for(200) > tall
    assert view.height_for(600) == tall


def test_a_long_text_keeps_its_height_when_it_is_laid_out_for_another_width_and_back(qtbot, view):
    show(qtbot, view, ANSWER * 40)
    before = view.height_for(600)
    view.height_for(300)
    qtbot.waitUntil(lambda: not view.busy())
    assert view.height_for(300) > before
    view.height_for(600)
    qtbot.waitUntil(lambda: not view.busy())
    assert view.height_for(600) == before


# Selecting and copying


def drag(qtbot, view, start: QPoint, end: QPoint):
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    qtbot.mouseMove(view, end)
    # The offscreen screen forgets which button is held.
    view._choose(view._pressed, view.place_at(QPointF(end)))
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=end)


def test_a_selection_goes_over_all_blocks_and_is_copied_as_plain_text(qtbot, view):
    show(qtbot, view, ANSWER)
    # WHEN dragged from the list into the code, and Ctrl+C pressed
    drag(qtbot, view, place_of(view, "Fasten"), place_of(view, "The end", 3))
    qtbot.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    # THEN the clipboard has it, cells with tabs between
    assert clipboard() == PLAIN[PLAIN.index("1. Fasten") : PLAIN.index(" end.")]
    assert not QGuiApplication.clipboard().mimeData().hasHtml()


def test_a_table_is_copied_for_a_spreadsheet(qtbot, view):
    rows = "".join(f"| r{i} | {i} |\n" for i in range(100))
    show(qtbot, view, "| a | b |\n|---|---|\n" + rows)
    view.setFocus()
    qtbot.keyClick(view, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert clipboard() == "a\tb\n" + "\n".join(f"r{i}\t{i}" for i in range(100))


def test_a_double_click_takes_a_word_and_a_third_one_the_line(qtbot, view):
    show(qtbot, view, "One two three\n\n```\nlet it_be = 1\n```")
    place = place_of(view, "two", 1)
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=place)
    assert view.copied() == "two"
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=place)
    assert view.copied() == "One two three"
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=place_of(view, "it_be") + QPoint(4, 0))
    assert view.copied() == "it_be"


def test_shift_and_arrows_extend_the_selection_over_blocks(qtbot, view):
    show(qtbot, view, "ab\n\ncd")
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=place_of(view, "ab", 1))
    for _ in range(3):
        qtbot.keyClick(view, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert view.copied() == "b\n\nc"
    for _ in range(10):
        qtbot.keyClick(view, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert view.copied() == "a"


@pytest.mark.parametrize("text", ["😀😀 one 👍🏽 two", "```\n😀😀 one 👍🏽 two\n```"])
def test_signs_of_two_halves_are_selected_whole(qtbot, view, text):
    show(qtbot, view, text)
    view.setFocus()
    piece = view._pieces[0]
    for x in range(0, 200, 3):
        view._choose((0, 0), view.place_at(QPointF(x, view._tops[0] + piece.place_rect(0).center().y())))
        assert "😀😀 one 👍🏽 two".startswith(view.copied())
        view.copied().encode()
    # AND step by step
    view._choose((0, 0), (0, 0))
    for expected in ("😀", "😀😀", "😀😀 "):
        qtbot.keyClick(view, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
        assert view.copied() == expected


def test_a_selection_lives_while_more_text_comes(qtbot, view):
    view.append("first\n\nsecond\n\nthird")
    qtbot.waitUntil(lambda: not view.busy())
    settle(qtbot, view)
    drag(qtbot, view, place_of(view, "first"), place_of(view, "third", 5))
    assert view.copied() == "first\n\nsecond\n\nthird"
    view.append(" and fourth\n\nfifth")
    qtbot.waitUntil(lambda: not view.busy())
    assert view.copied().startswith("first\n\nsecond\n\nthird")


def test_without_a_selection_copy_is_left_to_others(qtbot, view):
    show(qtbot, view, "text")
    QGuiApplication.clipboard().setText("kept")
    view.setFocus()
    qtbot.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert clipboard() == "kept"


def test_the_menu_copies_text_markdown_and_addresses(qtbot, view):
    show(qtbot, view, ANSWER)
    menu = view.menu("https://example.org/\u202ecrane")
    texts = [action.text().replace("&", "") for action in menu.actions()]
    assert texts == ["Copy", "Copy as Markdown", "Copy link address"]
    assert not menu.actions()[0].isEnabled()
    menu.actions()[1].trigger()
    assert clipboard() == ANSWER
    menu.actions()[2].trigger()
    assert clipboard() == "https://example.org/%E2%80%AEcrane"
    assert len(view.menu().actions()) == 2


# Links


def test_a_link_is_told_when_pointed_at_and_opened_when_clicked(qtbot, view, opened):
    show(qtbot, view, ANSWER)
    place = place_of(view, "the page", 3)
    with qtbot.waitSignal(view.pointed, check_params_cb=lambda told: told == "https://example.org/crane"):
        qtbot.mouseMove(view, place)
    assert view.cursor().shape() == Qt.CursorShape.PointingHandCursor
    assert opened.addresses == []
    qtbot.mouseClick(view, Qt.MouseButton.LeftButton, pos=place)
    assert opened.addresses == ["https://example.org/crane"]


def test_selecting_over_a_link_opens_nothing(qtbot, view, opened):
    show(qtbot, view, ANSWER)
    drag(qtbot, view, place_of(view, "see", 0), place_of(view, "the page", 3))
    assert opened.addresses == []


def test_tab_goes_through_the_links_and_enter_opens_them(qtbot, view, opened):
    show(qtbot, view, ANSWER)
    qtbot.waitUntil(lambda: len(view.findChildren(QToolButton)) == 1)
    view.setFocus()
    for _ in range(2):
        qtbot.keyClick(view, Qt.Key.Key_Tab)
        qtbot.keyClick(view, Qt.Key.Key_Return)
    assert opened.addresses == ["https://example.org/crane", "mailto:a@example.org"]
    # THEN the next Tab leaves the text for the code's button
    qtbot.keyClick(view, Qt.Key.Key_Tab)
    assert not view.hasFocus()


@pytest.mark.parametrize("address", ["file:///etc/passwd", "javascript:x", "/dev/zero", "", "qrc:/x", "smb://a/b"])
def test_only_the_web_and_mail_are_ever_followed(opened, address):
    assert not links.follow(address)
    assert opened.addresses == []


# Code


def test_a_button_copies_the_code(qtbot, view):
    show(qtbot, view, ANSWER)
    qtbot.waitUntil(lambda: len(view.findChildren(QToolButton)) == 1)
    button = view.findChild(QToolButton)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert clipboard() == "def lift(load):\n    return load  # up"
    assert button.accessibleName() == "Copy the code"


def test_finished_code_is_coloured_and_code_under_way_is_not(qtbot, view):
    view.append("```python\ndef lift():\n    return 'up'\n")
    qtbot.waitUntil(lambda: not view.busy())
    assert code_of(view)._spans == {}
    view.append("```\n")
    qtbot.waitUntil(lambda: code_of(view)._spans != {})
    first, second = code_of(view)._spans[0], code_of(view)._spans[1]
    assert (0, 3, "code_word") in first
    assert (4, 4, "code_name") in first
    assert [role for _, _, role in second if role == "code_text"]


def test_a_language_whose_rules_did_not_come_is_asked_for_again(qtbot, view, monkeypatch):
    # GIVEN a language whose rules cannot be had the first time
    real, asked = highlight._prepare, []

    def prepare(name):
        asked.append(name)
        if len(asked) == 1:
            raise CraneError("Not now.")
        return (yield from real(name))

    monkeypatch.setattr(highlight, "_prepare", prepare)
    show(qtbot, view, "```ada\nbegin null; end;\n```\n")
    qtbot.waitUntil(lambda: not worker._running)
    assert code_of(view)._spans == {}
    # WHEN more of that language comes THEN it is coloured
    show(qtbot, view, "```ada\nbegin null; end;\n```\nThat was it.")
    qtbot.waitUntil(lambda: code_of(view)._spans != {}, timeout=20_000)


@pytest.mark.parametrize(
    "text", ["nolanguage\nx = 1\n", "python\n" + "x" * 2000 + "\n", "python\n" + "x = 1\n" * 10_000]
)
def test_code_that_would_take_long_stays_plain(qtbot, view, text):
    view.set_text(f"```{text}```\n\nend")
    qtbot.waitUntil(lambda: not view.busy(), timeout=30_000)
    assert code_of(view)._closed
    qtbot.waitUntil(lambda: not slices()._steps, timeout=30_000)
    assert code_of(view)._spans == {}


def test_long_lines_scroll_sideways_and_are_copied_whole(qtbot, view):
    line = "wide " * 1000
    show(qtbot, view, f"```\n{line}\nshort\n```")
    qtbot.waitUntil(lambda: any(bar.isVisible() for bar in view.findChildren(QScrollBar)))
    code = code_of(view)
    assert code.text() == f"{line}\nshort\n"
    before = view.grab().toImage()
    code.bar.setValue(code.bar.maximum())
    assert view.grab().toImage() != before
    assert {bar.orientation() for bar in view.findChildren(QScrollBar)} == {Qt.Orientation.Horizontal}


def test_a_wide_table_scrolls_sideways(qtbot, view):
    show(qtbot, view, "|" + " a long heading |" * 20 + "\n|" + "---|" * 20 + "\n|" + " cell |" * 20 + "\n")
    qtbot.waitUntil(lambda: any(bar.isVisible() for bar in view.findChildren(QScrollBar)))


def test_a_table_in_pieces_has_the_same_columns_everywhere(qtbot, view):
    rows = "".join(f"| {'x' * (i // 4)} | {i} |\n" for i in range(100))
    show(qtbot, view, "| a | b |\n|---|---|\n" + rows)
    first, *others = view._pieces
    assert others
    assert all(other.columns(600) == first.columns(600) for other in others)


# Looks


def ground(view) -> str:
    """The colour of the ground of the code."""
    index = next(i for i, piece in enumerate(view._pieces) if isinstance(piece, Code))
    return view.grab().toImage().pixelColor(300, round(view._tops[index]) + 6).name()


def test_another_theme_shows_at_once(qtbot, view):
    show(qtbot, view, ANSWER)
    qtbot.waitUntil(lambda: len(view.findChildren(QToolButton)) == 1)
    assert ground(view) == theme.LIGHT.code
    theme.set_scheme("dark")
    assert ground(view) == theme.DARK.code
    qtbot.waitUntil(lambda: not view.busy())
    assert all(piece.looks == view._looks for piece in view._pieces)


def test_larger_letters_make_it_higher(qtbot, view):
    show(qtbot, view, ANSWER)
    before = view.height_for(600)
    theme.set_text_size(150)
    try:
        qtbot.waitUntil(lambda: not view.busy())
        assert view.height_for(600) > 1.3 * before
    finally:
        theme.set_text_size(100)
    qtbot.waitUntil(lambda: not view.busy())
    assert view.height_for(600) == before


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK])
def test_code_can_be_read(colours):
    for role in ("text", "muted", "danger", *(name for name in vars(colours) if name.startswith("code_"))):
        assert theme.contrast(getattr(colours, role), colours.code) >= 4.5, role


def test_a_screen_reader_has_its_name_and_text(qtbot, view):
    show(qtbot, view, ANSWER)
    told = QAccessible.queryAccessibleInterface(view)
    assert told.text(QAccessible.Text.Name) == "Answer"
    assert "A crane lifts with a hook" in told.text(QAccessible.Text.Description)
    assert "def lift" in told.text(QAccessible.Text.Description)


def test_copying_is_taken_from_the_window_only_with_a_selection(qtbot, view):
    show(qtbot, view, "text")
    view.setFocus()
    assert QKeySequence(QKeySequence.StandardKey.Copy).count()
    qtbot.keyClick(view, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert view.copied() == "text"

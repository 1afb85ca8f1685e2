from itertools import product

import pytest
from PySide6.QtGui import QFontInfo, QIcon, QPalette
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit

from crane_app.ui import looks, theme

TEXTS = ("text", "muted", "link", "good", "warning", "danger")
GROUNDS = ("window", "surface", "sidebar")
PAIRS = [
    *product(TEXTS, GROUNDS),
    ("text", "button"),
    ("text", "hover"),
    ("text", "mark"),
    ("text", "chip"),
    ("muted", "chip"),
    ("text", "bubble"),
    ("muted", "bubble"),
    ("text", "code"),
    ("muted", "code"),
    ("muted", "hover"),
    ("on_accent", "accent"),
    ("on_accent", "accent_hover"),
    ("on_selection", "selection"),
    ("danger", "danger_ground"),
]


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("front", "ground"), PAIRS, ids=lambda name: name)
def test_text_stands_out_from_its_ground(colours, front, ground):
    assert theme.contrast(getattr(colours, front), getattr(colours, ground)) >= 4.5


def test_contrast_is_the_one_of_wcag():
    # Black on white is 21; #767676 on white is the well-known grey just above 4.5.
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert theme.contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(("scheme", "colours"), [("light", theme.LIGHT), ("dark", theme.DARK)])
def test_a_scheme_dresses_the_application(qapp, scheme, colours):
    # WHEN a scheme is chosen
    theme.set_scheme(scheme)
    # THEN the palette has its colours
    role = QPalette.ColorRole
    assert theme.colours() is colours
    assert qapp.palette().color(role.Window).name() == colours.window
    assert qapp.palette().color(role.Text).name() == colours.text


def test_the_text_of_a_page_takes_the_new_colours(qtbot, view):
    # GIVEN a view in the light
    before = view.text.palette().color(QPalette.ColorRole.Text)
    # WHEN the lights go out
    theme.set_scheme("dark")
    # THEN the text is light
    qtbot.waitUntil(lambda: view.text.palette().color(QPalette.ColorRole.Text) != before)
    assert view.text.palette().color(QPalette.ColorRole.Text).name() == theme.DARK.text


@pytest.mark.parametrize("percent", [80, 150, 200])
def test_all_letters_grow_and_shrink_together(qtbot, qapp, percent):
    # GIVEN a title, a line of text and a field
    title, line, field = QLabel("Title"), QLabel("Line"), QLineEdit()
    title.setProperty("look", "title")
    for widget in (title, line, field):
        qtbot.addWidget(widget)
        widget.show()
    before = [QFontInfo(widget.font()).pointSizeF() for widget in (title, line, field)]
    try:
        # WHEN the size is chosen
        theme.set_text_size(percent)
        # THEN each has it, in proportion
        after = [QFontInfo(widget.font()).pointSizeF() for widget in (title, line, field)]
        assert after == pytest.approx([size * percent / 100 for size in before], rel=0.08)  # whole pixels
    finally:
        theme.set_text_size(100)
    assert [QFontInfo(widget.font()).pointSizeF() for widget in (title, line, field)] == before


def test_words_of_a_look_combine(qtbot):
    label = QLabel("Small and muted")
    label.setProperty("look", "muted small")
    qtbot.addWidget(label)
    label.show()
    assert label.palette().color(QPalette.ColorRole.WindowText).name() == theme.colours().muted
    assert QFontInfo(label.font()).pointSizeF() < QFontInfo(QApplication.font()).pointSizeF()


@pytest.mark.parametrize("kind", ["light", "dark"])
@pytest.mark.parametrize("sign", ["check", "down", "dot", "up"])
def test_every_sign_is_drawn(qapp, sign, kind):
    # GIVEN a sign that the style sheet names
    assert f"{sign}_{kind}.svg" in looks.sheet({"light": theme.LIGHT, "dark": theme.DARK}[kind])
    image = QIcon(f"{looks.SIGNS}/{sign}_{kind}.svg").pixmap(16, 16).toImage()
    # THEN its file shows something
    assert any(image.pixelColor(x, y).alpha() for x in range(16) for y in range(16))


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_the_ring_around_what_has_the_focus_stands_out(colours):
    # 3 is what WCAG 2.2 asks of what is not text.
    for ground in (colours.window, colours.sidebar, colours.surface):
        assert theme.contrast(colours.accent, ground) >= 3

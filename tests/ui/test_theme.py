from itertools import product

import pytest
from PySide6.QtGui import QPalette

from crane_app.ui import theme

TEXTS = ("text", "muted", "link")
GROUNDS = ("window", "surface")
PAIRS = [
    *product(TEXTS, GROUNDS),
    ("text", "button"),
    ("text", "hover"),
    ("text", "mark"),
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

"""Colours, spacing and fonts, in one place; light and dark, following the system unless told otherwise.

The style is Fusion on every system: what the tests see is what people see. A widget says what it is by its property
`look`, one or more words of the style sheet in ui/looks.py: "flat small", "muted", "card".
"""

from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QFontInfo, QPalette
from PySide6.QtWidgets import QApplication

Scheme = Literal["light", "dark", "system"]

SPACE = 8
RADIUS = 8
# Points; some desktops without a theme of their own say 9, which is small on the screens of today.
SMALLEST = 10.0


@dataclass(frozen=True)
class Colours:
    """Every colour of a scheme; text ones keep a contrast of 4.5 with the grounds they stand on."""

    window: str  # behind everything
    sidebar: str  # behind the names of the views, the menus and the status line
    surface: str  # text, lists, cards
    sunken: str  # behind a page
    text: str
    muted: str
    line: str
    edge: str  # around what can be filled in
    button: str
    hover: str
    chip: str  # behind a short fact
    bubble: str  # behind what a person said
    code: str  # behind code
    code_word: str  # on it: words of the language
    code_type: str
    code_name: str
    code_text: str
    code_number: str
    code_note: str
    accent: str
    accent_hover: str
    on_accent: str
    link: str
    mark: str  # behind text that is pointed at
    selection: str
    on_selection: str
    good: str
    warning: str
    danger: str
    danger_ground: str
    disabled: str


LIGHT = Colours(
    window="#f8f9fb",
    sidebar="#eef0f3",
    surface="#ffffff",
    sunken="#e4e7eb",
    text="#1a2027",
    muted="#55606c",
    line="#dfe3e8",
    edge="#b6bec7",
    button="#ffffff",
    hover="#e6e9ed",
    chip="#e9ecf0",
    bubble="#e0f0f1",
    code="#f1f3f6",
    code_word="#7a3aa8",
    code_type="#0b6b75",
    code_name="#1f55a5",
    code_text="#1b6b3a",
    code_number="#8a4b00",
    code_note="#5c6773",
    accent="#0b6b75",
    accent_hover="#095962",
    on_accent="#ffffff",
    link="#0b6b75",
    mark="#d5edef",
    selection="#0b6b75",
    on_selection="#ffffff",
    good="#1b6b3a",
    warning="#7d5200",
    danger="#a3231b",
    danger_ground="#fdeceb",
    disabled="#9aa3ad",
)

DARK = Colours(
    window="#1d2126",
    sidebar="#16191d",
    surface="#262b31",
    sunken="#14171b",
    text="#e8ebee",
    muted="#a5afba",
    line="#343b43",
    edge="#525c67",
    button="#2f353d",
    hover="#343b44",
    chip="#2f353d",
    bubble="#1f3d42",
    code="#181b20",
    code_word="#cba3f2",
    code_type="#6fd0da",
    code_name="#8abcf7",
    code_text="#8fd6a4",
    code_number="#eec06a",
    code_note="#93a0ad",
    accent="#57c3cf",
    accent_hover="#7bd3dd",
    on_accent="#0a2226",
    link="#6fd0da",
    mark="#1f4a50",
    selection="#2d7e88",
    on_selection="#ffffff",
    good="#7dd3a0",
    warning="#eec06a",
    danger="#ff9d94",
    danger_ground="#43211f",
    disabled="#69737e",
)

_chosen: Scheme = "system"
_usual: float | None = None  # points of the system's font
_percent = 100


def install(app: QApplication) -> None:
    """Dress the application, and again whenever the system changes between light and dark."""
    app.setStyle("Fusion")
    # Some systems let Tab pass by buttons unless told; here the keyboard reaches everything.
    app.styleHints().setTabFocusBehavior(Qt.TabFocusBehavior.TabFocusAllControls)
    app.styleHints().colorSchemeChanged.connect(lambda _scheme: _dress(app))
    set_text_size(_percent)


def set_scheme(scheme: Scheme) -> None:
    """Light, dark, or as the system says."""
    global _chosen
    _chosen = scheme
    wish = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark, "system": Qt.ColorScheme.Unknown}
    app = QApplication.instance()
    app.styleHints().setColorScheme(wish[scheme])  # title bars and native dialogs, where the system can
    _dress(app)


def set_text_size(percent: int) -> None:
    """All letters, and what scales with them, at so many percent of the system's size."""
    global _usual, _percent
    app = QApplication.instance()
    if _usual is None:
        _usual = max(SMALLEST, QFontInfo(app.font()).pointSizeF())
    _percent = percent
    font = QFont(app.font())
    font.setPointSizeF(_usual * percent / 100)
    app.setFont(font)
    _dress(app)


def scheme() -> Scheme:
    return _chosen


def text_size() -> int:
    """Percent of the system's size."""
    return _percent


def colours() -> Colours:
    """The colours in use."""
    if _chosen == "system":
        return DARK if QApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark else LIGHT
    return DARK if _chosen == "dark" else LIGHT


def scaled_font(factor: float, bold: bool = False) -> QFont:
    """The system's font, larger or smaller."""
    font = QFont(QApplication.font())
    font.setPointSizeF(font.pointSizeF() * factor)
    font.setBold(bold)
    return font


def unit() -> int:
    """Pixels of a line of text, in any typeface: what icons and signs are measured by."""
    return round(1.2 * QFontInfo(QApplication.font()).pixelSize())


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, relative luminance)."""

    def luminance(name: str) -> float:
        parts = QColor(name).getRgbF()[:3]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _dress(app: QApplication) -> None:
    now = colours()
    app.setPalette(_palette(now))
    from crane_app.ui.looks import sheet

    wanted = sheet(now)
    if wanted != app.styleSheet():  # Qt would measure every widget again
        app.setStyleSheet(wanted)


def _palette(c: Colours) -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette()
    table = {
        role.Window: c.window,
        role.WindowText: c.text,
        role.Base: c.surface,
        role.AlternateBase: c.window,
        role.Text: c.text,
        role.Button: c.button,
        role.ButtonText: c.text,
        role.BrightText: c.danger,
        role.ToolTipBase: c.surface,
        role.ToolTipText: c.text,
        role.PlaceholderText: c.muted,
        role.Highlight: c.selection,
        role.HighlightedText: c.on_selection,
        role.Accent: c.accent,
        role.Link: c.link,
        role.LinkVisited: c.link,
        role.Mid: c.line,
        role.Midlight: c.hover,
        role.Light: c.surface,
        role.Dark: c.line,
        role.Shadow: c.sunken,
    }
    for name, value in table.items():
        palette.setColor(name, QColor(value))
    for name in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, name, QColor(c.disabled))
    return palette

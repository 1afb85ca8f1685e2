"""Colours, spacing and fonts, in one place; light and dark, following the system unless told otherwise.

The style is Fusion on every system: what the tests see is what people see.
"""

from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication

Scheme = Literal["light", "dark", "system"]

SPACE = 8
RADIUS = 8


@dataclass(frozen=True)
class Colours:
    """Every colour of a scheme; text ones keep a contrast of 4.5 with the grounds they stand on."""

    window: str  # behind everything
    surface: str  # text, lists, the welcome card
    sunken: str  # behind a page
    text: str
    muted: str
    line: str
    button: str
    hover: str
    accent: str
    accent_hover: str
    on_accent: str
    link: str
    mark: str  # behind text that is pointed at
    selection: str
    on_selection: str
    danger: str
    danger_ground: str
    disabled: str


LIGHT = Colours(
    window="#f4f5f7",
    surface="#ffffff",
    sunken="#e4e7eb",
    text="#1a2027",
    muted="#55606c",
    line="#d3d8de",
    button="#ffffff",
    hover="#e9ecf0",
    accent="#0b6b75",
    accent_hover="#095962",
    on_accent="#ffffff",
    link="#0b6b75",
    mark="#d5edef",
    selection="#0b6b75",
    on_selection="#ffffff",
    danger="#a3231b",
    danger_ground="#fdeceb",
    disabled="#9aa3ad",
)

DARK = Colours(
    window="#1d2126",
    surface="#262b31",
    sunken="#14171b",
    text="#e8ebee",
    muted="#a5afba",
    line="#3a424b",
    button="#2f353d",
    hover="#3a424b",
    accent="#57c3cf",
    accent_hover="#7bd3dd",
    on_accent="#0a2226",
    link="#6fd0da",
    mark="#1f4a50",
    selection="#2d7e88",
    on_selection="#ffffff",
    danger="#ff9d94",
    danger_ground="#43211f",
    disabled="#69737e",
)

_chosen: Scheme = "system"


def install(app: QApplication) -> None:
    """Dress the application, and again whenever the system changes between light and dark."""
    app.setStyle("Fusion")
    app.styleHints().colorSchemeChanged.connect(lambda _scheme: _dress(app))
    _dress(app)


def set_scheme(scheme: Scheme) -> None:
    """Light, dark, or as the system says."""
    global _chosen
    _chosen = scheme
    wish = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark, "system": Qt.ColorScheme.Unknown}
    app = QApplication.instance()
    app.styleHints().setColorScheme(wish[scheme])  # title bars and native dialogs, where the system can
    _dress(app)


def scheme() -> Scheme:
    return _chosen


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
    app.setStyleSheet(_sheet(now))


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


def _sheet(c: Colours) -> str:
    return f"""
    QToolButton {{ background: {c.button}; color: {c.text}; border: 1px solid {c.line};
        border-radius: {RADIUS - 2}px; padding: 7px 12px; }}
    QToolButton:hover {{ background: {c.hover}; }}
    QToolButton:focus {{ border: 2px solid {c.accent}; padding: 6px 11px; }}
    QToolButton:pressed {{ background: {c.line}; }}
    QToolButton:disabled {{ background: transparent; color: {c.disabled}; }}
    QToolButton[look="primary"] {{ background: {c.accent}; color: {c.on_accent};
        border-color: {c.accent}; }}
    QToolButton[look="primary"]:hover {{ background: {c.accent_hover}; border-color: {c.accent_hover}; }}
    QToolButton[look="primary"]:focus {{ border-color: {c.text}; }}
    QToolButton[look="primary"]:disabled {{ background: transparent; color: {c.disabled};
        border-color: {c.line}; }}
    QToolButton[look="flat"] {{ background: transparent; border-color: transparent; padding: 7px 9px; }}
    QToolButton[look="flat"]:hover {{ background: {c.hover}; }}
    QToolButton[look="flat"]:focus {{ border: 2px solid {c.accent}; padding: 6px 8px; }}
    QLabel[look="muted"] {{ color: {c.muted}; }}
    QFrame[look="card"] {{ background: {c.surface}; border: 2px dashed {c.line};
        border-radius: {2 * RADIUS}px; }}
    QFrame[look="card"] QLabel {{ border: none; }}
    QFrame[look="notice"] {{ background: {c.danger_ground}; border: 1px solid {c.danger};
        border-radius: {RADIUS}px; }}
    QFrame[look="notice"] QLabel {{ color: {c.danger}; border: none; background: transparent; }}
    QLabel[look="veil"] {{ background: {c.surface}; color: {c.link}; border: 3px dashed {c.accent};
        border-radius: {2 * RADIUS}px; }}
    QTextEdit, QListWidget, QGraphicsView {{ border: 1px solid {c.line}; border-radius: {RADIUS}px; }}
    QTextEdit:focus, QListWidget:focus, QGraphicsView:focus {{ border: 1px solid {c.accent}; }}
    QTextEdit {{ background: {c.surface}; padding: {SPACE}px; }}
    QGraphicsView {{ background: {c.sunken}; }}
    QListWidget {{ background: {c.surface}; padding: 4px; outline: none; }}
    QListWidget::item {{ padding: 6px; border-radius: {RADIUS - 3}px; color: {c.text}; }}
    QListWidget::item:hover {{ background: {c.hover}; }}
    QListWidget::item:selected {{ background: {c.mark}; color: {c.text}; }}
    QProgressBar {{ background: {c.line}; border: none; border-radius: 2px; max-height: 4px;
        min-height: 4px; }}
    QProgressBar::chunk {{ background: {c.accent}; border-radius: 2px; }}
    QSplitter::handle {{ background: transparent; }}
    QStatusBar {{ color: {c.muted}; }}
    QStatusBar::item {{ border: none; }}
    QStatusBar QLabel {{ color: {c.muted}; padding: 0 {SPACE}px; }}
    QToolTip {{ color: {c.text}; background: {c.surface}; border: 1px solid {c.line}; padding: 4px; }}
    QMenuBar {{ background: {c.window}; }}
    QScrollBar:vertical {{ background: transparent; width: 12px; margin: 2px; }}
    QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 2px; }}
    QScrollBar::handle {{ background: {c.line}; border-radius: 4px; min-height: 28px; min-width: 28px; }}
    QScrollBar::handle:hover {{ background: {c.disabled}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    """

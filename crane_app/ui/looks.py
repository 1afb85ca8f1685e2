"""The style sheet: how each kind of widget, and each word of the property `look`, is drawn.

Colours come from the table of ui/theme.py alone; what goes with letters is measured by them.
"""

from pathlib import Path

from PySide6.QtWidgets import QApplication

from crane_app.ui.theme import DARK, RADIUS, SPACE, Colours, unit

SIGNS = (Path(__file__).parents[1] / "assets" / "signs").as_posix()


def sheet(c: Colours) -> str:
    """All rules, in these colours and at the size of the letters in use."""
    kind = "dark" if c is DARK else "light"
    plain = (_labels(c), _frames(c), _texts(c), _menus(c), _bars(c))
    return "".join((_buttons(c, kind), _inputs(c, kind), _choices(c, kind), *plain))


def _buttons(c: Colours, kind: str) -> str:
    side = round(unit() * 0.8)
    return f"""
    QToolButton, QPushButton {{ background: {c.button}; color: {c.text}; border: 1px solid {c.line};
        border-radius: {RADIUS - 2}px; padding: 7px 12px; }}
    QToolButton:hover, QPushButton:hover {{ background: {c.hover}; }}
    QToolButton:focus, QPushButton:focus {{ border: 2px solid {c.accent}; padding: 6px 11px; }}
    QToolButton:pressed, QPushButton:pressed {{ background: {c.line}; }}
    QToolButton:checked {{ background: {c.mark}; }}
    QFileDialog QToolButton {{ padding: 3px; }}
    QFileDialog QToolButton:focus {{ padding: 2px; }}
    QToolButton:disabled, QPushButton:disabled {{ background: transparent; color: {c.disabled}; }}
    QToolButton::menu-indicator {{ image: none; }}
    QToolButton[look~="picker"] {{ padding-right: {side + 14}px; }}
    QToolButton[look~="picker"]::menu-indicator {{ image: url("{SIGNS}/down_{kind}.svg"); width: {side}px;
        height: {side}px; subcontrol-origin: padding; subcontrol-position: center right; right: 8px; }}
    QToolButton[look~="primary"], QPushButton:default {{ background: {c.accent}; color: {c.on_accent};
        border-color: {c.accent}; }}
    QToolButton[look~="primary"]:hover, QPushButton:default:hover {{ background: {c.accent_hover};
        border-color: {c.accent_hover}; }}
    QToolButton[look~="primary"]:focus, QPushButton:default:focus {{ border-color: {c.text}; }}
    QToolButton[look~="primary"]:disabled, QPushButton:default:disabled {{ background: transparent;
        color: {c.disabled}; border-color: {c.line}; }}
    QToolButton[look~="danger"] {{ color: {c.danger}; }}
    QToolButton[look~="flat"] {{ background: transparent; border-color: transparent; padding: 7px 9px; }}
    QToolButton[look~="flat"]:hover {{ background: {c.hover}; }}
    QToolButton[look~="flat"]:checked {{ background: {c.mark}; }}
    QToolButton[look~="flat"]:focus {{ border: 2px solid {c.accent}; padding: 6px 8px; }}
    QToolButton[look~="round"] {{ border-radius: 18px; padding: 0; }}
    QToolButton[look~="round"]:focus {{ padding: 0; }}
    QToolButton[look~="round"]:disabled {{ background: {c.hover}; border-color: {c.hover}; }}
    QToolButton[look~="small"] {{ padding: 3px 7px; }}
    QToolButton[look~="small"]:focus {{ padding: 2px 6px; }}
    QToolButton[look~="view"] {{ background: transparent; border-color: transparent; color: {c.muted};
        padding: 8px 11px; border-radius: {RADIUS}px; }}
    QToolButton[look~="view"]:hover {{ background: {c.hover}; color: {c.text}; }}
    QToolButton[look~="view"]:checked {{ background: {c.mark}; color: {c.text}; }}
    QToolButton[look~="view"]:focus {{ border: 2px solid {c.accent}; padding: 7px 10px; }}
    """


def _labels(c: Colours) -> str:
    points = QApplication.font().pointSizeF()
    return f"""
    QLabel[look~="title"] {{ font-size: {points * 1.7:.1f}pt; font-weight: 700; }}
    QLabel[look~="heading"] {{ font-size: {points * 1.2:.1f}pt; font-weight: 600; }}
    QLabel[look~="lead"] {{ font-size: {points * 1.1:.1f}pt; }}
    QLabel[look~="small"] {{ font-size: {points * 0.9:.1f}pt; }}
    QLabel[look~="strong"] {{ font-weight: 600; }}
    QLabel[look~="muted"] {{ color: {c.muted}; }}
    QLabel[look~="good"] {{ color: {c.good}; }}
    QLabel[look~="warning"] {{ color: {c.warning}; }}
    QLabel[look~="danger"] {{ color: {c.danger}; }}
    QLabel[look~="chip"] {{ background: {c.chip}; color: {c.text}; border-radius: {RADIUS - 2}px; padding: 4px 10px; }}
    QLabel[look~="veil"] {{ background: {c.surface}; color: {c.link}; border: 3px dashed {c.accent};
        border-radius: {2 * RADIUS}px; font-size: {points * 1.7:.1f}pt; font-weight: 700; }}
    """


def _frames(c: Colours) -> str:
    return f"""
    QFrame[look~="card"] {{ background: {c.surface}; border: 2px dashed {c.line};
        border-radius: {2 * RADIUS}px; }}
    QFrame[look~="panel"] {{ background: {c.surface}; border: 1px solid {c.line}; border-radius: {RADIUS + 4}px; }}
    QFrame[look~="bubble"] {{ background: {c.bubble}; border: none; border-radius: {RADIUS + 4}px; }}
    QFrame[look~="composer"] {{ background: {c.surface}; border: 1px solid {c.edge};
        border-radius: {2 * RADIUS}px; }}
    QFrame[look~="chip"] {{ background: {c.chip}; border: none; border-radius: {RADIUS - 2}px; }}
    QFrame[look~="side"] {{ background: {c.surface}; border: none; border-left: 1px solid {c.line}; }}
    QFrame[look~="code"] {{ background: {c.code}; border: 1px solid {c.line}; border-radius: {RADIUS}px; }}
    QFrame[look~="card"] QLabel, QFrame[look~="panel"] QLabel, QFrame[look~="bubble"] QLabel,
    QFrame[look~="chip"] QLabel {{ border: none; }}
    QFrame[look~="notice"] {{ background: {c.danger_ground}; border: 1px solid {c.danger};
        border-radius: {RADIUS}px; }}
    QFrame[look~="notice"] QLabel {{ color: {c.danger}; border: none; background: transparent; }}
    QFrame[look~="sidebar"] {{ background: {c.sidebar}; border: none; border-right: 1px solid {c.line}; }}
    QFrame[look~="toolbar"] {{ background: {c.window}; border: none; border-bottom: 1px solid {c.line}; }}
    QFrame[look~="rule"] {{ background: {c.line}; border: none; }}
    QScrollArea {{ border: none; }}
    QGraphicsView {{ background: {c.sunken}; border: 1px solid {c.line}; border-radius: {RADIUS}px; }}
    QGraphicsView:focus {{ border: 1px solid {c.accent}; }}
    QSplitter::handle {{ background: transparent; }}
    QToolTip {{ color: {c.text}; background: {c.surface}; border: 1px solid {c.line}; padding: 4px; }}
    """


def _texts(c: Colours) -> str:
    return f"""
    QTextEdit, QPlainTextEdit, QListView, QTreeView, QTableView {{ background: {c.surface};
        border: 1px solid {c.line}; border-radius: {RADIUS}px; }}
    QTextEdit:focus, QPlainTextEdit:focus, QListView:focus, QTreeView:focus, QTableView:focus {{
        border: 1px solid {c.accent}; }}
    QTextEdit, QPlainTextEdit {{ padding: {SPACE}px; }}
    QPlainTextEdit[look~="reading"] {{ font-size: {QApplication.font().pointSizeF() * 1.1:.1f}pt; }}
    QPlainTextEdit[look~="field"], QListView[look~="field"] {{ border-color: {c.edge}; }}
    QPlainTextEdit[look~="field"]:focus, QListView[look~="field"]:focus {{ border-color: {c.accent}; }}
    QTextEdit[look~="plain"], QPlainTextEdit[look~="plain"], QListView[look~="plain"] {{ background: transparent;
        border: none; padding: 0; }}
    QListView, QTreeView {{ padding: 4px; outline: none; }}
    QListView::item, QTreeView::item {{ padding: 6px; border-radius: {RADIUS - 3}px; color: {c.text}; }}
    QListView::item:hover, QTreeView::item:hover {{ background: {c.hover}; }}
    QListView::item:selected, QTreeView::item:selected {{ background: {c.mark}; color: {c.text}; }}
    QHeaderView::section {{ background: {c.window}; color: {c.muted}; border: none; padding: 6px; }}
    """


def _inputs(c: Colours, kind: str) -> str:
    side = round(unit() * 0.8)
    return f"""
    QLineEdit, QComboBox, QAbstractSpinBox {{ background: {c.surface}; color: {c.text}; border: 1px solid {c.edge};
        border-radius: {RADIUS - 2}px; padding: 6px 10px; selection-background-color: {c.selection};
        selection-color: {c.on_selection}; }}
    QLineEdit {{ placeholder-text-color: {c.muted}; }}
    QLineEdit:focus, QComboBox:focus, QAbstractSpinBox:focus {{ border: 2px solid {c.accent}; padding: 5px 9px; }}
    QLineEdit:disabled, QComboBox:disabled, QAbstractSpinBox:disabled {{ color: {c.disabled};
        background: transparent; border-color: {c.line}; }}
    QComboBox QLineEdit, QAbstractSpinBox QLineEdit {{ border: none; padding: 0; background: transparent; }}
    QComboBox::drop-down {{ border: none; width: {side + 14}px; }}
    QComboBox::down-arrow {{ image: url("{SIGNS}/down_{kind}.svg"); width: {side}px; height: {side}px; }}
    QComboBox QAbstractItemView {{ background: {c.surface}; border: 1px solid {c.edge}; outline: none; padding: 4px;
        selection-background-color: {c.mark}; selection-color: {c.text}; }}
    QAbstractSpinBox::up-button, QAbstractSpinBox::down-button {{ border: none; background: transparent;
        width: {side + 10}px; subcontrol-origin: border; }}
    QAbstractSpinBox::up-button {{ subcontrol-position: top right; top: 3px; }}
    QAbstractSpinBox::down-button {{ subcontrol-position: bottom right; bottom: 3px; }}
    QAbstractSpinBox::up-arrow {{ image: url("{SIGNS}/up_{kind}.svg"); width: {side}px; height: {side}px; }}
    QAbstractSpinBox::down-arrow {{ image: url("{SIGNS}/down_{kind}.svg"); width: {side}px; height: {side}px; }}
    """


def _choices(c: Colours, kind: str) -> str:
    side, knob = round(unit() * 0.95), round(unit() * 0.95) // 2 * 2
    return f"""
    QCheckBox, QRadioButton {{ spacing: {SPACE}px; padding: 3px; border: 2px solid transparent;
        border-radius: {RADIUS - 2}px; }}
    QCheckBox:focus, QRadioButton:focus {{ border-color: {c.accent}; }}
    QCheckBox::indicator, QRadioButton::indicator {{ width: {side}px; height: {side}px; background: {c.surface};
        border: 1px solid {c.edge}; border-radius: 4px; }}
    QRadioButton::indicator {{ border-radius: {(side + 2) // 2}px; }}
    QCheckBox::indicator:hover, QRadioButton::indicator:hover {{ border-color: {c.accent}; }}
    QCheckBox::indicator:checked, QRadioButton::indicator:checked {{ background: {c.accent};
        border-color: {c.accent}; }}
    QCheckBox::indicator:checked {{ image: url("{SIGNS}/check_{kind}.svg"); }}
    QRadioButton::indicator:checked {{ image: url("{SIGNS}/dot_{kind}.svg"); }}
    QCheckBox::indicator:disabled, QRadioButton::indicator:disabled {{ background: {c.hover};
        border-color: {c.line}; }}
    QSlider {{ min-height: {knob + 8}px; border: 2px solid transparent; border-radius: {RADIUS - 2}px; }}
    QSlider:focus {{ border-color: {c.accent}; }}
    QSlider::groove:horizontal {{ height: 4px; border-radius: 2px; background: {c.edge}; }}
    QSlider::sub-page:horizontal {{ background: {c.accent}; border-radius: 2px; }}
    QSlider::handle:horizontal {{ width: {knob}px; height: {knob}px; margin: -{(knob - 4) // 2}px 0;
        border-radius: {knob // 2}px; background: {c.accent}; }}
    QSlider::handle:horizontal:disabled, QSlider::sub-page:horizontal:disabled {{ background: {c.disabled}; }}
    """


def _menus(c: Colours) -> str:
    return f"""
    QMenuBar {{ background: {c.sidebar}; color: {c.text}; border-bottom: 1px solid {c.line}; padding: 2px 4px; }}
    QMenuBar::item {{ background: transparent; padding: 5px 10px; border-radius: {RADIUS - 3}px; }}
    QMenuBar::item:selected, QMenuBar::item:pressed {{ background: {c.hover}; }}
    QMenu {{ background: {c.surface}; color: {c.text}; border: 1px solid {c.edge}; padding: 5px; }}
    QMenu::item {{ padding: 6px 26px 6px 12px; border-radius: {RADIUS - 3}px; }}
    QMenu::item:selected {{ background: {c.mark}; color: {c.text}; }}
    QMenu::item:disabled {{ color: {c.disabled}; }}
    QMenu::icon {{ padding-left: 10px; }}
    QMenu::separator {{ height: 1px; background: {c.line}; margin: 5px 8px; }}
    QStatusBar {{ background: {c.sidebar}; color: {c.muted}; border-top: 1px solid {c.line}; }}
    QStatusBar::item {{ border: none; }}
    QStatusBar QLabel {{ color: {c.muted}; }}
    QStatusBar QLabel[look~="danger"] {{ color: {c.danger}; }}
    """


def _bars(c: Colours) -> str:
    return f"""
    QProgressBar {{ background: {c.line}; border: none; border-radius: 2px; max-height: 4px;
        min-height: 4px; }}
    QProgressBar::chunk {{ background: {c.accent}; border-radius: 2px; }}
    QScrollBar:vertical {{ background: transparent; width: 12px; margin: 2px; }}
    QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 2px; }}
    QScrollBar::handle {{ background: {c.edge}; border-radius: 4px; min-height: 28px; min-width: 28px; }}
    QScrollBar::handle:hover {{ background: {c.disabled}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    """

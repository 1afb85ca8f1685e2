"""What a person does to a view, and sees of it."""

from pathlib import Path

from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import (
    QColor,
    QGuiApplication,
    QImage,
)
from PySide6.QtWidgets import QToolButton

A, B, C = Path("/files/a.png"), Path("/files/b.pdf"), Path("/files/c d 🐦.tif")


def done(view):
    return view.queue.reading is None


def clipboard() -> str:
    return QGuiApplication.clipboard().text()


def files(*paths) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def picture() -> QMimeData:
    data, image = QMimeData(), QImage(30, 20, QImage.Format.Format_RGB32)
    image.fill(QColor("white"))
    data.setImageData(image)
    return data


def button(view, name) -> QToolButton:
    """The button that can be seen, of those for an action."""
    every = view.findChildren(QToolButton, name)
    return next((each for each in every if each.isVisible()), every[0])


def press(qtbot, where, key, modifier=Qt.KeyboardModifier.ControlModifier):
    qtbot.keyClick(where, key, modifier)

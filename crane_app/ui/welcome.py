"""What the picture view shows before there is a picture: what to do first, and a promise."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QIcon
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from crane_app.ui import theme
from crane_app.ui.parts import button

ICON_SIDE = 96


class Welcome(QScrollArea):
    """A card to drop things on; scrolls where letters are large and the window is small."""

    def __init__(self, icon: QIcon, open_action: QAction, paste_action: QAction):
        super().__init__()
        card = QFrame()
        card.setProperty("look", "card")
        picture = QLabel()
        picture.setPixmap(icon.pixmap(ICON_SIDE, ICON_SIDE))
        title = QLabel(self.tr("Drop a picture or a PDF here"))
        title.setProperty("look", "title")
        hint = QLabel(self.tr("Its text appears beside it, ready to copy."))
        hint.setProperty("look", "lead")
        promise = QLabel(self.tr("It is read on this machine. Nothing is sent anywhere."))
        promise.setProperty("look", "muted")

        buttons = QHBoxLayout()
        buttons.setSpacing(theme.SPACE)
        buttons.addStretch()
        buttons.addWidget(button(open_action, look="primary"))
        buttons.addWidget(button(paste_action))
        buttons.addStretch()

        inside = QVBoxLayout(card)
        inside.setContentsMargins(*[5 * theme.SPACE] * 4)
        inside.setSpacing(theme.SPACE)
        inside.addStretch()
        for label in (picture, title, hint):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(label is not picture)
            inside.addWidget(label)
        inside.addSpacing(2 * theme.SPACE)
        inside.addLayout(buttons)
        inside.addSpacing(2 * theme.SPACE)
        promise.setAlignment(Qt.AlignmentFlag.AlignCenter)
        promise.setWordWrap(True)
        inside.addWidget(promise)
        inside.addStretch()

        ground = QWidget()
        around = QVBoxLayout(ground)
        around.setContentsMargins(*[3 * theme.SPACE] * 4)
        around.addWidget(card)
        self.setWidget(ground)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName(self.tr("Welcome"))

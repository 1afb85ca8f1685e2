"""A view that remembers what the window asked of it."""

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QLineEdit, QPushButton, QSplitter, QVBoxLayout, QWidget

from crane_app.ui.view import View


class Probe(View):
    """`wants` says what it does with a drop; `asked` is what happened, in order."""

    def __init__(self, name: str, wants=lambda data: ""):
        super().__init__()
        self.name, self.wants, self.asked, self.folder = name, wants, [], ""
        self.field = QLineEdit()
        self.field.setAccessibleName("Field")
        self.splitter = QSplitter()
        for pane in (QWidget(), QWidget()):
            pane.setMinimumWidth(40)
            self.splitter.addWidget(pane)
        column = QVBoxLayout(self)
        for part in (self.field, QPushButton("Button"), self.splitter):
            column.addWidget(part)
        self.stop_action = self.action("stop", "&Stop", lambda: self.asked.append("stop"), "Esc")
        self.open_action = self.action("open", "&Open", lambda: self.asked.append("open"), QKeySequence("Ctrl+O"))

    def commands(self):
        return {"file": [self.open_action, self.stop_action]}

    def offer(self, data):
        return self.wants(data)

    def take(self, data):
        self.asked.append(("take", [url.toLocalFile() for url in data.urls()]))
        return bool(self.wants(data))

    def receive(self, what):
        self.asked.append(("receive", what))

    def enter(self):
        self.asked.append("enter")
        self.field.setFocus()

    def leave(self):
        self.asked.append("leave")

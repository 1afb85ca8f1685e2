"""A small window whose whole ground can be dragged: it carries the files named on the command line."""

import sys

from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QDrag
from PySide6.QtWidgets import QApplication, QWidget


class Source(QWidget):
    def mouseMoveEvent(self, event) -> None:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(path) for path in sys.argv[1:]])
        drag = QDrag(self)
        drag.setMimeData(data)
        drag.exec(Qt.DropAction.CopyAction)
        QApplication.quit()


app = QApplication([])
source = Source()
source.setWindowTitle("Crane test drag source")
source.setWindowFlag(Qt.WindowType.X11BypassWindowManagerHint)
source.setGeometry(0, 0, 60, 60)
source.show()
source.raise_()
app.exec()

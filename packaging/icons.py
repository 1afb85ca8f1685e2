"""The program's icon in each system's form: PNGs for Linux, .icns for macOS, .ico for Windows.

All are drawn from assets/icon.svg. `python packaging/icons.py FOLDER` writes them there.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "crane_app" / "assets" / "icon.svg"
LINUX = (16, 24, 32, 48, 64, 128, 256, 512)  # pixels; the sizes of the hicolor theme
MACOS = (16, 32, 64, 128, 256, 512, 1024)
WINDOWS = (16, 20, 24, 32, 40, 48, 64, 256)


def write(folder: Path) -> None:
    """Write hicolor/, crane.icns and crane.ico into `folder`."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PIL import Image

    drawn = {size: Image.open(io.BytesIO(_drawn(size))) for size in {*LINUX, *MACOS, *WINDOWS}}
    for size in LINUX:
        target = folder / "hicolor" / f"{size}x{size}" / "apps" / "crane.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        drawn[size].save(target, optimize=True)
    scalable = folder / "hicolor" / "scalable" / "apps" / "crane.svg"
    scalable.parent.mkdir(parents=True, exist_ok=True)
    scalable.write_bytes(PICTURE.read_bytes())
    drawn[MACOS[-1]].save(folder / "crane.icns", append_images=[drawn[size] for size in MACOS[:-1]])
    rest = [drawn[size] for size in WINDOWS[:-1]]
    drawn[WINDOWS[-1]].save(folder / "crane.ico", sizes=[(size, size) for size in WINDOWS], append_images=rest)


def _drawn(size: int) -> bytes:
    """A PNG of size x size pixels."""
    from PySide6.QtCore import QBuffer, Qt
    from PySide6.QtGui import QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(Qt.GlobalColor.transparent)
    painter = QPainter(image)
    QSvgRenderer(str(PICTURE)).render(painter)
    painter.end()
    buffer = QBuffer()
    buffer.open(QBuffer.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(buffer.data())


if __name__ == "__main__":
    write(Path(sys.argv[1]))

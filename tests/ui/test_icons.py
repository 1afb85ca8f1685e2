import pytest
from PySide6.QtCore import QSize

from crane_app.ui import theme
from crane_app.ui.icons import FOLDER, icon


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_an_icon_is_as_sharp_as_the_screen(qapp, scale):
    # WHEN an icon of 16 pixels is drawn for a screen of a scale
    pixmap = icon("chat").pixmap(QSize(16, 16), scale)
    # THEN it has the screen's own pixels, and fills them to the edge of its form
    assert pixmap.width() == round(16 * scale)
    assert pixmap.devicePixelRatio() == scale
    image = pixmap.toImage()
    columns = [x for x in range(image.width()) if any(image.pixelColor(x, y).alpha() for y in range(image.height()))]
    assert columns[-1] >= image.width() * 0.7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_icon_takes_the_colour_of_the_scheme_in_use(qapp, scheme):
    drawn = icon("chat", "accent")
    theme.set_scheme(scheme)
    image = drawn.pixmap(QSize(24, 24), 2.0).toImage()
    colours = {
        image.pixelColor(x, y).name() for x in range(48) for y in range(48) if image.pixelColor(x, y).alpha() == 255
    }
    assert theme.colours().accent in colours


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def test_every_icon_is_drawn(qapp, path):
    image = icon(path.stem).pixmap(QSize(24, 24), 1.0).toImage()
    assert any(image.pixelColor(x, y).alpha() > 200 for x in range(24) for y in range(24))


def test_a_name_without_a_file_is_told_at_once(qapp):
    with pytest.raises(FileNotFoundError):
        icon("no such icon")

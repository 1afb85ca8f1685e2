import numpy as np
import pytest
from PySide6.QtGui import QImage

from crane_app.ui.sheets import LONGEST_SIDE, sheet


@pytest.mark.parametrize(("height", "width"), [(10, 7), (1, 1), (40, 3001), (4000, 500)])
def test_a_sheet_keeps_the_size_of_its_page_and_fits_the_screen(height, width):
    # GIVEN a page whose left half is red
    image = np.full((height, width, 3), 255, np.uint8)
    image[:, : width // 2] = (255, 0, 0)
    # WHEN it becomes a sheet
    made = sheet(3, 9, image)
    # THEN it says the page's own size; its picture is no larger than a screen needs, and shows the same
    assert (made.page, made.count, made.width, made.height) == (3, 9, width, height)
    picture = QImage.fromData(made.picture)
    assert max(picture.width(), picture.height()) == min(max(height, width), LONGEST_SIDE)
    if width > 3:
        assert picture.pixelColor(0, 0).red() > 200 > 100 > picture.pixelColor(0, 0).green()
        assert picture.pixelColor(picture.width() - 1, 0).green() > 200


def test_a_sheet_takes_pixels_that_are_a_view_of_others():
    # GIVEN every second column of an image, mirrored
    image = np.zeros((20, 30, 3), np.uint8)[:, ::-2]
    # THEN it is taken as any other
    assert QImage.fromData(sheet(1, 1, image).picture).size().toTuple() == (15, 20)

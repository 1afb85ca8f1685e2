"""Reading as real processes, with a reader that finds on each page its number, slowly.

`slow_reader.py read FOLDER FILE`: what the window does; prints each page as it is read.
`slow_reader.py [engine flags]`: the engine. SLOW_DEATHS ("page:times") says which page kills it how often, SLOW_LOG
where it notes each page that it begins.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from crane_app.media.reader import Line


def number_of(image: np.ndarray) -> int:
    """The page's number, from its width: see pdf_of."""
    return round(image.shape[1] * 72 / 200) - 36


def pdf_of(count: int) -> bytes:
    """A PDF whose page n is 36 + n points wide."""
    import io

    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    for number in range(1, count + 1):
        document.new_page(36 + number, 36)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


class Slow:
    def lines(self, image: np.ndarray) -> list[Line]:
        number = number_of(image)
        self.begun(number)
        time.sleep(0.005)
        return [Line(f"page {number}", ((0, 0), (90, 0), (90, 20), (0, 20)), 0.9)]

    def begun(self, number: int) -> None:
        print(number, flush=True)


class Deadly(Slow):
    """Kills its process at some pages. What it has begun is in a file that outlives it."""

    def begun(self, number: int) -> None:
        log = Path(os.environ["SLOW_LOG"])
        with log.open("a") as file:
            file.write(f"{number}\n")
        page, _, times = os.environ.get("SLOW_DEATHS", "0:0").partition(":")
        if number == int(page) and log.read_text().split().count(page) <= int(times):
            time.sleep(0.1)  # so that the pages before are on their way
            os.kill(os.getpid(), signal.SIGKILL)


def read(folder: Path, file: Path) -> None:
    from crane_app.engine.reading import Here
    from crane_app.library.pages import Pages
    from crane_app.pipelines.kept_reading import KeptReading

    for _ in KeptReading(Here(Slow()), Pages(folder)).read(file):
        pass


def serve(flags: list[str]) -> None:
    from crane_app.engine import models
    from crane_app.engine.process import child

    models.Resting = type("Resting", (Deadly, models.Resting), {})
    child.leave(child.main(flags))


if __name__ == "__main__":
    read(Path(sys.argv[2]), Path(sys.argv[3])) if sys.argv[1] == "read" else serve(sys.argv[1:])

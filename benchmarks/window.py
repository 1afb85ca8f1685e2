"""Whether the window ever stands still: the gaps of a 10 ms timer while messages stream, are hostile or are resized.

    python -m benchmarks.window [--seconds 20] [--only stream hostile resize]

Offscreen. `stream`: 200 tokens/s of Markdown into a transcript that holds a conversation of 4,000 words. `hostile`:
each document of benchmarks/_hostile.py shown at once, then scrolled through. `resize`: the conversation at 50 widths.
Prints JSON with the largest gap, the 99th percentile and how many were longer than 50 ms, by the clock and by the
thread's own time; what other programs take shows in the clock only. Exits with 1 where the clock saw such a gap.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QCoreApplication, QElapsedTimer, QEvent, Qt, QTimer
from PySide6.QtWidgets import QApplication

from benchmarks._hostile import DOCUMENTS
from crane_app.ui import theme
from crane_app.ui.chat.transcript import Transcript
from crane_app.ui.markdown.view import MarkdownView

LIMIT = 50.0  # milliseconds
EVERY = 10  # milliseconds
TOKENS = 200  # a second
WORDS = 4000

ANSWER = """## How a crane lifts

A **crane** is a *machine* that moves loads with a `hook`, a rope and a [boom](https://example.org/boom). It has a
counterweight, so that the moment of the load never grows larger than what the tower can bear.

1. Fasten the load, and check it twice.
2. Lift it by a hand's breadth and wait.
   - Does it turn? Then turn it back.
   - Does it slip? Then let it down.
3. Move it slowly, with the wind in mind.

| Part | Weight | Task |
|:-----|-------:|:-----|
| Boom | 2.3 t | carries the rope |
| Tower | 14.1 t | carries the **boom** |
| Ballast | 9.8 t | keeps both upright |

```python
def moment(load: float, reach: float) -> float:
    # kilonewton metres
    return 9.81 * load * reach

print(f"{moment(2.5, 30):.1f} kNm")
```

> A load in the air is a promise: keep it short.

- [x] Read the table
- [ ] Ask for more

"""


class Probe:
    """Notes how long a timer of EVERY milliseconds had to wait, by the clock and by the thread's own time."""

    def __init__(self) -> None:
        self.gaps: list[tuple[float, float]] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._note)
        self._last = (time.perf_counter(), time.thread_time())
        self._timer.start(EVERY)

    def _note(self) -> None:
        now = (time.perf_counter(), time.thread_time())
        self.gaps.append((1e3 * (now[0] - self._last[0]), 1e3 * (now[1] - self._last[1])))
        self._last = now

    def stop(self) -> dict[str, Any]:
        self._timer.stop()
        found: dict[str, Any] = {}
        for name, gaps in zip(("wall", "thread"), zip(*self.gaps, strict=True), strict=True):
            ordered = sorted(gaps)
            found[name] = {
                "max_ms": round(ordered[-1], 1),
                "p99_ms": round(ordered[int(0.99 * (len(ordered) - 1))], 1),
                f"over_{LIMIT:.0f}_ms": sum(gap > LIMIT for gap in gaps),
            }
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to stream")
    parser.add_argument("--only", nargs="+", choices=["stream", "hostile", "resize"], default=[])
    args = parser.parse_args()
    app = QApplication.instance() or QApplication([])
    theme.install(app)
    wanted = args.only or ["stream", "hostile", "resize"]
    found: dict[str, Any] = {}
    if "stream" in wanted:
        found["stream"] = streamed(args.seconds)
    if "hostile" in wanted:
        found |= {f"hostile: {name}": hostile(text) for name, text in DOCUMENTS.items()}
    if "resize" in wanted:
        found["resize"] = resized()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    print(json.dumps({"machine": machine, "limit_ms": LIMIT, "gaps": found}, indent=1))
    return int(any(one["wall"]["max_ms"] > LIMIT for one in found.values()))


def streamed(seconds: float) -> dict[str, Any]:
    """Tokens of four characters into the last message."""
    transcript = conversation()
    view = MarkdownView("Answer")
    transcript.add(view)
    probe, clock = Probe(), QElapsedTimer()
    clock.start()
    sent = 0

    def send() -> None:
        nonlocal sent
        due = int(clock.elapsed() * TOKENS / 1000)
        for token in range(sent, due):
            start = 4 * token % (len(ANSWER) - 4)
            view.append(ANSWER[start : start + 4])
        sent = due

    timer = QTimer()
    timer.timeout.connect(send)
    timer.start(1000 // TOKENS)
    turn(lambda: clock.elapsed() > 1000 * seconds)
    timer.stop()
    view.finish()
    turn(lambda: not view.busy())
    found = probe.stop()
    discard(transcript)
    return found | {"characters": len(view.text())}


def hostile(text: str) -> dict[str, Any]:
    transcript = shown()
    probe = Probe()
    view = MarkdownView("Answer")
    transcript.add(view)
    view.set_text(text)
    turn(lambda: not view.busy())
    bar = transcript.verticalScrollBar()
    for step in range(40):
        bar.setValue(bar.maximum() * step // 40)
        turn_for(20)
    found = probe.stop()
    discard(transcript)
    return found


def resized() -> dict[str, Any]:
    transcript = conversation()
    bar = transcript.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    probe = Probe()
    for step in range(50):
        transcript.resize(500 + 12 * (step * 17 % 50), 700)
        turn_for(30)
    found = probe.stop()
    discard(transcript)
    return found


def conversation() -> Transcript:
    """Messages of WORDS words together, all laid out."""
    transcript = shown()
    for _ in range(1 + WORDS // len(ANSWER.split())):
        view = MarkdownView("Answer")
        transcript.add(view)
        view.set_text(ANSWER)
        view.finish()
    turn(lambda: not any(view.busy() for view in transcript.widgets()))
    turn_for(300)
    return transcript


def shown() -> Transcript:
    transcript = Transcript()
    transcript.resize(900, 700)
    transcript.show()
    turn_for(50)
    return transcript


def discard(transcript: Transcript) -> None:
    """Destroy it, so that what it held does not weigh on what is measured next."""
    transcript.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()


def turn(until: Callable[[], bool]) -> None:
    """Turn the event loop until something is so."""
    while not until():
        QCoreApplication.processEvents()
        time.sleep(0.0005)


def turn_for(milliseconds: int) -> None:
    clock = QElapsedTimer()
    clock.start()
    turn(lambda: clock.elapsed() > milliseconds)


if __name__ == "__main__":
    sys.exit(main())

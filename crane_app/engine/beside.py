"""What is loaded in a process beside an engine's models: in the engine's own, and in that of a client."""

from __future__ import annotations

from crane_app.engine.request import Holding
from crane_app.media import vad


def here() -> tuple[Holding, ...]:
    """What finds where somebody speaks; it is there for as long as somebody listens."""
    return (Holding("voice finder", "voice", "cpu", vad.held(), busy=True),) if vad.held() else ()

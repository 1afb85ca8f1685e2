"""macOS: caffeinate(8) comes with it; -i keeps the system from idle sleep, the screen may go dark."""

from __future__ import annotations

from crane_app.platform.wakefulness.process import HeldByProcess, started


def hold(why: str) -> HeldByProcess | None:
    """caffeinate takes no reason."""
    return started("caffeinate", "-i")

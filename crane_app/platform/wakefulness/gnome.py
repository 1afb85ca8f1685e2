"""GNOME: its session decides when to suspend, and asks its own list of reasons first (gnome-session-inhibit(1))."""

from __future__ import annotations

import os

from crane_app.platform.wakefulness.process import HeldByProcess, started


def hold(why: str) -> HeldByProcess | None:
    """None on other desktops, where the program may be installed and does nothing."""
    if "GNOME" not in os.environ.get("XDG_CURRENT_DESKTOP", "").upper().split(":"):
        return None
    return started("gnome-session-inhibit", "--app-id", "crane", "--reason", why, "--inhibit", "idle:suspend")

"""Linux with systemd: an idle lock of logind, held by systemd-inhibit(1)."""

from __future__ import annotations

from crane_app.platform.wakefulness.process import HeldByProcess, started


def hold(why: str) -> HeldByProcess | None:
    return started("systemd-inhibit", "--what=idle", "--mode=block", "--who=Crane", f"--why={why}")

"""Whom this computer meets because of Crane: nobody, the place that models come from, or its server's clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.platform.addresses import is_loopback
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.server.serving import Serving


@dataclass(frozen=True)
class Contact:
    """words: for the line at the bottom, "" for nobody; details: all of it; drawing: the icon beside it."""

    words: str = ""
    details: str = ""
    drawing: str = ""


class Contacts(QObject):
    """Follows the downloads and the server of the window that has these preferences."""

    changed = Signal()

    def __init__(self, preferences: Any):
        super().__init__(preferences)
        self._downloads, self._serving = Downloads.of(preferences), Serving.of(preferences)
        self._downloads.changed.connect(lambda _repo: self.changed.emit())
        self._serving.changed.connect(self.changed)

    def now(self) -> Contact:
        """Both, where both are; the network's computers first."""
        found = [each for each in (self._clients(), self._origin()) if each is not None]
        if not found:
            return Contact()
        words, details = ", ".join(each.words for each in found), " ".join(each.details for each in found)
        return Contact(words, details, found[0].drawing)

    def _clients(self) -> Contact | None:
        now = self._serving.now
        if not now.url or is_loopback(self._serving.plan.host):
            return None
        details = self.tr("The server is on for the whole network: who has the key can use your models at {url}.")
        return Contact(self.tr("Open to the network"), details.format(url=now.url), "server")

    def _origin(self) -> Contact | None:
        fetching = self._downloads.fetching()
        if not fetching:
            return None
        hosts = ", ".join(dict.fromkeys(fetching.values()))
        details = self.tr(
            "{names} comes from {hosts} and the computers it names, which learn which model you fetch and your "
            "address on the network. Nothing of yours is sent."
        )
        words = self.tr("Downloading from {hosts}").format(hosts=hosts)
        return Contact(words, details.format(names=", ".join(fetching), hosts=hosts), "download")

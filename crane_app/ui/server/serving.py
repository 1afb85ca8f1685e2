"""The server as the window sees it: started and watched on a thread, what it does told by signals. No widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from crane_app.pipelines.serving import Plan, Served, Server
from crane_app.ui.worker import Worker, sentence


class Serving(QObject):
    """now: the server at this moment; plan: what it was started with. `of` gives the one that all parts share."""

    changed = Signal()

    def __init__(self, preferences: Any, make: Callable[[], Any] = Server):
        """make: a pipelines.serving.Server, for tests that want another."""
        super().__init__(preferences)
        self.now, self.plan = Served(), Plan("")
        self._make = make
        self._server: Any = None
        self._worker: Worker | None = None
        self._next: Plan | None = None  # to be started with when this one has ended
        self._stopping = self._closed = False

    @classmethod
    def of(cls, preferences: Any) -> Serving:
        """The one that belongs to these preferences, made when first asked for."""
        return preferences.findChild(cls) or cls(preferences)

    @property
    def under_way(self) -> bool:
        """There is a server, be it only just starting or ending."""
        return self._server is not None

    def start(self, plan: Plan) -> None:
        """Nothing where one is under way."""
        if self.under_way or self._closed:
            return
        self.plan, self._server = plan, self._make()
        self._worker = Worker(self._server.run(plan), after=self._worker)
        self._worker.yielded.connect(self._seen)
        self._worker.returned.connect(lambda _: self._over())
        self._worker.failed.connect(self._failed)
        self._worker.start()
        self._seen(Served("starting"))

    def stop(self) -> None:
        """Let what is under way come to its end; asked again, end at once."""
        self._next = None
        if self._server is not None:
            self._stopping = True
            self._server.stop()

    def restart(self, plan: Plan) -> None:
        """Serve this as soon as what there is has come to its end."""
        if not self.under_way:
            self.start(plan)
            return
        if not self._stopping:
            self.stop()
        self._next = plan

    def close(self) -> None:
        """The window closes: the server goes with it, after a moment for what is under way."""
        self._closed = True
        self.stop()
        if self._worker is not None:
            self._worker.cancel()

    def _seen(self, now: Served) -> None:
        if now != self.now:
            self.now = now
            self.changed.emit()

    def _failed(self, error: Exception) -> None:
        self._seen(Served("failed", sentence=sentence(error), fault="died"))
        self._over()

    def _over(self) -> None:
        self._server, self._stopping = None, False
        following, self._next = self._next, None
        self.changed.emit()
        if following is not None:
            self.start(following)

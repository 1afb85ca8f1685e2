"""The downloads of the window: which run, wait or failed, by the model's id. No widgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from PySide6.QtCore import QObject, Signal

from crane_app.errors import CraneError
from crane_app.library import hub_cache, notes
from crane_app.ui.worker import Worker, sentence


class Downloads(QObject):
    """Starts, pauses and gives up; `of` gives the one that all views share."""

    changed = Signal(str)  # a model's id; "" for several
    finished = Signal(str, str)  # a model's id, and its folder

    def __init__(self, preferences: Any, make: Callable[[str], Any] | None = None):
        """make: a library.downloads.Download of an id, for tests that want another."""
        super().__init__(preferences)
        self._preferences, self._make = preferences, make or self._download
        self._running: dict[str, tuple[Any, Worker]] = {}
        self._last: dict[str, Worker] = {}  # of each id, since a paused one may take a moment to end
        self._hosts: dict[str, str] = {}
        self._news: dict[str, Any] = {}
        self._errors: dict[str, str] = {}
        self.waiting: dict[str, notes.Unfinished] = {}
        self.speed = 0.0  # bytes a second, as last measured
        self._looking: Worker | None = None

    @classmethod
    def of(cls, preferences: Any) -> Downloads:
        """The one that belongs to these preferences, made when first asked for."""
        return preferences.findChild(cls) or cls(preferences)

    def rescan(self) -> None:
        """Find the downloads that an earlier window did not finish."""
        self._looking = Worker(_every())
        self._looking.returned.connect(self._seen)
        self._looking.start()

    def running(self, repo: str) -> bool:
        return repo in self._running

    def fetching(self) -> dict[str, str]:
        """Ids of those that run, and the name of the computer that each comes from."""
        return {repo: self._hosts[repo] for repo in self._running}

    def news(self, repo: str) -> Any:
        """The last library.downloads.Progress of a running one; None before the first."""
        return self._news.get(repo)

    def error(self, repo: str) -> str:
        """Why it failed; "" if it did not."""
        return self._errors.get(repo, "")

    def known(self) -> list[str]:
        """Ids that run, wait or failed, in the order they came."""
        return list(dict.fromkeys([*self.waiting, *self._running, *self._errors]))

    def start(self, repo: str) -> None:
        """Begin, or go on; nothing where it runs."""
        if repo in self._running:
            return
        self._errors.pop(repo, None)
        try:
            self._hosts[repo] = urlsplit(self._where().endpoint).hostname or ""
            download = self._make(repo)
        except CraneError as error:
            self._errors[repo] = sentence(error)
            self.changed.emit(repo)
            return
        worker = Worker(download.steps(), after=self._last.get(repo))
        worker.yielded.connect(lambda news: self._came(repo, news))
        worker.returned.connect(lambda folder: self._done(repo, folder))
        worker.failed.connect(lambda error: self._failed(repo, error))
        self._running[repo], self._last[repo] = (download, worker), worker
        self._news.pop(repo, None)
        worker.start()
        self.changed.emit(repo)

    def pause(self, repo: str) -> None:
        """Stop; what came is kept."""
        if repo not in self._running:
            return
        download, worker = self._running.pop(repo)
        worker.cancel()
        download.stop()
        self._keep(repo)
        self.changed.emit(repo)

    def pause_all(self) -> None:
        """The window closes."""
        for repo in list(self._running):
            self.pause(repo)

    def cancel(self, repo: str) -> None:
        """Stop, and throw away what came."""
        self.pause(repo)
        self.waiting.pop(repo, None)
        self._errors.pop(repo, None)
        self._news.pop(repo, None)
        worker = Worker(_throw_away(repo), after=self._last.get(repo))
        worker.failed.connect(lambda error: self._failed(repo, error))
        self._last[repo] = worker
        worker.start()
        self.changed.emit(repo)

    def _download(self, repo: str) -> Any:
        from crane_app.library.downloads import Download

        return Download(repo, where=self._where())

    def _where(self) -> Any:
        from crane_app.library import hub

        return hub.place(self._preferences.get("hub-endpoint"), self._preferences.get("proxy"))

    def _came(self, repo: str, news: Any) -> None:
        self._news[repo] = news
        self.speed = news.bytes_per_s or self.speed
        self.changed.emit(repo)

    def _done(self, repo: str, folder: Any) -> None:
        self._running.pop(repo, None)
        self.waiting.pop(repo, None)
        self._news.pop(repo, None)
        self.changed.emit(repo)
        self.finished.emit(repo, str(folder))

    def _failed(self, repo: str, error: Exception) -> None:
        self._running.pop(repo, None)
        self._errors[repo] = sentence(error)
        self._keep(repo)
        self.changed.emit(repo)

    def _keep(self, repo: str) -> None:
        """What the last news said has come is what goes on later."""
        news = self._news.pop(repo, None)
        if news is not None and news.total:
            self.waiting[repo] = notes.Unfinished(repo, "main", news.done, news.total, ())

    def _seen(self, found: tuple[notes.Unfinished, ...]) -> None:
        self.waiting = {each.repo: each for each in found if each.repo not in self._running} | self.waiting
        self.changed.emit("")


def _every() -> Iterator[Any]:
    return notes.every(hub_cache.root())
    yield


def _throw_away(repo: str) -> Iterator[Any]:
    notes.throw_away(hub_cache.root(), repo)
    return
    yield

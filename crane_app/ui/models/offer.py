"""One model that is not here yet, or not whole: what it is, whether it fits, and its download."""

from __future__ import annotations

import math

from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QVBoxLayout

from crane_app.library import fit
from crane_app.library.catalogue import Offer
from crane_app.ui.icons import icon
from crane_app.ui.models.card import FIT_LOOKS, acting, dress, named, take_turns
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.parts import ElidedLabel, Words, button
from crane_app.ui.theme import SPACE


class OfferCard(QFrame):
    """`repo` on the hub; `offer` where it is on our list."""

    def __init__(self, repo: str, offer: Offer | None, downloads: Downloads, memory: int, first: bool = False):
        """memory: bytes this computer has. first: it is the one to begin with, of its job."""
        super().__init__()
        self.repo, self._offer, self._downloads, self._memory = repo, offer, downloads, memory
        self.setProperty("look", "panel")
        self.setAccessibleName(repo)
        tr = self.tr
        self.download = acting(self, "download", tr("Download"), lambda: downloads.start(repo))
        self.download.setIcon(icon("download", "on_accent" if first else "text"))
        self.resume = acting(self, "resume", tr("Resume"), lambda: downloads.start(repo))
        self.pause = acting(self, "pause", tr("Pause"), lambda: downloads.pause(repo))
        self.cancel = acting(self, "cancel", tr("Cancel"), lambda: downloads.cancel(repo))
        self.buttons = {
            "download": named(button(self.download, look="primary" if first else ""), tr("Download {name}"), repo),
            "resume": named(button(self.resume), tr("Resume {name}"), repo),
            "pause": named(button(self.pause), tr("Pause {name}"), repo),
            "cancel": named(button(self.cancel, look="flat"), tr("Give up {name}"), repo),
        }
        self._make_widgets()
        self.refresh()

    def _make_widgets(self) -> None:
        self.name = ElidedLabel(self.tr("Name of the model"))
        self.name.setProperty("look", "strong")
        self.name.setText(self.repo)
        self.about = Words(self.tr("About the model"))
        self.about.setProperty("look", "muted")
        self.fits = Words(self.tr("Memory it needs"))
        self.state = Words(self.tr("State of the download"))
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setAccessibleName(self.tr("How much of {name} has come").format(name=self.repo))
        top = QHBoxLayout()
        top.setSpacing(SPACE)
        top.addWidget(self.name, 1)
        for each in self.buttons.values():
            top.addWidget(each)
        column = QVBoxLayout(self)
        column.setContentsMargins(*[2 * SPACE] * 4)
        column.setSpacing(SPACE // 2)
        column.addLayout(top)
        for each in (self.about, self.fits, self.state, self.progress):
            column.addWidget(each)

    def refresh(self) -> None:
        """As its download stands."""
        running, waiting = self._downloads.running(self.repo), self._downloads.waiting.get(self.repo)
        error = self._downloads.error(self.repo)
        begun = waiting is not None or bool(error)
        self.resume.setText(self.tr("Resume") if waiting is not None else self.tr("Try again"))
        self.resume.setIconText(self.resume.text())
        free = not running
        turns = {"download": free and not begun, "resume": free and begun, "pause": running, "cancel": running or begun}
        take_turns(self.buttons, turns)
        self.about.setText(self._about())
        verdict = self._offer.verdict(self._memory) if self._offer is not None else None
        self.fits.setVisible(verdict is not None)
        if verdict is not None:
            dress(self.fits, FIT_LOOKS[verdict.fit])
            self.fits.setText(verdict.sentence)
        self._show_progress(running)
        words = self._running_words() if running else error or self._waiting_words()
        dress(self.state, "small danger" if error and not running else "small muted")
        self.state.setText(words)
        self.state.setVisible(bool(words))

    def _show_progress(self, running: bool) -> None:
        where = self._downloads.news(self.repo) if running else self._downloads.waiting.get(self.repo)
        self.progress.setVisible(running or where is not None)
        known = where is not None and where.total > 0
        self.progress.setRange(0, 1000 if known else 0)
        self.progress.setValue(1000 * where.done // where.total if known else 0)

    def _about(self) -> str:
        offer = self._offer
        if offer is None:
            return self.tr("From Hugging Face; its page tells what it is and on which terms it is given.")
        return " · ".join((offer.sentence.rstrip("."), fit.human(offer.nbytes), offer.licence))

    def _running_words(self) -> str:
        news = self._downloads.news(self.repo)
        if news is None or news.doing == "asking":
            return self.tr("Asking for the list of files…")
        if news.doing == "waiting":
            return news.words
        amount = self.tr("{done} of {total}").format(done=fit.human(news.done), total=fit.human(news.total))
        if news.doing == "checking":
            return self.tr("{amount}, checking {file}").format(amount=amount, file=news.file)
        if news.eta is None:
            return amount
        words = self.tr("{amount}, {speed}/s, {time} left")
        return words.format(amount=amount, speed=fit.human(news.bytes_per_s), time=self._time(news.eta))

    def _waiting_words(self) -> str:
        waiting, speed = self._downloads.waiting.get(self.repo), self._downloads.speed
        if waiting is not None:
            words = self.tr("Paused: {done} of {total} are here.")
            return words.format(done=fit.human(waiting.done), total=fit.human(waiting.total))
        if self._offer is not None and speed > 0:
            time = self._time(self._offer.nbytes / speed)
            return self.tr("Takes about {time} at the speed of the last download.").format(time=time)
        return ""

    def _time(self, seconds: float) -> str:
        if seconds < 90:
            return self.tr("{count} s").format(count=max(1, math.ceil(seconds)))
        if seconds < 5400:
            return self.tr("{count} min").format(count=round(seconds / 60))
        return self.tr("{count} h").format(count=round(seconds / 3600, 1))

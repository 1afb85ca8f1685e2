"""The view of the server: a switch, what it is doing, how it serves, and what to write in programs that use it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QVBoxLayout

from crane_app.errors import CraneError
from crane_app.pipelines.serving import Plan, new_key
from crane_app.ui.scrolled import Scrolled, card, fill
from crane_app.ui.server.fields import KEY, MODEL, PORT, START, WHERE, KeyField, ModelField, chosen
from crane_app.ui.server.programs import Programs
from crane_app.ui.server.serving import Serving
from crane_app.ui.server.state import StateCard
from crane_app.ui.settings.row import Row
from crane_app.ui.theme import SPACE
from crane_app.ui.undo import UndoBar
from crane_app.ui.view import Commands, View

MATTERS = ("served-model", "model", "host", "port", "api-key")  # settings that a server is started with


class ServerView(View):
    """Starts, shows and ends the server of this window (ui.server.serving.Serving)."""

    computes = True

    def __init__(self, preferences: Any, shelf: Any):
        super().__init__()
        self._preferences, self._shelf = preferences, shelf
        self.serving = Serving.of(preferences)
        self._key = str(preferences.get("api-key") or "")
        self._due = False  # to be switched on when it is known which models there are
        self._closed_words = ""  # a complaint of the running server that a person has read
        keys = QKeySequence("Ctrl+Return")
        self.switch_action = self.action("switch_server", self.tr("Switch the server &on"), self.toggle, keys)
        self._make_widgets()
        self.serving.changed.connect(self._refresh)
        preferences.changed.connect(self._setting_changed)
        shelf.changed.connect(self._shelf_seen)
        self._refresh()

    def commands(self) -> dict[str, Commands]:
        return {"file": [self.switch_action]}

    def enter(self) -> None:
        self.state.switch.setFocus()

    def leave(self) -> None:
        self.serving.close()

    # What can be done

    def plan(self) -> Plan:
        """What the settings of now would serve."""
        get = self._preferences.get
        folder, name = chosen(self._shelf, self._preferences, get("served-model"))
        return Plan(folder, name, str(get("host")), int(get("port")), str(get("api-key") or ""))

    def start_with_the_app(self) -> None:
        """Switch it on once the shelf has been looked through."""
        self._due = True

    def toggle(self) -> None:
        self.switch(self.serving.now.state not in ("starting", "on"))

    def switch(self, on: bool) -> None:
        """Start it, or let it end."""
        if on:
            self._closed_words = ""
            self.serving.restart(self.plan())
        else:
            self.serving.stop()
        self._refresh()

    # How it is built

    def _make_widgets(self) -> None:
        self.state = StateCard()
        self.state.switched.connect(self.switch)
        self.state.remedied.connect(self._remedy)
        self.state.restarted.connect(lambda: self.serving.restart(self.plan()))
        self.state.model_wanted.connect(lambda: self.sent.emit("models", None))
        self.state.copied.connect(self.said)
        self.state.hurried.connect(self.serving.stop)
        self.key = KeyField()
        self.key.toggled.connect(self._refresh)
        self.key.copied.connect(self.said)
        self.programs = Programs()
        self.programs.copied.connect(self.said)
        preferences = self._preferences
        made = (
            Row(MODEL, preferences, ModelField(self._shelf, preferences)),
            Row(WHERE, preferences),
            Row(PORT, preferences),
            Row(KEY, preferences, self.key),
            Row(START, preferences),
        )
        self.rows = {row.setting.name: row for row in made}
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACE)
        column.addWidget(self.state)
        rows, how = card(self.tr("How it serves"))
        for row in made:
            rows.addWidget(row)
        column.addWidget(how)
        note = self.tr("Each of these can be copied and run as it is; most programs only ask for the base URL.")
        rows, use = card(self.tr("Use it from other programs"), note)
        rows.addWidget(self.programs)
        column.addWidget(use)
        column.addStretch()
        self.area = Scrolled(self.tr("Server"), column)
        fill(self, self.area)
        self.undo = UndoBar()
        self.layout().addWidget(self.undo)

    # What is seen

    def _refresh(self) -> None:
        plan, now = self.plan(), self.serving.now
        stale = self.serving.under_way and plan != self.serving.plan
        if now.state == "on" and now.sentence == self._closed_words:
            now = replace(now, sentence="")
        self.state.show_state(now, stale, (self.serving.plan if self.serving.under_way else plan).name)
        on = now.state in ("starting", "on")
        words = self.tr("Switch the server &off") if on else self.tr("Switch the server &on")
        self.switch_action.setText(words)
        served = self.serving.plan if on else plan
        host = "127.0.0.1" if served.host == "0.0.0.0" else served.host
        url = now.url or f"http://{f'[{host}]' if ':' in host else host}:{served.port}"
        model = next(iter(now.models), "") or served.name or self.tr("the-model")
        first = next((key.strip() for key in served.key.split(",") if key.strip()), "")
        self.programs.show_server(url, model, first, self.key.is_shown)

    def _shelf_seen(self) -> None:
        if self._due:
            self._due = False
            self.switch(True)
        self._refresh()

    def _setting_changed(self, name: str) -> None:
        for row in self.rows.values():
            if row.setting.name == name:
                row.refresh()
        if name == "api-key":
            self._key_changed()
        if name in MATTERS:
            self._refresh()

    def _key_changed(self) -> None:
        """A key that other programs have is not lost by a click."""
        before, self._key = self._key, str(self._preferences.get("api-key") or "")
        if before and before != self._key:
            words = self.tr("Programs that have the former key are not let in any more.")
            self.undo.offer(words, lambda: self._bring_back(before))

    def _bring_back(self, key: str) -> None:
        self._key = ""  # what it replaces is nobody's yet
        self._preferences.set("api-key", key)

    def _remedy(self) -> None:
        """What the notice's button offers."""
        now = self.serving.now
        if now.state != "failed":
            self._closed_words = now.sentence
            self._refresh()
            return
        if now.fault == "model":
            self.sent.emit("models", None)
            return
        try:
            if now.fault == "port" and now.free_port:
                self._preferences.set("port", now.free_port)
            elif now.fault == "key":
                self._preferences.set("api-key", new_key())
        except CraneError as error:
            self.said.emit(str(error))
            return
        self.switch(True)

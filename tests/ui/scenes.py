"""The views as people see them: empty, in use, busy. Made-up content, natural enough to be looked at.

A scene is the name of a view and what is done to a Stage before it is looked at.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from fake_reader import FakeReader
from fakes import GIB, PATIENCE_S, FakeConnection, FakePreferences, FakeServers, FakeShelf, card, holding, on_disk
from PySide6.QtCore import QSettings
from PySide6.QtGui import QIcon
from PySide6.QtTest import QTest
from sound_fakes import DEVICES, RATE, FakeMicrophone, FakeSpeaker, FakeVoice, played

from crane_app.engine.request import Holding, Parting
from crane_app.library.chats import Chats
from crane_app.library.downloads import Progress
from crane_app.library.takes import Said, Takes
from crane_app.pipelines.serving import Served
from crane_app.ui import views
from crane_app.ui.app import ICON
from crane_app.ui.contacts import Contacts
from crane_app.ui.dictate.view import DictateView
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.models.picker import ModelPicker
from crane_app.ui.pictures.view import PicturesView
from crane_app.ui.read_aloud.view import ReadAloudView
from crane_app.ui.server.serving import Serving
from crane_app.ui.window import Window
from crane_app.ui.worker import stop_all

MODEL = "/models/Qwen3-0.6B"
QUESTION = "Why do cranes sleep standing in shallow water?"
ANSWER = """Mostly because **nothing can reach them unheard**. A fox that wades makes noise, and the water carries it.

The numbers of last autumn:

| Month | Birds counted |
|---|---:|
| September | 4,120 |
| October | 24,860 |

A small program that finds the largest count:

```python
counts = {"September": 4120, "October": 24860}
month = max(counts, key=counts.get)  # the month with the most birds
print(f"{month}: {counts[month]:,}")
```
"""
STORY = """Where the cranes rest in autumn

Every October the cranes come down to the shallow lake and sleep standing in the water, where no fox can reach them. \
In 2024 the local volunteers counted 24,860 birds in one night, more than in any year since 2009. \
At dawn they leave for the fields, family by family, calling.

The best view is from the wooden tower. Come before 6:45, bring a warm coat, and stay quiet: a single loud word can \
lift a thousand wings.
"""
TAKEN = "Another program is at port 8080 already. Choose another port, or end that program."
OTHERS = ("A polite letter to the landlord", "Packing list for rain", "What is a monad, really", "鶴の折り方")


class NoDownload:
    """A download that waits for bytes that never come."""

    def __init__(self, repo: str):
        self.repo, self._over = repo, threading.Event()

    def stop(self) -> None:
        self._over.set()

    def steps(self):
        yield Progress(doing="downloading", file="model.safetensors", done=GIB // 2, total=2 * GIB)
        self._over.wait(PATIENCE_S)


@dataclass
class Stage:
    """A window over fakes, and the fakes."""

    folder: Path
    connection: FakeConnection = field(default_factory=FakeConnection)
    preferences: FakePreferences = field(default_factory=FakePreferences)
    shelf: FakeShelf = field(default_factory=FakeShelf)
    chats: Chats = field(default_factory=Chats.in_memory)
    reader: FakeReader = field(default_factory=FakeReader)
    speaker: FakeSpeaker = field(default_factory=FakeSpeaker)
    servers: FakeServers = field(default_factory=FakeServers)
    window: Window | None = None

    @property
    def takes(self) -> Takes:
        return Takes(self.folder / "takes")

    def open(self, name: str) -> Window:
        """The window, with this view in sight."""
        makers = views.makers(self.connection, self.chats, self.preferences, self.shelf, QIcon(str(ICON)))
        makers["pictures"] = lambda: PicturesView(self.reader, QIcon(str(ICON)))
        makers["read_aloud"] = lambda: ReadAloudView(self.preferences, FakeVoice, self.speaker)
        makers["dictate"] = self._dictate
        Downloads(self.preferences, NoDownload)
        Serving(self.preferences, self.servers)
        settings = QSettings(str(self.folder / "window.ini"), QSettings.Format.IniFormat)
        settings.setValue("view", name)
        self.window = Window(settings, self.connection, self.preferences, makers, {"chat": self._picker})
        self.window.status.follow(Contacts(self.preferences))
        if name == views.WELCOME:
            self.window.show_view(name)
        return self.window

    def view(self, name: str):
        return self.window.view(name)

    def rest(self) -> None:
        """Let go of everything that is held, and wait for it."""
        self.reader.let(10_000)
        self.speaker.let()
        self.servers.let()
        Downloads.of(self.preferences).pause_all()
        self.connection.close()
        assert stop_all(10)

    def _dictate(self) -> DictateView:
        return DictateView(
            self.connection, self.preferences, self.takes, FakeMicrophone, lambda: DEVICES, played, self.shelf
        )

    def _picker(self, _window: Window) -> ModelPicker:
        return ModelPicker(self.connection, self.preferences, self.shelf)


def with_model(stage: Stage) -> None:
    """A model is chosen, on the disk, and loaded."""
    stage.preferences.set("model", MODEL)
    stage.shelf.put(on_disk())
    stage.connection.show(card(dtype="bfloat16"))


def with_conversation(stage: Stage) -> None:
    with_model(stage)
    for title in reversed(OTHERS):
        stage.chats.add(stage.chats.new(title, MODEL), "user", title)
    chat = stage.chats.new("Cranes in shallow water", MODEL)
    asked = stage.chats.add(chat, "user", QUESTION)
    facts = {"tokens": 171, "speed": 25.8, "seed": 7}
    stage.chats.add(chat, "assistant", ANSWER, asked.id, model=MODEL, facts=facts)


def open_conversation(stage: Stage) -> None:
    """The newest one is looked at."""
    stage.view("chat").open(stage.chats.chats()[0].id)


def ask(stage: Stage) -> None:
    """A question whose answer is under way, and held."""
    open_conversation(stage)
    stage.connection.engine.held = True
    stage.view("chat").talk.ask("And in winter?")


def with_models(stage: Stage) -> None:
    """Models of all kinds: one is loaded and stays, and another left the memory for it."""
    with_model(stage)
    loaded = card(dtype="bfloat16")
    stage.preferences.set("pinned-models", MODEL)
    stage.connection.engine.pins.add(loaded.name)
    held = holding(loaded, rows_nbytes=GIB // 8), Holding("built-in reader", "pictures", "cpu", 250 * 10**6)
    gone = (Parting("Qwen3-8B", 16 * GIB, loaded.name, 30.0),)
    stage.connection.show(loaded, held=held, gone=gone, limit_nbytes=16 * GIB)
    stage.shelf.put(
        on_disk(),
        on_disk("Qwen3-8B", nbytes=16 * GIB, source="hub", repo="Qwen/Qwen3-8B"),
        on_disk("Qwen3-VL-2B", job="pictures", nbytes=4 * GIB, architecture="Qwen3VLForConditionalGeneration"),
        on_disk("moonshine-base", job="dictate", nbytes=GIB // 4, licence="mit", context=0),
        on_disk("half-of-a-model", nbytes=GIB, problem="model-00002-of-00003.safetensors is missing.", partial=True),
    )


def with_takes(stage: Stage) -> None:
    """Three takes of other days, and a model that hears."""
    with_models(stage)
    for text in (
        "Remind me to call the ferry about the bicycles before noon.",
        "The second paragraph should begin with the number of birds, not with the weather.",
        "Dear Ms Lindqvist, thank you for the keys. The cranes were there, thousands of them, and quite loud.",
    ):
        recording = stage.takes.record()
        recording.write(np.zeros(4 * RATE, np.float32))
        recording.finish("done", text, [Said(0.0, 4.0, text)], "moonshine-base")


def pick_take(stage: Stage) -> None:
    """The newest take is looked at, as soon as the list has it."""
    pane = stage.view("dictate").list
    for _ in range(200):
        if pane.rows.takes:
            break
        QTest.qWait(20)
    pane.list.setCurrentIndex(pane.rows.index(0))


def speak(stage: Stage) -> None:
    """A text is read aloud, and held in its third sentence."""
    stage.speaker.held_at = 70
    stage.view("read_aloud").receive(STORY)


def read_pictures(stage: Stage) -> None:
    stage.reader.counts = {"Autumn report.pdf": 3}
    stage.view("pictures").read([Path("/files/Autumn report.pdf")])


def read_many(stage: Stage) -> None:
    """Several documents, of which one cannot be read."""
    stage.reader.counts = {"Autumn report.pdf": 12}
    stage.reader.damaged = {("scan.png", 1): "The file is damaged. Open another copy."}
    stage.view("pictures").read([Path(f"/files/{name}") for name in ("scan.png", "Autumn report.pdf", "note.jpg")])


def read_held(stage: Stage) -> None:
    stage.reader.held = True
    stage.reader.counts = {"Autumn report.pdf": 12}
    stage.view("pictures").read([Path("/files/Autumn report.pdf")])


def pick_a_model(stage: Stage) -> None:
    stage.view("welcome").show_step(1)


def look_at_keys(stage: Stage) -> None:
    stage.view("welcome").show_step(2)


def serve(stage: Stage) -> None:
    """The server is on, with a key, and has some to do."""
    stage.preferences.set("api-key", "crane-7Q2mWc0b2x8vN1pLk4tYz9")
    view = stage.view("server")
    view.switch(True)
    busy = Served("on", "http://127.0.0.1:8080", models=("Qwen3-0.6B", "moonshine-base"), active=2, waiting=1)
    stage.servers.last.tell(replace(busy, answered=1284))
    for _ in range(200):
        if view.serving.now.answered:
            return
        QTest.qWait(20)


def serve_at_a_taken_port(stage: Stage) -> None:
    stage.servers.script = (Served("starting"), Served("failed", sentence=TAKEN, fault="port", free_port=8081))
    view = stage.view("server")
    view.switch(True)
    for _ in range(200):
        if view.serving.now.fault:
            return
        QTest.qWait(20)


def fetch(stage: Stage) -> None:
    """A model is on its way."""
    Downloads.of(stage.preferences).start("Qwen/Qwen3-0.6B")


def nothing(_stage: Stage) -> None:
    pass


@dataclass(frozen=True)
class Scene:
    """before: what is there when the window opens; then: what is done in it."""

    view: str
    before: Callable[[Stage], None] = nothing
    then: Callable[[Stage], None] = nothing


SCENES = {
    "chat, no model": Scene("chat"),
    "chat, empty": Scene("chat", with_model),
    "chat, in use": Scene("chat", with_conversation, open_conversation),
    "chat, answering": Scene("chat", with_conversation, ask),
    "pictures, empty": Scene("pictures"),
    "pictures, in use": Scene("pictures", then=read_pictures),
    "pictures, many": Scene("pictures", then=read_many),
    "pictures, reading": Scene("pictures", then=read_held),
    "dictate, no model": Scene("dictate"),
    "dictate, in use": Scene("dictate", with_takes, pick_take),
    "read aloud, empty": Scene("read_aloud"),
    "read aloud, speaking": Scene("read_aloud", then=speak),
    "models, empty": Scene("models"),
    "models, in use": Scene("models", with_models),
    "models, downloading": Scene("models", then=fetch),
    "server, no model": Scene("server"),
    "server, off": Scene("server", with_model),
    "server, on": Scene("server", with_model, serve),
    "server, taken port": Scene("server", with_model, serve_at_a_taken_port),
    "settings": Scene("settings", with_model),
    "welcome": Scene("welcome"),
    "welcome, no model": Scene("welcome", then=pick_a_model),
    "welcome, models": Scene("welcome", with_models, pick_a_model),
    "welcome, looks": Scene("welcome", then=look_at_keys),
}


def settled(stage: Stage) -> bool:
    """Nothing is read, answered or said any more, but for what is held."""
    engine, reader, speaker = stage.connection.engine, stage.reader, stage.speaker
    said = speaker.held_at is None or speaker.blocks > speaker.held_at
    return (engine.at_once == 0 or engine.held) and (reader.at_once == 0 or reader.held) and said

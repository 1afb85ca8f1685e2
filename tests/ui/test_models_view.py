"""The models of this computer as cards."""

import queue
from pathlib import Path

import pytest
from fakes import GIB, FakeShelf, card, holding, on_disk
from hands import files
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel

from crane_app.engine.request import Parting
from crane_app.errors import BadCheckpoint, CraneError
from crane_app.host import Scheme
from crane_app.library import catalogue, notes
from crane_app.library.downloads import Progress
from crane_app.library.hub import File, Listing
from crane_app.library.weighing import Stored
from crane_app.ui import theme
from crane_app.ui.models.downloads import Downloads
from crane_app.ui.models.shelf import Shelf
from crane_app.ui.models.view import BATCH, MOST, ModelsView
from crane_app.ui.worker import stop_all
from tests.library.hub import CONFIG, Hub
from tests.library.test_models_on_disk import in_cache, write

QWEN = Path("/models/Qwen3-0.6B")


@pytest.fixture
def shelf():
    return FakeShelf(on_disk())


@pytest.fixture
def models(qtbot, connection, preferences, shelf):
    made = ModelsView(connection, preferences, shelf)
    qtbot.addWidget(made)
    made.resize(640, 600)
    made.show()
    return made


@pytest.fixture
def real(qtbot, connection, preferences, tmp_path, monkeypatch):
    """A view over a real shelf and a real cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    made = ModelsView(connection, preferences, Shelf(preferences))
    qtbot.addWidget(made)
    made.show()
    return made


def click(qtbot, card, name, times=1):
    for _ in range(times):
        qtbot.mouseClick(card.buttons[name], Qt.MouseButton.LeftButton)


def test_nothing_yet_invites(qtbot, models, shelf):
    shelf.put()
    assert models.empty.isVisible()
    shelf.put(on_disk())
    assert not models.empty.isVisible()


def test_a_packed_file_takes_what_the_chosen_library_makes_of_it(models, shelf, preferences):
    # GIVEN a file of 10^9 numbers in Q5_K, which MLX has in groups of 32 with two scales of 4 bytes each
    stored = Stored((10**6, 1024), "float32", Scheme("Q5_K"))
    preferences.set("backend", "mlx")
    shelf.put(on_disk(nbytes=4 * 176 * 10**6, cache=0, tensors=((stored, 1),)))
    # THEN its card says 7 bits for each number, and what Crane takes beside it
    assert "It needs about 1.3 GB" in models.cards[QWEN].fits.text()
    # WHEN PyTorch is to compute, whose kernels multiply that as it is
    preferences.set("backend", "torch")
    preferences.set("dtype", "bfloat16")
    # THEN it says 45 bits for each eight numbers
    assert "It needs about 1.1 GB" in models.cards[QWEN].fits.text()


def test_a_card_says_what_the_model_is(models):
    shown = models.cards[QWEN]
    assert shown.name.text() == "Qwen3-0.6B"
    assert shown.facts.text().startswith("Qwen3ForCausalLM · 1.5 GB · ")
    assert shown.facts.text().endswith("tokens of context · bfloat16 · apache-2.0")
    assert "It needs about" in shown.fits.text()
    assert shown.place.text() == str(QWEN)


def test_cards_stand_under_what_they_are_for(qtbot, models, shelf):
    shelf.put(on_disk("b"), on_disk("ear", job="dictate"), on_disk("a"), on_disk("odd", job="other", problem="No."))
    qtbot.waitUntil(lambda: len(models.cards) == 4)
    items = [models.sections.itemAt(i).widget() for i in range(models.sections.count())]
    words = [item.text() if isinstance(item, QLabel) else item.entry.name for item in items]
    assert words == ["Chat", "b", "a", "Dictation", "ear", "Others", "odd"]


def test_a_card_that_stays_is_the_same_card(models, shelf):
    kept = models.cards[QWEN]
    shelf.put(on_disk("another"), on_disk())
    assert models.cards[QWEN] is kept
    shelf.put(on_disk("another"))
    assert QWEN not in models.cards


def test_loading_shows_how_far_it_is(qtbot, models, connection):
    shown = models.cards[QWEN]
    connection.engine.held = True
    # WHEN Load is clicked, in haste
    click(qtbot, shown, "load", times=3)
    # THEN it is loaded once, the bar moves, and it can be given up
    assert shown.progress.isVisible()
    assert not shown.buttons["load"].isVisible()
    connection.engine.let(3)
    qtbot.waitUntil(lambda: shown.state.text() == "Loading, 50 %")
    assert shown.progress.value() == 50
    assert shown.buttons["cancel"].isVisible()
    connection.engine.let(2)
    qtbot.waitUntil(lambda: shown.buttons["unload"].isVisible())
    assert connection.engine.loads == [str(QWEN)]
    assert shown.state.text() == "In memory: 1.5 GB on CPU, float32."


def test_loading_can_be_given_up(qtbot, models, connection):
    shown = models.cards[QWEN]
    connection.engine.held = True
    click(qtbot, shown, "load")
    click(qtbot, shown, "cancel")
    # THEN the card is as before at once, and nothing comes later
    assert shown.buttons["load"].isVisible()
    assert not shown.progress.isVisible()
    connection.engine.let()
    assert stop_all(10)
    assert connection.engine.cards == {}


def test_a_load_that_fails_is_a_sentence_in_the_card(qtbot, models, connection):
    shown = models.cards[QWEN]
    connection.engine.refusal = BadCheckpoint("model.safetensors is truncated; download it again.")
    click(qtbot, shown, "load")
    qtbot.waitUntil(lambda: shown.state.text() == "model.safetensors is truncated; download it again.")
    assert shown.buttons["load"].isEnabled()
    # AND a second try forgets it
    click(qtbot, shown, "load")
    qtbot.waitUntil(lambda: shown.buttons["unload"].isVisible())


def test_unloading_gives_the_memory_back_once(qtbot, models, connection):
    connection.show(card())
    shown = models.cards[QWEN]
    assert not shown.discard.isEnabled()  # not while it is in use
    click(qtbot, shown, "unload", times=2)
    qtbot.waitUntil(lambda: shown.buttons["load"].isVisible())
    assert connection.engine.cards == {}
    assert shown.state.text() == ""


def test_a_loaded_model_can_be_kept_in_memory(qtbot, models, connection, preferences):
    # GIVEN a model on the disk THEN nothing is said of memory
    shown = models.cards[QWEN]
    assert not shown.stays.isVisible()
    # WHEN it is loaded and to be kept
    connection.show(card(), held=(holding(card(), rows_nbytes=GIB // 2),))
    assert shown.state.text() == "In memory: 1.5 GB on CPU, float32; 537 MB of conversations."
    qtbot.mouseClick(shown.stays, Qt.MouseButton.LeftButton)
    # THEN the engine and the settings know
    assert shown.stays.isChecked()
    assert preferences.get("pinned-models") == str(QWEN)
    qtbot.waitUntil(lambda: connection.engine.pins == {"Qwen3-0.6B"})
    # AND the wish is seen when it is not loaded, and can be lifted by the keyboard
    connection.show()
    assert shown.stays.isVisible()
    with qtbot.waitActive(models):
        models.activateWindow()
    shown.stays.setFocus()
    qtbot.keyClick(shown.stays, Qt.Key.Key_Space)
    assert preferences.get("pinned-models") == ""
    assert not shown.stays.isVisible()
    assert shown.more.hasFocus()


def test_the_page_says_what_holds_memory_and_what_left_it(models, connection):
    assert not models.held.isVisible()
    assert not models.left.isVisible()
    # WHEN a model came for which another left
    gone = (Parting("Qwen3-4B", 2 * GIB, "Qwen3-0.6B", 5.0),)
    connection.show(card(), limit_nbytes=8 * GIB, gone=gone)
    # THEN both are told
    assert models.held.text() == "In memory: 1.5 GB of 8.6 GB (Qwen3-0.6B 1.5 GB)"
    assert models.left.text().startswith("To make room for Qwen3-0.6B, Qwen3-4B (2.1 GB) left the memory.")
    # WHEN it is back THEN nothing is to be told of it
    connection.show(card(), card("Qwen3-4B"), limit_nbytes=8 * GIB, gone=gone)
    assert not models.left.isVisible()


def test_a_load_of_another_view_shows_here_too(models, connection):
    connection.show(card())
    assert models.cards[QWEN].buttons["unload"].isVisible()


def test_a_broken_model_offers_no_load(models, shelf):
    shelf.put(on_disk(problem="It is not complete: a file is missing."))
    shown = models.cards[QWEN]
    assert shown.state.text() == "It is not complete: a file is missing."
    assert not shown.buttons["load"].isVisible()


def test_use_for_chat_sets_the_preference(qtbot, models, preferences):
    models.cards[QWEN].use.trigger()
    assert preferences.get("model") == str(QWEN)


def test_the_path_is_copied(models):
    models.cards[QWEN].copy_path.trigger()
    assert QGuiApplication.clipboard().text() == str(QWEN)


def test_a_dropped_folder_is_remembered_and_shown(qtbot, real, preferences, tmp_path):
    folder = write(tmp_path / "a 🐦 model").resolve()
    assert real.offer(files(folder))
    assert real.take(files(folder))
    qtbot.waitUntil(lambda: folder in real.cards)
    assert preferences.get("model-folders") == str(folder)
    # AND once only, however often it is dropped
    real.take(files(folder))
    assert stop_all(10)
    assert preferences.get("model-folders") == str(folder)


def test_a_dropped_folder_without_a_model_is_a_sentence(qtbot, real, tmp_path):
    (tmp_path / "photos").mkdir()
    real.take(files(tmp_path / "photos"))
    qtbot.waitUntil(lambda: real.notice.isVisible())
    assert real.notice.words().startswith("There is no model in 'photos'")
    assert real.offer(QMimeData()) == ""
    assert real.take(QMimeData()) is False


def test_a_folder_taken_off_the_list_keeps_its_files(qtbot, real, preferences, tmp_path):
    folder = write(tmp_path / "mine").resolve()
    real.add(folder)
    qtbot.waitUntil(lambda: folder in real.cards)
    real.cards[folder].forget.trigger()
    qtbot.waitUntil(lambda: folder not in real.cards)
    assert preferences.get("model-folders") == ""
    assert (folder / "config.json").exists()


def test_a_model_of_the_cache_goes_to_the_trash_whole_and_comes_back(qtbot, real, tmp_path):
    # GIVEN a model in the cache
    shot = in_cache(tmp_path / "hub", "a/b")
    real.enter()
    qtbot.waitUntil(lambda: shot in real.cards)
    # WHEN it is thrown away
    shown = real.cards[shot]
    assert not shown.forget.isVisible()
    shown.discard.trigger()
    assert "Other programs that use the Hugging Face cache lose it too." in shown.question.words.text()
    assert shot.exists()  # not before yes is said
    shown.question.yes.trigger()
    # THEN all of it is gone, and can be brought back
    qtbot.waitUntil(lambda: shot not in real.cards)
    assert list((tmp_path / "hub").iterdir()) == []
    qtbot.waitUntil(lambda: real.undo_bar.isVisible())
    assert real.undo_words.text() == "a/b is in the trash."
    real.undo_action.trigger()
    qtbot.waitUntil(lambda: shot in real.cards)
    assert not real.undo_bar.isVisible()


def test_keep_asks_no_more(qtbot, models):
    shown = models.cards[QWEN]
    shown.discard.trigger()
    assert shown.question.isVisible()
    shown.question.no.trigger()
    assert not shown.question.isVisible()


def test_a_model_that_vanished_meanwhile_is_a_sentence(qtbot, models):
    models.cards[QWEN].question.yes.trigger()
    qtbot.waitUntil(lambda: models.notice.isVisible())
    assert models.notice.words() == "'Qwen3-0.6B' is not there any more."


def test_of_a_thousand_models_the_first_are_shown_and_more_on_demand(qtbot, models, shelf):
    # GIVEN more models than anybody reads
    shelf.put(*(on_disk(f"m{number:03}") for number in range(1000)))
    # THEN few are made at once, so that the window goes on, and not all of them
    assert len(models.cards) == BATCH
    qtbot.waitUntil(lambda: len(models.cards) == MOST)
    assert models.more_action.text() == f"Show {MOST} more"
    # WHEN more are asked for
    models.more_button.click()
    qtbot.waitUntil(lambda: len(models.cards) == 2 * MOST)
    # THEN they stand in order
    items = [models.sections.itemAt(i).widget() for i in range(1, models.sections.count())]
    assert [item.entry.name for item in items] == [f"m{number:03}" for number in range(2 * MOST)]


def test_every_control_has_a_name_of_its_own(qtbot, models, shelf):
    shelf.put(on_disk("one"), on_disk("two"))
    qtbot.waitUntil(lambda: models.cards[Path("/models/two")].more.isVisible())
    buttons = [made for made in models.findChildren(QAbstractButton) if made.isVisible()]
    names = [made.accessibleName() for made in buttons]
    assert all(names)
    assert len(names) == len(set(names))
    assert {"Load one", "Load two", "More about one"} <= set(names)


def test_the_tab_key_goes_through_everything_in_reading_order(qtbot, getting, shelf):
    shelf.put(on_disk("one"), on_disk("two"))
    qtbot.waitUntil(lambda: len(getting.cards) == 2 and all(card.isVisible() for card in getting.cards.values()))
    getting.get_models.field.setText("a/b")
    with qtbot.waitActive(getting):
        getting.activateWindow()
    start = getting.findChild(QAbstractButton, "rescan")
    start.setFocus()
    names = [start.accessibleName()]
    while True:
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        if QApplication.focusWidget() is start:
            break
        names.append(QApplication.focusWidget().accessibleName())
    offers = [f"Download {offer.repo}" for offer in catalogue.OFFERS]
    cards = ["Load one", "More about one", "Load two", "More about two"]
    last = ["Id of a model on Hugging Face", "Download the model of this id"]
    assert names == ["Look again", "Add folder", *cards, *offers, *last]


def test_the_keyboard_stays_with_a_model_while_its_buttons_change(qtbot, models, connection):
    connection.engine.held = True
    with qtbot.waitActive(models):
        models.activateWindow()
    shown = models.cards[QWEN]
    shown.buttons["load"].setFocus()
    qtbot.keyClick(shown.buttons["load"], Qt.Key.Key_Space)
    assert shown.buttons["cancel"].hasFocus()
    connection.engine.let(10)
    qtbot.waitUntil(lambda: shown.buttons["unload"].hasFocus())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("percent", [100, 150, 200])
def test_no_words_are_clipped(qtbot, qapp, connection, preferences, scheme, percent):
    theme.set_scheme(scheme)
    usual, bigger = qapp.font(), qapp.font()
    bigger.setPointSizeF(usual.pointSizeF() * percent / 100)
    qapp.setFont(bigger)
    try:
        shelf = FakeShelf(on_disk("a-name-" * 20), on_disk("b", problem="It is not complete: a file is missing."))
        made = ModelsView(connection, preferences, shelf)
        qtbot.addWidget(made)
        made.resize(600, 700)
        made.show()
        made.cards[shelf.entries[1].folder].discard.trigger()
        qtbot.waitUntil(lambda: len(made.get_models.cards) == len(catalogue.OFFERS))
        qtbot.wait(20)
        assert clipped(made) == []
        assert made.area.horizontalScrollBar().maximum() == 0 or percent == 200
    finally:
        qapp.setFont(usual)


def clipped(widget) -> list[str]:
    """The words that have less room than they need."""
    found = []
    for each in widget.findChildren(QAbstractButton) + widget.findChildren(QLabel):
        if not each.isVisible() or not each.text() or hasattr(each, "shown"):
            continue
        need = each.sizeHint()
        wraps = isinstance(each, QLabel) and each.wordWrap()
        narrow = not wraps and each.width() < need.width()
        flat = each.height() < (each.heightForWidth(each.width()) if wraps else need.height())
        if narrow or flat:
            found.append(f"{each.text()}: {each.size().toTuple()} for {need.toTuple()}")
    return found


# Models that can be had


class FakeDownload:
    """A download that goes as far as a test lets it."""

    def __init__(self, repo: str):
        self.repo, self.stopped = repo, False
        self.news: queue.Queue = queue.Queue()

    def stop(self) -> None:
        self.stopped = True
        self.news.put(None)

    def steps(self):
        while True:
            each = self.news.get(timeout=20)
            if each is None:
                return None
            if isinstance(each, Exception):
                raise each
            if isinstance(each, Path):
                return each
            yield each

    def tell(self, done: int, **news) -> None:
        self.news.put(Progress(**{"doing": "downloading", "file": "model.safetensors", "done": done, **news}))


@pytest.fixture
def made() -> dict[str, FakeDownload]:
    return {}


@pytest.fixture
def getting(qtbot, connection, preferences, shelf, made, monkeypatch, tmp_path):
    """A view whose downloads are fakes, with nothing on the shelf."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("crane_app.library.fit.memory", lambda: 16 * 10**9)
    Downloads(preferences, lambda repo: made.setdefault(repo, FakeDownload(repo)))
    shelf.put()
    view = ModelsView(connection, preferences, shelf)
    qtbot.addWidget(view)
    view.resize(640, 600)
    view.show()
    qtbot.waitUntil(lambda: len(view.get_models.cards) == len(catalogue.OFFERS))
    yield view
    for each in made.values():
        each.stop()


OFFER = "Qwen/Qwen3-0.6B"


def press(qtbot, card, name, times=1):
    for _ in range(times):
        qtbot.mouseClick(card.buttons[name], Qt.MouseButton.LeftButton)


def test_what_is_not_here_is_offered_with_size_licence_and_fit(getting):
    card = getting.get_models.cards[OFFER]
    assert card.about.text() == "Small and quick; can think before it answers · 1.5 GB · apache-2.0"
    assert card.fits.text() == "Fits well. It needs about 2.8 GB of memory; this computer has 16.0 GB."
    assert card.buttons["download"].property("look") == "primary"  # the one to begin with
    large = getting.get_models.cards["Qwen/Qwen2.5-7B-Instruct"]
    assert large.fits.text().startswith("Too large for this computer.")


def test_what_is_here_is_not_offered(getting, shelf):
    shelf.put(on_disk(OFFER, repo=OFFER, source="hub"))
    assert OFFER not in getting.get_models.cards


def test_a_download_shows_how_far_it_is(qtbot, getting, made):
    card = getting.get_models.cards[OFFER]
    # WHEN Download is clicked, in haste
    press(qtbot, card, "download", times=3)
    assert card.state.text() == "Asking for the list of files…"
    made[OFFER].tell(250_000_000, total=1_000_000_000, bytes_per_s=5e6, eta=150.0)
    # THEN bytes, speed and time are shown
    qtbot.waitUntil(lambda: card.state.text() == "250 MB of 1.0 GB, 5 MB/s, 2 min left")
    assert card.progress.value() == 250
    assert len(made) == 1
    # AND other offers say how long they would take
    other = getting.get_models.cards["Qwen/Qwen2.5-0.5B-Instruct"]
    other.refresh()
    assert other.state.text() == "Takes about 3 min at the speed of the last download."


def test_a_card_grows_with_what_it_says(qtbot, getting, made):
    # GIVEN cards that have been set anew since they were made
    getting.get_models.lay()
    card = getting.get_models.cards[OFFER]
    qtbot.waitUntil(lambda: clipped(card) == [])
    # WHEN a download adds its line and its bar
    press(qtbot, card, "download")
    made[OFFER].tell(250_000_000, total=1_000_000_000, bytes_per_s=5e6, eta=150.0)
    qtbot.waitUntil(card.progress.isVisible)
    # THEN nothing is squeezed for them
    qtbot.waitUntil(lambda: clipped(card) == [])


def test_a_pause_keeps_what_came_and_resume_goes_on(qtbot, getting, made):
    card = getting.get_models.cards[OFFER]
    press(qtbot, card, "download")
    made[OFFER].tell(250, total=1000)
    qtbot.waitUntil(lambda: card.progress.value() == 250)
    press(qtbot, card, "pause", times=2)
    assert made[OFFER].stopped
    assert card.state.text() == "Paused: 250 bytes of 1 kB are here."
    assert card.progress.value() == 250
    made[OFFER] = FakeDownload(OFFER)
    press(qtbot, card, "resume")
    made[OFFER].tell(900, total=1000)
    qtbot.waitUntil(lambda: card.progress.value() == 900)


def test_a_failed_download_says_why_and_can_go_on(qtbot, getting, made):
    card = getting.get_models.cards[OFFER]
    press(qtbot, card, "download")
    made[OFFER].tell(250, total=1000)
    made[OFFER].news.put(CraneError("The disk became full."))
    qtbot.waitUntil(lambda: card.state.text() == "The disk became full.")
    assert card.buttons["resume"].isVisible()
    assert card.buttons["cancel"].isVisible()


def test_a_wait_says_what_for(qtbot, getting, made):
    card = getting.get_models.cards[OFFER]
    press(qtbot, card, "download")
    made[OFFER].tell(0, total=1000, doing="waiting", words="example.org asks to wait. Trying again in 7 s.")
    qtbot.waitUntil(lambda: card.state.text() == "example.org asks to wait. Trying again in 7 s.")


def test_a_window_that_closes_pauses_its_downloads(qtbot, getting, made):
    press(qtbot, getting.get_models.cards[OFFER], "download")
    getting.leave()
    assert made[OFFER].stopped


def test_giving_up_offers_it_anew(qtbot, getting, made):
    card = getting.get_models.cards[OFFER]
    press(qtbot, card, "download")
    made[OFFER].tell(250, total=1000)
    qtbot.waitUntil(lambda: card.progress.value() == 250)
    press(qtbot, card, "cancel")
    assert card.buttons["download"].isVisible()
    assert not card.progress.isVisible()
    assert stop_all(10)


def test_the_first_model_that_comes_is_used_for_chat(qtbot, getting, made, preferences, shelf):
    press(qtbot, getting.get_models.cards[OFFER], "download")
    made[OFFER].news.put(Path("/hub/models--Qwen--Qwen3-0.6B/snapshots/c"))
    qtbot.waitUntil(lambda: shelf.scans == 1)
    assert preferences.get("model") == "/hub/models--Qwen--Qwen3-0.6B/snapshots/c"


@pytest.mark.parametrize(
    ("typed", "repo"),
    [
        ("my/model", "my/model"),
        (" https://huggingface.co/my/model/tree/main?x=1 ", "my/model"),
        ("hf.co/my/model", "my/model"),
        ("qwen/qwen3-0.6b", OFFER),
    ],
)
def test_any_id_or_address_can_be_typed(qtbot, getting, made, typed, repo):
    getting.get_models.field.setText(typed)
    qtbot.keyClick(getting.get_models.field, Qt.Key.Key_Return)
    assert list(made) == [repo]
    assert getting.get_models.field.text() == ""
    assert getting.get_models.column.itemAt(1).widget().repo == repo  # what is under way stands first


@pytest.mark.parametrize("typed", ["../../etc", "a b", "http://evil.example/a/b", "ä/ö"])
def test_what_is_no_id_is_said_in_place(qtbot, getting, made, typed):
    getting.get_models.field.setText(typed)
    qtbot.keyClick(getting.get_models.field, Qt.Key.Key_Return)
    assert made == {}
    assert getting.get_models.fault.isVisible()
    getting.get_models.field.setText("a/b")
    assert not getting.get_models.fault.isVisible()


def test_nothing_typed_does_nothing(qtbot, getting, made):
    assert not getting.get_models.get.isEnabled()
    qtbot.keyClick(getting.get_models.field, Qt.Key.Key_Return)
    assert made == {}


def test_downloads_of_an_earlier_window_can_go_on(qtbot, connection, preferences, shelf, tmp_path, monkeypatch):
    # GIVEN a note of a download that was broken off
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    files = (File("config.json", 10, "a" * 40), File("model.safetensors", 990, "b" * 64))
    notes.keep(tmp_path / "hub", "main", Listing("my/model", "c" * 40, files))
    # WHEN a window opens
    view = ModelsView(connection, preferences, shelf)
    qtbot.addWidget(view)
    view.show()
    # THEN it is there, with Resume, and can be given up
    qtbot.waitUntil(lambda: "my/model" in view.get_models.cards)
    card = view.get_models.cards["my/model"]
    assert card.state.text() == "Paused: 0 bytes of 1 kB are here."
    assert card.buttons["resume"].isVisible()
    press(qtbot, card, "cancel")
    assert "my/model" not in view.get_models.cards
    assert stop_all(10)
    assert notes.every(tmp_path / "hub") == ()


def test_a_model_comes_from_a_real_hub_and_is_checked(qtbot, connection, preferences, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with Hub() as hub:
        hub.put("my/model", {"config.json": CONFIG, "model.safetensors": b"x" * 100_000})
        preferences.set("hub-endpoint", hub.address)
        view = ModelsView(connection, preferences, Shelf(preferences))
        qtbot.addWidget(view)
        view.show()
        view.downloads.start("my/model")
        # THEN it stands among what is here
        qtbot.waitUntil(lambda: any(card.entry.repo == "my/model" for card in view.cards.values()))
        assert "my/model" not in view.get_models.cards
        # AND its files can be checked
        [card] = view.cards.values()
        with qtbot.waitSignal(view.said) as told:
            card.verify.trigger()
        assert told.args == ["my/model is whole."]
        # AND a damaged one is thrown away and can be had again
        (card.entry.folder / "model.safetensors").resolve().write_bytes(b"y" * 100_000)
        card.verify.trigger()
        qtbot.waitUntil(lambda: view.notice.isVisible())
        assert view.notice.words().startswith("model.safetensors of my/model was damaged")

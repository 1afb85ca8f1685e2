"""What can be done in the view of pictures: actions with their words, keys and icons, the menus, and when."""

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QActionGroup, QKeySequence

from crane_app.ui.pictures.queue import Entry, Queue, State
from crane_app.ui.view import Commands, View

Keys = QKeySequence.StandardKey
MODES = ("paragraphs", "lines", "code")
MENUS = {
    "file": ("open", "open_folder", "", "pause", "resume", "stop", "again", "", "remove", "clear", "forget"),
    "edit": ("copy", "copy_text", "copy_markdown", "", "paste", "", "send_to_chat", "send_to_speech"),
    "view": ("zoom_in", "zoom_out", "fit", "fit_width", "", "previous", "next", "", *MODES),
}


def make_actions(view: View) -> dict[str, QAction]:
    """By name; `view` is a PicturesView, whose methods they call."""
    tr: Callable[[str], str] = view.tr
    table: list[tuple[str, str, Callable[[], Any], Any, str]] = [
        ("open", tr("&Open…"), view.choose_files, Keys.Open, "open"),
        ("open_folder", tr("Open &folder…"), view.choose_folder, "Ctrl+Shift+O", "folder"),
        ("paste", tr("&Paste"), view.paste, Keys.Paste, "paste"),
        ("pause", tr("Pa&use"), view.queue.pause, None, "pause"),
        ("resume", tr("Res&ume"), view.queue.resume, None, "resume"),
        ("stop", tr("&Stop"), view.stop, Qt.Key.Key_Escape, "stop"),
        ("again", tr("Read the &rest"), view.read_rest, None, "refresh"),
        ("remove", tr("&Take off the list"), view.remove, None, "close"),
        ("clear", tr("C&lear the list"), view.clear, None, "clear_list"),
        ("forget", tr("For&get what was read"), view.forget, None, "delete"),
        ("copy", tr("&Copy"), view.copy, Keys.Copy, ""),
        ("copy_text", tr("Copy &text"), view.copy_text, None, ""),
        ("copy_markdown", tr("Copy as &Markdown"), view.copy_markdown, "Ctrl+Shift+C", "markdown"),
        ("send_to_chat", tr("Send to c&hat"), lambda: view.send("chat"), None, "chat"),
        ("send_to_speech", tr("Read &aloud"), lambda: view.send("read_aloud"), None, "read_aloud"),
        ("previous", tr("&Previous page"), lambda: view.turn(-1), "Alt+Left", "left"),
        ("next", tr("&Next page"), lambda: view.turn(1), "Alt+Right", "right"),
        ("zoom_in", tr("Zoom &in"), lambda: view.canvas.zoom_in(), Keys.ZoomIn, "zoom_in"),
        ("zoom_out", tr("Zoom &out"), lambda: view.canvas.zoom_out(), Keys.ZoomOut, "zoom_out"),
        ("fit", tr("&Fit page"), lambda: view.canvas.fit(), "Ctrl+0", "fit_page"),
        ("fit_width", tr("Fit &width"), lambda: view.canvas.fit_width(), "Ctrl+9", "fit_width"),
    ]
    return {row[0]: view.action(*row) for row in table} | _modes(view)


def _modes(view: View) -> dict[str, QAction]:
    words = (view.tr("As para&graphs"), view.tr("As &lines"), view.tr("As &code"))
    group = QActionGroup(view)
    made = {}
    for mode, text in zip(MODES, words, strict=True):
        made[mode] = view.action(mode, text, lambda mode=mode: view.arrange(mode))
        made[mode].setCheckable(True)
        group.addAction(made[mode])
    made["paragraphs"].setChecked(True)
    return made


def menus(actions: dict[str, QAction]) -> dict[str, Commands]:
    """What View.commands says."""
    return {menu: [actions.get(name) for name in names] for menu, names in MENUS.items()}


def enable(actions: dict[str, QAction], entry: Entry | None, queue: Queue, seen: bool) -> None:
    """What can be done now; seen: whether the page of the shown entry is on the screen."""
    counts, reading = queue.counts(), queue.reading is not None
    page, count, read = (entry.page, entry.count, bool(entry.texts)) if entry else (1, 0, False)
    waiting, listed = counts[State.WAITING] > 0, bool(queue.entries)
    able = {
        "pause": reading,
        "resume": queue.paused and waiting,
        "stop": reading or waiting,
        "again": counts[State.FAILED] + counts[State.STOPPED] > 0,
        **dict.fromkeys(("remove", "clear"), listed),
        **dict.fromkeys(("copy", "copy_text", "copy_markdown", "send_to_chat", "send_to_speech"), read),
        "previous": page > 1,
        "next": page < count,
        **dict.fromkeys(("zoom_in", "zoom_out", "fit", "fit_width"), seen),
    }
    for name, is_able in able.items():
        actions[name].setEnabled(is_able)

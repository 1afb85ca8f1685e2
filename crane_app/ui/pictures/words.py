"""What the view of pictures says of its documents: sentences from an Entry or a Queue, nothing else."""

from PySide6.QtCore import QCoreApplication

from crane_app.ui.pictures.queue import Entry, Queue, State

say = QCoreApplication.translate


def status(entry: Entry | None, queue: Queue) -> str:
    """How far the shown document is; or another one, while that is being read."""
    reading = queue.reading
    if reading is not None and reading is not entry:
        return f"{reading.name}: {_progress(reading, queue)}"
    if entry is None:
        return ""
    done, count = len(entry.texts), entry.count
    if entry.state is State.READING:
        return _progress(entry, queue)
    if entry.state is State.WAITING and queue.paused:
        return (
            say("Pictures", "Paused; {done} of {count} pages read.").format(done=done, count=count)
            if count
            else say("Pictures", "Paused")
        )
    if entry.state is State.STOPPED and count > 1:
        return say("Pictures", "Stopped; {done} of {count} pages read.").format(done=done, count=count)
    if entry.state is State.FAILED and count > 1:
        return say("Pictures", "{done} of {count} pages read.").format(done=done, count=count)
    if entry.state is State.DONE and count > 1:
        return say("Pictures", "All {count} pages read.").format(count=count)
    return queue.state_word(entry)


def _progress(entry: Entry, queue: Queue) -> str:
    done, count = len(entry.texts) + len(entry.unread), entry.count
    if not queue.warm:
        return say("Pictures", "Loading the reader, a few seconds…")
    if count > 1:
        return say("Pictures", "Reading page {page} of {count}…").format(page=min(done + 1, count), count=count)
    return say("Pictures", "Reading…")


def tally(queue: Queue) -> str:
    """How many documents are done, and how many were not read."""
    counts, total = queue.counts(), len(queue.entries)
    words = say("Pictures", "{done} of {count} done").format(done=counts[State.DONE], count=total)
    failed = counts[State.FAILED]
    return words + (say("Pictures", ", {failed} not read").format(failed=failed) if failed else "")


def placeholder(entry: Entry | None) -> str:
    """What stands where a text would."""
    if entry is None or entry.page in entry.texts:
        return say("Pictures", "No text was found on this page.")
    if entry.state in (State.WAITING, State.READING) and entry.page not in entry.unread:
        return say("Pictures", "The text appears here.")
    return say("Pictures", "This page was not read.")


def complaint(entry: Entry | None) -> str:
    """What went wrong with a document, "" for nothing: of the page in view, if that is one of several."""
    if entry is None or entry.error:
        return entry.error if entry else ""
    if not entry.unread:
        return ""
    first = entry.unread.get(entry.page) or entry.unread[min(entry.unread)]
    if len(entry.unread) == 1:
        return first
    return say("Pictures", "{count} pages were not read. {first}").format(count=len(entry.unread), first=first)


def left_over(paths: list[str] | None) -> str:
    """The offer to go on with what an earlier program left."""
    if not paths:
        return ""
    if len(paths) == 1:
        return say("Pictures", "One document was not read to its end when Crane was closed.")
    return say("Pictures", "{count} documents were not read to their end when Crane was closed.").format(
        count=len(paths)
    )

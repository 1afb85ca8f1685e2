"""What the view that reads aloud says about where it is."""

from PySide6.QtCore import QCoreApplication

from crane_app.ui.read_aloud.narrator import Narrator

PACE = 14  # letters that a voice says in a second at usual speed, for an estimate


def status(narrator: Narrator, speed: float) -> str:
    """The sentence that is heard or next, and how long the rest takes; "" while the text is being looked at."""
    count = len(narrator.sentences)
    if not narrator.fresh:
        return ""
    if not count:
        return _say("There is nothing to say in this text.")
    if narrator.speaking and not narrator.audible:
        return _say("Getting the voice ready…")
    time = _minutes((narrator.before[-1] - narrator.heard()) / PACE / speed)
    place = _say("Sentence {number} of {count}").format(number=narrator.index + 1, count=count)
    if narrator.speaking:
        return _say("{place} · {time} left").format(place=place, time=time)
    if narrator.index:
        return _say("{place} is next · {time} left").format(place=place, time=time)
    if count == 1:
        return _say("One sentence · {time}").format(time=time)
    return _say("{count} sentences · {time}").format(count=count, time=time)


def _minutes(seconds: float) -> str:
    if seconds < 50:
        return _say("less than a minute")
    return _say("about {minutes} min").format(minutes=max(1, round(seconds / 60)))


def _say(words: str) -> str:
    return QCoreApplication.translate("ReadAloud", words)

"""A sound file in, its words with their times out, however long it is; and the forms in which they are kept."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np

from crane_app.engine.request import Progress
from crane_app.errors import BadInput
from crane_app.media.sound import RATE, Sound
from crane_app.pipelines.hearing import Ear, Hearing
from crane_app.pipelines.utterances import Finder, Utterance, Utterances

AT_ONCE = 4  # utterances in the engine together
PATIENCE_S = 0.1  # a wait without an end cannot be interrupted
MOST_WHOLE_S = 600.0  # of a file that is not cut: 38 MB; the engine has its own limit


@dataclass(frozen=True)
class Segment:
    """What was said from `start` to `end` seconds, and the tokens behind it."""

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """What was said in `seconds` of sound, as `model` wrote it."""

    model: str
    seconds: float
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)


Steps = Generator[Segment | Progress | None, None, Transcript]


def transcribe(
    ear: Ear,
    sound: Sound,
    whole: bool = False,
    max_tokens: int | None = None,
    finder: Finder | None = None,
) -> Steps:
    """Segments in their order, how far it is in seconds, and None while it waits; closing it stops the engine's work.

    whole: as one segment, not cut at pauses. max_tokens: of each segment; None leaves it to the model.
    """
    cut = _uncut(sound) if whole else _utterances(sound, finder)
    at_work: deque[Hearing] = deque()
    segments: list[Segment] = []
    seconds = 0.0
    try:
        while True:
            try:
                found = next(cut)
            except StopIteration as end:
                seconds = end.value
                break
            if isinstance(found, float):
                reached = at_work[0].utterance.start if at_work else found
                yield Progress(round(reached), round(sound.seconds), f"writing {sound.name}")
            else:
                at_work.append(Hearing(ear, found, max_tokens))
            yield from _written(at_work, segments, AT_ONCE - 1)
        yield from _written(at_work, segments, 0)
    finally:
        for hearing in at_work:
            hearing.cancel()
    return Transcript(ear.model, seconds, tuple(segments))


def _written(at_work: deque[Hearing], segments: list[Segment], most: int) -> Generator[Segment | None, None, None]:
    """What is finished, in order; waits until no more than `most` utterances are at work."""
    while at_work:
        written = at_work[0].wait(PATIENCE_S if len(at_work) > most else 0)
        if written is not None:
            said = at_work.popleft().utterance
            segments.append(Segment(said.start, said.end, written.text, written.tokens))
            yield segments[-1]
        elif len(at_work) > most:
            yield None
        else:
            return


def _utterances(sound: Sound, finder: Finder | None) -> Generator[Utterance | float, None, float]:
    """What is said between pauses, and the seconds that were listened to, in between and at last."""
    utterances = Utterances(finder)
    for number, block in enumerate(sound.blocks()):
        yield from utterances.push(block)
        if number % 256 == 255:
            yield utterances.samples / RATE
    yield from utterances.finish()
    return utterances.samples / RATE


def _uncut(sound: Sound) -> Generator[Utterance | float, None, float]:
    if sound.seconds > MOST_WHOLE_S:
        raise BadInput(f"{sound.name} is longer than {MOST_WHOLE_S / 60:.0f} minutes, too long to be taken whole.")
    blocks = list(sound.blocks())
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    seconds = len(samples) / RATE
    if len(samples):
        yield Utterance(0.0, seconds, samples)
    return seconds


def as_text(segments: Iterable[Segment], times: bool = False) -> str:
    """A line for each segment; times: with the minutes and seconds at which it begins."""
    lines = (f"[{_clock(s.start)}] {s.text}" if times else s.text for s in segments if s.text)
    return "".join(f"{line}\n" for line in lines)


def as_srt(segments: Iterable[Segment]) -> str:
    """Subtitles (SubRip): number, times, text, an empty line."""
    said = (segment for segment in segments if segment.text)
    return "".join(
        f"{number}\n{_stamp(s.start)} --> {_stamp(s.end)}\n{' '.join(s.text.split())}\n\n"
        for number, s in enumerate(said, 1)
    )


def as_vtt(segments: Iterable[Segment]) -> str:
    """Subtitles (WebVTT, w3.org/TR/webvtt1)."""
    said = (segment for segment in segments if segment.text)
    lines = (f"{_stamp(s.start, '.')} --> {_stamp(s.end, '.')}\n{_escaped(' '.join(s.text.split()))}\n\n" for s in said)
    return "WEBVTT\n\n" + "".join(lines)


def as_json(transcript: Transcript) -> str:
    """{"text", "tokens", "segments": [{"start", "end", "text"}], "model", "seconds"}, times in seconds."""
    tree = {
        "text": transcript.text,
        "tokens": [token for segment in transcript.segments for token in segment.tokens],
        "segments": [{"start": round(s.start, 3), "end": round(s.end, 3), "text": s.text} for s in transcript.segments],
        "model": transcript.model,
        "seconds": round(transcript.seconds, 3),
    }
    return json.dumps(tree, ensure_ascii=False) + "\n"


def _clock(seconds: float) -> str:
    """0:07, 12:30, 1:00:05."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _escaped(text: str) -> str:
    """What WebVTT would take for markup, spelt out."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _stamp(seconds: float, point: str = ",") -> str:
    """00:00:07,250"""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{rest // 1000:02}{point}{rest % 1000:03}"

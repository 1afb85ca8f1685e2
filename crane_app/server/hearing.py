"""POST /v1/audio/transcriptions: what is said in a sound file, as text, times or subtitles.

The shapes are those of the OpenAI API reference (platform.openai.com/docs/api-reference/audio/createTranscription).
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response

from crane_app.engine.interface import EngineLike
from crane_app.errors import Cancelled
from crane_app.media.sound import Sound
from crane_app.pipelines.hearing import Ear
from crane_app.pipelines.transcript import Transcript, as_srt, as_vtt, transcribe
from crane_app.server.body import LARGEST
from crane_app.server.fields import Table, harmless, honoured, one_of, shaped, take, text, unmet
from crane_app.server.problems import Problem, refused
from crane_app.server.service import Call, Endpoint
from crane_app.server.sse import reply

MOST_FIELDS = 64
LONGEST_S = 4 * 3600.0  # seconds of sound: a body of 32 MiB may hold weeks of silence
LISTS = ("timestamp_granularities", "include")
FORMATS = ("json", "text", "verbose_json", "srt", "vtt")


@shaped(type="string", format="binary")
def _upload(value: Any) -> Any:
    return value


FIELDS: Table = (
    honoured(
        "file", _upload, "an upload: WAV, FLAC, MP3, Ogg and others, at most 32 MiB with the rest, and four hours"
    ),
    honoured("url", text(48 << 20), "instead of file: data:, and http(s) where --allow-url-fetch is given"),
    honoured("model", text(1000), "a speech model of GET /v1/models; the first one if left out"),
    honoured("response_format", one_of(*FORMATS), "json, text, verbose_json, srt, vtt; json if left out"),
    honoured("language", one_of("en", "english"), "English is what Moonshine hears"),
    *unmet("the likeliest words are taken", "temperature", neutral=("0", "0.0")),
    *unmet("the model takes no hints", "prompt", neutral=("",)),
    *unmet("times are those of whole stretches", "timestamp_granularities", neutral=(["segment"],)),
    *unmet("the text comes when it is whole", "stream", neutral=("false", "False", "0")),
    *unmet("tokens have no probabilities here", "include"),
    *unmet("speakers are not told apart", "known_speaker_names", "known_speaker_references"),
    *harmless("chunking_strategy", note="it is always cut at pauses"),
)


async def run(call: Call) -> Response:
    given = take(FIELDS, await _form(call))
    upload = given.get("file")
    if "url" in given and upload is not None:
        raise refused("url", "url stands for a file, and there is one. Give one of them.")
    if not isinstance(upload, UploadFile) and "url" not in given:
        raise refused("file", "file is missing: upload a sound file as multipart/form-data. Paths are not opened.")
    model = await call.service.offer.find(given.get("model"), hears=True)
    if not model.card.hears:
        raise Problem(400, f"The model {model.name} does not hear. Choose a speech model, such as Moonshine.", "model")
    if isinstance(upload, UploadFile):
        sound, name = await upload.read(), upload.filename or "the upload"
    else:
        sound, name = await call.wait(call.addressed(given["url"], "url")), "what url leads to"
    transcript = await call.wait(_written(call, sound, name, model.card.name))
    return _formed(transcript, given.get("response_format", "json"))


async def _form(call: Call) -> Mapping[str, Any]:
    """The fields of the form; names that end in [] are lists."""
    raw = await call.raw()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    if not call.http.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Problem(400, "Send the file as multipart/form-data.", "file")
    try:
        form = await HttpRequest(call.http.scope, receive).form(
            max_files=1, max_fields=MOST_FIELDS, max_part_size=LARGEST
        )
    except (MultiPartException, HTTPException, KeyError) as error:
        why = getattr(error, "detail", None) or getattr(error, "message", None) or "it has no boundary"
        raise Problem(400, f"The form cannot be read: {why:.200}.") from None
    found: dict[str, Any] = {}
    for key, value in form.multi_items():
        name = key.removesuffix("[]")
        if name in LISTS:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise refused(name, f"{name} stands twice in the form.")
        else:
            found[name] = value
    return found


async def _written(call: Call, sound: bytes, name: str, model: str) -> Transcript:
    """Heard on a thread, which stops when nobody wants it any more."""
    unwanted = threading.Event()
    answers = call.service.answers
    async with answers.gate.enter(1, []):
        try:
            return await asyncio.to_thread(_heard, answers.engine, model, sound, name, unwanted)
        finally:
            unwanted.set()


def _heard(engine: EngineLike, model: str, sound: bytes, name: str, unwanted: threading.Event) -> Transcript:
    with tempfile.TemporaryDirectory(prefix="crane-heard-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "upload")
        path.write_bytes(sound)
        with Sound(path, name, LONGEST_S) as opened:
            steps = transcribe(Ear(engine, model), opened)
            try:
                while not unwanted.is_set():
                    next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                steps.close()
    raise Cancelled("Nobody waits for the text any more.")


def _formed(transcript: Transcript, form: str) -> Response:
    if form == "text":
        return PlainTextResponse(f"{transcript.text}\n")
    if form == "srt":
        return PlainTextResponse(as_srt(transcript.segments), media_type="application/x-subrip")
    if form == "vtt":
        return PlainTextResponse(as_vtt(transcript.segments), media_type="text/vtt")
    if form == "json":
        return reply({"text": transcript.text, "usage": {"type": "duration", "seconds": round(transcript.seconds)}})
    segments = [
        {"id": i, "start": s.start, "end": s.end, "text": s.text, "tokens": list(s.tokens), "temperature": 0.0}
        for i, s in enumerate(transcript.segments)
    ]
    said = {"language": "english", "duration": transcript.seconds, "text": transcript.text, "segments": segments}
    return reply({"task": "transcribe", **said})


ENDPOINTS = (
    Endpoint(
        "POST",
        ("/v1/audio/transcriptions",),
        "Write down what is said in a sound file",
        run,
        FIELDS,
        takes="multipart/form-data",
        either=("file", "url"),
    ),
)

"""POST /v1/audio/speech: a text spoken by the system's voice.

The shape is that of the OpenAI API reference (platform.openai.com/docs/api-reference/audio/createSpeech).
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from crane_app.errors import BadInput
from crane_app.media.sound_bytes import FORMS, encoded
from crane_app.media.stretch import FASTEST, SLOWEST, stretched
from crane_app.platform import voices
from crane_app.server.fields import Table, harmless, honoured, number, one_of, text, unmet
from crane_app.server.problems import Problem, refused
from crane_app.server.service import Call, Endpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crane_app.pipelines.speech import Reading

NAME = "system-voice"
LONGEST = 20_000  # characters
DRAWS = "the system's voice draws nothing by chance"
LANGUAGES = {"chinese": "zh", "english": "en", "japanese": "ja", "korean": "ko", "auto": ""}
FIELDS: Table = (
    honoured("model", text(1000), f"{NAME}, also if left out"),
    honoured("input", text(LONGEST), f"at most {LONGEST} characters"),
    honoured("voice", text(200), "a voice's name, id or language of `crane say --list-voices`; chosen if left out"),
    honoured("response_format", one_of(*FORMS), "wav (also if left out), flac, mp3, opus, pcm (16 bit at 24 kHz)"),
    honoured("speed", number(SLOWEST, FASTEST), "at the same pitch"),
    honoured("language", text(40), "auto, a name like english or a tag like en-gb, where no voice is named"),
    *unmet("the system's voice takes no instructions", "instructions", neutral=("",)),
    *unmet(DRAWS, "temperature", "top_p", "top_k", "repetition_penalty", "seed"),
    *unmet("the text sets the length", "max_tokens", "max_new_tokens"),
    *unmet("voices are not copied", "reference_audio", "reference_text", "ref_audio", "ref_text"),
    *unmet("the sound comes when it is whole", "stream", neutral=(False,)),
    *unmet("the sound comes when it is whole", "stream_format", neutral=("audio",)),
    *harmless("user", note="for the provider's accounts"),
)


async def run(call: Call) -> Response:
    given = await call.fields()
    if given.get("model", NAME) != NAME:
        raise Problem(
            404, f"There is no model '{given['model']:.200}' that speaks. There is: {NAME}.", "model", "model_not_found"
        )
    if not given.get("input", "").strip():
        raise refused("input", "input is missing: give the text to say.")
    form = given.get("response_format", "wav")
    data = await call.wait(_spoken(call, given, form))
    return Response(data, media_type=FORMS[form][2])


async def _spoken(call: Call, given: dict[str, Any], form: str) -> bytes:
    """Said on a thread; the voice falls silent when nobody wants it any more."""
    async with call.service.answers.gate.enter(1, []):
        reading = await asyncio.to_thread(_reading, given)
        with closing(reading):
            return await asyncio.to_thread(_said, reading, given.get("speed", 1.0), form)


def _reading(given: dict[str, Any]) -> Reading:
    from crane_app.pipelines.speech import Speech

    teller = voices.find()
    language = given.get("language", "auto").lower()
    for name, wish in (("voice", given.get("voice", "")), ("language", LANGUAGES.get(language, language))):
        if wish:
            try:
                return Speech(teller, voices.chosen(teller.voices(), wish).id).say(given["input"])
            except BadInput as error:
                raise refused(name, str(error)) from None
    return Speech(teller).say(given["input"])


def _said(reading: Reading, speed: float, form: str) -> bytes:
    import numpy as np
    import soxr

    parts: list[NDArray[np.float32]] = []
    rate = 0
    for spoken in reading:
        rate = rate or spoken.rate
        sound = stretched(spoken.samples, spoken.rate, speed)
        parts.append(sound if spoken.rate == rate else soxr.resample(sound, spoken.rate, rate))
    if not parts:
        raise BadInput("There is nothing to say in this text.")
    return encoded(np.concatenate(parts), rate, form)


ENDPOINTS = (
    Endpoint("POST", ("/v1/audio/speech",), "Say a text in the system's voice", run, FIELDS, needs=("input",)),
)

"""Work that is not token generation: a generator of events that holds the device briefly between two of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from crane_app.contract import Backend
from crane_app.engine.embedding import embed, score
from crane_app.engine.loading import How, Loaded, loading
from crane_app.engine.lookup import Gain
from crane_app.engine.memory import let_go
from crane_app.engine.models import Shelf, Shelved
from crane_app.engine.pairing import check_words, notes, pair
from crane_app.engine.reading import READER, draw_page, read_pages
from crane_app.engine.request import LANES, End, Job, ModelCard, Part, Piece, Progress, failed
from crane_app.engine.scheduler import Scheduler
from crane_app.engine.tracking import Tracked
from crane_app.engine.transcribing import transcribe
from crane_app.errors import BadInput, CraneError, ModelNotFound, NotEnoughMemory

log = logging.getLogger(__name__)
BREATH = 0.05  # seconds that a job may hold the device


class Activity:
    """A running generator and whose it is; model: the one it works on. Closing the generator is cancelling.

    then: what follows when it is over, instead of the End.
    """

    def __init__(
        self,
        tracked: Tracked,
        steps: Iterator[Any],
        doing: str,
        lane: str = "chat",
        model: str | None = None,
        then: Callable[[], None] | None = None,
    ):
        self.tracked, self.steps, self.doing, self.model = tracked, steps, doing, model
        self.lane = LANES.index(lane)
        self.served = time.monotonic()
        self.stopped, self.then = False, then

    def breathe(self) -> bool:
        """Run to the next yield; False when it is over."""
        if self.stopped:
            return False
        try:
            event = next(self.steps)
        except StopIteration:
            if self.then is not None:
                self.then()
            else:
                self.tracked.end(End("stop", self.tracked.usage()))
            return False
        except Exception as error:
            if not isinstance(error, CraneError):
                log.exception("a job failed: %s", self.doing)
            self.tracked.end(failed(error, self.tracked.usage()))
            return False
        if event is not None:
            self.tracked.put(event if isinstance(event, Progress | Part | Piece) else Part(event))
        return True

    def stop(self) -> None:
        """Close the generator; on the device thread."""
        self.stopped = True
        try:
            if isinstance(self.steps, Generator):
                self.steps.close()
        except Exception:
            log.exception("a job did not close well: %s", self.doing)


def loading_job(shelf: Shelf, folder: str, name: str | None, how: How, again: bool = False) -> Iterator[Any]:
    """Progress in bytes, then the card. A model that is loaded already, or just being loaded, gives its card.

    again: it was let go, and stays once it is back, whoever gives up waiting.
    """
    path = Path(folder).expanduser().absolute()
    how = replace(how, draft=how.draft and str(Path(how.draft).expanduser().absolute()))
    called = name or path.name or str(path)
    while called in shelf.loading:
        yield None
    there = shelf.find(called)
    if there is not None:
        if Path(there.card.folder) != path:
            raise BadInput(
                f"Another model is loaded as '{called}', from {there.card.folder}. Give this one another name."
            )
        yield Part(there.card)
        return
    shelf.loading.add(called)
    host = ThreadPoolExecutor(1, thread_name_prefix="crane-words")
    try:
        words = host.submit(_words, path)
        if how.draft is not None:
            yield from _compared(host, words, path, Path(how.draft))
        since = shelf.planner.clock()
        loaded = yield from _weights(shelf, path, called, how)
        small = (yield from _draft(shelf, called, how, loaded.nbytes, again)) if how.draft else None
        loaded = replace(loaded, notes=(*loaded.notes, *shelf.planner.told(called, since)))
        yield Part(_shelve(shelf, called, loaded, small, how, *words.result()))
    except GeneratorExit:
        if shelf.find(called) is not None and not again:  # cancelled between its card and its end, which says so
            shelf.unload(called)
        let_go(how.backend())
        raise
    finally:
        shelf.loading.discard(called)
        shelf.coming.pop(called, None)
        host.shutdown(wait=False, cancel_futures=True)


def recalled(shelf: Shelf, name: str) -> Iterator[None]:
    """Load a model that was let go as it was; nothing if it is here, or is not known."""
    if name := shelf.away(name):
        gone = shelf.planner.gone[name]
        for _ in loading_job(shelf, gone.card.folder, name, gone.how, again=True):
            yield None


def on_device(shelf: Shelf, job: Job) -> Iterator[Any]:
    """A job that needs the device, its model asked back first."""
    yield from recalled(shelf, job.model or "")
    yield from KINDS[job.kind](shelf, job)


def _weights(shelf: Shelf, path: Path, called: str, how: How, beside: int = 0) -> Generator[Progress, None, Loaded]:
    """A model's weights. beside: bytes that are there already of what is loaded under this name."""

    def fits(backend: Backend, nbytes: int) -> Iterator[None]:
        return shelf.room(called, backend, beside + nbytes)

    with closing(loading(path, how, fits)) as steps:
        while True:
            try:
                done, total = next(steps)
            except StopIteration as finished:
                return finished.value  # type: ignore[no-any-return]
            yield Progress(done, total, f"loading {called}")


def _compared(
    host: ThreadPoolExecutor, words: Future[tuple[Any, Any, dict[str, str]]], path: Path, draft: Path
) -> Iterator[None]:
    """See to it that a model and its draft model have the same tokens, before any weight is read."""
    if not draft.exists():
        raise ModelNotFound(f"There is no draft model at {draft}. Name a folder with a model, or a .gguf file.")
    small = host.submit(_words, draft)
    while not small.done():
        wait([small], BREATH)
        yield None
    check_words(words.result()[0], small.result()[0], (path.name, draft.name))


def _draft(shelf: Shelf, called: str, how: How, nbytes: int, again: bool) -> Generator[Progress, None, Loaded | None]:
    """The draft model, beside the nbytes of its model; one that comes back has none where there is no room for both."""
    assert how.draft is not None
    try:
        return (yield from _weights(shelf, Path(how.draft), called, replace(how, draft=None), nbytes))
    except NotEnoughMemory as error:
        if not again:
            raise NotEnoughMemory(f"{error} Or leave the draft model out.") from error
        log.warning("%s is back without its draft model: %s", called, error)
        return None


def _words(folder: Path) -> tuple[Any, Any, dict[str, str]]:
    """The tokenizer and the chat template, None where the folder has none, and why, by what is missing."""
    from crane_app.media.chat_template import ChatTemplate
    from crane_app.media.tokenizer import Tokenizer

    missing: dict[str, str] = {}

    def optional(what: str, read: Callable[[Path], Any]) -> Any:
        try:
            return read(folder)
        except CraneError as error:
            missing[what] = f"No {what}: {error}"
            return None

    return optional("tokenizer", Tokenizer.open), optional("chat template", ChatTemplate.open), missing


def _shelve(
    shelf: Shelf,
    name: str,
    loaded: Loaded,
    small: Loaded | None,
    how: How,
    tokenizer: Any,
    template: Any,
    missing: dict[str, str],
) -> ModelCard:
    scheduler = Scheduler(loaded.runner, reuse=shelf.reuse, gain=Gain())
    if small is not None:
        names = name, small.folder.name
        scheduler.ahead = pair(loaded, small, scheduler.cache, names, worded=tokenizer is not None)
        loaded = replace(loaded, notes=(*loaded.notes, *notes(loaded, small, names[1])))
    hears = loaded.listener is not None
    if hears:
        missing.pop("chat template", None)  # what does not chat needs none
    card = ModelCard(
        name=name,
        folder=str(loaded.folder),
        architecture=loaded.architecture,
        backend=loaded.backend.device.backend,
        device=loaded.backend.device.kind,
        dtype=loaded.backend.dtype,
        context=loaded.context,
        vocabulary=loaded.vocabulary,
        nbytes=loaded.nbytes,
        batched=loaded.runner.batched,
        chat=tokenizer is not None and template is not None and not hears,
        eos=loaded.eos,
        notes=(*loaded.notes, *missing.values()),
        hears=hears,
        packed=loaded.packed,
        quantize=how.quantize,
        exact=how.exact,
        kv_cache=how.kv_cache,
        draft=how.draft,
    )
    shelf.put(Shelved(card, loaded, scheduler, tokenizer, template, how, small))
    return card


def _tokenize(shelf: Shelf, job: Job) -> Iterator[Any]:
    """inputs: a text, or messages for the chat template -> its ids."""
    from crane_app.engine.prepare import encode

    shelved = shelf.get(job.model or "")
    yield Part(encode(shelved, job.inputs, job.options))


def _detokenize(shelf: Shelf, job: Job) -> Iterator[Any]:
    """inputs: ids -> their text."""
    shelved = shelf.get(job.model or "")
    if shelved.tokenizer is None:
        raise BadInput(f"The model '{shelved.card.name}' has no tokenizer.")
    yield Part(shelved.tokenizer.decode(list(job.inputs), special=bool(job.options.get("special"))))


KINDS: dict[str, Callable[[Shelf, Job], Iterator[Any]]] = {
    "tokenize": _tokenize,
    "detokenize": _detokenize,
    "read": lambda shelf, job: read_pages(job, shelf.reader),
    "draw": lambda shelf, job: draw_page(job),
    "transcribe": transcribe,
    "embed": embed,
    "score": score,
}
OF_KINDS = {"read": READER}  # what they use that is no model
HOSTED = {"tokenize", "detokenize", "read", "draw"}  # run beside the device
LONG = {"read"}  # of those, one at a time on a thread of their own, so that the short ones need not wait

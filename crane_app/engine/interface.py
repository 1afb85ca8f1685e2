"""The methods that the engine and its client share, so that pipelines do not care which one they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crane_app.engine.request import Job, ModelCard, Request, Stats, Stream


class EngineLike(Protocol):
    """See engine.Engine (in this process) and process.client.Client (over a socket). All methods from any thread."""

    def submit(self, request: Request) -> Stream:
        """Start making tokens; returns at once. A request that cannot be taken ends as `error` in its stream."""

    def open(self, job: Job) -> Stream:
        """Start other work; returns at once."""

    def embed(
        self, model: str, texts: Sequence[str | Sequence[int]], pooling: str = "last", normalise: bool = True
    ) -> Stream:
        """Texts or ids as vectors: Part({"vectors": float32 [texts, E], "tokens": int}); see embedding.embed."""

    def score(self, model: str, text: str | Sequence[int], top: int = 0) -> Stream:
        """The log-probabilities of a text's own tokens: Part({"tokens": ids, "drawn": [...]}); see embedding.score."""

    def load(
        self,
        folder: str,
        name: str | None = None,
        backend: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        quantize: str | None = None,
        exact: bool = False,
        kv_cache: str = "auto",
        draft: str | None = None,
    ) -> Stream:
        """Load a model: Progress events, then Part(ModelCard); one that is loaded already gives its card at once.

        Where room is short, others go that have no work and no pin, the longest idle first; the card's notes say so.
        A request that names one of them loads it again as it was.

        quantize: one of host.QUANTS, to pack plain weights in so many bits. exact: compute with the numbers that packed
        weights have, in float32 unless dtype says otherwise. kv_cache: how keys and values are kept, one of
        host.KVCache. draft: the folder of a small model with the same tokens, loaded in the same way, which goes ahead
        of it so that it makes several tokens in a step where it was right; the first to go where room is short.
        """

    def unload(self, name: str) -> None:
        """Give a model's memory back; its requests end as cancelled. ModelNotFound if there is none of that name."""

    def pin(self, name: str, on: bool = True) -> None:
        """Let what has that name go only by hand, or by itself again. ModelNotFound for what was never loaded."""

    def keep(self, name: str, seconds: float | None) -> None:
        """How long a model stays without work: inf is pinned, 0 until its work has ended, None as all do."""

    def models(self) -> list[ModelCard]:
        """What is loaded, by name."""

    def stats(self) -> Stats:
        """The engine at a glance."""

    def flush(self) -> None:
        """Drop everything cached for reuse in memory; what is on disk stays."""

    def close(self, drain: bool = True) -> None:
        """End: with `drain` after what is running, else at once with `cancelled`. Idempotent."""

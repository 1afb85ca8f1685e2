"""A short list of models to begin with, one line each: what Crane runs, in sizes for small and large computers.

Sizes are those of the published weights (parameters times bytes each), caches follow from the published configs; both
are known before anything is downloaded, so that a person sees whether a model fits.
"""

from __future__ import annotations

from dataclasses import dataclass

from crane_app.library import fit
from crane_app.library.facts import Job


@dataclass(frozen=True)
class Offer:
    """A model on the hub. nbytes: of its files, about; cache: bytes of keys and values of a long conversation.

    runs: whether Crane can use it today; what it cannot use is shown as coming, and not offered.
    """

    repo: str
    job: Job
    architecture: str
    nbytes: int
    cache: int
    licence: str
    sentence: str
    runs: bool = True

    def verdict(self, memory: int) -> fit.Verdict:
        """Whether it fits into a computer with `memory` bytes."""
        return fit.verdict(self.nbytes, self.cache, memory)


def _cache(layers: int, heads: int, dim: int) -> int:
    """Keys and values of 2 bytes in every layer, for a long conversation."""
    return 2 * 2 * layers * heads * dim * fit.TYPICAL_CONTEXT


QWEN2, QWEN3 = "Qwen2ForCausalLM", "Qwen3ForCausalLM"
HUNYUAN, MOONSHINE = "HunYuanDenseV1ForCausalLM", "MoonshineForConditionalGeneration"
# fmt: off
OFFERS = (
    Offer("Qwen/Qwen3-0.6B", "chat", QWEN3, 1_503_000_000, _cache(28, 8, 128), "apache-2.0",
          "Small and quick; can think before it answers."),
    Offer("Qwen/Qwen3-1.7B", "chat", QWEN3, 4_063_000_000, _cache(28, 8, 128), "apache-2.0",
          "A good balance for a laptop; can think before it answers."),
    Offer("Qwen/Qwen3-4B-Instruct-2507", "chat", QWEN3, 8_045_000_000, _cache(36, 8, 128), "apache-2.0",
          "The best answers of this list for its size; answers at once."),
    Offer("Qwen/Qwen2.5-0.5B-Instruct", "chat", QWEN2, 988_000_000, _cache(24, 2, 64), "apache-2.0",
          "The smallest; for old computers and first tries."),
    Offer("Qwen/Qwen2.5-7B-Instruct", "chat", QWEN2, 15_231_000_000, _cache(28, 4, 128), "apache-2.0",
          "Large; for computers with much memory."),
    Offer("tencent/Hunyuan-0.5B-Instruct", "chat", HUNYUAN, 1_078_000_000, _cache(24, 8, 128), "Tencent's own terms",
          "Small, with a very long context."),
    Offer("UsefulSensors/moonshine-tiny", "dictate", MOONSHINE, 108_000_000, 0, "mit",
          "English speech to text; quick on every computer."),
    Offer("UsefulSensors/moonshine-base", "dictate", MOONSHINE, 246_000_000, 0, "mit",
          "English speech to text; fewer mistakes than the tiny one."),
)
# fmt: on


def find(repo: str) -> Offer | None:
    """The offer of that id, in whatever case it is typed."""
    return next((offer for offer in OFFERS if offer.repo.lower() == repo.lower()), None)


def suited(memory: int, job: Job = "chat") -> list[Offer]:
    """Those for a job that fit into `memory` bytes: first the one to begin with, which is the first that fits well."""
    fits = [(offer, offer.verdict(memory).fit) for offer in OFFERS if offer.job == job and offer.runs]
    first = next((offer for offer, fit_ in fits if fit_ in ("well", "unknown")), None)
    return sorted((offer for offer, fit_ in fits if fit_ != "no"), key=lambda offer: offer is not first)

"""A step of one model as the scheduler sees it: planned, on the device, or failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from crane_app.contract import Pending, Work
from crane_app.engine.lookup import Way
from crane_app.engine.sequence import Sequence
from crane_app.errors import CraneError, DeviceLost, NotEnoughMemory


@dataclass
class Plan:
    """The works of a step and whose they are; lengths are the rows' before it. making: keys of whole prompt blocks.

    way: how its decoding rows go on.
    """

    works: list[Work] = field(default_factory=list)
    sequences: list[Sequence] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    making: set[bytes] = field(default_factory=set)
    way: Way = Way.PLAIN

    def add(self, sequence: Sequence, length: int, work: Work) -> None:
        self.works.append(work)
        self.sequences.append(sequence)
        self.lengths.append(length)


@dataclass
class Launched:
    """A step on the device; at: when it was launched, where somebody measures."""

    pending: Pending
    plan: Plan
    at: float = 0.0


@dataclass
class Failed:
    """A step that could not be launched or read, set back already."""

    sequences: list[Sequence]
    error: Exception


def alike(prompts: list[Sequence]) -> Iterator[tuple[Sequence, list[Sequence]]]:
    """For each prompt the choice that is furthest with it, and the others, which wait to be copies of its row.

    A choice that was evicted computes its own again: it does not draw behind it a second time.
    """
    groups: dict[object, list[Sequence]] = {}
    for sequence in prompts:
        groups.setdefault(id(sequence) if sequence.made else sequence.whole, []).append(sequence)
    for group in groups.values():
        first = max(group, key=lambda s: (s.launched, bool(s.owner)))  # who has an owner may find more on the disk
        yield first, [other for other in group if other is not first]


def never(prompt: int, most: int) -> NotEnoughMemory:
    """What a prompt is told that no row can hold; both in tokens."""
    return NotEnoughMemory(
        f"The prompt has {prompt} tokens and the memory holds {most} of this model. Shorten the text, unload other "
        "models, or raise --gpu-memory-limit."
    )


def known(error: BaseException) -> CraneError:
    """The error as a sentence for the one whose row it was; without its frames, which hold on to the device."""
    if isinstance(error, CraneError):
        return type(error)(str(error))
    return DeviceLost(f"The device failed under this request ({type(error).__name__}: {error}).")

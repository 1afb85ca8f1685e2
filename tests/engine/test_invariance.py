"""A request's numbers are the same bits whatever else is in its steps: whole models, float32, one thread and two.

`chunks` cuts a long prompt; a script is what one row does step by step, and a story says which rows take part in each
step. Every row is run in the story and alone, and all logits are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from crane_app.contract import BLOCK, Sampling, Work
from crane_app.engine.generation import chunks, generate
from crane_app.engine.loading import Loaded, load
from crane_app.models import registry
from crane_app.models.weights import names
from tests.models.scramble import golden, write_checkpoint

CASES = ["qwen3", "qwen2", "mistral", "qwen3_moe", "near_flat"]
LIBRARIES = ["mlx", "torch, 1 thread", "torch, 2 threads"]
# One thread is tried with the plain model: two find what one does. The others are for `make soak`.
PAIRS = [
    pytest.param(case, library, marks=pytest.mark.soak if "1" in library and case != "qwen3" else ())
    for case in CASES
    for library in LIBRARIES
]
EVERYWHERE = pytest.mark.parametrize(("case", "backend_name"), PAIRS, indirect=["backend_name"])
CONTEXT = 2048
STEPS = 4  # tokens after the prompt

WIDE = {
    "hidden_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1009,
    "layer_types": None,
    "max_position_embeddings": CONTEXT,
}
WIDES = {  # inner widths that are whole numbers of vectors, and one that is not
    "qwen3, inner 1536": ("qwen3", {"intermediate_size": 1536}),
    "qwen2, inner 500": ("qwen2", {"intermediate_size": 500}),
    "qwen3_moe, experts of 200": ("qwen3_moe", {"moe_intermediate_size": 200, "num_experts_per_tok": 3}),
    "mistral, hidden 1000": ("mistral", {"hidden_size": 1000, "intermediate_size": 1001, "sliding_window": 300}),
}


@pytest.fixture(params=LIBRARIES)
def backend_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """MLX has no setting for its threads."""
    if request.param == "mlx":
        pytest.importorskip("mlx.core", exc_type=ImportError)
        yield "mlx"
    else:
        torch = pytest.importorskip("torch")
        torch.set_num_threads(2 if "2" in request.param else 1)
        yield "torch"
        torch.set_num_threads(1)


@dataclass(frozen=True)
class Script:
    """What one row is given: its tokens step by step, and how many of them get logits."""

    parts: tuple[tuple[np.ndarray, int], ...]

    @property
    def length(self) -> int:
        return sum(len(tokens) for tokens, _ in self.parts)


def script(rng: np.random.Generator, vocabulary: int, prompt: int, steps: int = STEPS) -> Script:
    """A prompt cut on the grid, all of whose last chunk is scored, then `steps` single tokens."""
    tokens = rng.integers(0, vocabulary, prompt + steps).astype(np.int32)
    cuts = list(chunks(prompt))
    parts = [(tokens[a:b], b - a if b == prompt else 0) for a, b in cuts]
    return Script((*parts, *((tokens[i : i + 1], 1) for i in range(prompt, prompt + steps))))


def play(loaded: Loaded, scripts: dict[str, Script], story: Sequence[Sequence[str]]) -> dict[str, list[np.ndarray]]:
    """The logits of each row's parts, rows taking their next part in the steps and the order of the story."""
    runner, got = loaded.runner, {name: [] for name in scripts}
    rows = {name: runner.cache.open(one.length) for name, one in scripts.items()}
    at = dict.fromkeys(scripts, 0)
    for step in story:
        taken = [name for name in step if name in scripts]
        work = []
        for name in taken:
            tokens, logits = scripts[name].parts[at[name]]
            work.append(Work(rows[name], tokens, logits=logits))
            at[name] += 1
        if not work:
            continue
        logits, first = runner.launch(work, keep_logits=True).read().logits, 0
        for name, item in zip(taken, work, strict=True):
            got[name].append(logits[first : first + item.logits])
            first += item.logits
    for row in rows.values():
        runner.cache.close(row)
    assert all(at[name] == len(scripts[name].parts) for name in scripts)
    assert runner.cache.nbytes() == 0
    return got


def assert_each_is_as_alone(loaded: Loaded, scripts: dict[str, Script], story: Sequence[Sequence[str]]) -> None:
    mixed = play(loaded, scripts, story)
    for name in scripts:
        alone = play(loaded, {name: scripts[name]}, story)[name]
        for part, (got, want) in enumerate(zip(mixed[name], alone, strict=True)):
            wrong = np.argwhere(got != want)
            assert not len(wrong), (
                f"row {name}, part {part}: {len(wrong)} of {want.size} logits differ, by "
                f"{np.abs(got - want).max():.1e} at most, the first at {wrong[0].tolist()}"
            )


def story_of(scripts: dict[str, Script], rng: np.random.Generator) -> list[list[str]]:
    """Rows come and go in any order; each step has some of those that are not done."""
    left = {name: len(one.parts) for name, one in scripts.items()}
    story = []
    while any(left.values()):
        step = [name for name in rng.permutation(list(scripts)) if left[name] and rng.random() < 0.7]
        for name in step:
            left[name] -= 1
        story.append(step)
    return story


def roomy(folder: Path, name: str) -> Path:
    """A golden case with a longer context."""
    case = golden(name)
    return replace(case, config={**case.config, "max_position_embeddings": CONTEXT}).write(folder)


def wide(folder: Path, kind: str) -> Path:
    name, sizes = WIDES[kind]
    config = {**golden(name).config, **WIDE, **sizes}
    module = registry.find(config)
    return write_checkpoint(folder, config, names(module.parameters(module.read(config))))


def two_and_a_chunked(rng: np.random.Generator, vocabulary: int) -> tuple[dict[str, Script], list[list[str]]]:
    """A and B decode while C's prompt of 602 tokens goes in, then all three decode; never twice in the same order."""
    scripts = {
        "a": script(rng, vocabulary, 23, 8),
        "b": script(rng, vocabulary, 40, 8),
        "c": script(rng, vocabulary, 602, 3),
    }
    return scripts, [["a", "b"], ["b", "a"], *(list(s) for s in ("acb", "cab", "abc", "bca", "acb", "cba", "ab"))]


@EVERYWHERE
def test_two_requests_and_a_chunked_prompt_in_one_step(tmp_path, backend_name, case):
    loaded = load(roomy(tmp_path, case), backend_name, "cpu", "float32")
    assert_each_is_as_alone(loaded, *two_and_a_chunked(np.random.default_rng(1), loaded.vocabulary))


@EVERYWHERE
def test_any_rows_in_any_steps(tmp_path, backend_name, case):
    loaded = load(roomy(tmp_path, case), backend_name, "cpu", "float32")
    rng = np.random.default_rng(CASES.index(case))
    lengths = [1, 2, 3, 17, 60, 255, 256, 257, 300, 513]
    scripts = {c: script(rng, loaded.vocabulary, int(rng.choice(lengths))) for c in "abcd"}
    assert_each_is_as_alone(loaded, scripts, story_of(scripts, rng))


@pytest.mark.parametrize("kind", WIDES)
@pytest.mark.parametrize("backend_name", ["torch, 1 thread", "torch, 2 threads"], indirect=True)
def test_wide_models_too(tmp_path, backend_name, kind):
    """PyTorch chooses kernels by shape, and shares work out among threads from some size on."""
    loaded = load(wide(tmp_path, kind), backend_name, "cpu", "float32")
    assert_each_is_as_alone(loaded, *two_and_a_chunked(np.random.default_rng(2), loaded.vocabulary))


def test_a_row_keeps_its_numbers_while_neighbours_grow_and_leave(tmp_path, backend_name):
    """Rows are moved when others need room or go; the one that stays sees nothing of it."""
    loaded = load(roomy(tmp_path, "qwen3"), backend_name, "cpu", "float32")
    runner, rng = loaded.runner, np.random.default_rng(3)
    tokens = rng.integers(0, loaded.vocabulary, 40).astype(np.int32)

    def run(company: bool) -> list[np.ndarray]:
        row, others, found = runner.cache.open(BLOCK), [], []
        for i, token in enumerate(tokens):
            work = [Work(row, np.array([token], np.int32))]
            if company and i % 3 == 0:
                others.append(runner.cache.open(BLOCK))
            if company and i % 5 == 4:
                runner.cache.close(others.pop(0))
            if company and i % 7 == 6:
                runner.cache.reserve(others[-1], runner.cache.room(others[-1]) + 1)
            work[0:0] = [Work(other, rng.integers(0, 199, 3).astype(np.int32), logits=0) for other in others]
            found.append(runner.launch(work, keep_logits=True).read().logits)
        for other in (row, *others):
            runner.cache.close(other)
        return found

    for got, want in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(got, want)


SAMPLINGS = {
    "a": Sampling(),
    "b": Sampling(temperature=0.8, seed=5),
    "c": Sampling(temperature=1.3, top_k=7, top_p=0.9, seed=6),
    "d": Sampling(temperature=1.0, top_k=40, min_p=0.02, seed=7, repetition_penalty=1.3, repeat_last_n=5),
    "e": Sampling(presence_penalty=0.5, frequency_penalty=0.2, logit_bias={3: 2.0, 9: -100.0}),
}


@pytest.mark.parametrize("case", ["qwen3", "near_flat"])
def test_tokens_drawn_in_company_are_those_drawn_alone(tmp_path, backend_name, case):
    """Five rows with five ways of drawing, each a step ahead of its reader, in steps of changing order."""
    loaded = load(roomy(tmp_path, case), backend_name, "cpu", "float32")
    runner, rng, count = loaded.runner, np.random.default_rng(4), 12
    prompts = {name: rng.integers(0, loaded.vocabulary, 5 + 9 * i).astype(np.int32) for i, name in enumerate(SAMPLINGS)}
    rows = {name: runner.cache.open(len(p) + count) for name, p in prompts.items()}
    seen, made = {name: p.tolist() for name, p in prompts.items()}, {name: [] for name in prompts}
    pending, order = None, []
    for turn in range(count):
        before, order = order, [str(name) for name in rng.permutation(list(rows))]
        work = [
            Work(
                rows[name],
                prompts[name] if turn == 0 else None,
                draw=SAMPLINGS[name],
                seen=np.array(seen[name], np.int32),
                made=len(made[name]),
            )
            for name in order
        ]
        ahead = runner.launch(work, pending)
        for name, drawn in zip(before, pending.read().drawn if pending else (), strict=True):
            seen[name].append(drawn[0].token)
            made[name].append(drawn[0].token)
        pending = ahead
    for name, drawn in zip(order, pending.read().drawn, strict=True):
        made[name].append(drawn[0].token)
    for row in rows.values():
        runner.cache.close(row)
    alone = {
        name: [d.token for d in generate(loaded, p.tolist(), SAMPLINGS[name], count)] for name, p in prompts.items()
    }
    assert made == alone

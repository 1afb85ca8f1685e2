"""Text models that Crane does not define, run by transformers on PyTorch. The one place that imports transformers.

transformers gets a folder and is told to stay in it: nothing is downloaded, no code from it runs, no pickle is read.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from crane_app.backends.adapted import AdapterRunner, Facts, examine, facts, name_of, unknown
from crane_app.backends.torch.leaf import TYPES
from crane_app.errors import BadCheckpoint, CraneError, Unsupported

LOCAL = {"trust_remote_code": False, "local_files_only": True}
CAUSAL, CONDITIONAL = "ForCausalLM", "ForConditionalGeneration"
TRIAL = 16  # tokens
CLOSE = 0.1  # above what 16-bit numbers lose, below what a wrong state changes


def adapt(folder: Path, backend: Any) -> tuple[AdapterRunner, Facts]:
    """The model in `folder` as transformers defines it, in the backend's dtype on its device."""
    raw = examine(folder)
    library = _transformers(raw)
    device = torch.device(backend.device.kind)
    model, notes = _load(library, folder, raw, TYPES[backend.dtype])
    foreign = Transformers(model.to(device).eval(), library.DynamicCache)
    _try(foreign, name_of(raw), device)
    width = foreign.model.get_output_embeddings().weight.shape[0]
    # a tied head and its table are one tensor
    weights = sum({t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}.values())
    found = facts(raw, width, weights, "transformers")
    runner = AdapterRunner(backend, foreign, found.vocabulary, found.context)
    return runner, replace(found, notes=found.notes + notes)


class Transformers:
    """A model of transformers; see adapted.Foreign. single: what follows a filled cache goes token by token."""

    single = False

    def __init__(self, model: Any, cache: type):
        self.model = model
        self._cache = cache
        self._word = _cache_word(type(model))

    def fresh(self) -> Any:
        return self._cache(config=self.model.config)

    def forward(self, tokens: torch.Tensor, cache: Any, count: int) -> torch.Tensor:
        if self.single and len(tokens) > 1 and self.arrays(cache):
            logits = torch.cat([self._logits(token, cache, 1) for token in tokens.split(1)])
        else:
            logits = self._logits(tokens, cache, count)
        return logits[len(logits) - count :]

    def _logits(self, tokens: torch.Tensor, cache: Any, count: int) -> torch.Tensor:
        """Of one position at least: transformers reads 0 as all."""
        kept = {self._word: cache, "logits_to_keep": max(count, 1)}
        return self.model(input_ids=tokens[None].long(), use_cache=True, **kept).logits[0]

    def cut(self, cache: Any, excess: int) -> bool:
        if not all(_cuttable(layer) for layer in cache.layers):
            return False
        cache.crop(-excess)
        return True

    def arrays(self, cache: Any) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for layer in cache.layers:
            for value in vars(layer).values():
                found += [t for t in (value.values() if isinstance(value, dict) else [value]) if torch.is_tensor(t)]
        return found

    def nbytes(self, cache: Any) -> int:
        """Of whole storages: a window and a cut row are views into what they were cut from."""
        storages = [t.untyped_storage() for t in self.arrays(cache) if t.ndim]
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def _try(foreign: Transformers, name: str, device: torch.device) -> None:
    """Find out whether a recurrent model takes several tokens after others, as mamba2 does and mamba does not, and
    whether two rows keep apart, as they do not in recurrent_gemma; Unsupported where no way gives the right logits."""
    tokens = torch.arange(2 * TRIAL, dtype=torch.int32, device=device)
    tokens %= foreign.model.config.get_text_config().vocab_size
    with torch.inference_mode():
        cache = foreign.fresh()
        whole = foreign.forward(tokens, cache, TRIAL)
        if foreign.cut(cache, 1):
            return  # keys alone are right however they came
        at_once, single = (_error(foreign, tokens, whole, way) for way in (False, True))
    foreign.single = at_once > max(3 * single, 1e-3)
    if single > CLOSE:
        raise Unsupported(f"{name} does not keep the states of two conversations apart in transformers.")


def _error(foreign: Transformers, tokens: torch.Tensor, whole: torch.Tensor, single: bool) -> float:
    """How far off the second half's logits are when another row runs between the halves; in largest logits."""
    foreign.single = single
    one, other = foreign.fresh(), foreign.fresh()
    foreign.forward(tokens[:TRIAL], one, 1)
    foreign.forward(tokens[TRIAL:], other, 1)
    parts = foreign.forward(tokens[TRIAL:], one, TRIAL)
    return float((parts - whole).abs().max() / whole.abs().max())


def _cuttable(layer: Any) -> bool:
    """Whether cropping leaves a layer as if the positions had never been: all keys are there, and nothing else."""
    name = type(layer).__name__
    if name == "DynamicSlidingWindowLayer":
        return layer.get_seq_length() < layer.sliding_window
    return name == "DynamicLayer"


def _cache_word(model: type) -> str:
    """How the model's forward calls its cache; Unsupported if it takes none that works for all models."""
    known = inspect.signature(model.forward).parameters
    words = [word for word in ("past_key_values", "cache_params") if word in known and "logits_to_keep" in known]
    if not words:
        raise Unsupported(f"{model.__name__} keeps its state in a way that Crane cannot hold for each conversation.")
    return words[0]


def _transformers(raw: dict[str, Any]) -> ModuleType:
    # Otherwise recurrent models fetch kernels from the hub where the package `kernels` is installed; read at import.
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    try:
        import transformers
    except ImportError as error:
        raise Unsupported(
            f"Crane does not define {name_of(raw)} itself; transformers may know it. "
            'Install it: pip install "crane-app[transformers]"'
        ) from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _load(library: ModuleType, folder: Path, raw: dict[str, Any], dtype: torch.dtype) -> tuple[Any, tuple[str, ...]]:
    """The model, and what a person should know about its tensors."""
    try:
        config = library.AutoConfig.from_pretrained(folder, **LOCAL)
        kind = _class(library, config, raw)
        model, told = library.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
            use_safetensors=True,
            output_loading_info=True,
            **LOCAL,
        )
    except CraneError:
        raise
    except ImportError as error:
        raise Unsupported(f"{folder}: transformers needs another package for it ({error!s:.300})") from error
    except Exception as error:  # a damaged folder may fail anywhere in a library that trusts it
        if raw["model_type"] not in library.CONFIG_MAPPING:
            raise unknown(raw, "transformers") from None
        said = f"{type(error).__name__}: {error!s:.300}"
        raise BadCheckpoint(f"{folder}: transformers cannot load it ({said})") from error
    if missing := sorted(told["missing_keys"]):  # transformers would fill them with noise
        raise BadCheckpoint(f"{folder}: the model needs the tensor {missing[0]}; no file has it")
    rest = sorted(told["unexpected_keys"])
    return model, (f"{len(rest)} tensors are not part of this model, {rest[0]} the first of them.",) if rest else ()


def _class(library: ModuleType, config: Any, raw: dict[str, Any]) -> Any:
    """transformers' class for a config; Unsupported unless it writes text, and is what the config says it is.

    A ForConditionalGeneration reads pictures too; its text half is loaded.
    """
    kind = library.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    named = kind is not None and name_of(raw) in (kind.__name__, kind.__name__.replace(CAUSAL, CONDITIONAL))
    if not named or config.is_encoder_decoder:
        raise unknown(raw, "transformers, as a model that writes text,")
    _cache_word(kind)
    return kind

"""What a caller wrote, as llguidance takes it, within limits of size; and what llguidance says, as words of a sentence.

Checked here is what its own limits do not catch: patterns that must hold together cost twice as much with each one
more, and thousands of properties that may be left out cost their square.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from crane_app.engine.request import Grammar
from crane_app.errors import BadGrammar

MOST_TEXT = 1 << 17  # characters
MOST_PROPERTIES, MOST_JOINED = 1000, 16
# A line may be indented or a space be set, but nothing is gained by blanks without end.
WHITESPACE = r"( {1,2}|\r?\n[ \t]{0,40})"
INLINE = re.compile(r"%json\b\s*")
# Without forcing, what must come may be cut into tokens in any way, and no tokenizer is asked how it would cut it.
# A thought is any bytes; 0xFF, which no text has, begins what llguidance takes for special tokens.
FLAGS = '%llguidance {"no_forcing": true, "allow_invalid_utf8": true}\n'
THOUGHT = '\nthought[suffix="</think>"]: /(?s-u:[^\\xFF]*)/\ngap: /\\n{0,2}/'
TOPS = {
    "none": f"{FLAGS}start: @answer",
    "open": f"{FLAGS}start: thought gap @answer{THOUGHT}",
    "free": f'{FLAGS}start: ("<think>" thought gap)? @answer{THOUGHT}',
}
REASONS = {
    "NoExtensionBias": "nothing that the model can write satisfies it",
    "Unimplemented keys": "these keywords cannot be enforced",
}


def source(grammar: Grammar) -> dict[str, Any]:
    """llguidance's grammar in the form of JSON. BadGrammar says what is wrong with the caller's."""
    if len(grammar.text) > MOST_TEXT:
        raise _refused(grammar, f"it has {len(grammar.text)} characters; at most {MOST_TEXT} are taken")
    if grammar.kind not in KINDS:
        raise _refused(grammar, f"there is no kind '{grammar.kind:.40}' of grammar. There are: {', '.join(KINDS)}")
    if grammar.thought not in TOPS:
        raise _refused(grammar, f"a thought is none, open or free, not '{grammar.thought:.40}'")
    try:
        answer = KINDS[grammar.kind](grammar)
    except RecursionError:
        raise _refused(grammar, "it is nested too deeply") from None
    top = {"name": "top", "lark_grammar": TOPS[grammar.thought]}
    return {"grammars": [top, {"name": "answer", **answer}]}


def reason(words: str) -> str:
    """What the library says, on one line and without its full stop."""
    for theirs, ours in REASONS.items():
        words = words.replace(theirs, ours)
    said = " ".join(words.replace("<non-verbose/>", "").split("Enable 'coerce_one_of'")[0].split())
    return said[:300].rstrip(" .") or "it is too complex"


def _schema(grammar: Grammar) -> dict[str, Any]:
    try:
        schema = json.loads(grammar.text)
    except ValueError as error:
        raise _refused(grammar, f"it is no JSON ({error})") from None
    return {"json_schema": _checked(grammar, schema)}


def _checked(grammar: Grammar, schema: Any) -> Any:
    """The schema, with our white space in it."""
    if schema is False:
        raise _refused(grammar, "it allows nothing")
    schema = {} if schema is True else schema
    if not isinstance(schema, dict):
        raise _refused(grammar, "a JSON schema must be an object")
    objects = list(_objects(schema))
    count = sum(len(each["properties"]) for each in objects if isinstance(each.get("properties"), dict))
    if count > MOST_PROPERTIES:
        raise _refused(grammar, f"it has {count} properties; at most {MOST_PROPERTIES} are taken")
    patterns = sum(name in each for each in objects for name in ("pattern", "format"))
    if patterns > MOST_JOINED and any(_joins(each) for each in objects):
        raise _refused(grammar, f"it joins {patterns} patterns and formats; at most {MOST_JOINED} may be joined")
    return {**schema, "x-guidance": {"whitespace_pattern": WHITESPACE}}


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a value."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each


def _joins(schema: dict[str, Any]) -> bool:
    """Whether several parts must hold together."""
    parts = schema.get("allOf")
    several = isinstance(parts, list) and len(parts) > 1
    beside = any(name in schema for name in ("pattern", "format", "properties"))
    return several or (beside and any(name in schema for name in ("$ref", "allOf", "anyOf", "oneOf")))


def _regex(grammar: Grammar) -> dict[str, Any]:
    from llguidance import LLMatcher

    made = json.loads(LLMatcher.grammar_from_regex(grammar.text))
    return {"lark_grammar": made["grammars"][0]["lark_grammar"]}


def _choice(grammar: Grammar) -> dict[str, Any]:
    choices = json.loads(grammar.text)
    if not (isinstance(choices, list) and choices and all(isinstance(each, str) for each in choices)):
        raise _refused(grammar, "it must be a list of texts, at least one")
    return {"lark_grammar": "start: CHOICE\nCHOICE: " + " | ".join(map(json.dumps, choices))}


def _ebnf(grammar: Grammar) -> dict[str, Any]:
    """llama.cpp's GBNF, and what people write as Lark."""
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return _lark(grammar, any_to_lark(grammar.text))
    except (BadGrammar, RecursionError):
        raise
    except Exception as error:  # the converter raises bare ones
        raise _refused(grammar, reason(str(error))) from None


def _lark(grammar: Grammar, text: str = "") -> dict[str, Any]:
    text = text or grammar.text
    for inline in INLINE.finditer(text):
        try:
            schema, _ = json.JSONDecoder().raw_decode(text, inline.end())
        except ValueError:
            continue  # llguidance says where
        _checked(grammar, schema)
    return {"lark_grammar": text}


KINDS: dict[str, Callable[[Grammar], dict[str, Any]]] = {
    "json_schema": _schema,
    "json_object": lambda grammar: {"json_schema": _checked(grammar, {"type": "object"})},
    "regex": _regex,
    "choice": _choice,
    "ebnf": _ebnf,
    "lark": _lark,
}


def _refused(grammar: Grammar, words: str) -> BadGrammar:
    return BadGrammar(f"{grammar.field} cannot be used: {words}.")

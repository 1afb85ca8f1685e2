"""docs/compatibility.md says what the code does."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from crane_app.server.app import ENDPOINTS
from crane_app.server.fields import take
from crane_app.server.problems import Problem
from crane_app.server.service import Endpoint

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_tables_say():
    spec = importlib.util.spec_from_file_location("compatibility", ROOT / "tools" / "compatibility.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
    assert written == module.page(), "write it anew: python tools/compatibility.py"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.paths[0])
def test_a_field_stands_once_and_does_what_the_table_says(endpoint: Endpoint):
    assert [name for name, count in Counter(f.name for f in endpoint.fields).items() if count > 1] == []
    for field in endpoint.fields:
        if field.fate == "harmless":
            assert take(endpoint.fields, {field.name: object()}) == {}
        elif field.fate == "refused":
            assert field.note, "a refusal has a reason"
            with pytest.raises(Problem, match="is not supported") as raised:
                take(endpoint.fields, {field.name: object()})
            assert raised.value.param == field.name
        else:
            assert take(endpoint.fields, {field.name: None}) == {}

"""Our decoder against what transformers computed, and planted faults that must be seen."""

from __future__ import annotations

import pytest

from tests.models.faults import FAULTS
from tests.models.parity import DTYPES, measure
from tests.models.scramble import golden_names


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", golden_names())
def test_the_decoder_gives_what_transformers_gives(case, backend_name, dtype, tmp_path):
    row = measure(case, backend_name, dtype, tmp_path)
    assert row.passed, str(row)


@pytest.mark.parametrize(("case", "fault"), FAULTS, ids=lambda x: getattr(x, "__name__", x))
def test_a_planted_fault_is_seen(case, fault, backend_name, tmp_path):
    row = measure(case, backend_name, "float32", tmp_path, fault)
    assert not row.passed, str(row)

"""The short list of models: what is offered to whom."""

from __future__ import annotations

import pytest

from crane_app.library import catalogue
from crane_app.library.catalogue import OFFERS, suited

GIB = 2**30


@pytest.mark.parametrize("job", ["chat", "dictate"])
@pytest.mark.parametrize("memory", [0, 4 * GIB, 8 * GIB, 64 * GIB])
def test_nothing_is_offered_that_does_not_fit_and_what_fits_well_comes_first(memory: int, job: catalogue.Job):
    offers = suited(memory, job)
    assert offers
    assert all(offer.job == job and offer.verdict(memory).fit != "no" for offer in offers)
    well = [offer for offer in OFFERS if offer.job == job and offer.verdict(memory).fit == "well"]
    assert not well or offers[0] is well[0]


def test_a_tiny_computer_is_offered_no_chat():
    assert suited(GIB // 2) == []


def test_an_offer_is_found_in_whatever_case_it_is_typed():
    assert catalogue.find("qwen/QWEN3-0.6b") is OFFERS[0]
    assert catalogue.find("nobody/nothing") is None

"""After every test, all caches are empty."""

from tests.leftovers import no_cache_is_left, watch  # noqa: F401

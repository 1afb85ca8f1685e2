"""The introduction of the first start: three steps, each of which may be skipped."""

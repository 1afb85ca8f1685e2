"""Markdown as it is seen: it streams, never stalls, and loads nothing."""

"""The view of the server: on or off, where, for whom, and what to write in programs that use it."""

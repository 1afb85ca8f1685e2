"""The engine as a child process: one per user, with several clients on a local socket."""

"""The commands. One module a verb: SENTENCE, add_flags(parser), run(args) -> exit status."""

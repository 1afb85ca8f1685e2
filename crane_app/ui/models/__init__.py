"""Models: on this machine, and to be had."""

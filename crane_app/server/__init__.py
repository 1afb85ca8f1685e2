"""The engine over HTTP: the APIs that other programs speak. Knows no window and no command line."""

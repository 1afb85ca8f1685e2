"""The one place that says which Crane this is."""

VERSION = "0.1.0"

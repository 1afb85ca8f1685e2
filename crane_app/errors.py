"""Errors a person can act on. `str(error)` is shown as it is; programmer mistakes stay plain Python errors."""


class CraneError(Exception):
    """A sentence that says what went wrong and what to do about it."""


class ModelNotFound(CraneError):
    """No model where one was named."""


class BadCheckpoint(CraneError):
    """The files of a model are damaged, incomplete or contradict each other."""


class BadInput(CraneError):
    """A picture, document or text that cannot be read as what it claims to be."""


class NotEnoughMemory(CraneError):
    """Refused before anything was taken."""


class PromptTooLong(BadInput):
    """A prompt that leaves the context no room for an answer."""


class BadGrammar(BadInput):
    """A schema, pattern or grammar that an answer cannot be held to."""


class Unsupported(CraneError):
    """Asked for something this build, machine or model does not do."""


class DeviceLost(CraneError):
    """The device failed under way; the model must be loaded again."""


class Cancelled(CraneError):
    """The caller asked to stop."""

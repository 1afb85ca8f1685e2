"""What can be wrong with a request, as HTTP says it: a status, and OpenAI's body around one sentence."""

from __future__ import annotations

import logging
from typing import Any

from crane_app import errors
from crane_app.errors import CraneError

log = logging.getLogger(__name__)

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "aborted",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "service_unavailable",
}
RETRY_S = "1"  # seconds after which a busy server may be asked again
# The first that fits; what is in none of them is our own fault.
STATUSES: tuple[tuple[type[CraneError], int, str | None], ...] = (
    (errors.PromptTooLong, 400, "context_length_exceeded"),
    (errors.BadInput, 400, None),
    (errors.Unsupported, 400, None),
    (errors.ModelNotFound, 404, "model_not_found"),
    (errors.NotEnoughMemory, 503, "not_enough_memory"),
    (errors.DeviceLost, 503, "engine_lost"),
    (errors.Cancelled, 409, "aborted"),
)


class Problem(Exception):
    """Ends a request with this answer. param: the field at fault; code: a word for programs."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        return {"retry-after": RETRY_S} if self.status in (429, 503) else {}


def refused(param: str, sentence: str) -> Problem:
    """A field that is wrong, or asks for what is not there."""
    return Problem(400, sentence, param)


def problem_of(error: BaseException) -> Problem:
    """Any error as an answer; what nobody expected goes to the log and is told without its inside."""
    if isinstance(error, Problem):
        return error
    for kind, status, code in STATUSES:
        if isinstance(error, kind):
            return Problem(status, str(error), code=code)
    if isinstance(error, CraneError):
        return Problem(500, str(error))
    log.error("a request failed", exc_info=error)
    return Problem(500, f"Something went wrong that Crane did not expect ({type(error).__name__}).")

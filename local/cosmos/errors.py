"""What the service refuses, as it is answered over HTTP."""

from collections.abc import Mapping
from typing import Final

_CODES: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    424: "FailedDependency",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}


class CosmosError(Exception):
    """An HTTP status with the service's code for it; `substatus` and `headers` where the service adds them."""

    def __init__(
        self, status: int, message: str, *, substatus: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.substatus = substatus
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, str]:
        return {"code": _CODES.get(self.status, "Error"), "message": self.message}

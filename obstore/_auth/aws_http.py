"""Asking for credentials over HTTP: one request, a few tries, and errors that show nothing of what was asked."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Protocol

from obstore._effects import COLLECT, AttemptFailed, Op, Send, Sleep
from obstore.exceptions import (
    ConnectionFailedError,
    GenericError,
    RequestTimeoutError,
    UnauthenticatedError,
    redact_url,
)

__all__ = ["Answer", "Clients", "ask", "read_json", "refused"]

_AGAIN = frozenset({"connect", "dns", "timeout", "stall", "interrupted", "parked", "cancelled"})
_PAUSE_S = 0.1


class Clients(Protocol):
    """How requests for credentials leave the process; opaque here, the runner gives them to the engine."""

    def service(self, url: str) -> Any:
        """For a service of the cloud at ``url``: with the store's proxy and certificates."""

    def metadata(self, timeout_s: float) -> Any:
        """For addresses of this machine or its host: no proxy, plain HTTP, and no patience beyond ``timeout_s``."""


class Answer:
    """A status and what came with it."""

    __slots__ = ("body", "date", "status")

    def __init__(self, status: int, body: bytes, date: str | None) -> None:
        self.status = status
        self.body = body
        self.date = date


def ask(
    client: Any,
    method: str,
    url: str,
    *,
    who: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
    attempts: int = 3,
    hint: str | None = None,
) -> Op[Answer]:
    """Send a request until it is answered with less than 500; what comes of that is the caller's to judge.

    Args:
        client: of `Clients`.
        method, url, headers, body: the request.
        who: is asked, in messages.
        attempts: tries in all.
        hint: what to do where nobody answers.

    Raises:
        ConnectionFailedError, RequestTimeoutError, GenericError: there was no answer at the last try.
    """
    for left in reversed(range(attempts)):
        failure: AttemptFailed | None = None
        response: Any = None
        attempt = Send(client, method, url, headers, None if body is None else [body], COLLECT)
        try:
            response = yield attempt
        except AttemptFailed as error:
            failure = error.with_traceback(None)
        finally:
            del attempt  # with its headers
        if failure is None:
            if left == 0 or (response.status < 500 and response.status != 429):
                return Answer(response.status, bytes(response.body()), response.header("date"))
        elif left == 0 or failure.kind not in _AGAIN:
            failure.response = None
            raise _unreachable(failure, who, url, hint)
        del failure, response
        yield Sleep(random.uniform(0.0, _PAUSE_S * 2 ** (attempts - left)))  # noqa: S311 - not cryptography
    raise AssertionError("attempts is at least 1")


def _unreachable(failure: AttemptFailed, who: str, url: str, hint: str | None) -> Exception:
    kind: type[GenericError] = GenericError
    if failure.kind in ("timeout", "stall"):
        kind = RequestTimeoutError
    elif failure.kind in ("connect", "dns", "interrupted"):
        kind = ConnectionFailedError
    origin = "/".join(url.split("/", 3)[:3])
    if url.startswith("http:") and failure.kind in ("protocol", "engine"):
        hint = "set allow_http=True in client_options to use an unencrypted endpoint"
    return kind.of(
        who, f"no answer from {redact_url(origin)}: {failure.message or failure.kind}", retryable=True, hint=hint
    )


def refused(
    who: str, answer: Answer, *, code: str | None = None, message: str = "", hint: str | None = None
) -> Exception:
    """The exception for an answer that holds no credentials.

    Args:
        who: was asked.
        answer: the answer; its body is not shown.
        code: the service's error code, where it has one.
        message: what it says, known to hold no secrets.
        hint: what to do about it.
    """
    said = ": ".join(part for part in (code, message) if part)
    text = f"{who} answered {answer.status}{': ' + said if said else ''}"
    if answer.status >= 500 or answer.status == 429:
        return GenericError.of(who, text.removeprefix(f"{who} "), status=answer.status, code=code, retryable=True)
    return UnauthenticatedError(text, status=answer.status, code=code, hint=hint)


def read_json(body: bytes | str) -> dict[str, Any] | None:
    """The object that a JSON document is, or ``None`` where it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

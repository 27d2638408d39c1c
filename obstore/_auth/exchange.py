"""Requests for credentials: to token endpoints, metadata services and their like.

Such a request goes to another host than the store's, unsigned, and is repeated a few times only: whoever waits for it waits
for a token, and wants to hear soon that there is none.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from obstore._effects import COLLECT, AttemptFailed, Op, Send, Sleep
from obstore.exceptions import BaseError, UnauthenticatedError, redact_url

__all__ = ["Exchange", "json_object"]

_TRIES = 4
_FIRST_PAUSE_S = 0.2
_MAX_PAUSE_S = 10.0
# What may go well next time; a metadata service that is starting up says 404 or 410 for a moment.
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class Exchange:
    """Asks one service for tokens.

    Args:
        client: connection options; opaque here, the runner gives it to the engine.
        what: names the service in messages: ``Microsoft Entra token endpoint``.
        hint: what to check where it cannot be reached.
        again: further statuses after which to try again.
        tries: attempts at most, those that found no connection included.
    """

    def __init__(
        self, client: Any, what: str, *, hint: str | None = None, again: Sequence[int] = (), tries: int = _TRIES
    ) -> None:
        self._client = client
        self._what = what
        self._hint = hint
        self._again = _AGAIN | frozenset(again)
        self._tries = tries

    def ask(
        self, method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
    ) -> Op[tuple[int, bytes]]:
        """Send until there is an answer that counts.

        Args:
            method: HTTP method in upper case.
            url: where to; its secret parameters do not reach messages.
            headers: name-value pairs.
            body: of the request.

        Returns:
            Status and body of the answer, a refusal too.

        Raises:
            UnauthenticatedError: there was none.
        """
        pause = _FIRST_PAUSE_S
        for number in range(1, self._tries + 1):
            attempt = Send(self._client, method, url, headers, None if body is None else (body,), COLLECT)
            problem = ""
            try:
                response = yield attempt
            except AttemptFailed as failure:
                problem = failure.message or failure.kind
            finally:
                del attempt  # it holds secrets, and tools print the variables of frames that failed
            if not problem:
                status = response.status
                if status not in self._again or number == self._tries:
                    return status, bytes(response.body())
                pause = max(pause, _retry_after(response.header("retry-after")))
            elif number == self._tries:
                del headers, body
                raise self.refused(url, problem, hint=self._hint)
            yield Sleep(min(_MAX_PAUSE_S, pause) * random.uniform(0.75, 1.25))  # noqa: S311 - not cryptography
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def refused(
        self, url: str, detail: str, *, status: int | None = None, code: str | None = None, hint: str | None = None
    ) -> BaseError:
        """The exception where no token was to be had."""
        return UnauthenticatedError(
            f"No token from {self._what} ({redact_url(url)}): {detail}",
            status=status,
            code=code,
            url=url,
            hint=hint,
        )


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0

"""google-auth's HTTP, through our own engine.

google-auth is written for a blocking transport: it calls one in the middle of its work. Here the transport does not send. It
ends the work with what was to be sent; the operation sends that, and the work starts over with the answer at hand, until it
has all it asks for. The work is refreshing a token: short, repeatable, at most three requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from obstore._effects import COLLECT, AttemptFailed, Call, Op, Send, Sleep
from obstore.exceptions import ConnectionFailedError, GenericError, redact_url

__all__ = ["ClientFor", "with_http"]

T = TypeVar("T")
# Makes the connection options for a URL; ``True`` for the metadata server, which is near or not there at all.
ClientFor = Callable[[str, bool], Any]

_TRIES = 3
_FIRST_PAUSE_S = 0.2
_METADATA_HEADER = "metadata-flavor"


class _Answer:
    """An answer as google-auth reads it."""

    def __init__(self, response: Any) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = dict(response.headers())
        self.data = bytes(response.body())


class _Asked(BaseException):
    """What google-auth wants to send."""

    def __init__(self, method: str, url: str, body: bytes | None, headers: dict[str, str]) -> None:
        super().__init__(url)
        self.method = method
        self.url = url
        self.body = body
        self.headers = headers


class _Transport:
    """A ``google.auth.transport.Request`` that answers what was sent before, and asks for the rest."""

    def __init__(self, answers: list[tuple[str, str, _Answer]]) -> None:
        self._answers = list(answers)

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: Any = None,  # noqa: ARG002 - the client has its own
        **kwargs: Any,
    ) -> _Answer:
        del kwargs
        for index, (known_method, known_url, answer) in enumerate(self._answers):
            if (known_method, known_url) == (method, url):
                del self._answers[index]
                return answer
        if isinstance(body, str):
            body = body.encode()
        raise _Asked(method, url, body, {name.lower(): value for name, value in (headers or {}).items()})


def with_http(work: Callable[[Any], T], client_for: ClientFor) -> Op[T]:
    """Do ``work`` with a transport for google-auth.

    Args:
        work: called with the transport, more than once, where it may block.
        client_for: connection options for a URL.

    Raises:
        ConnectionFailedError: an address cannot be reached.
        GenericError: it answers that it has trouble of its own.
    """
    answers: list[tuple[str, str, _Answer]] = []
    while True:
        outcome = yield Call(_attempt, work, answers)
        if not isinstance(outcome, _Asked):
            result: T = outcome
            return result
        asked, outcome = outcome, None
        response = yield from _send(asked, client_for)
        answers.append((asked.method, asked.url, _Answer(response)))
        del response


def _attempt(work: Callable[[Any], T], answers: list[tuple[str, str, _Answer]]) -> T | _Asked:
    try:
        return work(_Transport(answers))
    except _Asked as asked:
        return asked.with_traceback(None)


def _send(asked: _Asked, client_for: ClientFor) -> Op[Any]:
    """Send, again where that may help; within seconds it succeeds or raises."""
    client = client_for(asked.url, _METADATA_HEADER in asked.headers)
    headers = list(asked.headers.items())
    where = redact_url(asked.url)
    problem: Exception | None = None
    for number in range(_TRIES):
        if number:
            yield Sleep(_FIRST_PAUSE_S * 2 ** (number - 1))
        body = None if asked.body is None else [asked.body]
        attempt = Send(client, asked.method, asked.url, headers, body, COLLECT)
        failure: AttemptFailed | None = None
        try:
            response = yield attempt
        except AttemptFailed as exc:
            failure = exc.with_traceback(None)
        finally:
            del attempt, body
        if failure is not None:
            problem = ConnectionFailedError.of(
                "GCS",
                f"cannot get an access token from {where}: {failure.message or failure.kind}",
                url=where,
                retryable=True,
                hint="check token_uri in the credentials, the network and proxies; bearer_token needs no such address",
            )
            continue
        if response.status in (408, 429) or response.status >= 500:
            problem = GenericError.of(
                "GCS",
                f"cannot get an access token: {where} answers with status {response.status}",
                status=response.status,
                url=where,
                retryable=True,
            )
            continue
        return response
    assert problem is not None
    try:
        raise problem
    finally:
        del problem, headers  # the traceback holds this frame; headers hold secrets

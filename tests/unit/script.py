"""Drive operations by a script: what they yield is asserted, what they get back is given. No sockets, no waiting.

A `Script` plays the runner. Each effect is compared with the next step; a step's answer is a value to send or an exception to
throw. Forks run when they are joined or cancelled, in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from obstore._config.keys import S3_KEYS
from obstore._config.paths import parse_key
from obstore._config.retry import RetryPolicy
from obstore._config.s3 import S3Settings
from obstore._dialect.s3 import S3Dialect
from obstore._effects import (
    AttemptFailed,
    Await,
    Call,
    Cancel,
    Cancelled,
    Collect,
    Fill,
    Flight,
    Fork,
    Join,
    Op,
    Read,
    Send,
    Sleep,
)
from obstore._ops.remote import RemoteBackend

__all__ = ["Answer", "Driver", "FakeSource", "backend_of", "failed", "plan"]


class Timing:
    """Timings of an attempt that took no time."""

    total = 0.0


class Answer:
    """A response as the engine would hand it back."""

    def __init__(self, status: int = 200, body: bytes = b"", *, sliced: bool = False, **headers: str) -> None:
        self.status = status
        self._body = body
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.received = len(body)
        self.sliced = sliced
        self.resent = False
        self.ended = False
        self.cancelled = 0

    def header(self, name: str) -> str | None:
        return self._headers.get(name.lower())

    def headers(self) -> list[tuple[str, str]]:
        return list(self._headers.items())

    def body(self) -> bytes:
        return self._body

    def take_body(self) -> bytes:
        body, self._body = self._body, b""
        return body

    def cancel(self) -> None:
        self.cancelled += 1

    def timing(self) -> Timing:
        return Timing()


def failed(kind: str, *, sent: bool = True, response: Answer | None = None) -> AttemptFailed:
    """An attempt that failed; with ``response``, after its body was received as far as it goes."""
    failure = AttemptFailed(
        kind, f"{kind} happened", sent=sent, received=0 if response is None else response.received, timing=Timing()
    )
    failure.response = response
    return failure


class FakeSource:
    """Credentials: anonymous, unless a list of them is given."""

    renewable = True
    key = "fake"

    def __init__(self, *credentials: Any) -> None:
        self.left = list(credentials)
        self.refreshed: list[Any] = []

    def current(self, now: float) -> Any:
        return self.left[0]

    def refresh(self, after: Any = None) -> Op[Any]:
        self.refreshed.append(after)
        self.left.pop(0)
        return self.left[0]
        yield


def backend_of(source: Any = None, *, policy: dict[str, Any] | None = None, **config: Any) -> RemoteBackend:
    """An S3 backend on a made-up bucket."""
    from obstore._auth.aws import ANONYMOUS

    settings = {"bucket": "b", "region": "r", "endpoint": "http://host", "skip_signature": True, **config}
    given = {name: value for name, value in settings.items() if value is not None}
    merged = S3_KEYS.merge(None, config=None, kwargs=given, provider=None)
    merged.client({"allow_http": True})
    dialect = S3Dialect(S3Settings.build(merged, credential_provider=source is not None))
    return RemoteBackend(
        dialect, None, FakeSource(ANONYMOUS) if source is None else source, RetryPolicy(**(policy or {})), parse_key
    )


class Child:
    """A fork that runs when the driver gets to it."""

    def __init__(self, op: Op[Any]) -> None:
        self.op = op
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.begun = False


class Driver:
    """Performs effects in place and keeps a log of them.

    Args:
        answer: called with each `Send`; returns the response, or an exception to throw.
        body: called with each `Read` and `Collect`, likewise.
        on_effect: called with every effect before it is performed; may raise what is then thrown into the operation.

    Attributes:
        sends: every request as ``"METHOD path?query"``.
        slept: seconds of every pause.
        log: names of all effects.
        most: the largest number of forks that were alive together.
    """

    def __init__(
        self,
        answer: Callable[[Send], Any] | Iterable[Any] = (),
        body: Callable[[Any], Any] | Iterable[Any] = (),
        on_effect: Callable[[Any], None] | None = None,
    ) -> None:
        self._answer = answer if callable(answer) else _each(answer)
        self._body = body if callable(body) else _each(body)
        self._on_effect = on_effect
        self.requests: list[Send] = []
        self.sends: list[str] = []
        self.slept: list[float] = []
        self.log: list[str] = []
        self.alive: list[Child] = []
        self.most = 0
        self.cancelled = 0

    def run(self, op: Op[Any]) -> Any:
        """Perform ``op``; return its result or raise its error."""
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = op.send(value) if error is None else op.throw(error)
            except StopIteration as stop:
                return stop.value
            value = error = None
            self.log.append(type(effect).__name__)
            try:
                if self._on_effect is not None:
                    self._on_effect(effect)
                value = self._perform(effect)
            except BaseException as raised:
                error = raised

    def _perform(self, effect: Any) -> Any:
        match effect:
            case Send():
                self.requests.append(effect)
                self.sends.append(f"{effect.method} {effect.url.removeprefix('http://host/b')}")
                return _given(self._answer(effect))
            case Read() | Fill() | Collect():
                return _given(self._body(effect))
            case Sleep():
                self.slept.append(effect.seconds)
                return None
            case Call():
                return effect.fn(*effect.args)
            case Await():
                return _awaited(effect.awaitable)
            case Fork():
                child = Child(effect.op)
                self.alive.append(child)
                self.most = max(self.most, len(self.alive))
                return child
            case Join():
                self._finish(next(child for child in self.alive if child in effect.children))
                return None
            case Cancel():
                for child in effect.children:
                    if not child.done:
                        self.cancelled += 1
                        self.alive.remove(child)
                        child.op.close()
                        child.done, child.error = True, Cancelled()
                return None
            case Flight():
                return self.run(effect.make())
            case _:
                raise AssertionError(f"unexpected effect {effect!r}")

    def _finish(self, child: Child) -> None:
        try:
            child.result = self.run(child.op)
        except BaseException as error:
            child.error = error
        child.done = True
        self.alive.remove(child)


def _given(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _each(answers: Iterable[Any]) -> Callable[[Any], Any]:
    left = list(answers)

    def next_one(effect: Any) -> Any:
        assert left, f"nothing left to answer {getattr(effect, 'method', effect)} {getattr(effect, 'url', '')} with"
        return left.pop(0)

    return next_one


def _awaited(awaitable: Any) -> Any:
    """Run a coroutine that never really waits."""
    try:
        awaitable.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the awaitable waits")


def plan(pairs: Sequence[tuple[str, Any]]) -> Callable[[Send], Any]:
    """Answers that also say what must be asked: ``("GET /key", answer)`` in order."""
    left = list(pairs)

    def answer(send: Send) -> Any:
        assert left, f"nothing more was to be sent, got {send.method} {send.url}"
        wanted, reply = left.pop(0)
        assert f"{send.method} {send.url.removeprefix('http://host/b')}" == wanted
        return reply

    return answer

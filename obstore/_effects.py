"""The vocabulary that operations yield, and the plain records that travel with it.

An operation is a generator. It never waits and never touches a socket: it yields one of the
effects below and is resumed with the effect's result, or has the effect's failure thrown in.
The runner (``obstore._run``) performs effects; ``obstore._ops``, ``obstore._local`` and
``obstore._memory`` only yield them, so every operation can be driven by a test without I/O.

``Op[T]`` is the type of such a generator returning ``T``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from obstore._types import Buffer

T = TypeVar("T")
Op = Generator[Any, Any, T]

# Sinks: where the body of a successful response goes. A non-2xx body is always collected
# (bounded) by the engine, whatever the sink, so that it can become an error message.
COLLECT = 0  # whole body in one block; the response is delivered once, when it is complete
STREAM = 1  # delivered at its headers; the body follows through Read, Fill or Collect
INTO = 2  # straight into the caller's writable buffer; delivered when complete
LIST = 3  # parsed by the engine's list parser as it arrives; delivered when complete
DISCARD = 4  # counted, not kept; delivered when complete
FILE = 5  # written to a descriptor by the engine; ``into`` is ``(fd, offset, digest kind, whether to deliver at the headers)``


class Request:
    """One HTTP request, not yet signed: what a dialect builds and a signer completes.

    Attributes:
        method: HTTP method in upper case.
        path: absolute URL path, already percent-encoded as the service signs it.
        query: decoded name-value pairs in the order they are sent; a value of ``None`` sends the bare name.
        headers: name-value pairs, names in lower case; neither host, content-length nor authorization.
        body: buffers sent one after the other, or ``None`` for no body (and no content-length).
        idempotent: whether the request may be repeated when it is unknown if the server acted on it.
        key: the object key that errors name, or ``None``.
        operation: the kind of request as the retry and error rules know it:
            get head put list start part finish abort copy delete bulk_delete token.
        slice_: ``(start, length)`` to cut out if the server answers 200 to a range request.
        sensitive: True where the URL holds a secret and must not appear in messages.
    """

    __slots__ = (
        "body",
        "headers",
        "idempotent",
        "key",
        "method",
        "operation",
        "path",
        "query",
        "sensitive",
        "slice_",
    )

    def __init__(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        query: Sequence[tuple[str, str | None]] = (),
        headers: Sequence[tuple[str, str]] = (),
        body: Sequence[Buffer] | None = None,
        idempotent: bool = True,
        key: str | None = None,
        slice_: tuple[int, int] | None = None,
        sensitive: bool = False,
    ) -> None:
        self.method = method
        self.path = path
        self.operation = operation
        self.query = query
        self.headers = headers
        self.body = body
        self.idempotent = idempotent
        self.key = key
        self.slice_ = slice_
        self.sensitive = sensitive


class Response(Protocol):
    """What the engine hands back; ``obstore._engine.Transfer`` is the real one, tests have their own."""

    @property
    def status(self) -> int:
        """HTTP status code of the final response."""

    def header(self, name: str) -> str | None:
        """Value of the header (any case) or ``None``; the last one where it repeats."""

    def headers(self) -> list[tuple[str, str]]:
        """All headers of the final response, names in lower case, in order."""


class Send:
    """Perform one HTTP attempt. Resumes with a `Response`, or raises ``AttemptFailed``."""

    __slots__ = ("body", "client", "headers", "into", "method", "sink", "slice_", "url")

    def __init__(
        self,
        client: Any,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: Sequence[Buffer] | None,
        sink: int,
        into: Any = None,
        slice_: tuple[int, int] | None = None,
    ) -> None:
        self.client = client
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.sink = sink
        self.into = into
        self.slice_ = slice_


class Formed:
    """Perform one HTTP attempt that the engine makes out of a form and a key.

    Resumes with the `Response`, at its head as for `Send`, or however it ended; with ``None`` where nothing was sent, and the request is to be
    built and sent by itself: whoever watches operations wants to see each.
    """

    __slots__ = ("client", "content", "form", "key", "sink", "span")

    def __init__(
        self,
        client: Any,
        form: Any,
        key: str,
        sink: int,
        span: tuple[int, int] | None = None,
        content: Buffer | None = None,
    ) -> None:
        self.client = client
        self.form = form
        self.key = key
        self.sink = sink
        self.span = span
        self.content = content


class Begin:
    """Start an attempt and go on. Resumes at once with the transfer under way, whose outcome is asked for with `Outcome`."""

    __slots__ = ("send",)

    def __init__(self, send: Send) -> None:
        self.send = send


class Outcome:
    """Wait for a transfer that was begun. As `Send`: resumes with its `Response`, or raises ``AttemptFailed``."""

    __slots__ = ("method", "response", "url")

    def __init__(self, response: Any, method: str, url: str) -> None:
        self.response = response
        self.method = method
        self.url = url


class Collect:
    """Wait for the whole remaining body of a STREAM response. Resumes with ``Bytes``; raises ``AttemptFailed``.

    After a failure the transfer still holds what arrived (``partial()``).
    """

    __slots__ = ("response",)

    def __init__(self, response: Any) -> None:
        self.response = response


class Read:
    """Wait until ``size`` bytes of a STREAM body are there, or its end.

    Resumes with ``bytes`` of at least ``size`` bytes, fewer only at the end, empty after it.
    Raises ``AttemptFailed`` once the body broke and everything that arrived was taken.
    """

    __slots__ = ("response", "size")

    def __init__(self, response: Any, size: int) -> None:
        self.response = response
        self.size = size


class Fill:
    """Wait until ``target`` is full of the next bytes of a STREAM body, or for the body's end.

    Resumes with ``None``; raises ``AttemptFailed`` where the body broke before. However it ended, `stop` is called next: until then
    the engine may write to ``target``.
    """

    __slots__ = ("begun", "response", "target")

    def __init__(self, response: Any, target: memoryview) -> None:
        self.response = response
        self.target = target
        self.begun = False

    def stop(self) -> int:
        """Take the buffer back; how many bytes landed in it."""
        return self.response.unfill() if self.begun else 0


class Sleep:
    """Resume after ``seconds``."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Call:
    """Run ``fn(*args)``, which may block or run user code. Resumes with its result, or raises what it raised.

    Synchronous callers run it in place; on an event loop it runs on a thread of the loop's default executor.
    """

    __slots__ = ("args", "fn")

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self.fn = fn
        self.args = args


class Await:
    """Await an awaitable of the user's. On an event loop only; synchronous callers get a ``RuntimeError``."""

    __slots__ = ("awaitable",)

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self.awaitable = awaitable


class Fork:
    """Start ``op`` beside the current one. Resumes at once with its `Child`."""

    __slots__ = ("op",)

    def __init__(self, op: Op[Any]) -> None:
        self.op = op


class Join:
    """Wait until at least one of ``children`` is done. Resumes with ``None``; their outcome is on them."""

    __slots__ = ("children",)

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children


class Cancel:
    """Cancel ``children`` and wait until every one of them has ended. Resumes with ``None``."""

    __slots__ = ("children",)

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = children


class Flight:
    """Single flight: run ``op`` unless ``key`` is under way somewhere in the process, else wait for that one.

    Resumes with what the flight returned or raises what it raised. Used for credential refresh: any number
    of operations on any threads and loops wait for one refresh.
    """

    __slots__ = ("key", "make")

    def __init__(self, key: Any, make: Callable[[], Op[Any]]) -> None:
        self.key = key
        self.make = make


class Child(Protocol):
    """A forked operation."""

    done: bool
    result: Any
    error: BaseException | None


def handed_on(
    op: Op[T], swap: Callable[[Any], Any], note: Callable[[Any, BaseException | None], None] | None = None
) -> Op[T]:
    """The operation, with a hand in what it yields and an eye on what comes back. Its requests are sent one by one, none is `Formed`.

    Args:
        op: the operation.
        swap: takes an effect of the operation's, gives the one that is yielded in its place, or the same.
        note: is told what each effect came to before the operation is: its result, or what is thrown in.
    """
    value: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                effect = op.send(value) if error is None else op.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            value = error = None
            if type(effect) is Formed:
                continue  # ``None``: by a request of its own
            effect = swap(effect)
            try:
                value = yield effect
            except GeneratorExit as exc:
                if note is not None:
                    note(None, exc)
                raise
            except BaseException as exc:  # noqa: BLE001 - goes on into the operation
                error = exc
            if note is not None:
                note(value, error)
    finally:
        error = None  # its traceback holds this frame
        op.close()


class AttemptFailed(Exception):  # noqa: N818 - internal signal, never reaches users
    """One HTTP attempt ended without a usable response.

    Attributes:
        kind: one of the ``KIND_*`` names of the engine as text: connect, dns, timeout, stall, interrupted,
            tls, protocol, overflow, memory, parked, engine, cancelled.
        message: libcurl's text, without secrets.
        sent: whether any byte of the request may have reached the server.
        received: body bytes that arrived in this attempt.
        timing: the attempt's timings (see ``obstore._engine``), or ``None``.
        response: the broken transfer, where there is one: what arrived can be taken from it.
    """

    def __init__(self, kind: str, message: str, *, sent: bool, received: int = 0, timing: Any = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.sent = sent
        self.received = received
        self.timing = timing
        self.response: Any = None


class Cancelled(BaseException):
    """Thrown into an operation that is being cancelled; it may still yield clean-up effects."""

"""What operations are seen doing: records of the logger ``obstore``, and spans of an OpenTelemetry tracer.

An operation that is watched is wrapped: what it yields passes through, and attempts are noted as they come and go. One that is not costs
two look-ups. Nothing that is recorded holds a secret: URLs are redacted, headers and bodies are left out.
"""

from __future__ import annotations

import contextvars
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore._effects import AttemptFailed, Begin, Flight, Fork, Op, Outcome, Send, Sleep, handed_on
from obstore.exceptions import redact_url

if TYPE_CHECKING:
    from obstore._types import Body

_DEBUG, _INFO = 10, 20  # levels of the module logging, which is not imported here

_tracer: Any = None
_logger: Any = None


def set_tracer(tracer: Any) -> None:
    """Have every operation from now on make spans; ``None``: none.

    Raises:
        TypeError: it is neither a tracer nor a provider of tracers.
    """
    global _tracer  # noqa: PLW0603 - the process has one
    if tracer is not None and hasattr(tracer, "get_tracer"):
        from obstore._version import __version__

        tracer = tracer.get_tracer("obstore", __version__)
    if tracer is not None and not (hasattr(tracer, "start_span") and hasattr(tracer, "start_as_current_span")):
        raise TypeError(
            f"tracer: {type(tracer).__name__!r} object is neither an OpenTelemetry tracer nor a provider of them"
        )
    _tracer = tracer


def tracer() -> Any:
    """The tracer in force, or ``None``."""
    return _tracer


def watching() -> bool:
    """Whether anybody wants to know. A program that has never imported logging has configured no level."""
    global _logger  # noqa: PLW0603 - resolved once
    if _tracer is not None:
        return True
    if _logger is None:
        logging = sys.modules.get("logging")
        get = getattr(logging, "getLogger", None)  # None also while another thread is importing it
        if logging is None or get is None:
            return False
        _logger = get("obstore")
    return _logger.isEnabledFor(_INFO)  # type: ignore[no-any-return]


def watched(op: Op[Any], caller: FrameType) -> Op[Any]:
    """The operation, watched. ``caller``: the frame of the public function or method, which names it."""
    module = caller.f_globals["__name__"].rpartition(".")[2]
    named = {"_listings": "list", "_streams": "read", "_files": "file", "_file_writing": "file"}
    method = caller.f_code.co_name
    if module == "_streams" and method.startswith("__"):
        return op  # the next chunk: seen by the `StreamedBody` that it comes from
    # Going on to the next item mostly asks for nothing: that is no span.
    each = module == "_listings" or method.startswith("__")
    return _watch_root(op, named.get(module, method.removesuffix("_async")), eager=not each)


def _watch_root(op: Op[Any], name: str, *, eager: bool) -> Op[Any]:
    watch = _Watch(name)
    if eager:
        watch.begin()
    try:
        result = yield from watch.follow(op)
    except BaseException as error:
        watch.end(error)
        raise
    if name == "read":
        watch.note_read(_size_of(result))
    watch.end(None)
    return result


def _size_of(read: Any) -> int:
    """How many bytes were read, of what a reading operation returns."""
    return read if isinstance(read, int) else len(read)


class StreamedBody:
    """A body under observation: one operation from here to its last byte, or until it is let go."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._watch: _Watch | None = _Watch("read")
        self._watch.begin()
        self._received = 0
        self.arrives = body.arrives

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return self._body.left

    def read(self, size: int) -> Op[bytes]:
        """See ``Body``."""
        return self._follow(self._body.read(size))

    def read_into(self, view: memoryview) -> Op[int]:
        """See ``Body``."""
        return self._follow(self._body.read_into(view))

    def _follow(self, op: Op[Any]) -> Op[Any]:
        watch = self._watch
        if watch is None:  # it has failed before
            return (yield from op)
        try:
            read = yield from watch.follow(op)
        except BaseException as error:
            self._end(error)
            raise
        self._received += _size_of(read)
        if not self._body.left:
            self._end(None)
        return read

    def close(self) -> None:
        """Give up the rest of the body. Any thread, any number of times."""
        self._body.close()
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.note_read(self._received, given_up=error is None and self._body.left > 0)
            watch.end(error)


class _Watch:
    """One operation under observation, with all that it forks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tracer = _tracer
        self._context: contextvars.Context | None = None
        self._manager: Any = None
        self._span: Any = None
        self._started = time.monotonic()
        if self._tracer is not None:
            # Steps of an operation run in whatever context the event loop is in: the span is current in one of its own, which
            # begins as the caller's.
            self._context = contextvars.copy_context()

    def begin(self) -> None:
        """Have the operation's span, if there are to be any."""
        if self._context is not None and self._manager is None:
            self._manager = self._context.run(
                self._tracer.start_as_current_span,
                f"obstore.{self._name}",
                attributes={"obstore.operation": self._name},
            )
            self._span = self._context.run(self._manager.__enter__)

    def note_read(self, received: int, *, given_up: bool = False) -> None:
        """So many bytes of a body were read, and all there were unless it was ``given_up``."""
        if self._span is not None:
            self._span.set_attribute("obstore.bytes", received)
            if given_up:
                self._span.set_attribute("obstore.given_up", True)
        milliseconds = (time.monotonic() - self._started) * 1000
        self.log(_DEBUG, "%d bytes in %.1f ms%s", received, milliseconds, ", the rest given up" if given_up else "")

    def end(self, error: BaseException | None) -> None:
        """The operation has ended."""
        manager, self._manager = self._manager, None
        if manager is None or self._context is None:
            return
        about = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        try:
            self._context.run(manager.__exit__, *about)
        except BaseException as raised:
            if raised is not error:
                raise

    def follow(self, op: Op[Any], *, secret: bool = False) -> Op[Any]:
        """Pass on what ``op`` yields and what comes back. ``secret``: it fetches credentials, whose URLs are not told whole."""
        tries = _Tries(self, secret=secret)
        return handed_on(op, tries.swap, tries.note)

    def log(self, level: int, text: str, *arguments: Any) -> None:
        """A record that names the operation."""
        if _logger is not None and _logger.isEnabledFor(level):
            _logger.log(level, "%s: " + text, self._name, *arguments)  # noqa: G003 - the text is a constant of ours

    def start_span(self, name: str, attributes: dict[str, Any]) -> Any:
        """A span below the operation's, or ``None``."""
        if self._context is None:
            return None
        self.begin()
        options: dict[str, Any] = {"attributes": attributes}
        trace = sys.modules.get("opentelemetry.trace")
        if trace is not None:
            options["kind"] = trace.SpanKind.CLIENT
        return self._context.run(self._tracer.start_span, name, **options)


class _Tries:
    """The attempts of one operation under observation, or of one of its forks: what `handed_on` asks and tells."""

    def __init__(self, watch: _Watch, *, secret: bool) -> None:
        self._watch = watch
        self._secret = secret
        self._attempt: _Attempt | None = None  # what is under way
        self._count = 0
        self._failed = ""  # what the last try ended with, until it is known what comes of it

    def swap(self, effect: Any) -> Any:
        """The effect; where it starts other operations, one that starts them under observation."""
        kind = type(effect)
        if kind is Send or kind is Outcome:
            if self._failed:
                self._note_retry(0.0)
            self._count += 1
            self._attempt = _Attempt(self._watch, effect, self._count, secret=self._secret)
        elif kind is Sleep and self._failed:
            self._note_retry(effect.seconds)
        elif kind is Fork:
            return Fork(self._watch.follow(effect.op, secret=self._secret))
        elif kind is Flight:
            return Flight(effect.key, lambda: self._watch.follow(effect.make(), secret=True))
        elif kind is Begin:
            self._watch.log(_DEBUG, "%s ahead", _Attempt.what(effect.send, secret=self._secret))
        return effect

    def note(self, value: Any, error: BaseException | None) -> None:
        """What became of it."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._failed = attempt.end(value, error)
            if not self._failed:
                self._count = 0

    def _note_retry(self, pause: float) -> None:
        self._watch.log(_INFO, "try %d failed (%s), trying again in %.3f s", self._count, self._failed, pause)
        self._failed = ""


class _Attempt:
    """One try of a request, from its start to its answer's head (streams) or end (everything else)."""

    def __init__(self, watch: _Watch, effect: Any, number: int, *, secret: bool) -> None:
        self._watch = watch
        self._what = self.what(effect, secret=secret)
        self._number = number
        self._started = time.monotonic()
        self._span: Any = None
        method, _, url = self._what.partition(" ")
        place = urlsplit(url)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.full": url,
            "server.address": place.hostname or "",
        }
        if place.port is not None:
            attributes["server.port"] = place.port
        if number > 1:
            attributes["http.request.resend_count"] = number - 1
        self._span = watch.start_span(method, attributes)

    @staticmethod
    def what(effect: Any, *, secret: bool) -> str:
        """Method and URL, without secrets."""
        url = redact_url(effect.url)
        return f"{effect.method} {url.partition('?')[0] if secret else url}"

    def end(self, response: Any, error: BaseException | None) -> str:
        """What was wrong with the answer; empty if nothing was."""
        milliseconds = (time.monotonic() - self._started) * 1000
        if error is None:
            status = response.status
            said = f"HTTP {status}"
            request_id = response.header("x-amz-request-id") or response.header("x-ms-request-id") or ""
            failed = "" if status < 400 else said
        else:
            status, request_id = None, ""
            failed = said = error.kind if isinstance(error, AttemptFailed) else type(error).__name__
        self._watch.log(
            _DEBUG,
            "%s -> %s in %.1f ms, try %d%s",
            self._what,
            said,
            milliseconds,
            self._number,
            f", request id {request_id}" if request_id else "",
        )
        if self._span is not None:
            self._end_span(response, status, request_id, failed)
        return failed

    def _end_span(self, response: Any, status: int | None, request_id: str, failed: str) -> None:
        span = self._span
        if status is not None:
            span.set_attribute("http.response.status_code", status)
            if status < 300 and response.ok:  # here with its body
                span.set_attribute("http.response.body.size", response.received)
            timing = response.timing()
            if timing.http_version:
                span.set_attribute("network.protocol.version", timing.http_version)
            if timing.remote_ip:
                span.set_attribute("network.peer.address", timing.remote_ip)
            span.set_attribute("obstore.connection_reused", timing.reused)
        if request_id:
            span.set_attribute("obstore.request_id", request_id)
        if failed:
            span.set_attribute("error.type", str(status) if status is not None else failed)
            trace = sys.modules.get("opentelemetry.trace")
            if trace is not None:
                span.set_status(trace.StatusCode.ERROR, failed)
        span.end()

"""An object opened on a store behind HTTP: its body is read from one response, or from as many as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obstore._effects import STREAM, AttemptFailed, Call, Collect, Fill, Op, Read, Request
from obstore._ops.resume import BodyBroke, before_resume, fetch_rest, short_body
from obstore._ops.retry import Retry
from obstore._types import PLAIN_GET, ObjectMeta

if TYPE_CHECKING:
    from obstore._dialect.checksums import Checksum
    from obstore._ops.remote import RemoteBackend

# Larger pieces are compared off the event loop.
_CHECK_INLINE_BYTES = 1 << 20


class RemoteObject:
    """An object opened by `RemoteBackend.get`; see ``Opened``.

    Its body is read from one response; where that breaks, from another one that continues at the same byte of the same
    version.
    """

    arrives = True

    __slots__ = (
        "_backend",
        "_check",
        "_closed",
        "_key",
        "_position",
        "_request",
        "_response",
        "_retry",
        "_said",
        "range",
    )

    def __init__(
        self,
        backend: RemoteBackend,
        request: Request | None,
        response: Any,
        retry: Retry | None,
        key: str,
        span: tuple[int, int],
        said: tuple[ObjectMeta, dict[str, str]] | None,
        *,
        empty: bool = False,
        check: Checksum | None = None,
    ) -> None:
        """``request``, ``retry``: what the object was asked for with, and its budget, where they are known already.

        ``said``: meta and attributes, or ``None`` where they are still to be read from the response.

        ``check``: what the whole body must come to, or ``None`` where that is not known.
        """
        self._backend = backend
        self._request = request
        self._response = response
        self._retry = retry
        self._key = key
        self._said = said
        self._check = check
        self.range = span
        # Where the next byte of the body stands in the object; at the end of the range there is none to come.
        self._position = span[1] if empty else span[0]
        self._closed = False

    def _read_head(self) -> tuple[ObjectMeta, dict[str, str]]:
        """Meta and attributes."""
        said = self._said
        if said is None:
            meta, _, attributes = self._backend.dialect.read_get(self._response, self._key, PLAIN_GET)
            said = self._said = (meta, attributes)
        return said

    @property
    def meta(self) -> ObjectMeta:
        """What the first response said of the object."""
        return self._read_head()[0]

    @property
    def attributes(self) -> dict[str, str]:
        """What the first response said of its content."""
        return self._read_head()[1]

    @property
    def announced(self) -> Any:
        """Digest kind and value that the first response announced of the whole object; ``None`` where it was compared already."""
        return None if self._check is not None else self._response.announced_digest()

    @property
    def timing(self) -> Any:
        """Of the response that is being read, or was."""
        return self._response.timing()

    def ready(self) -> Any:
        """The whole body where it came with its head."""
        response = self._response
        start, end = self._position, self.range[1]
        if start >= end or not response.ended or not response.ok or response.buffered != end - start:
            return None
        self._position = end
        body = response.take_body()
        if self._check is not None:
            self._check.update(body)
            self._check.verify(self._backend.name, self._key)
        return body

    def collect(self) -> Op[Any]:
        """All of the body that was not read yet."""
        start, end = self._position, self.range[1]
        if start >= end:
            self.close()
            return b""
        self._position = end
        failure: AttemptFailed | None = None
        try:
            body = yield Collect(self._response)
        except AttemptFailed as exc:
            failure = exc.with_traceback(None)
        if failure is not None:
            broke = BodyBroke(self._response, failure.received, failure)
            del failure
            return (yield from self._collect_rest(start, end, broke))
        if len(body) != end - start:
            raise short_body(self._backend.name, self._key, len(body), end - start)
        if self._check is not None:
            yield from self._compare(body)
        return body

    def _compare(self, piece: Any) -> Op[None]:
        """Hold the next piece of the body against the checksum; the last one decides."""
        check = self._check
        if check is None:
            return
        if len(piece) > _CHECK_INLINE_BYTES:
            yield Call(check.update, piece)
        else:
            check.update(piece)
        if self._position >= self.range[1]:
            check.verify(self._backend.name, self._key)

    def _collect_rest(self, start: int, end: int, broke: BodyBroke) -> Op[Any]:
        request, retry = self._asked()
        e_tag = self.meta["e_tag"]
        body = b"".join((yield from fetch_rest(self._backend, request, start, end, e_tag, broke, retry, None)))
        if len(body) != end - start:
            raise short_body(self._backend.name, self._key, len(body), end - start)
        if self._check is not None:
            yield from self._compare(body)
        return body

    def read(self, size: int) -> Op[bytes]:
        """The next bytes of the body: at least ``size``, fewer only at its end."""
        end = self.range[1]
        chunk = b""
        while self._position < end:
            failure: AttemptFailed | None = None
            try:
                more = yield Read(self._response, size - len(chunk))
            except AttemptFailed as exc:
                failure = exc.with_traceback(None)
            if failure is not None:
                if self._closed:
                    break  # by another thread: this is the end
                yield from self._reopen(failure)
                continue
            if not more:
                raise short_body(self._backend.name, self._key, self._position - self.range[0], end - self.range[0])
            self._position += len(more)
            if self._check is not None:
                yield from self._compare(more)
            chunk = chunk + more if chunk else more
            if len(chunk) >= size:
                break
        return chunk

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return self.range[1] - self._position

    def read_into(self, view: memoryview) -> Op[int]:
        """Fill ``view`` with the next bytes, of as many responses as it takes; they land there as they arrive."""
        wanted = min(len(view), self.left)
        done = 0
        while done < wanted:
            fill = Fill(self._response, view[done:wanted])
            failure: AttemptFailed | None = None
            try:
                yield fill
            except AttemptFailed as exc:
                failure = exc.with_traceback(None)
            finally:
                got = fill.stop()
            landed = view[done : done + got]
            self._position += got
            done += got
            if self._check is not None and got:
                yield from self._compare(landed)
            if failure is not None:
                if self._closed:
                    break  # by another thread: this is the end
                yield from self._reopen(failure)
            elif done < wanted:
                start, end = self.range
                raise short_body(self._backend.name, self._key, self._position - start, end - start)
        return done

    def _asked(self) -> tuple[Request, Retry]:
        """What the object was asked for with, and the budget of tries. Made here where it was not needed so far: most bodies do not break."""
        if self._request is None:
            self._request = self._backend.dialect.build_get(self._key, PLAIN_GET)
        if self._retry is None:
            self._retry = Retry(self._backend.policy)
        return self._request, self._retry

    def _reopen(self, failure: AttemptFailed) -> Op[None]:
        """Continue where the broken response ended."""
        backend = self._backend
        e_tag = self.meta["e_tag"]  # read before the response that says it is replaced
        first, retry = self._asked()
        if failure.received:
            retry.progressed()
        yield from before_resume(backend, first, e_tag, failure, retry)
        end = self.range[1]
        request = backend.dialect.build_resume(first, self._position, end, e_tag)
        response = yield from backend.request(request, STREAM, retry=retry)
        try:
            backend.dialect.check_resume(response, self._position, end, e_tag)
        except BaseException:
            response.cancel()
            raise
        self._response = response
        if self._closed:  # meanwhile, by another thread, which did not know of this response
            response.cancel()

    def close(self) -> None:
        """Give up the rest of the body."""
        self._closed = True
        response = self._response
        if response is not None:
            response.cancel()

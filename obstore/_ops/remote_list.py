"""Pages of a listing from a store behind HTTP, asked for when they are needed or ahead of that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from obstore._auth.sources import ANONYMOUS
from obstore._effects import LIST, Begin, Op, Outcome, Request, Send
from obstore._types import ListPage
from obstore.exceptions import GenericError

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend


class Ahead:
    """A request sent already: before its answer was needed, by `begin_page`, or made of a form. Whoever does not finish it cancels it."""

    __slots__ = ("_transfer", "cred", "offset", "request", "sent_at", "url")

    def __init__(
        self, request: Request, url: str, cred: Any, sent_at: float, offset: str | None, transfer: Any
    ) -> None:
        self.request = request
        self.url = url
        self.cred = cred
        self.sent_at = sent_at
        self.offset = offset
        self._transfer = transfer

    def outcome(self) -> Outcome:
        """The effect that waits for the answer."""
        return Outcome(self._transfer, self.request.method, self.url)

    @property
    def usable(self) -> bool:
        """False in a child process for what its parent sent."""
        return bool(self._transfer.usable)

    @property
    def succeeded(self) -> bool:
        """Whether it is known already that the answer is here and is a success."""
        transfer = self._transfer
        return bool(transfer.ended and transfer.ok and 200 <= transfer.status < 300)

    def cancel(self) -> None:
        """Give it up. Any thread, any number of times."""
        self._transfer.cancel()


def fetch_page(backend: RemoteBackend, prefix: str, offset: str | None, delimiter: bool, cursor: Any) -> Op[ListPage]:
    """One page of a listing."""
    response = yield from backend.request(backend.dialect.build_list(prefix, offset, delimiter, cursor), LIST)
    return _read_page(backend, response, offset, cursor)


def begin_page(backend: RemoteBackend, prefix: str, offset: str | None, cursor: Any) -> Op[Ahead | None]:
    """Ask for a page before it is needed; ``None`` where that cannot be done at once."""
    request = backend.dialect.build_list(prefix, offset, False, cursor)
    now = time.time()
    cred = backend.source.current(now)
    if cred is None:
        return None
    url, headers = backend.dialect.sign(request, None if cred is ANONYMOUS else cred, now)
    begin = Begin(Send(backend.client, request.method, url, headers, request.body, LIST))
    del headers
    return Ahead(request, url, cred, now, offset, (yield begin))


def finish_page(backend: RemoteBackend, ahead: Ahead, cursor: Any) -> Op[ListPage]:
    """The page that `begin_page` asked for; tried again where the first try failed."""
    response = yield from backend.request(ahead.request, LIST, ahead=ahead)
    return _read_page(backend, response, ahead.offset, cursor)


def _read_page(backend: RemoteBackend, response: Any, offset: str | None, cursor: Any) -> ListPage:
    dialect = backend.dialect
    try:
        page = response.listing(dialect.list_strip)
    except ValueError as exc:
        raise GenericError.of(
            backend.name,
            f"Got invalid list response: {exc}",
            status=response.status,
            request_id=response.header(dialect.request_id_header),
            hint="the endpoint may not speak this protocol",
        ) from None
    found = dialect.read_list(page)
    if offset is not None and not dialect.lists_after:
        found.objects = [meta for meta in found.objects if meta["path"] > offset]
    elif offset is not None and dialect.offset_inclusive:
        _leave_out(found, offset)
    if cursor is not None and found.cursor == cursor:
        raise GenericError.of(backend.name, "the listing does not advance: the server repeats its continuation token")
    return found


def _leave_out(page: ListPage, offset: str) -> None:
    """What lies up to the offset, of a page of a service that begins with it, or does not know of it."""
    skip = 0
    for each in page.objects:  # in order: the first one behind it ends the search
        if each["path"] > offset:
            break
        skip += 1
    if skip:
        page.objects = page.objects[skip:]
    page.prefixes = [each for each in page.prefixes if f"{each}/" > offset or offset.startswith(f"{each}/")]

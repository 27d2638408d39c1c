"""``get_many``: many objects into memory, as they come or in the order that they were asked for."""

from __future__ import annotations

from typing import Any

from obstore._bulk.download import BREATH_SECONDS, STEP_SECONDS, Feeder, limited
from obstore._bulk.forms import after_attempt
from obstore._bulk.options import Options
from obstore._bulk.select import PAGE, Pages
from obstore._bulk.verify import check_body
from obstore._effects import Call, Cancel, Fork, Join, Op, Sleep
from obstore._engine import Bytes
from obstore._ops.remote import RemoteBackend
from obstore._types import Backend, GetSpec

_UNLIMITED = -1
_RETRIED_AT_ONCE = 16
Item = tuple[int, str, Any]  # position, key, body or exception


class Reading:
    """Where a ``get_many`` stands; `more` is an operation that gives its next items.

    Args:
        backend: of the store.
        pages: what to read.
        options: limits; ``memory`` bounds what is in flight and not yet handed over.
        ordered: whether items come in the order of ``pages``.
    """

    def __init__(self, backend: Backend, pages: Pages, options: Options, *, ordered: bool) -> None:
        self._backend = limited(backend, options)
        self._pages = pages
        self._options = options
        self._ordered = ordered
        self._bulk: Any = None
        self._feeder: Feeder | None = None
        self._fed = self._given = 0
        self._ended = self._closed = False
        self._waiting: dict[int, Item] = {}  # ordered: what came before its turn
        self._waiting_bytes = 0

    def close(self) -> None:
        """Give up the rest. Any thread."""
        self._closed = self._ended = True
        if self._bulk is not None:
            self._bulk.close()

    def more(self) -> Op[list[Item]]:
        """At least one item; none at the end."""
        if self._closed:
            return []
        try:
            if isinstance(self._backend, RemoteBackend):
                return (yield from self._more_remote(self._backend))
            return (yield from self._more_serverless())
        except GeneratorExit:
            self.close()
            raise
        except BaseException:
            yield Call(self.close)
            raise

    # ---- stores behind HTTP ---------------------------------------------------------------------------------

    def _more_remote(self, backend: RemoteBackend) -> Op[list[Item]]:
        options = self._options
        if self._bulk is None:
            self._bulk = backend.client.bulk(
                window=max(1, min(options.connections, 1024)), memory=options.memory, verify=options.verify
            )
            self._feeder = Feeder(backend, self._bulk, verify=options.verify, cut=None)
        bulk, feeder = self._bulk, self._feeder
        assert feeder is not None
        running: list[Any] = []
        try:
            while True:
                out: list[Item] = []
                if self._wants_more(bulk.counts()[2]):
                    out += yield from self._feed(backend, running)
                yield from feeder.refresh()
                yield Call(bulk.step, STEP_SECONDS, 0 if self._ended else PAGE // 4)
                for item in bulk.take():
                    if type(item) is tuple:
                        out.append(item)
                        continue
                    running.append((yield Fork(self._again(backend, item.id, item.key, feeder.attempt(item)))))
                    if len(running) >= _RETRIED_AT_ONCE:
                        yield Join(running)
                if running:
                    yield Sleep(BREATH_SECONDS)
                    _, _, pending, active, left = bulk.counts()
                    if not (out or pending or active or left):
                        yield Join(running)
                    out += [child.result for child in running if child.done]
                    running[:] = [child for child in running if not child.done]
                ready = self._in_turn(out)
                if ready:
                    while running:  # none may go on when this operation has ended
                        yield Join(running)
                        late = [child.result for child in running if child.done]
                        running[:] = [child for child in running if not child.done]
                        ready += self._in_turn(late)
                    return ready
                _, _, pending, active, left = bulk.counts()
                if self._ended and not (running or pending or active or left):
                    self.close()
                    return []
        except GeneratorExit:
            raise
        except BaseException:
            yield Cancel(running)
            raise

    def _wants_more(self, pending: int) -> bool:
        if self._ended or pending >= PAGE // 2:
            return False
        if not self._ordered:
            return True
        return self._waiting_bytes < self._options.memory and self._fed - self._given < 2 * PAGE

    def _feed(self, backend: RemoteBackend, running: list[Any]) -> Op[list[Item]]:
        page = yield from self._pages.next()
        if not page:
            self._ended = True
            return []
        first, self._fed = self._fed, self._fed + len(page)
        assert self._feeder is not None
        for index in (yield from self._feeder.feed(page, first, _UNLIMITED)):
            key = page[index] if isinstance(page[index], str) else page[index]["path"]
            running.append((yield Fork(self._again(backend, first + index, key))))
        return []

    def _again(self, backend: Backend, position: int, key: str, attempt: Any = None) -> Op[Item]:
        """An object by an operation of its own: with retries, and the error in full."""
        try:
            opened = yield from after_attempt(backend.get(key, GetSpec()), attempt)
            announced = getattr(opened, "announced", None) if self._options.verify else None
            body = yield from opened.collect()
            if announced is not None:
                yield from check_body(backend.name, key, body, announced)
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: BLE001 - it is the item
            return position, key, error.with_traceback(None)
        return position, key, body if type(body) is Bytes else Bytes(body)

    def _in_turn(self, items: list[Item]) -> list[Item]:
        if not self._ordered:
            self._given += len(items)
            return items
        for item in items:
            self._waiting[item[0]] = item
            self._waiting_bytes += _size(item)
        ready = []
        while self._given in self._waiting:
            turn = self._waiting.pop(self._given)
            self._waiting_bytes -= _size(turn)
            ready.append(turn)
            self._given += 1
        return ready

    # ---- stores without HTTP ----------------------------------------------------------------------------------

    def _more_serverless(self) -> Op[list[Item]]:
        page = yield from self._pages.next()
        if not page:
            self.close()
            return []
        items = []
        for index, entry in enumerate(page):
            key = entry if isinstance(entry, str) else entry["path"]
            items.append((yield from self._again(self._backend, self._fed + index, key)))
        self._fed += len(page)
        return items


def _size(item: Item) -> int:
    return 0 if isinstance(item[2], Exception) else len(item[2])

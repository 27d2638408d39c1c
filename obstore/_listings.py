"""Listings as users walk them: object by object, in lists, or as Arrow batches; synchronously or not.

Each object serves both faces; which one is decided by the method that is called, each time anew.
"""

from __future__ import annotations

import builtins
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from obstore import _arrow
from obstore._effects import Op
from obstore._engine import Columns, ListItem, Reader, Rows, Schema, column_stream
from obstore._run import Ready, run, start
from obstore._types import ObjectMeta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    import pyarrow as pa

    from obstore._ops.list import Pages
    from obstore._types import ListResult

T_co = TypeVar("T_co", covariant=True)


class ListStream(Reader, Generic[T_co]):
    """The objects under a prefix: for use with ``for`` or ``async for``. Pages are fetched as they are needed.

    Yields what ``list`` says: objects one by one, or lists of ``chunk_size`` of them.
    """

    __slots__ = ("__weakref__", "_pages", "_reading")

    if TYPE_CHECKING:

        def __next__(self) -> T_co: ...

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._reading = threading.Lock()  # held while pages are fetched; never waited for

    def _alone(self, op: Op[Any]) -> Op[Any]:
        """The operation, as the only one that fetches pages."""
        if not self._reading.acquire(blocking=False):
            op.close()
            raise RuntimeError("the listing is being read already: two readers would get its pages twice")
        try:
            return (yield from op)
        finally:
            self._reading.release()

    def _more(self) -> Op[bool]:
        """Fetch pages until an object is at hand, or nothing is left at all."""
        while not self._left() and not self._pages.ended:
            self._set_page(_items((yield from self._pages.page())))
        return self._left() > 0

    def _fetch_one(self) -> bool:
        found: bool = run(self._alone(self._more()))
        return found

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[T_co]:
        item = self._take_one()
        return start(self._anext()) if item is None else Ready(item)

    def _anext(self) -> Op[Any]:
        while (yield from self._alone(self._more())):
            item = self._take_one()
            if item is not None:  # or another reader came first
                return item
        raise StopAsyncIteration

    def _rest(self) -> Op[builtins.list[Any]]:
        rest: builtins.list[Any] = []
        while (yield from self._more()):
            rest.extend(self._take(self._left()))
        return rest

    def collect(self) -> Any:
        """Everything that was not yielded yet, in one list."""
        return run(self._alone(self._rest()))

    def collect_async(self) -> Awaitable[Any]:
        """Everything that was not yielded yet, in one list; on the running event loop."""
        return start(self._alone(self._rest()))


class ChunkedListStream(ListStream[builtins.list[ObjectMeta]]):
    """A `ListStream` that yields lists."""

    __slots__ = ("_chunk", "_size")

    def __init__(self, pages: Pages, size: int) -> None:
        super().__init__(pages)
        self._size = size
        self._chunk: builtins.list[Any] = []  # what is to be yielded next, while it is short of its size

    def _gather(self) -> Op[builtins.list[Any]]:
        """The next chunk; an empty one is the end."""
        while True:
            self._chunk += self._take(self._size - len(self._chunk))
            if len(self._chunk) == self._size or not (yield from self._more()):
                chunk, self._chunk = self._chunk, []
                return chunk

    def _rest(self) -> Op[builtins.list[Any]]:
        rest = yield from super()._rest()
        rest[:0], self._chunk = self._chunk, []
        return rest

    def __next__(self) -> builtins.list[Any]:
        if not self._chunk and self._left() >= self._size:
            return self._take(self._size)
        chunk: builtins.list[Any] = run(self._alone(self._gather()))
        if not chunk:
            raise StopIteration
        return chunk

    def __anext__(self) -> Awaitable[builtins.list[Any]]:
        if not self._chunk and self._left() >= self._size:
            return Ready(self._take(self._size))
        return start(self._anext())

    def _anext(self) -> Op[Any]:
        chunk = yield from self._alone(self._gather())
        if not chunk:
            raise StopAsyncIteration
        return chunk


class ArrowListStream(ListStream["pa.RecordBatch"]):
    """The objects under a prefix as Arrow record batches, made by ``list(..., return_arrow=True)``: an iterator, and a table.

    Iterating yields ``pyarrow.RecordBatch`` (``arro3.core.RecordBatch`` where `obstore.set_options` or ``OBSTORE_ARROW`` say
    so), one for each page of the server or of ``chunk_size`` rows. Columns: ``path``, ``last_modified`` (microseconds, UTC),
    ``size``, ``e_tag``, ``version``.

    Whatever reads the Arrow PyCapsule interface (polars, DuckDB, pandas, pyarrow ...) takes it whole, and needs neither pyarrow nor
    arro3 here: what was not yielded yet is then fetched to its end, kept, and given without a copy, as often as it is asked for.
    """

    __slots__ = ("_at", "_batches", "_building", "_flavour", "_size", "_source")

    def __init__(self, pages: Pages, size: int | None, flavour: str) -> None:
        super().__init__(pages)
        self._size = size
        self._flavour = flavour
        self._batches: deque[Columns] = deque()  # ready to be yielded
        self._source: Columns | None = (
            None  # a page whose rows from _at on are in no batch yet; only where _size is set
        )
        self._at = 0
        self._building: Columns | None = None

    def _next_columns(self) -> Op[Columns | None]:
        """The next batch; ``None``: the end."""
        if self._batches:
            return self._batches.popleft()
        size = self._size
        while True:
            source = self._source
            if source is None:
                if self._pages.ended:
                    last, self._building = self._building, None
                    return last
                source = _columns((yield from self._pages.page()))
                if not len(source):
                    continue
                if size is None or (len(source) == size and self._building is None):
                    return source
                self._source, self._at = source, 0
            if self._building is None:
                self._building = Columns(min(size or 0, 100_000))
            stop = min(len(source), self._at + (size or 0) - len(self._building))
            self._building.append(source, self._at, stop)
            self._at = stop
            if stop == len(source):
                self._source = None
            if len(self._building) == size:
                full, self._building = self._building, None
                return full

    def _load(self) -> Op[builtins.list[Columns]]:
        """All batches that were not yielded yet; they stay."""
        batches: builtins.list[Columns] = []
        try:
            while (columns := (yield from self._next_columns())) is not None:
                batches.append(columns)
        finally:
            self._batches.extend(batches)
        return batches

    def _take_all(self) -> Op[builtins.list[Columns]]:
        batches = yield from self._load()
        self._batches.clear()
        return batches

    def _one(self) -> Op[Any]:
        return _arrow.record_batch(self._flavour, merged((yield from self._take_all())))

    def _table(self) -> Op[Any]:
        return _arrow.table(self._flavour, Batches((yield from self._take_all())))

    @property
    def schema(self) -> pa.Schema:
        """The schema of all batches; known before anything is fetched."""
        return _arrow.schema(self._flavour)

    def __arrow_c_schema__(self) -> object:
        """The schema, as the Arrow PyCapsule interface has it."""
        return Schema().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Everything that was not yielded yet, as the Arrow PyCapsule interface has it.

        The listing is read to its end before this returns, so that what goes wrong raises here as what it is. It stays: the next
        call gives the same, and so does iterating. On an event loop, which this would block, `read_all_async` comes first.

        Args:
            requested_schema: ignored, as the interface allows: the caller casts.
        """
        return column_stream(run(self._alone(self._load())))

    def __next__(self) -> Any:
        columns = run(self._alone(self._next_columns()))
        if columns is None:
            raise StopIteration
        return _arrow.record_batch(self._flavour, columns)

    def _anext(self) -> Op[Any]:
        columns = yield from self._alone(self._next_columns())
        if columns is None:
            raise StopAsyncIteration
        return _arrow.record_batch(self._flavour, columns)

    def __anext__(self) -> Awaitable[Any]:
        return start(self._anext())

    def collect(self) -> pa.RecordBatch:
        """Everything that was not yielded yet, in one record batch.

        Raises:
            OverflowError: a column would hold more than 2 GiB of text; `read_all` has no such limit.
        """
        return run(self._alone(self._one()))

    def collect_async(self) -> Awaitable[pa.RecordBatch]:
        """Everything that was not yielded yet, in one record batch; on the running event loop."""
        return start(self._alone(self._one()))

    def read_all(self) -> pa.Table:
        """Everything that was not yielded yet, as a table."""
        return run(self._alone(self._table()))

    def read_all_async(self) -> Awaitable[pa.Table]:
        """Everything that was not yielded yet, as a table; on the running event loop."""
        return start(self._alone(self._table()))


class Batches:
    """Batches that were fetched, for whoever reads the Arrow PyCapsule interface."""

    __slots__ = ("_columns",)

    def __init__(self, columns: builtins.list[Columns]) -> None:
        self._columns = columns

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Capsule ``arrow_array_stream``."""
        return column_stream(self._columns)


def arrow_level(op: Op[ListResult[Any]], flavour: str) -> Op[ListResult[Any]]:
    """The operation ``list_with_delimiter``, its objects as an Arrow table."""
    level = yield from op
    level["objects"] = _arrow.table(flavour, Batches([_columns(level["objects"])]))
    return level


def merged(batches: builtins.list[Columns]) -> Columns:
    """The rows of all batches, in one."""
    if len(batches) == 1:
        return batches[0]
    whole = Columns(sum(map(len, batches)))
    for columns in batches:
        whole.append(columns, 0, len(columns))
    return whole


def _items(page: Sequence[Any]) -> Sequence[Any]:
    if type(page) is Rows:
        return page
    return [item if type(item) is ListItem else ListItem(item) for item in page]


def _columns(page: Sequence[Any]) -> Columns:
    if type(page) is Rows:
        return page.columns()
    columns = Columns(len(page))
    columns.add(page)
    return columns

"""Objects in this process's memory: the backend of ``MemoryStore``.

Nothing here blocks, so no operation yields an effect. The bytes of an object never change: a put copies the caller's
buffers once and replaces the whole entry, and a reader goes on with the entry that it found.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from obstore._config.paths import needs_raw, parse_key
from obstore._serverless import Unsigned, check_conditions, resolve_range, writable
from obstore._types import ListPage, ObjectMeta, PutResult, Range, RawKey, Scatter
from obstore.exceptions import AlreadyExistsError, GenericError, NotFoundError, PreconditionError

if TYPE_CHECKING:
    from obstore._effects import Op
    from obstore._types import Buffer, GetSpec, PartPair, Pin, PutSpec

NAME = "InMemory"
PAGE_ITEMS = 1000
INVALID_RANGE = "Invalid range"

# Guards every store's dict and index, for a few dict operations at a time. There is one for the process, so that a fork
# can hold it and never copies a half-made change; it is re-entrant, so that a finalizer or a signal handler that uses a
# store while its thread is in here does not wait for itself.
_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # The child's only thread is the one that forked, hence the owner of its copy.
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _Entry:
    """One version of an object. Never changes once it is in a store."""

    __slots__ = ("attributes", "data", "e_tag", "last_modified")

    def __init__(self, data: bytes, attributes: dict[str, str], e_tag: str) -> None:
        self.data = data
        self.attributes = attributes
        self.e_tag = e_tag
        self.last_modified = datetime.now(UTC)

    def meta(self, key: str) -> ObjectMeta:
        return {
            "path": key,
            "last_modified": self.last_modified,
            "size": len(self.data),
            "e_tag": self.e_tag,
            "version": None,
        }


class MemoryOpened:
    """An object opened by `MemoryBackend.get`; see ``obstore._types.Opened``."""

    arrives = False

    __slots__ = ("_rest", "attributes", "meta", "range", "timing")

    def __init__(self, meta: ObjectMeta, attributes: dict[str, str], data: bytes, start: int, end: int) -> None:
        self.meta = meta
        self.attributes = attributes
        self.range = (start, end)
        self.timing = None
        self._rest: bytes | memoryview | None = _slice(data, start, end)

    def ready(self) -> bytes | memoryview | None:
        """The same as `collect`."""
        return self._take()

    def collect(self) -> Op[bytes | memoryview]:
        """The whole body; a view of the stored bytes where only a part of them was asked for."""
        yield from ()
        return self._take()

    def read(self, size: int) -> Op[bytes]:  # noqa: ARG002 - all of it is at hand
        """All that is left, whatever ``size``: it is in memory already, and the whole of an object costs no copy."""
        yield from ()
        return bytes(self._take())

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return 0 if self._rest is None else len(self._rest)

    def read_into(self, view: memoryview) -> Op[int]:
        """Copy the next bytes to ``view``; fewer only at the end."""
        yield from ()
        rest = memoryview(self._take())
        size = min(len(view), len(rest))
        view[:size] = rest[:size]
        self._rest = rest[size:]
        return size

    def close(self) -> None:
        """Let go of the bytes."""
        self._rest = None

    def _take(self) -> bytes | memoryview:
        rest = self._rest
        if rest is None:
            raise ValueError("the object is closed")
        self._rest = b""
        return rest


class MemoryUpload:
    """A multipart upload; see ``obstore._types.Upload``. Parts are kept apart until `finish` joins them."""

    max_parts: int | None = None
    min_part_bytes: int = 0
    max_parallel: int | None = None
    part_pair: PartPair | None = None

    def __init__(self, backend: MemoryBackend, key: str, spec: PutSpec) -> None:
        self._backend = backend
        self._key = key
        self._spec = spec
        self._parts: dict[int, bytes] | None = {}

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        """Keep a copy of ``body``; a part sent twice replaces itself."""
        yield from ()
        self._open_parts()[number] = _copy(body)

    def finish(self) -> Op[PutResult]:
        """Make the object of the parts, in the order of their numbers."""
        parts = self._open_parts()
        self._parts = None
        for expected, number in enumerate(sorted(parts), 1):
            if number != expected:
                raise GenericError.of(NAME, f"part {expected} of the upload is missing", key=self._key)
        return (yield from self._backend.put(self._key, [parts[number] for number in sorted(parts)], self._spec))

    def abort(self) -> Op[None]:
        """Forget the parts. Does nothing where the upload has ended already."""
        yield from ()
        self._parts = None

    def _open_parts(self) -> dict[int, bytes]:
        if self._parts is None:
            raise GenericError.of(NAME, "the upload has ended", key=self._key)
        return self._parts


class MemoryBackend(Unsigned):
    """Keys to entries, usable from any thread; see ``obstore._types.Backend``.

    Any key is allowed, the empty one too. Tags are ignored; attributes are stored and returned. Pickling goes by value.
    """

    name = NAME
    missing_is_error = False
    delete_batch = 1000
    delete_concurrency = 1
    single_put = False

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._next_e_tag = 0
        # The sorted keys as of the last listing, and the keys that may have come or gone since: a bulk put need not
        # keep an order that nobody asks for.
        self._sorted: list[str] = []
        self._unsorted: set[str] = set()

    def __getstate__(self) -> tuple[dict[str, _Entry], int]:
        with _lock:
            return dict(self._entries), self._next_e_tag

    def __setstate__(self, state: tuple[dict[str, _Entry], int]) -> None:
        self._entries, self._next_e_tag = state
        self._sorted = []
        self._unsorted = set(self._entries)

    def __str__(self) -> str:
        return NAME

    def parse_key(self, path: str, argument: str) -> str:
        """Normalise a path argument; every key is allowed."""
        return parse_key(path, argument, strict=False)

    def get(self, key: str, spec: GetSpec) -> Op[MemoryOpened]:
        """Open the object for reading."""
        yield from ()
        entry = self._find(key)
        meta = entry.meta(key)
        check_conditions(spec, meta)
        size = len(entry.data)
        if spec.head:
            opened = MemoryOpened(meta, dict(entry.attributes), b"", 0, 0)
            opened.range = (0, size)
            return opened
        start, end = resolve_range(spec.range, size, store=NAME, key=key, complaint=INVALID_RANGE)
        return MemoryOpened(meta, dict(entry.attributes), entry.data, start, end)

    def get_range(
        self, key: str, start: int, end: int, into: Any, pin: Pin | None = None
    ) -> Op[bytes | memoryview | int]:
        """Bytes of the object without a copy, or their number once they are in ``into``."""
        yield from ()
        target = into
        if into is not None and not isinstance(into, Scatter):
            target = Scatter(end - start, [(0, writable(into, end - start))])
        entry = self._find(key)
        if pin is not None:
            pin.check(NAME, key, entry.e_tag)
        data = entry.data
        start, end = resolve_range(Range(start, end), len(data), store=NAME, key=key, complaint=INVALID_RANGE)
        if target is None:
            return _slice(data, start, end)
        found = memoryview(data)[start:end]
        for at, view in target.clipped(len(found)):
            view[:] = found[at : at + len(view)]
        return len(found)

    def head(self, key: str, version: str | None) -> Op[ObjectMeta]:  # noqa: ARG002 - there is only the current one
        """Describe the object; there is one version of it, whatever ``version`` says."""
        yield from ()
        return self._find(key).meta(key)

    def put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]:
        """Store a copy of ``body``."""
        yield from ()
        data = _copy(body)
        attributes = dict(spec.attributes)
        with _lock:
            existing = self._entries.get(key)
            if spec.mode == "create" and existing is not None:
                raise _already_exists(key)
            if spec.mode == "update":
                _check_update(key, existing, spec.e_tag)
            entry = self._store_locked(key, data, attributes)
        return {"e_tag": entry.e_tag, "version": None}

    def start_upload(self, key: str, spec: PutSpec) -> Op[MemoryUpload]:
        """Begin a multipart upload; the mode of ``spec`` is checked when it is finished."""
        yield from ()
        return MemoryUpload(self, key, spec)

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        """Give the next page of a snapshot that the first page took."""
        yield from ()
        if cursor is None:
            with _lock:
                found = self._one_level_locked(prefix, offset) if delimiter else self._all_locked(prefix, offset)
                cursor = list(found), 0
        snapshot, start = cursor
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        for key, entry in snapshot[start : start + PAGE_ITEMS]:
            if entry is None:
                prefixes.append(_listed(key))
            else:
                objects.append(entry.meta(_listed(key)))
        start += PAGE_ITEMS
        return ListPage(objects, prefixes, (snapshot, start) if start < len(snapshot) else None)

    def delete(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Delete each key; a missing one is a `NotFoundError` among the outcomes."""
        yield from ()
        outcomes: list[Exception | None] = []
        for key in keys:
            with _lock:
                entry = self._entries.pop(key, None)
                self._unsorted.add(key)
            outcomes.append(_not_found(key) if entry is None else None)
        return outcomes

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Store the same bytes and attributes under another key; onto itself it does nothing."""
        yield from ()
        with _lock:
            self._copy_locked(from_, to, overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Move an object in one step; onto itself it does nothing."""
        yield from ()
        with _lock:
            self._copy_locked(from_, to, overwrite)
            if from_ != to:
                del self._entries[from_]
                self._unsorted.add(from_)

    def _find(self, key: str) -> _Entry:
        with _lock:
            entry = self._entries.get(key)
        if entry is None:
            raise _not_found(key)
        return entry

    def _store_locked(self, key: str, data: bytes, attributes: dict[str, str]) -> _Entry:
        key = str(key)  # a RawKey is a matter of how a caller spelt it
        entry = _Entry(data, attributes, f'"{self._next_e_tag}"')
        self._next_e_tag += 1
        if key not in self._entries:
            self._unsorted.add(key)
        self._entries[key] = entry
        return entry

    def _copy_locked(self, from_: str, to: str, overwrite: bool) -> None:
        source = self._find(from_)
        if from_ == to:
            return
        if not overwrite and to in self._entries:
            raise _already_exists(to)
        self._store_locked(to, source.data, source.attributes)

    def _index_locked(self) -> list[str]:
        """Every key, in order. Strings order by code point, which is the order of their UTF-8 bytes."""
        keys = self._sorted
        changed, self._unsorted = self._unsorted, set()
        if len(changed) * 32 > len(keys):
            keys = self._sorted = sorted(self._entries)
        else:
            for key in changed:
                at = bisect_left(keys, key)
                is_listed = at < len(keys) and keys[at] == key
                if is_listed and key not in self._entries:
                    del keys[at]
                elif not is_listed and key in self._entries:
                    keys.insert(at, key)
        return keys

    def _bounds_locked(self, prefix: str, offset: str | None) -> tuple[list[str], int, int]:
        keys = self._index_locked()
        start = bisect_left(keys, prefix)
        end = _after_prefix(keys, prefix, start)
        if offset is not None:
            start = max(start, bisect_right(keys, offset))
        return keys, start, end

    def _all_locked(self, prefix: str, offset: str | None) -> Iterator[tuple[str, _Entry | None]]:
        keys, start, end = self._bounds_locked(prefix, offset)
        return ((key, self._entries[key]) for key in keys[start:end])

    def _one_level_locked(self, prefix: str, offset: str | None) -> Iterator[tuple[str, _Entry | None]]:
        """Objects up to the next slash; what lies deeper is one prefix, with ``None`` for its entry."""
        keys, at, end = self._bounds_locked(prefix, offset)
        while at < end:
            key = keys[at]
            slash = key.find("/", len(prefix))
            if slash < 0:
                yield key, self._entries[key]
                at += 1
            else:
                yield key[:slash], None
                at = _after_prefix(keys, key[: slash + 1], at)


def _listed(key: str) -> str:
    return RawKey(key) if needs_raw(key) else key


def _after_prefix(keys: list[str], prefix: str, start: int) -> int:
    """Find where the run of keys with ``prefix`` ends that begins at ``start``."""
    return bisect_left(keys, True, start, key=lambda key: not key.startswith(prefix))


def _copy(body: Sequence[Buffer]) -> bytes:
    """One immutable block of all buffers; a single ``bytes`` object is itself, as nobody can change it."""
    return b"".join(body)


def _slice(data: bytes, start: int, end: int) -> bytes | memoryview:
    return data if end - start == len(data) else memoryview(data)[start:end]


def _check_update(key: str, existing: _Entry | None, e_tag: str | None) -> None:
    if existing is None:
        raise PreconditionError.of(key, f"Object at location {key} not found", key=key)
    if e_tag is None:
        raise GenericError.of(NAME, "ETag required for conditional update", key=key)
    if existing.e_tag != e_tag:
        raise PreconditionError.of(key, f"{existing.e_tag} does not match {e_tag}", key=key)


def _not_found(key: str) -> NotFoundError:
    return NotFoundError.of(key, f"No data in memory found. Location: {key}", key=key)


def _already_exists(key: str) -> AlreadyExistsError:
    return AlreadyExistsError.of(key, f"Object already exists at that location: {key}", key=key)

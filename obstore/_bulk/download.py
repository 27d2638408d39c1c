"""Downloads to files: small objects by the C core, in batches; the rest one operation each."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore._bulk.dest import Destination
from obstore._bulk.fetch import Fetch, copy_out
from obstore._bulk.forms import Forms, after_attempt, reading_form
from obstore._bulk.options import Options
from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, Failure
from obstore._bulk.select import PAGE, Pages
from obstore._effects import Call, Cancel, Fork, Join, Op, Sleep
from obstore._engine import Rows
from obstore._engine._core import bytes_of_rows
from obstore._ops.remote import RemoteBackend
from obstore._types import GetSpec
from obstore.exceptions import IntegrityError, InvalidPathError

if TYPE_CHECKING:
    from obstore._types import Backend

STEP_SECONDS = 0.05
# While other operations run beside it, the C core is looked after more often: on a synchronous caller's thread they share it.
STEP_BESIDE_SECONDS = 0.01
BREATH_SECONDS = 0.0002
_AGAIN_AT_ONCE = 16


def limited(backend: Backend, options: Options) -> Backend:
    """The same store, whose requests together use so many connections at most, and keep a pace."""
    if not isinstance(backend, RemoteBackend):
        return backend
    client = backend.client.limited(options.connections, options.pace)
    if client is backend.client:
        return backend
    return backend.variant(client=client)


class Feeder:
    """Gives a bulk of the C core what to fetch, with requests signed for now."""

    def __init__(self, backend: RemoteBackend, bulk: Any, *, verify: bool, cut: int | None) -> None:
        self._backend = backend
        self._bulk = bulk
        self._forms = Forms(backend, bulk, reading_form(verify))
        self._names = cut is not None
        self._cut = cut or 0

    def feed(self, page: Sequence[Any], first: int, limit: int, cut: int | None = None) -> Op[list[int]]:
        """Feed a page; returns the indices of what was not fed."""
        cut = self._cut if cut is None else cut
        forms = self._forms
        yield from forms.refresh()
        if forms.number("", None) == 0:
            if self._names and cut and type(page) is Rows:
                cut = len(page[0]["path"][:cut].encode())  # characters of the prefix that all share, in bytes
            skipped: list[int] = self._bulk.add(first, page, cut if self._names else -1, limit)
            return skipped
        return self._feed_one_by_one(page, first, limit, cut, forms.cred)

    def attempt(self, item: Any) -> Any:
        """See `Forms.attempt`."""
        return self._forms.attempt(item)

    def refresh(self) -> Op[None]:
        """Sign anew what waits to be sent, where that is needed."""
        return self._forms.refresh()

    def _feed_one_by_one(self, page: Sequence[Any], first: int, limit: int, cut: int, cred: Any) -> list[int]:
        """For services whose requests differ in more than their path."""
        dialect = self._backend.dialect
        skipped = []
        now = time.time()
        for index, item in enumerate(page):
            key, size = (item, -1) if isinstance(item, str) else (item["path"], item["size"])
            if size > limit >= 0:
                skipped.append(index)
                continue
            try:
                url, headers = dialect.sign(dialect.build_get(key, GetSpec()), cred, now)
                name = key[cut:] if self._names else None
                self._bulk.add_request(
                    first + index, str(key), name, size, url, headers
                )  # a RawKey is a str to the core
            except (UnicodeError, ValueError):
                skipped.append(index)
        return skipped


class Download:
    """A download of many objects below a directory.

    Args:
        backend: of the store.
        pages: what to download.
        dest: where to.
        options: limits and wishes.
        result: counts everything.
        meter: shows it.
        name: of the file, where there is one object only.
    """

    def __init__(
        self,
        backend: Backend,
        pages: Pages,
        dest: Destination,
        options: Options,
        result: BulkResult,
        meter: Meter,
        name: str | None = None,
    ) -> None:
        self._backend = limited(backend, options)
        self._pages = pages
        self._dest = dest
        self._options = options
        self._result = result
        self._meter = meter
        self._name = name
        self._running: list[Any] = []
        self._retried: list[Any] = []  # those of them that do again what the C core could not do
        self._page: Any = None
        self._next_id = 0
        self._ended = False
        self._counted = (0, 0)
        self._verified = 0  # of those, already in the result
        self._done = (0, 0)  # what operations beside the C core have done
        self._total = [0, 0, True]
        self._fetch: Fetch | None = None

    def run(self) -> Op[None]:
        """Do it all."""
        if isinstance(self._backend, RemoteBackend):
            return self._run_remote(self._backend)
        return self._run_serverless()

    # ---- bookkeeping ----------------------------------------------------------------------------------------

    def _fail(self, path: str, error: Exception) -> None:
        self._result.failures.append(Failure(path, error.with_traceback(None)))

    def _count(self, bulk: Any) -> None:
        if bulk is not None:
            self._counted = bulk.counts()[:2]
            verified = bulk.verified()
            self._result.verified += verified - self._verified
            self._verified = verified
        self._result.objects = self._counted[0] + self._done[0]
        self._result.bytes = self._counted[1] + self._done[1]
        self._meter.sample(self._result)

    def _on_bytes(self, count: int) -> None:
        self._meter.extra_bytes += count

    def _one(self, op: Op[Any], path: str) -> Op[None]:
        """An object by an operation of its own; its failure is its own, too."""
        try:
            meta = yield from op
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: BLE001 - goes into the result
            self._fail(path, _explained(error, path))
        else:
            self._done = (self._done[0] + 1, self._done[1] + meta["size"])

    # ---- pages ------------------------------------------------------------------------------------------------

    def _next_page(self) -> Op[Sequence[Any]]:
        page = yield from self._pages.next()
        if not page:
            self._ended = True
            if self._total[2]:
                self._meter.total_objects, self._meter.total_bytes = self._total[0], self._total[1]
            return []
        self._total[0] += len(page)
        if type(page) is Rows:
            self._total[1] += bytes_of_rows(page)
        elif isinstance(page[0], dict):
            self._total[1] += sum(item["size"] for item in page)
        else:
            self._total[2] = False
        return page

    def page(self) -> Op[Sequence[Any]]:
        """The next page of what is missing, for others to fetch; an empty one is the end."""
        while page := (yield from self._next_page()):
            page = yield from self._looked_at(page)
            if page:
                break
        return page

    def _name_of(self, key: str) -> str:
        return self._name if self._name is not None and self._pages.single else key[self._pages.cut :]

    def _needs_look(self) -> bool:
        """Whether each key of a page has to be looked at here."""
        return self._dest.is_resumed or self._dest.folds_case or not self._options.overwrite

    def _looked_at(self, page: Sequence[Any]) -> Op[Sequence[Any]]:
        """The page without directories, what an earlier run finished, and what clashes."""
        if type(page) is Rows and not self._needs_look() and isinstance(self._backend, RemoteBackend):
            return page  # the C core looks at it
        kept = []
        unknown: list[str] = []
        look = self._needs_look()
        for item in page:
            key = item if isinstance(item, str) else item["path"]
            if key.endswith("/"):
                yield from self._directory(key)
                continue
            if not look:
                kept.append(item)
                continue
            name = self._name_of(key)
            if self._dest.clash(name):
                self._fail(key, FileExistsError(17, "another object's name differs in case only", name))
            elif not self._options.overwrite and self._exists(name):
                self._result.skipped += 1
            elif isinstance(item, str):
                if self._dest.is_resumed and self._exists(name):
                    unknown.append(item)
                else:
                    kept.append(item)
            elif self._dest.has(key, item["e_tag"], item["size"], name):
                self._result.skipped += 1
                self._result.resumed_bytes += item["size"]
            else:
                kept.append(item)
        if unknown:
            kept += yield from self._unfinished(unknown)
        return kept

    def _exists(self, name: str) -> bool:
        try:
            return self._dest.path(name).exists()
        except ValueError:
            return False

    def _directory(self, key: str) -> Op[None]:
        """An object that stands for a directory."""
        name = key[self._pages.cut :].rstrip("/")
        try:
            if name:
                yield Call(self._dest.make_directory, name)
        except (OSError, ValueError) as error:
            self._fail(key, _explained(error, key))
        else:
            self._result.skipped += 1

    def _unfinished(self, keys: list[str]) -> Op[list[str]]:
        """Those of the keys whose file is not what the service has now: asked, as their ETags are not known."""
        left: list[str] = []

        def ask(key: str) -> Op[None]:
            try:
                meta = yield from self._backend.head(key, None)
            except Exception:  # noqa: BLE001 - the download itself will say it
                left.append(key)
                return
            if self._dest.has(key, meta["e_tag"], meta["size"], self._name_of(key)):
                self._result.skipped += 1
                self._result.resumed_bytes += meta["size"]
            else:
                left.append(key)

        running: list[Any] = []
        for key in keys:
            running.append((yield Fork(ask(key))))
            yield from _fewer(running, self._options.connections)
        yield from _fewer(running, 1)
        return left

    # ---- stores behind HTTP -------------------------------------------------------------------------------------

    def _run_remote(self, backend: RemoteBackend) -> Op[None]:
        options = self._options
        window = max(1, min(options.connections, 1024))
        bulk = backend.client.bulk(
            window=window,
            piece=options.piece,
            verify=options.verify,
            dir_fd=self._dest.dir_fd,
            temp_fd=self._dest.temp_fd,
            journal_fd=self._dest.journal_fd,
        )
        feeder = Feeder(backend, bulk, verify=options.verify, cut=0)
        fetch = self._fetch = Fetch(
            backend,
            self._dest,
            verify=options.verify,
            # A quarter of the connections stays for small objects, however slow the large ones are.
            streams=options.connections if self._name is not None else max(1, options.connections * 3 // 4),
            piece=options.piece,
            on_bytes=self._on_bytes,
        )
        large: list[tuple[str, Any]] = []  # to be fetched by operations of their own: key and first bytes
        again: list[tuple[str, Any]] = []  # the same of small ones that failed: key and attempt
        few = max(1, min(_AGAIN_AT_ONCE, options.connections // 4))
        retried = self._retried
        running = self._running
        try:
            while True:
                if self._page is None and not self._ended:
                    self._page = yield Fork(self._next_page())
                if self._page is not None and self._page.done:
                    child, self._page = self._page, None
                    if child.error is not None:
                        raise child.error
                    page = child.result
                    if not self._ended:
                        self._page = yield Fork(self._next_page())  # arrives while this one is worked on
                    page = yield from self._looked_at(page)
                    if self._name is not None and self._pages.single:
                        large += [(key, None) for key in page]
                        page = []
                    skipped = yield from feeder.feed(page, self._next_id, options.piece, self._pages.cut)
                    self._next_id += len(page)
                    for item in map(page.__getitem__, skipped):
                        key = item if isinstance(item, str) else item["path"]
                        if key.endswith("/"):
                            yield from self._directory(key)
                        else:
                            large.append((key, None))
                while large and len(running) - len(retried) < options.large:
                    key, first = large.pop()
                    running.append((yield Fork(self._one(fetch.object(key, self._name_of(key), first), key))))
                while again and len(retried) < few:
                    key, attempt = again.pop()
                    op = after_attempt(fetch.object(key, self._name_of(key)), attempt)
                    retried.append((yield Fork(self._one(op, key))))
                    running.append(retried[-1])
                _, _, pending, active, left = bulk.counts()
                if pending or active or left:
                    beside = bool(running) or self._page is not None
                    yield from feeder.refresh()
                    low = PAGE // 2 if self._page is not None else 0
                    yield Call(bulk.step, STEP_BESIDE_SECONDS if running else STEP_SECONDS, low)
                    for item in bulk.take():
                        self._left_over(item, large, again, feeder)
                    if beside:
                        yield Sleep(BREATH_SECONDS)
                elif running or self._page is not None:
                    yield Join([*running, *([self._page] if self._page is not None else [])])
                elif self._ended and not large and not again:
                    break
                running[:] = [child for child in running if not child.done]
                retried[:] = [child for child in retried if not child.done]
                self._count(bulk)
        except GeneratorExit:
            bulk.close()
            raise
        except BaseException:
            yield Cancel([*running, *([self._page] if self._page is not None else [])])
            self._count(bulk)
            yield Call(bulk.close)
            raise
        finally:
            if not self._ended:
                self._result.stopped = True
            self._result.resumed_bytes += fetch.resumed_bytes
            self._result.verified += fetch.verified
        self._count(bulk)
        bulk.close()

    def _left_over(self, item: Any, large: list[tuple[str, Any]], again: list[tuple[str, Any]], feeder: Feeder) -> None:
        """What the C core did not settle."""
        if item.outcome == "partial":
            large.append((item.key, item))
        elif item.outcome == "file":
            self._fail(item.key, _os_error(item.oserrno, str(self._dest.root / (item.name or ""))))
        elif item.outcome == "unsafe":
            self._fail(item.key, _unsafe(self._backend.name, item.key))
        else:
            again.append((item.key, feeder.attempt(item)))  # on from there, with all the patience that there is

    # ---- stores without HTTP -------------------------------------------------------------------------------------

    def _run_serverless(self) -> Op[None]:
        running = self._running
        window = min(8, self._options.connections)
        slots = list(range(window))
        try:
            while not self._ended:
                page = yield from self._looked_at((yield from self._next_page()))
                for item in page:
                    key = item if isinstance(item, str) else item["path"]
                    slot = slots.pop()
                    op = self._in_slot(slot, slots, key)
                    running.append((yield Fork(self._one(op, key))))
                    yield from _fewer(running, window)
                    self._count(None)
            yield from _fewer(running, 1)
        except GeneratorExit:
            raise
        except BaseException:
            self._result.stopped = True
            yield Cancel(running)
            raise
        self._count(None)

    def _in_slot(self, slot: int, slots: list[int], key: str) -> Op[Any]:
        try:
            return (
                yield from copy_out(self._backend, self._dest, key, self._name_of(key), self._dest.temp(f"slot-{slot}"))
            )
        finally:
            slots.append(slot)


def _fewer(running: list[Any], limit: int) -> Op[None]:
    """Wait until fewer than ``limit`` run. None of them raises."""
    while True:
        running[:] = [child for child in running if not child.done]
        if len(running) < limit:
            return
        yield Join(running)


def _os_error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _unsafe(store: str, key: str) -> Exception:
    return InvalidPathError.of(store, f"{key!r} is no path below the destination", key=key)


def _explained(error: Exception, path: str) -> Exception:
    """Names of files that are none are `InvalidPathError`; what says nothing about the path gets it as a note."""
    if isinstance(error, ValueError) and not isinstance(error, (IntegrityError, UnicodeError)):
        return _unsafe("", path)
    return error


def target_of(dest: Any) -> Path:
    """The destination as a path.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(dest, (str, os.PathLike)):
        raise TypeError(f"dest: a path is required, not '{type(dest).__name__}'")
    return Path(os.fspath(dest))

"""Transfers of many objects, or of large ones, in one call.

`download`, `upload`, `get_many`, `put_many`, `delete_many`, `copy_many` and `sync`, each with an ``_async`` twin. What they share:

- a failed object does not stop the others: it is an entry of ``result.failures``;
- ``connections`` and ``memory`` bound the whole call, however many objects there are;
- ``progress=True`` shows a bar; a bar of tqdm or rich, an fsspec ``Callback`` or a callable (given a `Progress`) does as well;
- Ctrl-C ends the call with `BulkInterrupted`, whose ``result`` says what was done; files appear whole or not at all.

Small objects are requested, written and verified by the C core; Python sees them by the thousand. Large ones are fetched in ranges,
several at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from obstore._bulk import changing, spread, syncing
from obstore._bulk import sending as _sending
from obstore._bulk.dest import Destination, job_of
from obstore._bulk.download import Download, target_of
from obstore._bulk.match import make_filter
from obstore._bulk.options import STREAMS, Options, make_options
from obstore._bulk.progress import Meter, Progress, make_meter
from obstore._bulk.reading import Reading
from obstore._bulk.result import Action, BulkInterrupted, BulkResult, Clock, Failure
from obstore._bulk.select import Keys, Pages, select
from obstore._bulk.tree import File, walk
from obstore._effects import Call, Op
from obstore._engine import Bytes
from obstore._local import LocalBackend
from obstore._ops.args import flag, whole_number
from obstore._ops.list import server_prefix
from obstore._run import run as _run
from obstore._run import start as _start
from obstore._types import Attributes, Backend, Buffer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from obstore._methods import ObjectStoreMethods as ObjectStore

__all__ = [
    "Action",
    "BulkInterrupted",
    "BulkResult",
    "Failure",
    "ManyStream",
    "Progress",
    "copy_many",
    "copy_many_async",
    "delete_many",
    "delete_many_async",
    "download",
    "download_async",
    "download_file",
    "download_file_async",
    "get_many",
    "put_many",
    "put_many_async",
    "sync",
    "sync_async",
    "upload",
    "upload_async",
    "upload_file",
    "upload_file_async",
]

T = TypeVar("T")
What = str | Iterable[str] | Iterable[Any] | Pages
PathLike = str | os.PathLike[str]


class _Job:
    """One bulk transfer: its operation, and what it counts and shows."""

    def __init__(self, title: str, progress: Any) -> None:
        self.result = BulkResult()
        self.meter: Meter = make_meter(progress, title)

    def timed(self, op: Op[None]) -> Op[BulkResult]:
        """The operation, timed and shown to its end."""
        clock = Clock(self.result)
        try:
            yield from op
        except BaseException:
            self.result.stopped = True
            raise
        finally:
            clock.stop()
            self.meter.sample(self.result, last=True)
        return self.result

    def run(self, op: Op[None]) -> BulkResult:
        """Run it on this thread."""
        try:
            return _run(self.timed(op))
        except KeyboardInterrupt:
            self.result.stopped = True
            raise BulkInterrupted(self.result) from None

    def start(self, op: Op[None]) -> Awaitable[BulkResult]:
        """Start it on the running event loop."""
        return _start(self.timed(op))


def _backend_of(store: Any, argument: str = "store") -> Backend:
    backend = getattr(store, "_backend", None)
    if backend is None:
        raise TypeError(f"{argument}: a store is required, not '{type(store).__name__}'")
    return backend  # type: ignore[no-any-return]


# ---- download ----------------------------------------------------------------------------------------------------


def download(
    store: ObjectStore,
    what: What,
    dest: PathLike,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    connections: int | None = None,
    memory: int | str | None = None,
    verify: bool = True,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> BulkResult:
    """Download objects to files below a directory.

    Killed at any moment and called again, it goes on where it was: finished files are not fetched again, large ones from the range
    that was under way. An object that changed meanwhile starts over. Until a file is whole, and matches its checksum, it is not
    there under its name. Files get the modification time of their objects.

    Args:
        store: where from.
        what: a prefix (whole path segments; an object's key if nothing is below it), a pattern (``*`` and ``?`` within a segment,
            ``**`` across them, ``[...]``), or an iterable of keys or of objects of a listing.
        dest: the directory; made if it is not there. A file's path is that of its key below the prefix, below the last directory
            of a pattern that has no wildcard, or the whole key.
        include: only what matches one of these patterns, relative to ``what``; here ``*`` matches ``/`` as well.
        exclude: not what matches one of these.
        recursive: whether to go deeper than one level.
        connections: at a time, over everything; 64 by default.
        memory: bytes of bodies in memory, an int or text such as ``"64MiB"``; bodies of downloads go to disk as they come.
        verify: compare with the service's checksum of the whole object where it has one: CRC-32, CRC-32C or CRC-64/NVME. The
            length is always checked.
        overwrite: whether to replace files that are there; else they are skipped.
        resume: whether to go on from what an earlier call left.
        progress: see `obstore.bulk`.
        executor: runs the transfers instead of this process: any ``concurrent.futures.Executor``, Dask's and Ray's included. The
            directory must be the same for all.
        workers: of the executor, where it does not tell; they share ``connections``.

    Returns:
        What was done. Objects that failed are in ``failures``: keys that cannot be a file's (``../x``), names that clash, files
        that cannot be written, objects that are gone ...

    Raises:
        TypeError, ValueError: an argument is wrong.
        OSError: the directory cannot be made or written to.
        BaseError: the listing failed.
        BulkInterrupted: Ctrl-C.
    """
    options = make_options(connections=connections, memory=memory, verify=verify, overwrite=overwrite, resume=resume)
    flag(recursive, "recursive")
    job = _Job("download", progress)
    backend = _backend_of(store)
    pages = select(backend, what, include, exclude, recursive=recursive)
    root = target_of(dest)
    if executor is not None:
        return _spread_download(job, store, what, pages, root, options, executor, workers)
    return job.run(_download(job, backend, pages, root, _name(store, what), options))


def download_async(
    store: ObjectStore,
    what: What,
    dest: PathLike,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    connections: int | None = None,
    memory: int | str | None = None,
    verify: bool = True,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Download objects to files below a directory; see `download`."""
    options = make_options(connections=connections, memory=memory, verify=verify, overwrite=overwrite, resume=resume)
    flag(recursive, "recursive")
    job = _Job("download", progress)
    backend = _backend_of(store)
    pages = select(backend, what, include, exclude, recursive=recursive)
    root = target_of(dest)
    if executor is not None:
        return _start(_called(lambda: _spread_download(job, store, what, pages, root, options, executor, workers)))
    return job.start(_download(job, backend, pages, root, _name(store, what), options))


def _called(fn: Callable[[], T]) -> Op[T]:
    """Blocking work as an operation: on an event loop it goes to a thread."""
    result: T = yield Call(fn)
    return result


def download_file(
    store: ObjectStore,
    path: str,
    file: PathLike,
    *,
    connections: int | None = None,
    verify: bool = True,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
) -> BulkResult:
    """Download one object to one file, a large one in several ranges at once; resumed and verified as by `download`.

    Args:
        store: where from.
        path: the object's key.
        file: the file's path; its directory is made if it is not there.
        connections, verify, overwrite, resume, progress: see `download`.

    Raises:
        TypeError, ValueError: an argument is wrong.
        OSError: the directory cannot be made or written to.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("download", progress)
    options = make_options(connections=connections, verify=verify, overwrite=overwrite, resume=resume)
    return job.run(_download_file(job, store, path, file, options))


def download_file_async(
    store: ObjectStore,
    path: str,
    file: PathLike,
    *,
    connections: int | None = None,
    verify: bool = True,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Download one object to one file; see `download_file`."""
    job = _Job("download", progress)
    options = make_options(connections=connections, verify=verify, overwrite=overwrite, resume=resume)
    return job.start(_download_file(job, store, path, file, options))


def _download_file(job: _Job, store: ObjectStore, path: str, file: PathLike, options: Options) -> Op[None]:
    backend = _backend_of(store)
    key = backend.parse_key(path, "path")
    target = target_of(file)
    pages = Keys([key])
    pages.single = True
    options = options._replace(streams=min(STREAMS, options.connections))
    return _download(job, backend, pages, target.parent, job_of(store, key, target.name), options, target.name)


def _name(store: Any, what: Any) -> str:
    return job_of(store, what if isinstance(what, str) else "keys")


def _download(
    job: _Job, backend: Backend, pages: Pages, root: Path, name: str, options: Options, file_name: str | None = None
) -> Op[None]:
    dest = yield Call(lambda: Destination(root, name, resume=options.resume))
    try:
        yield from Download(backend, pages, dest, options, job.result, job.meter, file_name).run()
    except GeneratorExit:
        dest.close(keep=options.resume)
        raise
    except BaseException:
        dest.close(keep=options.resume)
        raise
    dest.close(keep=options.resume and dest.has_unfinished())


def _spread_download(
    job: _Job,
    store: ObjectStore,
    what: What,
    pages: Pages,
    root: Path,
    options: Options,
    executor: Executor,
    workers: int | None,
) -> BulkResult:
    count = spread.worker_count(executor, None if workers is None else whole_number(workers, "workers", minimum=1))
    each = options._replace(
        connections=max(1, options.connections // count),
        memory=max(1 << 20, options.memory // count),
        streams=max(1, min(options.streams, options.connections // count)),
    )
    clock = Clock(job.result)
    first = _run(pages.next())

    def all_pages() -> Iterator[list[Any]]:
        page = first
        while page:
            yield [item if isinstance(item, str) else dict(item.items()) for item in page]
            page = _run(pages.next())

    task = _DownloadTask(store, pages.cut, os.fspath(root), _name(store, what), each)
    try:
        spread.spread(executor, count, all_pages(), task, job.result, job.meter)
    except KeyboardInterrupt:
        raise BulkInterrupted(job.result) from None
    finally:
        clock.stop()
        job.meter.sample(job.result, last=True)
    return job.result


class _DownloadTask:
    """What a worker does with a page; picklable where the store is."""

    def __init__(self, store: Any, cut: int, root: str, name: str, options: Options) -> None:
        self._parts = (store, cut, root, name, options)

    def __call__(self, page: list[Any]) -> BulkResult:
        store, cut, root, name, options = self._parts
        job = _Job("download", None)
        first = page[0] if isinstance(page[0], str) else page[0]["path"]
        return job.run(_download(job, _backend_of(store), Keys(page, cut), Path(root), job_of(name, first), options))


# ---- upload ------------------------------------------------------------------------------------------------------


def upload(
    store: ObjectStore,
    what: PathLike | Iterable[PathLike],
    prefix: str = "",
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    attributes: Attributes | Callable[[str], Attributes] | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
) -> BulkResult:
    """Upload files to objects below a prefix.

    Large files go up in parts, several at once; parts that the service has from an earlier call that was killed are not sent again.

    Args:
        store: where to.
        what: a directory, whose files become objects named by their path in it; a file; or an iterable of files, which become
            objects named by their last part.
        prefix: what the names are put below.
        include: only what matches one of these patterns, relative to ``what``; ``*`` matches ``/`` as well.
        exclude: not what matches one of these.
        recursive: whether to go into directories.
        attributes: of all objects, or a callable that returns those of the file at a path.
        connections: at a time, over everything; 64 by default.
        memory: bytes of files in memory at a time, an int or text; 256 MiB by default.
        overwrite: whether to replace objects that are there; else they are failures (`AlreadyExistsError`).
        resume: whether to look for parts that are there.
        progress: see `obstore.bulk`.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument is wrong.
        FileNotFoundError: there is no such file or directory.
        BulkInterrupted: Ctrl-C; no upload is left unfinished at the service.
    """
    job = _Job("upload", progress)
    options = make_options(connections=connections, memory=memory, overwrite=overwrite, resume=resume)
    return job.run(_upload(job, store, what, prefix, include, exclude, recursive, attributes, options))


def upload_async(
    store: ObjectStore,
    what: PathLike | Iterable[PathLike],
    prefix: str = "",
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    attributes: Attributes | Callable[[str], Attributes] | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Upload files to objects below a prefix; see `upload`."""
    job = _Job("upload", progress)
    options = make_options(connections=connections, memory=memory, overwrite=overwrite, resume=resume)
    return job.start(_upload(job, store, what, prefix, include, exclude, recursive, attributes, options))


def upload_file(
    store: ObjectStore,
    file: PathLike,
    path: str,
    *,
    attributes: Attributes | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
) -> BulkResult:
    """Upload one file to one object, a large one in several parts at once; resumed as by `upload`.

    Args:
        store: where to.
        file: the file's path.
        path: the object's key.
        attributes, connections, memory, overwrite, resume, progress: see `upload`.

    Raises:
        TypeError, ValueError: an argument is wrong.
        FileNotFoundError: there is no such file.
        BulkInterrupted: Ctrl-C; no upload is left unfinished at the service.
    """
    job = _Job("upload", progress)
    options = make_options(connections=connections, memory=memory, overwrite=overwrite, resume=resume)
    return job.run(_upload_file(job, store, file, path, attributes, options))


def upload_file_async(
    store: ObjectStore,
    file: PathLike,
    path: str,
    *,
    attributes: Attributes | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Upload one file to one object; see `upload_file`."""
    job = _Job("upload", progress)
    options = make_options(connections=connections, memory=memory, overwrite=overwrite, resume=resume)
    return job.start(_upload_file(job, store, file, path, attributes, options))


def _upload_file(
    job: _Job, store: ObjectStore, file: PathLike, path: str, attributes: Any, options: Options
) -> Op[None]:
    backend = _backend_of(store)
    key = backend.parse_key(path, "path")
    name = os.fspath(target_of(file))
    status = os.stat(name)
    pair = (File(name, os.path.basename(name), status.st_size, status.st_mtime), key)
    make = (lambda _file: dict(attributes)) if attributes else None
    return _sending.Sending(backend, [pair], options, job.result, job.meter, make).run()


def _upload(
    job: _Job,
    store: ObjectStore,
    what: Any,
    prefix: str,
    include: Any,
    exclude: Any,
    recursive: Any,
    attributes: Any,
    options: Options,
) -> Op[None]:
    backend = _backend_of(store)
    base = server_prefix(backend, prefix, "segment")
    is_wanted = make_filter(include, exclude)
    flag(recursive, "recursive")
    make_attributes: Any = None
    if callable(attributes):
        make_attributes = lambda file: dict(attributes(file.path))  # noqa: E731 - as short as the other
    elif attributes:
        make_attributes = lambda _file: dict(attributes)  # noqa: E731
    files: Iterable[File]
    if isinstance(what, (str, os.PathLike)):
        root = Path(os.fspath(what))
        if not root.exists():
            raise FileNotFoundError(2, "No such file or directory", os.fspath(root))
        files = walk(root, is_wanted, recursive=recursive, on_error=_noting(job.result))
    elif isinstance(what, Iterable):
        files = _files(what)
    else:
        raise TypeError(f"what: a path or an iterable of paths is required, not '{type(what).__name__}'")
    pairs = ((file, base + file.name) for file in files)
    return _sending.Sending(backend, pairs, options, job.result, job.meter, make_attributes).run()


def _noting(result: BulkResult) -> Callable[[str, OSError], None]:
    return lambda path, error: result.failures.append(Failure(path, error.with_traceback(None)))


def _files(paths: Iterable[Any]) -> Iterator[File]:
    for given in paths:
        path = os.fspath(given)
        try:
            status = os.stat(path)
            yield File(path, os.path.basename(path), status.st_size, status.st_mtime)
        except OSError:
            yield File(path, os.path.basename(path), 0, 0.0)  # opening it will say what is wrong


# ---- get_many, put_many ------------------------------------------------------------------------------------------


class ManyStream:
    """What `get_many` returns: an iterator and an asynchronous iterator of ``(path, body)``."""

    def __init__(self, reading: Reading, *, errors: str) -> None:
        self._reading = reading
        self._raises = errors == "raise"
        self._items: deque[Any] = deque()

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> tuple[str, Bytes]:
        if not self._items:
            self._items.extend(_run(self._reading.more()))
            if not self._items:
                raise StopIteration
        return self._next()

    async def __anext__(self) -> tuple[str, Bytes]:
        if not self._items:
            self._items.extend(await _start(self._reading.more()))
            if not self._items:
                raise StopAsyncIteration
        return self._next()

    def _next(self) -> tuple[str, Any]:
        _, key, body = self._items.popleft()
        if self._raises and isinstance(body, Exception):
            raise body
        return key, body

    def close(self) -> None:
        """Give up the rest; also at the end of ``with``, and when nobody refers to this any more."""
        self._items.clear()
        self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()


def get_many(
    store: ObjectStore,
    paths: What,
    *,
    ordered: bool = False,
    errors: str = "raise",
    connections: int | None = None,
    memory: int | str | None = None,
    verify: bool = True,
) -> ManyStream:
    """Read many objects into memory.

    Args:
        store: where from.
        paths: an iterable of keys or of objects of a listing; or a prefix or pattern, as for `download`.
        ordered: in the order of ``paths``; else as they come, which is faster.
        errors: ``"raise"`` raises the error of an object in its turn, and iteration can go on after it; ``"return"`` gives it in
            place of the body.
        connections: at a time; 64 by default.
        memory: bytes of bodies in flight or not yet given out, an int or text; 256 MiB by default.
        verify: see `download`.

    Returns:
        An iterator, also an asynchronous one, of ``(path, Bytes)``. Closing or dropping it gives up the rest.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    if errors not in ("raise", "return"):
        raise ValueError(f"errors must be 'raise' or 'return', not {errors!r}")
    options = make_options(connections=connections, memory=memory, verify=verify)
    backend = _backend_of(store)
    return ManyStream(
        Reading(backend, select(backend, paths), options, ordered=flag(ordered, "ordered")), errors=errors
    )


def put_many(
    store: ObjectStore,
    items: Iterable[tuple[str, Buffer | os.PathLike[str] | Iterable[Buffer]]] | dict[str, Any],
    *,
    attributes: Attributes | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    progress: Any = None,
) -> BulkResult:
    """Write many objects.

    Args:
        store: where to.
        items: pairs of key and content, or a dict of them; the content is what ``put`` takes. An iterator is asked for more as
            there is room.
        attributes: of all objects.
        connections, memory, overwrite, progress: see `upload`.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument, a key or a content is of no use.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("put", progress)
    return job.run(_put_many(job, store, items, attributes, connections, memory, overwrite))


def put_many_async(
    store: ObjectStore,
    items: Iterable[tuple[str, Buffer | os.PathLike[str] | Iterable[Buffer]]] | dict[str, Any],
    *,
    attributes: Attributes | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Write many objects; see `put_many`."""
    job = _Job("put", progress)
    return job.start(_put_many(job, store, items, attributes, connections, memory, overwrite))


def _put_many(
    job: _Job, store: Any, items: Any, attributes: Any, connections: Any, memory: Any, overwrite: Any
) -> Op[None]:
    options = make_options(connections=connections, memory=memory, overwrite=overwrite)
    pairs = items.items() if isinstance(items, dict) else items
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise TypeError(f"items: an iterable of (path, content) is required, not '{type(items).__name__}'")
    return _sending.put_many(_backend_of(store), pairs, options, job.result, job.meter, attributes)


# ---- delete_many, copy_many --------------------------------------------------------------------------------------


def delete_many(
    store: ObjectStore,
    what: What,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    dry_run: bool = False,
    connections: int | None = None,
    progress: Any = None,
) -> BulkResult:
    """Delete many objects, in as few requests as the service allows.

    Args:
        store: where.
        what, include, exclude, recursive: see `download`.
        dry_run: only list what would be deleted, in ``result.actions``.
        connections, progress: see `download`.

    Returns:
        What was done; an object that is not there counts as deleted.

    Raises:
        TypeError, ValueError: an argument is wrong.
        BaseError: the listing failed.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("delete", progress)
    return job.run(_delete_many(job, store, what, include, exclude, recursive, dry_run, connections))


def delete_many_async(
    store: ObjectStore,
    what: What,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    dry_run: bool = False,
    connections: int | None = None,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Delete many objects; see `delete_many`."""
    job = _Job("delete", progress)
    return job.start(_delete_many(job, store, what, include, exclude, recursive, dry_run, connections))


def _delete_many(
    job: _Job, store: Any, what: Any, include: Any, exclude: Any, recursive: Any, dry_run: Any, connections: Any
) -> Op[None]:
    options = make_options(connections=connections)
    backend = _backend_of(store)
    pages = select(backend, what, include, exclude, recursive=flag(recursive, "recursive"))
    if flag(dry_run, "dry_run"):
        return _list_actions(pages, "delete", job.result)
    return changing.delete_many(backend, pages, options, job.result, job.meter)


def _list_actions(pages: Pages, kind: str, result: BulkResult) -> Op[None]:
    while page := (yield from pages.next()):
        for item in page:
            key, size = (item, None) if isinstance(item, str) else (item["path"], item["size"])
            result.actions.append(Action(kind, key, size))


def copy_many(
    source: ObjectStore,
    target: ObjectStore,
    what: What,
    prefix: str = "",
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    dry_run: bool = False,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    progress: Any = None,
) -> BulkResult:
    """Copy objects between two stores of any kind: by the service where it can, else through memory, which stays bounded.

    Args:
        source: where from.
        target: where to; may be the same store.
        what: see `download`.
        prefix: what the names, relative to ``what`` as for `download`, are put below.
        include, exclude, recursive, connections, progress: see `download`.
        dry_run: only list what would be copied, in ``result.actions``.
        memory: bytes of bodies in memory at a time.
        overwrite: whether to replace objects that are there; else they are failures.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument is wrong.
        BaseError: the listing failed.
        BulkInterrupted: Ctrl-C; no upload is left unfinished.
    """
    job = _Job("copy", progress)
    options = make_options(connections=connections, memory=memory, overwrite=overwrite)
    return job.run(_copy_many(job, source, target, what, prefix, include, exclude, recursive, dry_run, options))


def copy_many_async(
    source: ObjectStore,
    target: ObjectStore,
    what: What,
    prefix: str = "",
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    dry_run: bool = False,
    connections: int | None = None,
    memory: int | str | None = None,
    overwrite: bool = True,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Copy objects between two stores; see `copy_many`."""
    job = _Job("copy", progress)
    options = make_options(connections=connections, memory=memory, overwrite=overwrite)
    return job.start(_copy_many(job, source, target, what, prefix, include, exclude, recursive, dry_run, options))


def _copy_many(
    job: _Job,
    source: Any,
    target: Any,
    what: Any,
    prefix: str,
    include: Any,
    exclude: Any,
    recursive: Any,
    dry_run: Any,
    options: Options,
) -> Op[None]:
    from_, to = _backend_of(source, "source"), _backend_of(target, "target")
    base = server_prefix(to, prefix, "segment")
    pages = select(from_, what, include, exclude, recursive=flag(recursive, "recursive"))
    if flag(dry_run, "dry_run"):
        return _list_actions(pages, "copy", job.result)
    rename = lambda key: base + key[pages.cut :]  # noqa: E731 - the cut is known once listing began
    return changing.Copying(from_, to, pages, rename, options, job.result, job.meter).run()


# ---- sync --------------------------------------------------------------------------------------------------------


def sync(
    source: ObjectStore | PathLike,
    target: ObjectStore | PathLike,
    *,
    source_prefix: str = "",
    target_prefix: str = "",
    delete: bool = False,
    dry_run: bool = False,
    size_only: bool = False,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    verify: bool = True,
    progress: Any = None,
) -> BulkResult:
    """Make the target hold what the source holds: transfer what is missing, of another size, or older there.

    Times that lie within a second of each other are equal: services tell them differently in different answers.

    Both sides are listed in order and compared as they come, so memory does not grow with their number. Called twice, the second
    call transfers nothing.

    Args:
        source: a store, or a local directory.
        target: a store, or a local directory.
        source_prefix, target_prefix: of stores: what names are relative to.
        delete: delete at the target what the source lacks; not where some of the source could not be listed.
        dry_run: only list what would be done, in ``result.actions``.
        size_only: take equal size for equal content.
        include, exclude: patterns over relative names, see `download`; what they leave out is left alone on both sides.
        connections, memory, verify, progress: see `download`.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument is wrong.
        FileNotFoundError: the source is a directory that is not there.
        BaseError: a listing failed, or is not in order, as those of some servers are not.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("sync", progress)
    options = make_options(connections=connections, memory=memory, verify=verify)
    return job.run(
        _sync(job, source, target, source_prefix, target_prefix, delete, dry_run, size_only, include, exclude, options)
    )


def sync_async(
    source: ObjectStore | PathLike,
    target: ObjectStore | PathLike,
    *,
    source_prefix: str = "",
    target_prefix: str = "",
    delete: bool = False,
    dry_run: bool = False,
    size_only: bool = False,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    verify: bool = True,
    progress: Any = None,
) -> Awaitable[BulkResult]:
    """Make the target hold what the source holds; see `sync`."""
    job = _Job("sync", progress)
    options = make_options(connections=connections, memory=memory, verify=verify)
    return job.start(
        _sync(job, source, target, source_prefix, target_prefix, delete, dry_run, size_only, include, exclude, options)
    )


def _side_of(value: Any, prefix: str, argument: str) -> Path | tuple[Backend, str]:
    """A directory, or a store's backend with the prefix as the service compares it."""
    if isinstance(value, (str, os.PathLike)):
        return Path(os.fspath(value)) / prefix
    backend = _backend_of(value, argument)
    if isinstance(backend, LocalBackend):  # a directory, whose files are found in order
        return (backend.root or Path("/")) / prefix
    return backend, server_prefix(backend, prefix, "segment")


def _sync(
    job: _Job,
    source: Any,
    target: Any,
    source_prefix: str,
    target_prefix: str,
    delete: Any,
    dry_run: Any,
    size_only: Any,
    include: Any,
    exclude: Any,
    options: Options,
) -> Op[None]:
    from_ = _side_of(source, source_prefix, "source")
    to = _side_of(target, target_prefix, "target")
    for name, value in (("delete", delete), ("dry_run", dry_run), ("size_only", size_only)):
        flag(value, name)
    is_wanted = make_filter(include, exclude)
    if isinstance(from_, Path) and not from_.is_dir():
        raise FileNotFoundError(2, "No such directory", os.fspath(from_))
    if isinstance(from_, Path) and isinstance(to, Path):
        from obstore.store import LocalStore

        # Files to files: the directory is read as a store is.
        from_ = (LocalStore(from_)._backend, "")  # noqa: SLF001 - ours
    ours: syncing.Side
    theirs: syncing.Side
    if isinstance(from_, Path):
        ours, kind = syncing.TreeSide(from_, is_wanted, _noting(job.result)), "upload"
    elif isinstance(from_[0], LocalBackend):
        ours, kind = syncing.LocalSide(from_[0], is_wanted, _noting(job.result)), "download"
    else:
        ours, kind = syncing.StoreSide(from_[0], from_[1], is_wanted), "copy"
    on_delete: Any
    if isinstance(to, Path):
        theirs = syncing.TreeSide(to, is_wanted, _noting(job.result))
        on_delete = syncing.delete_files(to, job.result)
        kind = "download"
    else:
        theirs = syncing.StoreSide(to[0], to[1], is_wanted)
        on_delete = syncing.delete_objects(to[0], job.result)
    difference = syncing.Difference(
        ours, theirs, kind, job.result, delete=delete, on_delete=on_delete, dry_run=dry_run, size_only=size_only
    )
    if dry_run:
        return syncing.dry(difference)
    if isinstance(to, Path):
        assert not isinstance(from_, Path)
        return _download(job, from_[0], difference, to, job_of(source, target, source_prefix), options)
    if isinstance(from_, Path):
        return _sync_up(job, difference, to[0], to[1], options)
    cut, base = len(from_[1]), to[1]
    return changing.Copying(
        from_[0], to[0], difference, lambda key: base + key[cut:], options, job.result, job.meter
    ).run()


def _sync_up(job: _Job, difference: syncing.Difference, backend: Backend, base: str, options: Options) -> Op[None]:
    while page := (yield from difference.entries()):
        pairs = [(entry.item, base + entry.name) for entry in page]
        yield from _sending.Sending(backend, pairs, options, job.result, job.meter).run()

"""The transfers behind `obstore.bulk`: arguments checked, operations put together, here or on the workers of an executor."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from obstore import _workers
from obstore._bulk import changing, syncing
from obstore._bulk import sending as _sending
from obstore._bulk.dest import Destination, job_of
from obstore._bulk.download import Download, target_of
from obstore._bulk.match import make_filter
from obstore._bulk.options import Options
from obstore._bulk.progress import Meter, make_meter
from obstore._bulk.result import Action, BulkInterrupted, BulkResult, Clock, Failure
from obstore._bulk.select import PAGE, Keys, Pages, select
from obstore._bulk.spread import Crew, Units
from obstore._bulk.tree import File, walk
from obstore._effects import Call, Op
from obstore._local import LocalBackend
from obstore._ops.args import flag, whole_number
from obstore._ops.list import server_prefix
from obstore._run import run, start
from obstore._types import Backend


class Job:
    """One bulk transfer: its operation, what it counts and shows, and who does it.

    Args:
        title: shown with the progress.
        progress: see `obstore.bulk`.
        executor, workers: see `obstore.bulk.download`.
    """

    def __init__(self, title: str, progress: Any, executor: Any = None, workers: Any = None) -> None:
        count = None if workers is None else whole_number(workers, "workers", minimum=1)
        if executor is None and count is not None:
            raise ValueError("workers: they are those of an executor, and none was given")
        self.crew = None if executor is None else Crew(executor, count)
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
            return run(self.timed(op))
        except KeyboardInterrupt:
            self.result.stopped = True
            raise BulkInterrupted(self.result) from None

    def start(self, op: Op[None]) -> Awaitable[BulkResult]:
        """Start it on the running event loop."""
        return start(self.timed(op))

    def spread(self, units: Units, task: Any, on_done: Any = None) -> Op[None]:
        """Have workers do it."""
        assert self.crew is not None
        return self.crew.run(units.next, task, self.result, self.meter, on_done)


def backend_of(store: Any, argument: str = "store") -> Backend:
    """What is behind a store.

    Raises:
        TypeError: it is no store.
    """
    backend = getattr(store, "_backend", None)
    if backend is None:
        raise TypeError(f"{argument}: a store is required, not '{type(store).__name__}'")
    return backend  # type: ignore[no-any-return]


# ---- download ----------------------------------------------------------------------------------------------------


def download(
    job: Job,
    store: Any,
    what: Any,
    dest: Any,
    include: Any,
    exclude: Any,
    recursive: Any,
    options: Options,
) -> Op[None]:
    """What is selected to files below a directory."""
    backend = backend_of(store)
    pages = select(backend, what, include, exclude, recursive=flag(recursive, "recursive"))
    name = job_of(store, what if isinstance(what, str) else "keys")
    return _download(job, store, backend, pages, target_of(dest), name, options)


def download_file(job: Job, store: Any, path: str, file: Any, options: Options) -> Op[None]:
    """One object to one file."""
    backend = backend_of(store)
    key = backend.parse_key(path, "path")
    target = target_of(file)
    pages = Keys([key])
    pages.single = True
    return _download(job, store, backend, pages, target.parent, job_of(store, key, target.name), options, target.name)


def _download(
    job: Job,
    store: Any,
    backend: Backend,
    pages: Pages,
    root: Path,
    name: str,
    options: Options,
    file_name: str | None = None,
) -> Op[None]:
    dest = yield Call(lambda: Destination(root, name, resume=options.resume))
    whole = Download(backend, pages, dest, options, job.result, job.meter, file_name)
    try:
        if job.crew is None:
            yield from whole.run()
        else:
            share = yield from job.crew.share(options)
            task = _workers.DownloadTask(store, Path(os.path.abspath(root)), dest.folder.name, share)
            units = Units(lambda: _with_cut(whole.page, pages), _size_of_pair)
            yield from job.spread(units, task, lambda done: dest.adopt(done.place))
    except BaseException:
        dest.close(keep=options.resume)
        raise
    dest.close(keep=options.resume and dest.has_unfinished())


def _with_cut(next_page: Callable[[], Op[Sequence[Any]]], pages: Pages) -> Op[list[tuple[int, Any]]]:
    """A page for workers: small, of plain values, and with what is only known once listing began."""
    page = yield from next_page()
    return [
        (pages.cut, item if isinstance(item, str) else {"path": item["path"], "size": item["size"]}) for item in page
    ]


def _size_of(item: Any) -> int:
    return 0 if isinstance(item, str) else int(item["size"])


def _size_of_pair(pair: tuple[int, Any]) -> int:
    return _size_of(pair[1])


# ---- upload ------------------------------------------------------------------------------------------------------


def upload_file(job: Job, store: Any, file: Any, path: str, attributes: Any, options: Options) -> Op[None]:
    """One file to one object."""
    backend = backend_of(store)
    key = backend.parse_key(path, "path")
    name = os.fspath(target_of(file))
    status = os.stat(name)
    pair = (File(name, os.path.basename(name), status.st_size, status.st_mtime), key)
    make = (lambda _file: dict(attributes)) if attributes else None
    return _sending.Sending(backend, _sending.batches([pair]), options, job.result, job.meter, make).run()


def upload_pairs(job: Job, store: Any, pairs: Iterable[tuple[str, str]], options: Options) -> BulkResult:
    """Files to objects whose keys are given."""
    files = ((next(_files([path])), key) for path, key in pairs)
    sending = _sending.Sending(backend_of(store), _sending.batches(files), options, job.result, job.meter)
    return job.run(sending.run())


def upload(
    job: Job,
    store: Any,
    what: Any,
    prefix: str,
    include: Any,
    exclude: Any,
    recursive: Any,
    attributes: Any,
    options: Options,
) -> Op[None]:
    """Files to objects below a prefix."""
    backend = backend_of(store)
    base = server_prefix(backend, prefix, "segment")
    is_wanted = make_filter(include, exclude)
    flag(recursive, "recursive")
    make: Callable[[File], dict[str, Any]] | None = None
    if callable(attributes):
        make = lambda file: dict(attributes(file.path))  # noqa: E731 - as short as the other
    elif attributes:
        make = lambda _file: dict(attributes)  # noqa: E731
    files: Iterable[File]
    if isinstance(what, (str, os.PathLike)):
        root = Path(os.fspath(what))
        if not root.exists():
            raise FileNotFoundError(2, "No such file or directory", os.fspath(root))
        files = walk(root, is_wanted, recursive=recursive, on_error=noting(job.result))
    elif isinstance(what, Iterable):
        files = _files(what)
    else:
        raise TypeError(f"what: a path or an iterable of paths is required, not '{type(what).__name__}'")
    pairs = ((file, base + file.name) for file in files)
    if job.crew is None:
        return _sending.Sending(backend, _sending.batches(pairs), options, job.result, job.meter, make).run()

    def page() -> Op[list[tuple[File, str]]]:
        batch: list[tuple[File, str]] = yield Call(lambda: list(islice(pairs, PAGE)))
        return batch

    return _spread_upload(job, store, page, make, options)


def _spread_upload(
    job: Job,
    store: Any,
    pairs: Callable[[], Op[list[tuple[File, str]]]],
    make: Callable[[File], dict[str, Any]] | None,
    options: Options,
) -> Op[None]:
    assert job.crew is not None
    share = yield from job.crew.share(options)

    def page() -> Op[list[tuple[File, str, Any]]]:
        # Attributes are asked for here: callables seldom travel. Workers may have another working directory.
        return [
            (file._replace(path=os.path.abspath(file.path)), key, make(file) if make else None)
            for file, key in (yield from pairs())
        ]

    yield from job.spread(Units(page, lambda item: item[0].size), _workers.UploadTask((store,), share))


def noting(result: BulkResult) -> Callable[[str, OSError], None]:
    """Writes down what of a directory cannot be read."""
    return lambda path, error: result.failures.append(Failure(path, error.with_traceback(None)))


def _files(paths: Iterable[Any]) -> Iterator[File]:
    for given in paths:
        path = os.fspath(given)
        try:
            status = os.stat(path)
            yield File(path, os.path.basename(path), status.st_size, status.st_mtime)
        except OSError:
            yield File(path, os.path.basename(path), 0, 0.0)  # opening it will say what is wrong


def put_many(job: Job, store: Any, items: Any, attributes: Any, options: Options) -> Op[None]:
    """Buffers, files and iterables to objects."""
    backend = backend_of(store)
    given = items.items() if isinstance(items, dict) else items
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"items: an iterable of (path, content) is required, not '{type(items).__name__}'")
    if job.crew is None:
        return _sending.Putting(backend, given, options, job.result, job.meter, attributes).run()
    return _spread_put(job, store, backend, iter(given), attributes, options)


def _spread_put(
    job: Job, store: Any, backend: Backend, items: Iterator[tuple[str, Any]], attributes: Any, options: Options
) -> Op[None]:
    assert job.crew is not None
    share = yield from job.crew.share(options)

    def page() -> Op[list[tuple[str, Any]]]:
        # Few at a time: their content is in memory here.
        batch: list[tuple[str, Any]] = yield Call(lambda: list(islice(items, 16)))
        return [(backend.parse_key(path, "items"), content) for path, content in batch]

    def size_of(item: tuple[str, Any]) -> int:
        try:
            return memoryview(item[1]).nbytes
        except TypeError:
            return 0

    units = Units(page, size_of, most=max(1 << 20, share.memory // 4))
    yield from job.spread(units, _workers.PutTask(store, share, attributes))


# ---- delete, copy ------------------------------------------------------------------------------------------------


def delete_many(
    job: Job, store: Any, what: Any, include: Any, exclude: Any, recursive: Any, dry_run: Any, options: Options
) -> Op[None]:
    """Delete what is selected."""
    backend = backend_of(store)
    pages = select(backend, what, include, exclude, recursive=flag(recursive, "recursive"))
    if flag(dry_run, "dry_run"):
        return _list_actions(pages, "delete", job.result)
    if job.crew is None:
        return changing.delete_many(backend, pages, options, job.result, job.meter)
    return _spread_delete(job, store, pages, options)


def _spread_delete(job: Job, store: Any, pages: Pages, options: Options) -> Op[None]:
    assert job.crew is not None
    share = yield from job.crew.share(options)

    def page() -> Op[list[str]]:
        return [item if isinstance(item, str) else item["path"] for item in (yield from pages.next())]

    yield from job.spread(Units(page, lambda _key: 0, objects=PAGE), _workers.DeleteTask((store,), share))


def _list_actions(pages: Pages, kind: str, result: BulkResult) -> Op[None]:
    while page := (yield from pages.next()):
        for item in page:
            key, size = (item, None) if isinstance(item, str) else (item["path"], item["size"])
            result.actions.append(Action(kind, key, size))


def copy_many(
    job: Job,
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
    """Copy what is selected between two stores."""
    from_, to = backend_of(source, "source"), backend_of(target, "target")
    base = server_prefix(to, prefix, "segment")
    pages = select(from_, what, include, exclude, recursive=flag(recursive, "recursive"))
    if flag(dry_run, "dry_run"):
        return _list_actions(pages, "copy", job.result)
    return _copy(job, source, target, pages, base, options)


def _copy(job: Job, source: Any, target: Any, pages: Pages, base: str, options: Options) -> Op[None]:
    if job.crew is None:
        from_, to = backend_of(source), backend_of(target)
        rename = lambda key: base + key[pages.cut :]  # noqa: E731 - the cut is known once listing began
        yield from changing.Copying(from_, to, pages, rename, options, job.result, job.meter).run()
        return
    share = yield from job.crew.share(options)
    units = Units(lambda: _with_cut(pages.next, pages), _size_of_pair)
    yield from job.spread(units, _workers.CopyTask(source, target, base, share))


# ---- sync --------------------------------------------------------------------------------------------------------


def _side_of(value: Any, prefix: str, argument: str) -> Path | tuple[Backend, str]:
    """A directory, or a store's backend with the prefix as the service compares it."""
    if isinstance(value, (str, os.PathLike)):
        return Path(os.fspath(value)) / prefix
    backend = backend_of(value, argument)
    if isinstance(backend, LocalBackend):  # a directory, whose files are found in order
        return (backend.root or Path("/")) / prefix
    return backend, server_prefix(backend, prefix, "segment")


def sync(
    job: Job,
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
    """Make the target hold what the source holds."""
    name = job_of(source, target, source_prefix)
    from_ = _side_of(source, source_prefix, "source")
    to = _side_of(target, target_prefix, "target")
    for option, value in (("delete", delete), ("dry_run", dry_run), ("size_only", size_only)):
        flag(value, option)
    is_wanted = make_filter(include, exclude)
    if isinstance(from_, Path) and not from_.is_dir():
        raise FileNotFoundError(2, "No such directory", os.fspath(from_))
    if isinstance(from_, Path) and isinstance(to, Path):
        from obstore.store import LocalStore

        # Files to files: the directory is read as a store is.
        source = LocalStore(from_)
        from_ = (backend_of(source), "")
    ours: syncing.Side
    theirs: syncing.Side
    if isinstance(from_, Path):
        ours, kind = syncing.TreeSide(from_, is_wanted, noting(job.result)), "upload"
    elif isinstance(from_[0], LocalBackend):
        ours, kind = syncing.LocalSide(from_[0], is_wanted, noting(job.result)), "download"
    else:
        ours, kind = syncing.StoreSide(from_[0], from_[1], is_wanted), "copy"
    on_delete: Any
    if isinstance(to, Path):
        theirs = syncing.TreeSide(to, is_wanted, noting(job.result))
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
        return _download(job, source, from_[0], difference, to, name, options)
    if isinstance(from_, Path):
        return _sync_up(job, difference, target, to[1], options)
    return _copy(job, source, target, difference, to[1], options)


def _sync_up(job: Job, difference: syncing.Difference, target: Any, base: str, options: Options) -> Op[None]:
    def page() -> Op[list[tuple[File, str]]]:
        return [(entry.item, base + entry.name) for entry in (yield from difference.entries())]

    if job.crew is not None:
        yield from _spread_upload(job, target, page, None, options)
        return
    yield from _sending.Sending(backend_of(target), page, options, job.result, job.meter).run()

"""Transfers of many objects, or of large ones, in one call.

`download`, `upload`, `get_many`, `put_many`, `delete_many`, `copy_many` and `sync`, each with an ``_async`` twin. What they share:

- a failed object does not stop the others: it is an entry of ``result.failures``;
- ``connections``, ``memory`` and ``rate`` bound the whole call, however many objects and workers there are;
- ``progress=True`` shows a bar; a bar of tqdm or rich, an fsspec ``Callback`` or a callable (given a `Progress`) does as well;
- ``executor`` has the work done by threads, processes or other machines: any ``concurrent.futures.Executor``, Dask's
  ``client.get_executor()``, or `RayExecutor`;
- Ctrl-C ends the call with `BulkInterrupted`, whose ``result`` says what was done; files appear whole or not at all.

Small objects are requested, written and verified by the C core; Python sees them by the thousand. Large ones are fetched in ranges,
several at once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from obstore import _transfers
from obstore._bulk.options import make_options
from obstore._bulk.progress import Progress
from obstore._bulk.ray import RayExecutor
from obstore._bulk.reading import Reading
from obstore._bulk.result import Action, BulkInterrupted, BulkResult, ExecutorBrokenError, Failure
from obstore._bulk.select import Pages, select
from obstore._engine import Bytes
from obstore._ops.args import flag
from obstore._run import run as _run
from obstore._run import start as _start
from obstore._transfers import Job as _Job
from obstore._types import Attributes, Buffer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from obstore._methods import ObjectStoreMethods as ObjectStore

__all__ = [
    "Action",
    "BulkInterrupted",
    "BulkResult",
    "ExecutorBrokenError",
    "Failure",
    "ManyStream",
    "Progress",
    "RayExecutor",
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

What = str | Iterable[str] | Iterable[Any] | Pages
PathLike = str | os.PathLike[str]


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
    rate: float | None = None,
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
        rate: requests a second at most, those that list aside; as many as the service takes by default.
        verify: compare with the service's checksum of the whole object where it has one: CRC-32, CRC-32C, CRC-64/NVME, or an MD5
            (Content-MD5, or an ETag of S3 that is one). What differs is fetched again, then reported. The length is always
            checked.
        overwrite: whether to replace files that are there; else they are skipped.
        resume: whether to go on from what an earlier call left.
        progress: see `obstore.bulk`.
        executor: has the work done instead of this process, in units of some hundred objects; the listing and the result stay
            here. The directory must be the same for all workers. Processes and machines get the store by pickle.
        workers: of the executor, where it does not tell or not all are to be used. Each gets an equal share of ``connections``,
            ``memory`` and ``rate``.

    Returns:
        What was done. Objects that failed are in ``failures``: keys that cannot be a file's (``../x``), names that clash, files
        that cannot be written, objects that are gone ...

    Raises:
        TypeError, ValueError: an argument is wrong.
        OSError: the directory cannot be made or written to.
        BaseError: the listing failed.
        ExecutorBrokenError: the workers of the executor are gone.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("download", progress, executor, workers)
    options = make_options(
        connections=connections, memory=memory, rate=rate, verify=verify, overwrite=overwrite, resume=resume
    )
    return job.run(_transfers.download(job, store, what, dest, include, exclude, recursive, options))


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
    rate: float | None = None,
    verify: bool = True,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Download objects to files below a directory; see `download`."""
    job = _Job("download", progress, executor, workers)
    options = make_options(
        connections=connections, memory=memory, rate=rate, verify=verify, overwrite=overwrite, resume=resume
    )
    return job.start(_transfers.download(job, store, what, dest, include, exclude, recursive, options))


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
    return job.run(_transfers.download_file(job, store, path, file, options))


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
    return job.start(_transfers.download_file(job, store, path, file, options))


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
    rate: float | None = None,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
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
        rate, executor, workers: see `download`; the files must be there for all workers.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument is wrong.
        FileNotFoundError: there is no such file or directory.
        BulkInterrupted: Ctrl-C; no upload is left unfinished at the service.
    """
    job = _Job("upload", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, overwrite=overwrite, resume=resume)
    return job.run(_transfers.upload(job, store, what, prefix, include, exclude, recursive, attributes, options))


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
    rate: float | None = None,
    overwrite: bool = True,
    resume: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Upload files to objects below a prefix; see `upload`."""
    job = _Job("upload", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, overwrite=overwrite, resume=resume)
    return job.start(_transfers.upload(job, store, what, prefix, include, exclude, recursive, attributes, options))


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
    return job.run(_transfers.upload_file(job, store, file, path, attributes, options))


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
    return job.start(_transfers.upload_file(job, store, file, path, attributes, options))


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
    backend = _transfers.backend_of(store)
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
    rate: float | None = None,
    overwrite: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> BulkResult:
    """Write many objects.

    Args:
        store: where to.
        items: pairs of key and content, or a dict of them; the content is what ``put`` takes. An iterator is asked for more as
            there is room.
        attributes: of all objects.
        connections, memory, rate, overwrite, progress: see `upload`.
        executor, workers: see `download`. Content goes to processes and machines by pickle.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument, a key or a content is of no use.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("put", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, overwrite=overwrite)
    return job.run(_transfers.put_many(job, store, items, attributes, options))


def put_many_async(
    store: ObjectStore,
    items: Iterable[tuple[str, Buffer | os.PathLike[str] | Iterable[Buffer]]] | dict[str, Any],
    *,
    attributes: Attributes | None = None,
    connections: int | None = None,
    memory: int | str | None = None,
    rate: float | None = None,
    overwrite: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Write many objects; see `put_many`."""
    job = _Job("put", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, overwrite=overwrite)
    return job.start(_transfers.put_many(job, store, items, attributes, options))


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
    rate: float | None = None,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> BulkResult:
    """Delete many objects, in as few requests as the service allows.

    Args:
        store: where.
        what, include, exclude, recursive: see `download`.
        dry_run: only list what would be deleted, in ``result.actions``.
        connections, rate, progress, executor, workers: see `download`.

    Returns:
        What was done; an object that is not there counts as deleted.

    Raises:
        TypeError, ValueError: an argument is wrong.
        BaseError: the listing failed.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("delete", progress, executor, workers)
    options = make_options(connections=connections, rate=rate)
    return job.run(_transfers.delete_many(job, store, what, include, exclude, recursive, dry_run, options))


def delete_many_async(
    store: ObjectStore,
    what: What,
    *,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    recursive: bool = True,
    dry_run: bool = False,
    connections: int | None = None,
    rate: float | None = None,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Delete many objects; see `delete_many`."""
    job = _Job("delete", progress, executor, workers)
    options = make_options(connections=connections, rate=rate)
    return job.start(_transfers.delete_many(job, store, what, include, exclude, recursive, dry_run, options))


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
    rate: float | None = None,
    overwrite: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> BulkResult:
    """Copy objects between two stores of any kind: by the service where it can, else through memory, which stays bounded.

    Args:
        source: where from.
        target: where to; may be the same store.
        what: see `download`.
        prefix: what the names, relative to ``what`` as for `download`, are put below.
        include, exclude, recursive, connections, rate, progress, executor, workers: see `download`.
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
    job = _Job("copy", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, overwrite=overwrite)
    return job.run(
        _transfers.copy_many(job, source, target, what, prefix, include, exclude, recursive, dry_run, options)
    )


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
    rate: float | None = None,
    overwrite: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Copy objects between two stores; see `copy_many`."""
    job = _Job("copy", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, overwrite=overwrite)
    return job.start(
        _transfers.copy_many(job, source, target, what, prefix, include, exclude, recursive, dry_run, options)
    )


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
    rate: float | None = None,
    verify: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
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
        connections, memory, rate, verify, progress, executor, workers: see `download`.

    Returns:
        What was done.

    Raises:
        TypeError, ValueError: an argument is wrong.
        FileNotFoundError: the source is a directory that is not there.
        BaseError: a listing failed, or is not in order, as those of some servers are not.
        BulkInterrupted: Ctrl-C.
    """
    job = _Job("sync", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, verify=verify)
    return job.run(
        _transfers.sync(
            job,
            source,
            target,
            source_prefix,
            target_prefix,
            delete,
            dry_run,
            size_only,
            include,
            exclude,
            options,
        )
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
    rate: float | None = None,
    verify: bool = True,
    progress: Any = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> Awaitable[BulkResult]:
    """Make the target hold what the source holds; see `sync`."""
    job = _Job("sync", progress, executor, workers)
    options = make_options(connections=connections, memory=memory, rate=rate, verify=verify)
    return job.start(
        _transfers.sync(
            job,
            source,
            target,
            source_prefix,
            target_prefix,
            delete,
            dry_run,
            size_only,
            include,
            exclude,
            options,
        )
    )

"""What the workers of an executor do with their units; see `obstore._bulk.spread`.

A task goes to a worker with every unit, by pickle where the worker is another process. There it is unpacked anew each time, so what
is dear (credentials, connections, limits) is kept by the task's id for as long as the thread works on the same transfer.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from obstore._bulk import changing
from obstore._bulk import sending as _sending
from obstore._bulk.dest import WorkerDestination
from obstore._bulk.download import Download, limited
from obstore._bulk.options import Options
from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, Clock
from obstore._bulk.select import Keys
from obstore._bulk.spread import Done
from obstore._bulk.tree import File
from obstore._effects import Cancel, Cancelled, Fork, Join, Op, Sleep
from obstore._memory import MemoryBackend
from obstore._run import run
from obstore._types import Backend

_STOP_SECONDS = 0.03  # how often a thread looks whether it is to stop
_kept = threading.local()


class StoreTask:
    """A task on stores.

    Args:
        stores: of the caller; picklable where the workers are other processes.
        options: of each worker.
    """

    def __init__(self, stores: Sequence[Any], options: Options) -> None:
        self._stores = tuple(stores)
        self._options = options
        self._id = secrets.token_hex(8)
        self._stopped: threading.Event | None = threading.Event()

    def __getstate__(self) -> dict[str, Any]:
        if any(isinstance(store._backend, MemoryBackend) for store in self._stores):  # noqa: SLF001 - ours
            # By pickle it becomes another store: what is written there would be lost.
            raise TypeError("executor: a MemoryStore is in the memory of one process; threads can use it")
        return {**self.__dict__, "_stopped": None}

    def stop(self) -> None:
        """Give up, in this process; others do not hear of it."""
        if self._stopped is not None:
            self._stopped.set()

    def path(self, item: Any) -> str:
        """What failures of an item name: its key."""
        return item if isinstance(item, str) else str(item["path"])

    def __call__(self, unit: list[Any]) -> Done:
        """Do a unit, on the calling thread."""
        result = BulkResult()
        clock = Clock(result)
        place = run(self._until_stopped(self.work(unit, result)))
        clock.stop()
        return Done(result, place)

    def work(self, unit: list[Any], result: BulkResult) -> Op[str]:
        """The operation on a unit; returns the place of a download, else ""."""
        raise NotImplementedError

    def backends(self) -> list[Backend]:
        """Of the stores; this thread's own, so that each keeps within its share."""
        if getattr(_kept, "id", None) != self._id:
            options = self._options
            if options.pace is not None:  # threads of one process do not share a pace, either
                options = options._replace(pace=(options.pace[0], f"{options.pace[1]} {threading.get_ident()}"))
            own = {id(store): limited(store._backend, options) for store in self._stores}  # noqa: SLF001 - ours
            _kept.backends = [own[id(store)] for store in self._stores]
            _kept.id = self._id
        backends: list[Backend] = _kept.backends
        return backends

    def _until_stopped(self, op: Op[str]) -> Op[str]:
        """Ends it when the transfer does, whatever it waits for."""
        stopped = self._stopped
        if stopped is None:
            return (yield from op)
        child = yield Fork(_asking(op, stopped))
        try:
            while not child.done:
                nap = yield Fork(_nap())
                yield Join([child, nap])
                if not nap.done:
                    yield Cancel([nap])
                if stopped.is_set():
                    raise Cancelled
        except GeneratorExit:
            raise
        except BaseException:
            yield Cancel([child])
            raise
        if child.error is not None:
            raise child.error
        return str(child.result)


def _nap() -> Op[None]:
    yield Sleep(_STOP_SECONDS)


def _asking(op: Op[str], stopped: threading.Event) -> Op[str]:
    """Looks between two effects whether it is to stop: what never waits leaves nobody else a turn."""
    told = False
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = op.send(value) if error is None else op.throw(error)
            if not told and stopped.is_set():
                told = True
                effect = op.throw(Cancelled())
        except StopIteration as end:
            return str(end.value)
        value = error = None
        try:
            value = yield effect
        except GeneratorExit:
            op.close()
            raise
        except BaseException as exc:  # noqa: BLE001 - is the operation's
            error = exc


class DownloadTask(StoreTask):
    """Units are ``(cut, object)`` pairs: keys or listed objects, and what of their keys is no part of their names.

    Args:
        store, options: see `StoreTask`.
        root: the directory, absolute.
        folder: see `WorkerDestination`.
    """

    def __init__(self, store: Any, root: Path, folder: str, options: Options) -> None:
        # Whoever handed it out has seen what is there already, and writes the journal.
        super().__init__((store,), options._replace(overwrite=True))
        self._root = root
        self._folder = folder

    def path(self, item: Any) -> str:
        """Of an item."""
        return super().path(item[1])

    def work(self, unit: list[Any], result: BulkResult) -> Op[str]:
        """Download a unit."""
        (backend,) = self.backends()
        dest = WorkerDestination(self._root, self._folder)
        try:
            pages = Keys([item for _, item in unit], unit[0][0])
            yield from Download(backend, pages, dest, self._options, result, Meter()).run()
        finally:
            dest.close(keep=True)
        return dest.folder.name


class UploadTask(StoreTask):
    """Units are ``(file, key, attributes)``."""

    def path(self, item: tuple[File, str, Any]) -> str:
        """Of an item: the file's."""
        return item[0].path

    def work(self, unit: list[Any], result: BulkResult) -> Op[str]:
        """Upload a unit."""
        (backend,) = self.backends()
        attributes = {file.path: given for file, _, given in unit if given}
        pairs = [(file, key) for file, key, _ in unit]
        yield from _sending.Sending(
            backend,
            _sending.batches(pairs),
            self._options,
            result,
            Meter(),
            (lambda file: dict(attributes.get(file.path, {}))) if attributes else None,
        ).run()
        return ""


class PutTask(StoreTask):
    """Units are ``(key, content)``."""

    def __init__(self, store: Any, options: Options, attributes: Any) -> None:
        super().__init__((store,), options)
        self._attributes = attributes

    def path(self, item: tuple[str, Any]) -> str:
        """Of an item: its key."""
        return item[0]

    def work(self, unit: list[Any], result: BulkResult) -> Op[str]:
        """Put a unit."""
        (backend,) = self.backends()
        yield from _sending.Putting(backend, unit, self._options, result, Meter(), self._attributes).run()
        return ""


class DeleteTask(StoreTask):
    """Units are keys, or listed objects."""

    def work(self, unit: list[Any], result: BulkResult) -> Op[str]:
        """Delete a unit."""
        (backend,) = self.backends()
        yield from changing.delete_many(backend, Keys(unit), self._options, result, Meter())
        return ""


class CopyTask(StoreTask):
    """Units are ``(cut, object)`` pairs, as those of `DownloadTask`.

    Args:
        source, target: the stores.
        base: what stands before the names at the target.
        options: see `StoreTask`.
    """

    def __init__(self, source: Any, target: Any, base: str, options: Options) -> None:
        super().__init__((source, target), options)
        self._base = base

    def path(self, item: Any) -> str:
        """Of an item: its key at the source."""
        return super().path(item[1])

    def work(self, unit: list[Any], result: BulkResult) -> Op[str]:
        """Copy a unit."""
        source, target = self.backends()
        cut = unit[0][0]
        pages = Keys([item for _, item in unit])
        yield from changing.Copying(
            source, target, pages, lambda key: self._base + key[cut:], self._options, result, Meter()
        ).run()
        return ""

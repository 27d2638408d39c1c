"""Objects on their way up: small ones by the C core, in batches; the rest one operation each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from obstore._bulk.download import BREATH_SECONDS, STEP_BESIDE_SECONDS, STEP_SECONDS, limited
from obstore._bulk.forms import Forms, after_attempt, writing_form
from obstore._bulk.options import Options
from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, Failure
from obstore._bulk.window import Window, in_window
from obstore._effects import Call, Op
from obstore._ops.remote import RemoteBackend
from obstore._types import Backend, Buffer, PutSpec

# Fewer objects than that waiting in the C core, and it is fed.
_LOW = 256

# What the C core is told of an object: key, attributes, path or buffer, size of a file (-1: unknown) or ``None``. A content of
# ``None`` is sent by an operation.
Task = tuple[str, dict[str, str], Any, int | None]
# What an operation is started with: what its failure is of, the bytes that it holds, and what makes it.
Start = tuple[str, int, Callable[[], Op[int]]]


class Outbox:
    """Sends objects. A subclass says what they are.

    Args:
        backend: of the store.
        options: limits and wishes.
        result, meter: count and show.
    """

    def __init__(self, backend: Backend, options: Options, result: BulkResult, meter: Meter) -> None:
        self._backend = limited(backend, options)
        self._options = options
        self._result = result
        self._meter = meter
        # Half of the memory is for what the C core sends, half for operations beside it.
        self._memory = max(1, options.memory // 2)
        self._window = Window(result, meter, options.connections, self._memory)
        self._beside: deque[Start] = deque()

    # ---- what a subclass says ---------------------------------------------------------------------------------

    def _batch(self) -> Op[Sequence[Any]]:
        """The next things to be sent; none at the end."""
        raise NotImplementedError

    def _task(self, item: Any) -> Task:
        """One of them, for the C core."""
        raise NotImplementedError

    def _start(self, item: Any) -> Start:
        """One of them, for an operation."""
        raise NotImplementedError

    def _start_file(self, path: str, key: str, spec: PutSpec) -> Start:
        """A file that is none, or turned out to be larger than it was, for an operation."""
        raise NotImplementedError

    def _name_of(self, key: str, path: str | None) -> str:
        """What a failure is of."""
        raise NotImplementedError

    # ---- sending ----------------------------------------------------------------------------------------------

    def run(self) -> Op[None]:
        """Do it all."""
        if isinstance(self._backend, RemoteBackend) and hasattr(self._backend.dialect, "write_form"):
            return in_window(self._window, self._run_remote)
        return in_window(self._window, self._run_beside)

    def _spec(self, attributes: dict[str, str]) -> PutSpec:
        """How an object of these attributes is put."""
        return PutSpec(attributes=dict(attributes), mode="overwrite" if self._options.overwrite else "create")

    def _run_beside(self) -> Op[None]:
        while batch := (yield from self._batch()):
            for item in batch:
                path, weight, make = self._start(item)
                yield from self._window.start(path, make(), weight)

    def _run_remote(self) -> Op[None]:
        options, backend = self._options, self._backend
        assert isinstance(backend, RemoteBackend)
        bulk = backend.client.bulk(
            window=max(1, min(options.connections, 1024)), memory=self._memory, piece=options.piece, sends=True
        )
        try:
            yield from self._pump(bulk, Forms(backend, bulk, writing_form(options.overwrite)))
        except GeneratorExit:
            bulk.close()
            raise
        except BaseException:
            yield Call(bulk.close)
            raise
        bulk.close()

    def _pump(self, bulk: Any, forms: Forms) -> Op[None]:
        batch: Sequence[Any] = []
        tasks: list[tuple[str, int, Any, int | None]] = []
        at = first = 0
        counted = (0, 0)
        ended = False
        window, beside = self._window, self._beside
        while True:
            if at == len(tasks) and not ended and len(beside) < _LOW and bulk.counts()[2] < _LOW:
                first += len(tasks)
                batch = yield from self._batch()
                ended = not batch
                yield from forms.refresh()
                tasks = [self._numbered(self._task(item), forms) for item in batch]
                at = 0
            if at < len(tasks):
                at, skipped = bulk.add_sources(first, tasks, at, self._options.piece, self._memory)
                beside.extend(self._start(batch[index]) for index in skipped)
            while beside and window.has_room(beside[0][1]):
                path, weight, make = beside.popleft()
                yield from window.start(path, make(), weight)
            _, _, pending, active, left = bulk.counts()
            if pending or active or left:
                yield from forms.refresh()
                low = 0 if ended or len(beside) >= _LOW else _LOW
                if at < len(tasks):
                    low = (pending + 1) // 2  # there is no room for more before some of these are sent
                yield Call(bulk.step, STEP_BESIDE_SECONDS if window.is_busy else STEP_SECONDS, low)
                for item in bulk.take():
                    self._left_over(item, forms)
                yield from window.breathe(BREATH_SECONDS)
            elif window.is_busy:
                yield from window.wait()
            elif ended and at == len(tasks) and not beside:
                return
            counted = self._count(bulk, counted)

    def _count(self, bulk: Any, before: tuple[int, int]) -> tuple[int, int]:
        done, moved, *_ = bulk.counts()
        self._result.objects += done - before[0]
        self._result.bytes += moved - before[1]
        self._meter.sample(self._result)
        return done, moved

    def _numbered(self, task: Task, forms: Forms) -> tuple[str, int, Any, int | None]:
        key, attributes, content, size = task
        if content is None:
            return key, -1, None, None
        kind = tuple(attributes.items()) if attributes else ()
        try:
            number = forms.number(kind, attributes)
        except TypeError:  # a value that cannot be hashed is no text: the operation says so
            number = -1
        return key, number, content, size

    def _left_over(self, item: Any, forms: Forms) -> None:
        """What the C core did not send, or not with success."""
        name = self._name_of(item.key, item.name)
        if item.outcome == "file":
            error = OSError(item.oserrno, os.strerror(item.oserrno), item.name)
            self._result.failures.append(Failure(name, error))
            return
        spec = self._spec(forms.kind(item.form))
        if item.outcome == "other":
            self._beside.append(self._start_file(item.name, item.key, spec))
            return
        key, body, attempt = item.key, [item.body] if len(item.body) else [], forms.attempt(item)
        self._beside.append((name, len(item.body), lambda: after_attempt(self._put(key, body, spec), attempt)))

    def _put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[int]:
        yield from self._backend.put(key, body, spec)
        return sum(memoryview(part).nbytes for part in body)

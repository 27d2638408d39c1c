"""delete, copy, rename."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obstore._effects import Op
from obstore._ops import args
from obstore._ops.forks import perform
from obstore._types import Backend
from obstore.exceptions import NotFoundError


def delete(backend: Backend, paths: Any, missing_ok: bool | None) -> Op[None]:
    """Delete one object or many."""
    if missing_ok is not None:
        args.flag(missing_ok, "missing_ok")
    if isinstance(paths, str):
        keys = [backend.parse_key(paths, "paths")]
    elif isinstance(paths, Sequence) and not isinstance(paths, (bytes, bytearray, memoryview)):
        keys = [backend.parse_key(path, f"paths[{index}]") for index, path in enumerate(paths)]
    else:
        raise TypeError("paths: Expected string path or sequence of string paths.")
    return _delete(backend, keys, missing_ok)


def _delete(backend: Backend, keys: list[str], missing_ok: bool | None) -> Op[None]:
    tolerant = not backend.missing_is_error if missing_ok is None else missing_ok
    if missing_ok is False and not backend.missing_is_error:
        # The service does not tell a missing key from a deleted one: ask first.
        yield from perform([backend.head(key, None) for key in keys], backend.delete_concurrency)
    size = backend.delete_batch
    batches = [keys[start : start + size] for start in range(0, len(keys), size)]
    outcomes: list[list[Exception | None]] = [[] for _ in batches]

    def one(index: int) -> Op[None]:
        outcomes[index] = yield from backend.delete(batches[index])

    yield from perform([one(index) for index in range(len(batches))], backend.delete_concurrency)
    errors = [error for batch in outcomes for error in batch if error is not None]
    if tolerant:
        errors = [error for error in errors if not isinstance(error, NotFoundError)]
    outcomes.clear()
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # its traceback holds this frame


def copy(backend: Backend, from_: Any, to: Any, overwrite: Any) -> Op[None]:
    """Copy an object inside its store."""
    return _pair(backend, from_, to, overwrite, backend.copy)


def rename(backend: Backend, from_: Any, to: Any, overwrite: Any) -> Op[None]:
    """Move an object inside its store."""
    return _pair(backend, from_, to, overwrite, backend.rename)


def _pair(backend: Backend, from_: Any, to: Any, overwrite: Any, operation: Any) -> Op[None]:
    source, target = backend.parse_key(from_, "from_"), backend.parse_key(to, "to")
    args.flag(overwrite, "overwrite")
    if source == target:
        return _onto_itself(backend, source)
    return operation(source, target, overwrite=overwrite)  # type: ignore[no-any-return]


def _onto_itself(backend: Backend, key: str) -> Op[None]:
    """Nothing to do, but a missing object is still an error."""
    yield from backend.head(key, None)

"""Drive an operation without the runner: effects are performed in place, one after the other.

For the operations that only compute or yield ``Call``. Anything else they yield is a failure of the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from obstore._effects import Call, Op

T = TypeVar("T")


def run(op: Op[T]) -> T:
    """Perform ``op`` and return its result, or raise what it raises."""
    return run_counted(op)[0]


def run_counted(op: Op[T], perform: Callable[[Call], Any] | None = None) -> tuple[T, int]:
    """Perform ``op``; return its result and how many ``Call`` it took.

    Args:
        op: the operation.
        perform: runs a ``Call``; by default in place.
    """
    calls = 0
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = op.send(result) if error is None else op.throw(error)
        except StopIteration as stop:
            return stop.value, calls
        if not isinstance(effect, Call):
            op.close()
            raise AssertionError(f"unexpected effect {effect!r}")
        calls += 1
        result = error = None
        try:
            result = effect.fn(*effect.args) if perform is None else perform(effect)
        except BaseException as raised:  # thrown into the operation, as the runner does
            error = raised


def cancel_during(op: Op[Any], error: BaseException, *, finish_call: bool) -> None:
    """Run ``op`` to its first ``Call``, throw ``error`` in there, and expect ``error`` back.

    Args:
        op: the operation.
        error: what the runner would throw, such as ``Cancelled()``.
        finish_call: whether the call, which a thread may have begun, still runs to its end after that.
    """
    effect = next(op)
    assert isinstance(effect, Call)
    try:
        cleanup = op.throw(error)
        while True:
            assert isinstance(cleanup, Call)
            cleanup = op.send(cleanup.fn(*cleanup.args))
    except StopIteration as stop:
        raise AssertionError("the operation swallowed its cancellation") from stop
    except type(error) as raised:
        assert raised is error
    if finish_call:
        effect.fn(*effect.args)


def read_all(opened: Any, size: int) -> list[bytes]:
    """Read an opened object to its end in steps of at least ``size`` bytes."""
    chunks = []
    while chunk := run(opened.read(size)):
        assert type(chunk) is bytes
        chunks.append(chunk)
    return chunks


def pages(backend: Any, prefix: str = "", offset: str | None = None, *, delimiter: bool = False) -> list[Any]:
    """Every page of a listing."""
    found = [run(backend.list_page(prefix, offset, delimiter=delimiter, cursor=None))]
    while found[-1].cursor is not None:
        found.append(run(backend.list_page(prefix, offset, delimiter=delimiter, cursor=found[-1].cursor)))
    return found


def keys(backend: Any, prefix: str = "", offset: str | None = None) -> list[str]:
    """The paths of a listing, in its order."""
    return [meta["path"] for page in pages(backend, prefix, offset) for meta in page.objects]

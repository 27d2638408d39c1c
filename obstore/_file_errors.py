"""Errors of file objects: what they always are, and `OSError` too, as which programs expect what a file raises."""

from __future__ import annotations

from typing import Any

from obstore._effects import Op
from obstore.exceptions import BaseError

_os_errors: dict[type[BaseError], type[BaseError]] = {}


def _os_error(kind: type[BaseError]) -> type[BaseError]:
    """The class of errors that is both ``kind`` and `OSError`, as which programs expect what a file raises."""
    if issubclass(kind, OSError):
        return kind
    found = _os_errors.get(kind)
    if found is None:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": _reduce_os_error}
        found = _os_errors[kind] = type(kind.__name__, (kind, OSError), names)
    return found


def _reduce_os_error(error: BaseError) -> tuple[Any, ...]:
    return _rebuild_os_error, (type(error).__mro__[1], str(error), error.__dict__)


def _rebuild_os_error(kind: type[BaseError], message: str, attributes: dict[str, Any]) -> BaseError:
    error = _os_error(kind)(message)
    error.__dict__.update(attributes)
    return error


def as_file(op: Op[Any]) -> Op[Any]:
    """The operation; what it raises on purpose is an `OSError` as well."""
    failure: BaseError | None = None
    try:
        return (yield from op)
    except BaseError as error:
        if isinstance(error, OSError):
            raise
        failure = _rebuild_os_error(type(error), str(error), error.__dict__)
    try:
        raise failure
    finally:
        del failure  # the traceback holds this frame

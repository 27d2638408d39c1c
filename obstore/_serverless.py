"""What the stores without a server share: they evaluate a get's conditions and range themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from obstore.exceptions import GenericError, NotModifiedError, NotSupportedError, PreconditionError

if TYPE_CHECKING:
    from obstore._effects import Op
    from obstore._types import GetSpec, ObjectMeta, PostSpec, PresignedPost, Range, SignSpec

_SIGNING_STORES = "the stores of the clouds have them"


def check_conditions(spec: GetSpec, meta: ObjectMeta) -> None:
    """Hold ``spec`` against the object described by ``meta``.

    As in RFC 9110: a condition on the e_tag hides the one on the date, and a failed precondition wins over
    "not modified". Dates compare to the microsecond, so that a ``last_modified`` fed back equals itself.

    Raises:
        PreconditionError: ``if_match`` or ``if_unmodified_since`` does not hold.
        NotModifiedError: ``if_none_match`` or ``if_modified_since`` does not hold.
    """
    path, e_tag, modified = meta["path"], meta["e_tag"], meta["last_modified"]
    if spec.if_match is not None:
        if not _matches(spec.if_match, e_tag):
            raise PreconditionError.of(path, f"{e_tag} does not match {spec.if_match}", key=path)
    elif spec.if_unmodified_since is not None and modified > spec.if_unmodified_since:
        detail = f"{_date(spec.if_unmodified_since)} < {_date(modified)}"
        raise PreconditionError.of(path, detail, key=path)

    if spec.if_none_match is not None:
        if _matches(spec.if_none_match, e_tag):
            raise NotModifiedError.of(path, f"{e_tag} matches {spec.if_none_match}", key=path)
    elif spec.if_modified_since is not None and modified <= spec.if_modified_since:
        detail = f"{_date(spec.if_modified_since)} >= {_date(modified)}"
        raise NotModifiedError.of(path, detail, key=path)


def resolve_range(wanted: Range | None, size: int, *, store: str, key: str, complaint: str) -> tuple[int, int]:
    """Turn ``wanted`` into ``(start, end)`` within an object of ``size`` bytes; ``end`` is exclusive.

    Args:
        wanted: the range asked for; ``None`` for the whole object.
        size: of the object, in bytes.
        store: name of the kind of store, for the message.
        key: of the object.
        complaint: how the message begins.

    Raises:
        GenericError: the range is empty, or begins at or after the object's end.
    """
    if wanted is None:
        return 0, size
    if wanted.suffix is not None:
        return max(size - wanted.suffix, 0), size
    start = wanted.start or 0
    if wanted.end is not None and wanted.end <= start:
        detail = f"{complaint}: Range started at {start} and ended at {wanted.end}"
    elif start >= size:
        detail = f"{complaint}: Wanted range starting at {start}, but object was only {size} bytes long"
    else:
        return start, size if wanted.end is None else min(wanted.end, size)
    raise GenericError.of(store, detail, key=key)


def writable(into: Any, size: int) -> memoryview:
    """View ``into`` as bytes that can be written to.

    Raises:
        TypeError: it is read-only.
        ValueError: it holds fewer than ``size`` bytes.
    """
    view = memoryview(into)
    if view.readonly:
        raise TypeError("into must be a writable buffer")
    if view.nbytes < size:
        raise ValueError(f"into holds {view.nbytes} bytes, the range asks for {size}")
    return view.cast("B")


class Unsigned:
    """A store without a server: there is nobody whom a URL could be given for."""

    name: str

    def sign(self, keys: Sequence[str], spec: SignSpec) -> Op[list[str]]:  # noqa: ARG002 - for none of them
        """Refuse."""
        raise NotSupportedError.of("", f"{self.name} has no URLs to sign", hint=_SIGNING_STORES)

    def sign_post(self, key: str, spec: PostSpec) -> Op[PresignedPost]:  # noqa: ARG002 - for none of them
        """Refuse."""
        raise NotSupportedError.of("", f"{self.name} has no URLs to sign", hint=_SIGNING_STORES)


def _matches(condition: str, e_tag: str | None) -> bool:
    return condition.strip() == "*" or e_tag in [each.strip() for each in condition.split(",")]


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f UTC")

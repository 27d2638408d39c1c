"""Sources of credentials that are alike for all clouds: given ones, and none at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Any, Final, Generic

from obstore._auth.cache import C, Source, Unpicklable
from obstore._effects import Op
from obstore.exceptions import UnauthenticatedError

__all__ = [
    "ANONYMOUS",
    "Anonymous",
    "Static",
    "Unconfigured",
    "describe_source",
    "problem_of",
    "read_expiry",
]


def problem_of(name: str, value: str, *, ascii_only: bool = True) -> str | None:
    """What is wrong with a part of a credential, without showing it."""
    if not value:
        return f"{name} is empty"
    if value != value.strip():
        return f"{name} begins or ends with white space"
    if not value.isprintable() or (ascii_only and not value.isascii()):
        return f"{name} has characters that cannot be part of it"
    return None


def read_expiry(given: Mapping[Any, Any]) -> float | str | None:
    """``expires_at`` of what a provider returned, in seconds since the epoch; or, as text, what is wrong with it."""
    expires_at = given["expires_at"]
    if expires_at is None:
        return None
    if not isinstance(expires_at, datetime):
        return f"returned expires_at as {type(expires_at).__name__}, not datetime"
    if expires_at.utcoffset() is None:
        return "returned expires_at without a time zone"
    return expires_at.timestamp()


class _NoCredential(Unpicklable):
    __slots__ = ()
    expires_at = None

    def __repr__(self) -> str:
        return "ANONYMOUS"


# What an `Anonymous` source yields: requests go out unsigned.
ANONYMOUS: Final = _NoCredential()


class Static(Unpicklable, Generic[C]):
    """A credential that was given: by the user or by the environment.

    Args:
        fixed: the credential.
    """

    renewable = False
    description = "given"

    def __init__(self, fixed: C) -> None:
        self._fixed = fixed

    @property
    def key(self) -> Hashable:
        return self

    def current(self, now: float) -> C:  # noqa: ARG002 - given ones are not known to expire
        return self._fixed

    def refresh(self, after: Any = None) -> Op[C]:  # noqa: ARG002 - there is no other
        yield from ()  # an operation, as every source's, that needs nothing
        return self._fixed


class Anonymous(Static[Any]):
    """No signatures (``skip_signature``).

    Attributes:
        beneath: the source that would be used without ``skip_signature``; presigned URLs still need it.
    """

    description = "none: requests are not signed"

    def __init__(self, beneath: Source[Any]) -> None:
        super().__init__(ANONYMOUS)
        self.beneath = beneath


class Unconfigured(Unpicklable):
    """Nothing was configured: the first request that needs a signature says what could be.

    Args:
        message: that there are none, in one line.
        hint: what to set.
    """

    renewable = False
    description = "none are configured"

    def __init__(self, message: str, hint: str) -> None:
        self._message = message
        self._hint = hint

    @property
    def key(self) -> Hashable:
        return self

    def current(self, now: float) -> None:  # noqa: ARG002 - there never is one
        return None

    def refresh(self, after: Any = None) -> Op[Any]:  # noqa: ARG002 - fails either way
        yield from ()  # an operation, as every source's
        raise UnauthenticatedError(self._message, hint=self._hint)


def describe_source(source: Any) -> str:
    """Where a source's credentials come from, in a few words."""
    found: str = getattr(source, "description", type(source).__name__)
    return found

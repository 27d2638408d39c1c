"""Credentials that run out: when to fetch new ones, and who does it.

A source is asked for its credential before every attempt. That costs two attribute reads while the credential is fresh;
otherwise the operation boards a flight, so that any number of operations on any threads and loops share one fetch.

    fresh    more than the threshold left              served
    due      within the threshold, still valid         served while someone fetches, or just after; else fetched first,
                                                       and served for a while longer where that fails
    expired  nothing left, or nothing fetched yet      fetched first
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from obstore._effects import Flight, Op

THRESHOLD_S = 300.0
# A credential this young is used for as long as it is valid, however soon that ends: a source whose credentials
# live shorter than the threshold would otherwise be asked before every single request.
REFETCH_GUARD_S = 0.1
# Where a credential that is due could not be replaced, and still holds, the next try comes after so long.
RETRY_S = 15.0


class Expiring(Protocol):
    """What sources yield: anything that knows when it expires."""

    @property
    def expires_at(self) -> float | None:
        """Seconds since the epoch; ``None``: never."""


C = TypeVar("C", bound=Expiring)
C_co = TypeVar("C_co", covariant=True)


class Source(Protocol[C_co]):
    """Where an operation gets its credential. Shared by threads and loops."""

    @property
    def renewable(self) -> bool:
        """Whether asking again can give another credential, when the service calls this one expired."""

    @property
    def key(self) -> Hashable:
        """Names the flight of this source's refresh."""

    def current(self, now: float) -> C_co | None:
        """The credential to use at ``now`` (seconds since the epoch), or ``None``: `credential` has to be asked."""

    def refresh(self, after: Any = None) -> Op[C_co]:
        """Fetch unless it was done meanwhile. Runs inside a flight; operations use `credential`.

        Args:
            after: a credential that the service refused as expired, and that must not come back.
        """


class Unpicklable:
    """Holds secrets: stores pickle what they were configured with, never this."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and is not pickled")


class CachedSource(Unpicklable, Generic[C]):
    """A source that keeps what it fetched. Subclasses say how to fetch.

    Args:
        threshold_s: seconds before its expiry at which a credential is due.
        clock: seconds since the epoch.
    """

    renewable = True

    def __init__(self, threshold_s: float = THRESHOLD_S, clock: Callable[[], float] = time.time) -> None:
        self._threshold_s = threshold_s
        self._clock = clock
        # The credential and when it came, in one attribute: readers take no lock and must not see halves.
        self._held: tuple[C, float] | None = None
        # Written by the flight only. A fork may leave it set in the child: it then keeps a due credential in use
        # until it expires, no longer.
        self._fetching = False
        # By the clock: until then the credential is served although it is due.
        self._put_off = 0.0

    @property
    def key(self) -> Hashable:
        return self

    def fetch(self) -> Op[C]:
        """Get a new credential; what it raises reaches every operation that waits."""
        raise NotImplementedError

    def current(self, now: float) -> C | None:
        held = self._held
        if held is None:
            return None
        credential, since = held
        if credential.expires_at is None:
            return credential
        left = credential.expires_at - now
        if left > self._threshold_s or (
            left > 0 and (self._fetching or 0 <= now - since < REFETCH_GUARD_S or 0 < self._put_off - now <= RETRY_S)
        ):
            return credential
        return None

    def refresh(self, after: C | None = None) -> Op[C]:
        # Between asking for a flight and its start, another one may have landed.
        landed = self.current(self._clock())
        if landed is not None and landed is not after:
            return landed
        self._fetching = True
        try:
            credential = yield from self.fetch()
            # Served even if it has expired by our clock: the service's clock is the one that counts.
            self._held = (credential, self._clock())
        except Exception:
            held, now = self._held, self._clock()
            if held is None or held[0] is after or held[0].expires_at is None or held[0].expires_at <= now:
                raise
            self._put_off = now + RETRY_S
            return held[0]
        finally:
            self._fetching = False
        return credential


def credential(source: Source[C_co], *, after: Any = None, clock: Callable[[], float] = time.time) -> Op[C_co]:
    """The credential to sign the next attempt with.

    Args:
        source: where it comes from.
        after: the credential that the service just refused as expired: forces one refresh, shared by all operations
            that were refused with it.
        clock: seconds since the epoch.

    Returns:
        A credential; not ``after`` if the source is renewable.
    """
    if after is None or not source.renewable:
        current = source.current(clock())
        if current is not None:
            return current
    landed: C_co = yield Flight(source.key, lambda: source.refresh(after))
    return landed

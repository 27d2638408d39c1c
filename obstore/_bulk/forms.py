"""Requests of many objects by the C core: what they have in common, signed for now; and what becomes of an attempt that failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from obstore._auth.cache import credential
from obstore._auth.sources import ANONYMOUS
from obstore._effects import Op, Outcome, Send, handed_on
from obstore._engine._core import BULK_FORMS
from obstore._ops.remote import RemoteBackend
from obstore._types import PutSpec
from obstore.exceptions import BaseError

ASK_ANEW_SECONDS = 60.0  # after which forms are signed again
# Answers that may be about what all requests have in common: place, signature, a header that the service does not know.
_REFUSALS = frozenset((301, 302, 303, 307, 308, 400, 401, 403, 501))

# Of a dialect, a credential (``None``: anonymous), the time and what the form is for: a `RequestForm`, or ``None``.
MakeForm = Callable[[Any, Any, float, Any], Any]


def reading_form(verify: bool) -> MakeForm:
    """How the form of reads is made."""

    def make(dialect: Any, cred: Any, now: float, kind: Any) -> Any:
        del kind  # there is only one
        maker = getattr(dialect, "read_form", None)
        return None if maker is None else maker(cred, now, verify=verify)

    return make


def writing_form(overwrite: bool) -> MakeForm:
    """How the forms of objects are made, which differ in their attributes."""

    def make(dialect: Any, cred: Any, now: float, kind: dict[str, str]) -> Any:
        if not all(isinstance(text, str) for pair in kind.items() for text in pair):
            return None
        try:
            return dialect.write_form(cred, now, PutSpec(attributes=kind, mode="overwrite" if overwrite else "create"))
        except BaseError:
            return None  # the operation on an object says why

    return make


class Forms:
    """The forms of a bulk, one for each kind of request, numbered from 0 in the order in which they were first asked for.

    Args:
        backend: of the store.
        bulk: of the C core.
        make: makes one.
    """

    def __init__(self, backend: RemoteBackend, bulk: Any, make: MakeForm) -> None:
        self._backend = backend
        self._bulk = bulk
        self._make = make
        self._kinds: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._signed_at = -ASK_ANEW_SECONDS
        self._set = 0  # forms so far
        self._refused = False  # a request that was signed as the next ones would be
        self.cred: Any = None

    def attempt(self, item: Any) -> Any:
        """What an operation goes on from that does again what the C core could not do; ``None``: from the beginning.

        Where what it has in common with others may be why it was refused, the next ones are made anew. The first that is refused tells
        what was wrong, the region, the clock, a credential; those that were sent like it meanwhile have only to be sent again.
        """
        if item.status not in _REFUSALS:
            return item.transfer
        if item.forms != self._set or self._refused:
            return None
        self._refused = True
        return item.transfer

    def refresh(self) -> Op[None]:
        """Have forms that are signed by the credential of now."""
        source = self._backend.source
        cred = source.current(time.time())
        if cred is None:
            cred = yield from credential(source)
        cred = None if cred is ANONYMOUS else cred
        if time.monotonic() - self._signed_at <= ASK_ANEW_SECONDS and cred is self.cred and not self._refused:
            return
        self._refused = False
        self.cred = cred
        self._signed_at = time.monotonic()
        for number, kind in enumerate(self._kinds):
            form = self._make(self._backend.dialect, cred, time.time(), kind)
            if form is not None:  # an older one is better than none
                self._set = self._bulk.set_form(number, form)

    def kind(self, number: int) -> Any:
        """What the form of a number is for."""
        return self._kinds[number]

    def number(self, key: Any, kind: Any) -> int:
        """The number of the form of a kind, which ``key`` names; -1 where such objects need requests of their own. After `refresh`."""
        number = self._numbers.get(key)
        if number is None:
            form = None
            if len(self._kinds) < BULK_FORMS:
                form = self._make(self._backend.dialect, self.cred, time.time(), kind)
            number = -1 if form is None else len(self._kinds)
            if form is not None:
                self._set = self._bulk.set_form(number, form)
                self._kinds.append(kind)
            if len(self._numbers) < 16 * BULK_FORMS:  # kinds without end are not remembered
                self._numbers[key] = number
        return number


def after_attempt(op: Op[Any], attempt: Any) -> Op[Any]:
    """An operation on an object whose first attempt was made already, and failed.

    What it meant, and whether to try again, is decided as everywhere else: the first request that the operation sends is not sent,
    its outcome is that of the attempt.

    Args:
        op: the operation.
        attempt: a transfer that has ended; ``None``: there was none.
    """

    def swap(effect: Any) -> Any:
        nonlocal attempt
        if attempt is None or type(effect) is not Send:
            return effect
        made, attempt = attempt, None
        return Outcome(made, effect.method, effect.url)

    return op if attempt is None else handed_on(op, swap)

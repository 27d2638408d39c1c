"""Requests that the C core makes out of a form and a key: the plain ones, of which a program sends many."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from obstore._auth.sources import ANONYMOUS
from obstore._types import PutSpec

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend

# How long a form is used. The services take signatures for a quarter of an hour.
FORM_SECONDS = 15.0

_PLAIN_PUT = PutSpec()
# What a dialect makes a form of, by kind: of the credential (``None``: anonymous) and the time.
_MAKERS: dict[str, Callable[[Any, Any, float], Any]] = {
    "whole": lambda dialect, cred, now: dialect.read_form(cred, now, verify=True),
    "range": lambda dialect, cred, now: dialect.range_form(cred, now),
    "put": lambda dialect, cred, now: dialect.write_form(cred, now, _PLAIN_PUT),
}


class Signed:
    """A form, signed for a while.

    Attributes:
        form: of the engine; ``None`` where requests of the kind are to be built one by one.
        cred: the credential, as the source gave it.
        at: seconds since the epoch that it is signed for.
    """

    __slots__ = ("at", "cred", "form")

    def __init__(self, form: Any, cred: Any, at: float) -> None:
        self.form = form
        self.cred = cred
        self.at = at


class SignedForms:
    """The forms of one backend, one for each kind of request. Any thread.

    A form is made anew when it is old or the credential of now is another one, and after `drop`: when the backend has learned where its
    requests have to go, or what they must not hold.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[str, Signed] = {}

    def current(self, owner: RemoteBackend, kind: str) -> Signed | None:
        """The form of a kind of request of the backend; ``None``: build it by itself."""
        now = time.time()
        cred = owner.source.current(now)
        if cred is None:
            return None  # it has to be fetched first
        made = self._made.get(kind)
        if made is None or made.cred is not cred or not 0.0 <= now - made.at < FORM_SECONDS:
            made = self._made[kind] = _make(owner, kind, cred, now)
        return None if made.form is None else made

    def drop(self) -> None:
        """Forget them all."""
        self._made = {}


def _make(owner: RemoteBackend, kind: str, cred: Any, now: float) -> Signed:
    make = getattr(owner.client, "form", None)  # those of tests have none
    if make is None or not hasattr(owner.dialect, "read_form"):
        return Signed(None, cred, now)
    form = _MAKERS[kind](owner.dialect, None if cred is ANONYMOUS else cred, now)
    return Signed(None if form is None else make(form), cred, now)

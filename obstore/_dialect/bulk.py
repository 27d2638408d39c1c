"""What plain requests have in common, those of bulk transfers among them: all but key and body."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from obstore._auth.sigv4_form import SigningForm

__all__ = ["RequestForm", "is_clean"]


class RequestForm(NamedTuple):
    """What many requests have in common. Texts may hold marks (`obstore._auth.sigv4_form`).

    Attributes:
        method: in upper case.
        origin: ``scheme://host[:port]``.
        path: what stands before the key, percent-encoded; all of it where ``body`` holds the key.
        suffix: what stands after it: empty, or a query.
        keep_slash: whether slashes of keys are sent as they are.
        headers: of every request; of a signed one all but authorization.
        signing: how each is signed; ``None``: not at all.
        body: what goes before and behind the content in the request's body.
        check: algorithm that `MARK_CHECK` stands for.
    """

    method: str
    origin: str
    path: str
    suffix: str
    keep_slash: bool
    headers: Sequence[tuple[str, str]]
    signing: SigningForm | None = None
    body: tuple[str, str] | None = None
    check: str | None = None

    def __repr__(self) -> str:
        return f"RequestForm({self.method} {self.origin}{self.path})"


def is_clean(texts: Iterable[str]) -> bool:
    """Whether none of the texts has a control character: one could be taken for a mark, and is refused where it is sent alone."""
    return all(text.isprintable() or not any(c < " " or c == "\x7f" for c in text) for text in texts)

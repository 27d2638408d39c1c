"""Access keys out of what files, processes and services hand over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from obstore._auth.aws import AwsCredential
from obstore._effects import Op
from obstore.exceptions import BaseError, UnauthenticatedError

__all__ = ["element_text", "parse_moment", "read_keys", "without_frames"]


def parse_moment(text: str) -> float:
    """An ISO 8601 date and time as seconds since the epoch; without a zone, or with the word ``UTC``, it is UTC.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text.replace("UTC", "+00:00"))
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()


def read_keys(
    found: Mapping[str, Any], names: tuple[str, str, str, str | None], who: str, *, hint: str | None = None
) -> AwsCredential:
    """The credential in a document.

    Args:
        found: the document.
        names: of access key id, secret, session token and expiry; the last may be ``None`` for a document that has
            none. An expiry is a date in ISO 8601, or milliseconds since the epoch.
        who: handed it over, in messages.
        hint: what to do where it is no good.

    Raises:
        UnauthenticatedError: a part is missing or unusable; the message shows none of them.
    """
    missing = [name for name in names[:2] if not found.get(name)]
    problem = f"has no {missing[0]}" if missing else None
    token = found.get(names[2]) or None
    expires_at: float | None = None
    expiry = found.get(names[3]) if names[3] is not None else None
    if problem is None and expiry is not None:
        try:
            expires_at = expiry / 1000 if isinstance(expiry, (int, float)) else parse_moment(expiry)
        except (TypeError, ValueError):
            problem = f"has no date in {names[3]}"
    if problem is None:
        try:
            return AwsCredential(found[names[0]], found[names[1]], token, expires_at)
        except ValueError as error:
            problem = f"is unusable: {error}"
        except (AttributeError, TypeError):
            problem = "holds something else than texts"
    del found, token
    raise UnauthenticatedError(f"what {who} gave {problem}", hint=hint)


def without_frames(op: Op[AwsCredential]) -> Op[AwsCredential]:
    """Perform ``op``; the errors that it raises on purpose come without the frames that led to them.

    Those hold tokens and keys, and tools print the variables of frames that failed. The message says it all.
    """
    problem: BaseError | None = None
    try:
        return (yield from op)
    except BaseError as error:
        problem = error.with_traceback(None)
        problem.__context__ = problem.__cause__ = None
    try:
        raise problem
    finally:
        del problem  # its traceback holds this frame


def element_text(text: str, name: str) -> str | None:
    """Text of the one element of that name in an XML document, whatever its namespace prefix.

    For the answers of services that give keys, which have no two of that name.
    """
    found = re.search(rf"<(?:[\w.-]+:)?{name}(?:\s[^<>]*)?>([^<]*)</", text)
    if found is None:
        return None
    from html import unescape  # its table of names takes longer to import than all else here

    return unescape(found[1]).strip()

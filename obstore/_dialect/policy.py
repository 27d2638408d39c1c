"""Policies of upload forms, which S3 and Google Cloud Storage write alike."""

from __future__ import annotations

from collections.abc import Sequence

from obstore._types import PostSpec

__all__ = ["exactly", "policy_conditions"]

_FILENAME = "${filename}"


def policy_conditions(fields: dict[str, str], spec: PostSpec) -> list[dict[str, str] | Sequence[str | int]]:
    """The caller's conditions; every field that none of them is about must have exactly the value it has here.

    A key that ends in ``${filename}`` is the exception: the service puts the name of the uploaded file there.
    """
    conditions = list(spec.conditions)
    named = {_subject(each).lower() for each in conditions}
    key = fields["key"]
    if key.endswith(_FILENAME) and "key" not in named:
        conditions.append(["starts-with", "$key", key.removesuffix(_FILENAME)])
        named.add("key")
    return conditions + exactly({name: value for name, value in fields.items() if name.lower() not in named})


def exactly(fields: dict[str, str]) -> list[dict[str, str] | Sequence[str | int]]:
    return [{name: value} for name, value in fields.items()]


def _subject(condition: dict[str, str] | Sequence[str | int]) -> str:
    """The field that a condition is about; empty for one that is about the file."""
    if isinstance(condition, dict):
        return next(iter(condition))
    subject = condition[1]
    return subject.removeprefix("$") if isinstance(subject, str) else ""

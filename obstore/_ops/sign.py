"""sign and generate_presigned_post: URLs and forms that let others in for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, get_args

from obstore._effects import Op
from obstore._ops import args
from obstore._types import HTTP_METHOD, Backend, PostSpec, PresignedPost, SignSpec

_METHODS = frozenset(get_args(HTTP_METHOD))
# The operators of a policy's conditions, and what they compare with.
_OPERATORS = {"eq": str, "starts-with": str, "content-length-range": int}


def sign(
    backend: Backend,
    method: Any,
    paths: Any,
    expires_in: Any,
    *,
    query: Any = None,
    headers: Any = None,
    version: Any = None,
    **overrides: Any,
) -> Op[str | list[str]]:
    """URLs for one path or many.

    Args:
        backend, method, paths, expires_in, query, headers, version: of `obstore.sign`.
        **overrides: ``response_content_type`` and its like.
    """
    if isinstance(paths, str):
        keys = [backend.parse_key(paths, "paths")]
    elif isinstance(paths, Sequence) and not isinstance(paths, (bytes, bytearray, memoryview)):
        keys = [backend.parse_key(path, f"paths[{index}]") for index, path in enumerate(paths)]
    else:
        raise TypeError("paths: Expected string path or sequence of string paths.")
    if args.text(method, "method") not in _METHODS:
        raise ValueError(f"method: Unsupported HTTP method {method}")
    spec = SignSpec(
        method,
        _seconds(expires_in),
        query=_pairs(query, "query"),
        headers=args.header_pairs(headers, "headers"),
        version=None if version is None else args.text(version, "version"),
        overrides={
            name.removeprefix("response_").title().replace("_", "-"): args.header_text(value, name)
            for name, value in overrides.items()
            if value is not None
        },
    )
    return _sign(backend.sign(keys, spec), single=isinstance(paths, str))


def _sign(signing: Op[list[str]], *, single: bool) -> Op[str | list[str]]:
    urls = yield from signing
    return urls[0] if single else urls


def generate_presigned_post(
    backend: Backend, path: Any, expires_in: Any, *, fields: Any = None, conditions: Any = None
) -> Op[PresignedPost]:
    """A form for one key; arguments of `obstore.generate_presigned_post`."""
    key = backend.parse_key(path, "path")
    spec = PostSpec(
        _seconds(expires_in),
        fields=dict(_pairs(fields, "fields")),
        conditions=_conditions(conditions),
    )
    return backend.sign_post(key, spec)


def _seconds(expires_in: Any) -> int:
    if not isinstance(expires_in, timedelta):
        raise TypeError(f"expires_in: '{type(expires_in).__name__}' object is not an instance of 'timedelta'")
    if expires_in < timedelta(0):
        raise ValueError("expires_in must not be negative")
    return expires_in // timedelta(seconds=1)


def _pairs(value: Any, argument: str) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}: '{type(value).__name__}' object is not an instance of 'dict'")
    return [
        (args.text(name, f"name in {argument}"), args.text(item, f"{argument}[{name!r}]"))
        for name, item in value.items()
    ]


def _conditions(value: Any) -> list[dict[str, str] | list[str | int]]:
    if value is None:
        return []
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise TypeError(f"conditions: '{type(value).__name__}' object is not an instance of 'list'")
    return [_condition(each, f"conditions[{index}]") for index, each in enumerate(value)]


def _condition(value: Any, argument: str) -> dict[str, str] | list[str | int]:
    """``{name: value}``, ``[operator, "$name", value]`` or ``["content-length-range", least, most]``."""
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise ValueError(f"{argument} must hold one field, not {len(value)}")
        return dict(_pairs(value, argument))
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise TypeError(f"{argument}: '{type(value).__name__}' object is neither a dict nor a list")
    kind = _OPERATORS.get(value[0]) if len(value) == 3 and isinstance(value[0], str) else None
    if kind is None:
        raise ValueError(f"{argument} must be [operator, field, value]; operators are {', '.join(_OPERATORS)}")
    if kind is int:
        return [value[0], *(args.whole_number(value[i], f"{argument}[{i}]") for i in (1, 2))]
    return [value[0], *(args.text(value[i], f"{argument}[{i}]") for i in (1, 2))]

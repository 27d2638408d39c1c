"""A mixed load that knows the truth: random operations on keys of its own, and what each key may hold afterwards.

A worker is a generator that yields ``(name of the function, arguments, keyword arguments)`` and is resumed with the result,
or has the typed error thrown in; `drive` performs it synchronously, `drive_async` on an event loop. An operation that failed may
have happened or not, so a key then may hold either; any other content, a body that differs from it, or an error
that is not of the library, is recorded in `Ledger.wrong`.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import obstore as obs
from obstore.store import S3Store

Call = tuple[str, tuple[Any, ...], dict[str, Any]]

ABSENT = None
_PART = 5 << 20
# How often each operation is drawn.
_MIX = {"put": 30, "get": 30, "range": 12, "head": 6, "list": 4, "copy": 6, "rename": 3, "delete": 8, "parts": 1}


class Ledger:
    """What one worker's keys may hold, and what went wrong.

    Attributes:
        prefix: of all its keys.
        may_hold: key -> the bodies that it may have now; ``ABSENT`` where it may be missing.
        done, refused: operations that succeeded, and that ended in a typed error.
        wrong: what must not have happened, as text.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.may_hold: dict[str, set[bytes | None]] = {}
        self.done = 0
        self.refused: dict[str, int] = {}
        self.wrong: list[str] = []

    def settle(self, found: dict[str, bytes]) -> None:
        """Compare with what a judge found under the prefix in the end."""
        for key in found.keys() - self.may_hold.keys():
            self.wrong.append(f"{key}: nobody wrote it")
        for key, bodies in self.may_hold.items():
            body = found.get(key, ABSENT)
            if body not in bodies:
                holds = "nothing" if body is None else f"{len(body)} bytes beginning {body[:24]!r}"
                self.wrong.append(f"{key}: holds {holds}, which it may not")


def worker(ledger: Ledger, seed: int, operations: int) -> Generator[Call, Any, None]:
    """Do so many random operations."""
    chance = random.Random(seed)
    names, weights = list(_MIX), list(_MIX.values())
    may_hold = ledger.may_hold
    for serial in range(operations):
        name = chance.choices(names, weights)[0]
        certain = [key for key, bodies in may_hold.items() if ABSENT not in bodies]
        if name in ("get", "range", "head", "copy", "rename", "delete") and not certain:
            name = "put"
        key = chance.choice(certain) if certain else ""
        fresh = f"{ledger.prefix}{serial:06}"
        try:
            if name in ("put", "parts"):
                target = key if key and chance.random() < 0.2 else fresh
                yield from _put(may_hold, target, _body(chance, target, serial, large=name == "parts"), name == "parts")
            elif name == "get":
                _check(ledger, key, (yield "get", (key,), {}))
            elif name == "range":
                yield from _range(ledger, chance, key)
            elif name == "head":
                size = (yield "head", (key,), {})["size"]
                if size not in {len(body) for body in may_hold[key] if body is not None}:
                    ledger.wrong.append(f"{key}: head says {size} bytes")
            elif name == "list":
                yield from _list(ledger)
            elif name == "delete":
                yield from _delete(may_hold, key)
            else:
                yield from _move(may_hold, name, key, fresh)
        except obs.BaseError as error:
            kind = type(error).__name__
            ledger.refused[kind] = ledger.refused.get(kind, 0) + 1
            if isinstance(error, FileNotFoundError) and name in ("get", "range", "head"):
                ledger.wrong.append(f"{key}: {name} does not find it: {error}")
        except Exception as error:
            ledger.wrong.append(f"{name} {key or fresh}: {type(error).__name__}: {error}")
        else:
            ledger.done += 1


def _body(chance: random.Random, key: str, serial: int, *, large: bool) -> bytes:
    """A body that names its key, so that a mix-up shows, of a size that is not always the same."""
    size = _PART + chance.randrange(1, 1 << 20) if large else chance.choice((0, 10, 1000, 20_000, 400_000))
    unit = f"{key}#{serial};".encode()
    return (unit * (size // len(unit) + 1))[:size]


def _put(may_hold: dict[str, set[bytes | None]], key: str, body: bytes, in_parts: bool) -> Iterator[Any]:
    before = may_hold.get(key, {ABSENT})
    may_hold[key] = {*before, body}
    options = {"use_multipart": True, "chunk_size": _PART} if in_parts else {}
    yield "put", (key, body), options
    may_hold[key] = {body}


def _range(ledger: Ledger, chance: random.Random, key: str) -> Generator[Call, Any, None]:
    size = min(len(body) for body in ledger.may_hold[key] if body is not None)
    if size == 0:
        return
    start = chance.randrange(size)
    end = chance.randrange(start, size) + 1
    got = bytes((yield "get_range", (key,), {"start": start, "end": end}))
    if got not in {body[start:end] for body in ledger.may_hold[key] if body is not None}:
        ledger.wrong.append(f"{key}: bytes {start} to {end} are wrong: {got[:24]!r}")


def _list(ledger: Ledger) -> Generator[Call, Any, None]:
    found = [item["path"] for item in (yield "list", (ledger.prefix,), {"match": "string"})]
    must = {key for key, bodies in ledger.may_hold.items() if ABSENT not in bodies}
    if len(found) != len(set(found)):
        ledger.wrong.append(f"{ledger.prefix}: the listing names a key twice")
    if lost := must - set(found):
        ledger.wrong.append(f"{ledger.prefix}: the listing lacks {sorted(lost)[:3]}")
    if strange := set(found) - ledger.may_hold.keys():
        ledger.wrong.append(f"{ledger.prefix}: the listing has {sorted(strange)[:3]}")


def _delete(may_hold: dict[str, set[bytes | None]], key: str) -> Iterator[Any]:
    may_hold[key] = {*may_hold[key], ABSENT}
    yield "delete", (key,), {}
    may_hold[key] = {ABSENT}


def _move(may_hold: dict[str, set[bytes | None]], name: str, key: str, fresh: str) -> Iterator[Any]:
    bodies = set(may_hold[key])
    may_hold[fresh] = {*bodies, ABSENT}
    if name == "rename":
        may_hold[key] = {*bodies, ABSENT}
    yield name, (key, fresh), {}
    may_hold[fresh] = bodies
    if name == "rename":
        may_hold[key] = {ABSENT}


def _check(ledger: Ledger, key: str, body: bytes) -> None:
    if body not in ledger.may_hold[key]:
        ledger.wrong.append(f"{key}: read {len(body)} bytes that it does not hold: {body[:24]!r}")


# ---- performing it --------------------------------------------------------------------------------------


def drive(calls: Generator[Call, Any, None], store: S3Store) -> None:
    """Perform a worker with synchronous calls."""
    step, value = calls.send, None
    while True:
        try:
            name, args, options = step(value)
        except StopIteration:
            return
        try:
            result = getattr(obs, name)(store, *args, **options)
            if name == "get":
                result = bytes(result.bytes())
            elif name == "list":
                result = list(result)
        except Exception as error:
            step, value = calls.throw, error
        else:
            step, value = calls.send, result


async def drive_async(calls: Generator[Call, Any, None], store: S3Store) -> None:
    """Perform a worker on the running event loop."""
    step, value = calls.send, None
    while True:
        try:
            name, args, options = step(value)
        except StopIteration:
            return
        try:
            if name == "list":
                result: Any = [item async for item in obs.list(store, *args, **options)]
            else:
                result = await getattr(obs, f"{name}_async")(store, *args, **options)
            if name == "get":
                result = bytes(await result.bytes_async())
        except Exception as error:
            step, value = calls.throw, error
        else:
            step, value = calls.send, result


def judge(client: Any, bucket: str, ledgers: Sequence[Ledger]) -> list[str]:
    """What boto3 finds wrong in the end; see `compare`."""
    found: dict[str, bytes] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", ()):
            with client.get_object(Bucket=bucket, Key=entry["Key"])["Body"] as body:
                found[entry["Key"]] = body.read()
    uploads = []
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        if client.list_parts(**where).get("Parts"):
            uploads.append(upload["Key"])
    return compare(found, uploads, ledgers)


def compare(found: dict[str, bytes], uploads: Sequence[str], ledgers: Sequence[Ledger]) -> list[str]:
    """What is wrong in the end, beside what the workers saw.

    Args:
        found: every object of the bucket.
        uploads: keys of unfinished uploads that have parts. One without may be left where the answer that named it was lost:
            nobody can then tell it from another program's.
        ledgers: of all workers.
    """
    for ledger in ledgers:
        ledger.settle({key: body for key, body in found.items() if key.startswith(ledger.prefix)})
    wrong = [text for ledger in ledgers for text in ledger.wrong]
    prefixes = tuple(ledger.prefix for ledger in ledgers)
    wrong += [f"{key}: belongs to no worker" for key in found if not key.startswith(prefixes)]
    return wrong + [f"{key}: an unfinished upload is left" for key in uploads]

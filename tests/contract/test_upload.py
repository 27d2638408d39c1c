"""Uploads that fail: the caller gets the original exception, the server keeps nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Subject, make_face
from tests.servers.fakes3 import FakeS3, Fault, dropped, faulty, puts, status
from tests.servers.scripted import Reply, Request

PART = 5 << 20
_INTERNAL_ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>try again</Message></Error>'


class SourceBroke(Exception):
    """What a user's iterator raises."""


def _breaking(after: int):
    for _ in range(after):
        yield bytes(PART)
    raise SourceBroke("disk on fire")


async def _breaking_async(after: int):
    for _ in range(after):
        await asyncio.sleep(0)
        yield bytes(PART)
    raise SourceBroke("disk on fire")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_exception_of_an_iterator_reaches_the_caller_unchanged(subject: Subject, after: int):
    with pytest.raises(SourceBroke, match="disk on fire") as caught:
        obs.put(subject.store, "k", _breaking(after))
    assert type(caught.value) is SourceBroke
    _nothing_remains(subject)


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_exception_of_an_asynchronous_iterator_reaches_the_caller_unchanged(subject: Subject, after: int, loop: str):
    face = make_face(loop)
    with pytest.raises(SourceBroke, match="disk on fire"):
        face.put(subject.store, "k", _breaking_async(after))
    face.close()
    _nothing_remains(subject)


def test_wrong_items_are_a_type_error_and_leave_nothing(subject: Subject):
    for item in ("text", 7, None):
        with pytest.raises(TypeError, match=type(item).__name__):
            obs.put(subject.store, "k", iter([b"x", item]))
    _nothing_remains(subject)


def test_exception_of_a_file_reaches_the_caller_unchanged(subject: Subject):
    class File:
        def __init__(self) -> None:
            self.at = 0

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = {0: 0, 1: self.at, 2: 3 * PART}[whence] + offset
            return self.at

        def read(self, size: int = -1) -> bytes:
            if self.at >= PART:
                raise SourceBroke("tape torn")
            self.at += PART
            return bytes(PART)

    with pytest.raises(SourceBroke, match="tape torn"):
        obs.put(subject.store, "k", File())
    _nothing_remains(subject)


def test_missing_source_file_is_an_error_of_the_file(subject: Subject, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        obs.put(subject.store, "k", tmp_path / "missing")
    assert not isinstance(caught.value, obs.BaseError)
    _nothing_remains(subject)


def test_failed_part_aborts_the_upload_and_raises_its_error(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config())
    fake_s3.inject(status(403, error="AccessDenied"), when=lambda r: r.query.get("partNumber") == "2")
    with pytest.raises(obs.PermissionDeniedError) as caught:
        obs.put(store, "k", bytes(50), chunk_size=10, max_concurrency=2)
    assert caught.value.code == "AccessDenied"
    assert not fake_s3.uploads
    assert len(fake_s3.aborted) == 1
    assert "k" not in fake_s3.objects


def test_failed_completion_aborts_the_upload(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config())
    fake_s3.inject(status(400, error="InvalidPart"), when=_completion)
    with pytest.raises(obs.GenericError, match="InvalidPart"):
        obs.put(store, "k", bytes(50), chunk_size=10)
    assert not fake_s3.uploads
    assert "k" not in fake_s3.objects


def test_failing_abort_does_not_hide_the_first_error(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config(retry_config={"max_retries": 0}))
    fake_s3.inject(status(403, error="AccessDenied"), when=lambda r: r.method == "DELETE", times=9)
    with pytest.raises(SourceBroke):
        obs.put(store, "k", _breaking(1))


@pytest.mark.parametrize("name", ["drop_part", "drop_start", "refuse_part"])
def test_upload_survives_what_can_be_repeated(fake_s3: FakeS3, name: str):
    store = S3Store(**fake_s3.config())
    if name == "drop_part":
        fake_s3.inject(dropped(), when=puts, times=3)
    elif name == "drop_start":
        fake_s3.inject(dropped(), when=lambda r: r.method == "POST" and "uploads" in r.query)
    else:
        fake_s3.inject(status(503), when=puts, times=3)
    data = os.urandom(105)
    obs.put(store, "k", iter([data]), chunk_size=10, max_concurrency=3)
    assert fake_s3.objects["k"].body == data
    assert not fake_s3.uploads


def _completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


@pytest.mark.parametrize("lost", [faulty(drop=True), faulty(status=500), faulty(body=_INTERNAL_ERROR)])
def test_completion_whose_answer_was_lost_is_recognized(fake_s3: FakeS3, lost: Fault):
    store = S3Store(**fake_s3.config())
    fake_s3.inject(lost, when=_completion)
    data = os.urandom(25)
    result = obs.put(store, "k", data, chunk_size=10, use_multipart=True)
    assert fake_s3.objects["k"].body == data
    assert result["e_tag"] == fake_s3.objects["k"].e_tag
    assert fake_s3.count("POST") == 3  # the second completion is answered NoSuchUpload
    assert not fake_s3.count("DELETE")


@pytest.mark.parametrize("other", [b"another's", None])
def test_completion_of_an_upload_that_is_gone_fails(fake_s3: FakeS3, other: bytes | None):
    """Also where there is an object: it is not the one of these parts."""
    store = S3Store(**fake_s3.config())

    def removed(request: Request, proceed: Callable[[], Reply]) -> Reply:
        fake_s3.uploads.clear()
        if other is not None:
            fake_s3.add("k", other)
        return Reply(drop=True)

    fake_s3.inject(removed, when=_completion)
    with pytest.raises(obs.NotFoundError) as caught:
        obs.put(store, "k", bytes(25), chunk_size=10, use_multipart=True)
    assert caught.value.code == "NoSuchUpload"


def test_completion_that_answers_an_error_with_200_is_repeated(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config())
    fake_s3.inject(
        lambda request, proceed: Reply(200, {"content-type": "application/xml"}, _INTERNAL_ERROR), when=_completion
    )
    obs.put(store, "k", bytes(25), chunk_size=10)
    assert fake_s3.objects["k"].body == bytes(25)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_cancelled_put_aborts_its_upload(s3: Subject, loop: str):
    waiting = None

    async def endless():
        yield bytes(PART)
        yield bytes(PART)
        waiting.set()
        await asyncio.sleep(60)
        yield b""

    async def main() -> None:
        nonlocal waiting
        waiting = asyncio.Event()
        task = asyncio.ensure_future(obs.put_async(s3.store, "k", endless()))
        await waiting.wait()
        assert s3.judge_uploads() == ["k"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The abort may be on its way still when the caller has been told.
        deadline = time.monotonic() + 10
        while s3.judge_uploads() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    face = make_face(loop)
    face.run(main)
    face.close()
    _nothing_remains(s3)


def test_cancelled_put_aborts_while_a_part_is_on_its_way(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config())
    plain = fake_s3.handler

    def slow(request):
        reply = plain(request)
        if "partNumber" in request.query:
            reply.delay = 30
        return reply

    fake_s3.handler = slow

    async def main() -> None:
        task = asyncio.ensure_future(obs.put_async(store, "k", bytes(100), chunk_size=10, max_concurrency=2))
        while not fake_s3.in_flight or not fake_s3.uploads:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        deadline = time.monotonic() + 10
        while fake_s3.uploads and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    asyncio.run(main())
    assert len(fake_s3.aborted) == 1
    assert not fake_s3.uploads
    assert "k" not in fake_s3.objects


def _nothing_remains(subject: Subject) -> None:
    """Neither object nor unfinished upload, by the independent client; nor a file of any name."""
    assert list(obs.list(subject.store)) == []
    if subject.remote:
        assert subject.judge_uploads() == []
        assert subject.judge_keys() == []
    if subject.root is not None:
        assert [path for path in subject.root.rglob("*") if path.is_file()] == []

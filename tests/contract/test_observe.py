"""What operations tell: the logger, OpenTelemetry spans, timings, attempts, counts per store. And never a secret."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import obstore as obs
from obstore.store import S3Store
from tests.servers.fakes3 import FakeS3, cut, faulty, status

SECRET = "wJalrXUtnFEMIsecret"
TOKEN = "session-token-secret"
LARGE = bytes(range(256)) * (32 << 10)  # more than is taken from the network before it is asked for
CHUNK = 300_000  # large enough for chunks to be of just this size


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    fake_s3.add("a", b"x" * 100)
    fake_s3.add("b", b"y")
    config = {**fake_s3.config(), "skip_signature": False}
    config |= {"access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, "session_token": TOKEN}
    config["retry_config"] = {"max_retries": 3, "backoff": {"init_backoff": timedelta(milliseconds=1)}}
    return S3Store(**config)


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    obs.set_options(tracer=provider)
    yield exporter
    obs.set_options(tracer=None)
    provider.shutdown()


def by_name(exporter: InMemorySpanExporter, name: str) -> list[Any]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def test_span_for_each_operation_and_attempt(store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter):
    fake_s3.inject(status(503), times=1)
    fake_s3.inject(status(500), times=1)
    assert obs.head(store, "a")["size"] == 100
    (operation,) = by_name(spans, "obstore.head")
    attempts = by_name(spans, "HEAD")
    assert operation.status.status_code is not StatusCode.ERROR
    assert all(attempt.parent.span_id == operation.context.span_id for attempt in attempts)
    assert all(attempt.kind is SpanKind.CLIENT for attempt in attempts)
    assert [attempt.attributes.get("http.response.status_code") for attempt in attempts] == [503, 500, 200]
    assert [attempt.attributes.get("error.type") for attempt in attempts] == ["503", "500", None]
    assert [attempt.attributes.get("http.request.resend_count") for attempt in attempts] == [None, 1, 2]
    last = attempts[-1].attributes
    assert (last["http.request.method"], last["server.address"]) == ("HEAD", "127.0.0.1")
    assert last["url.full"].endswith("/bucket/a")
    assert (last["network.protocol.version"], last["server.port"]) == ("1.1", int(fake_s3.url.rpartition(":")[2]))


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_spans_hang_below_the_callers(store: S3Store, spans: InMemorySpanExporter, loop: str):
    """Whatever context the event loop is in when an answer comes; parts of an upload hang below the upload."""
    tracer = TracerProvider.get_tracer(obs_provider(spans), "test")

    async def main() -> None:
        with tracer.start_as_current_span("mine"):
            await obs.put_async(store, "big", b"z" * (11 << 20), use_multipart=True)
            assert [item["path"] async for item in obs.list(store)] == ["a", "b", "big"]

    (trio.run if loop == "trio" else lambda start: asyncio.run(start()))(main)
    (mine,) = by_name(spans, "mine")
    (put,) = by_name(spans, "obstore.put")
    assert put.parent.span_id == mine.context.span_id
    parts = by_name(spans, "PUT")
    assert len(parts) == 3
    assert {part.parent.span_id for part in parts} == {put.context.span_id}
    (listing,) = by_name(spans, "obstore.list")
    assert listing.parent.span_id == mine.context.span_id


def obs_provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


def test_span_of_an_operation_that_fails(store: S3Store, spans: InMemorySpanExporter):
    with pytest.raises(obs.NotFoundError):
        obs.get(store, "none")
    (operation,) = by_name(spans, "obstore.get")
    assert operation.status.status_code is StatusCode.ERROR
    assert operation.events[0].attributes["exception.type"].endswith("NotFoundError")
    (attempt,) = by_name(spans, "GET")
    assert attempt.attributes["error.type"] == "404"


def test_span_of_a_streamed_body_lasts_as_long_as_the_body(
    store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
):
    """To its last byte, over all steps, with what was resumed below it."""
    fake_s3.add("big", LARGE)
    fake_s3.inject(cut(after=CHUNK * 2), times=1)
    with caplog.at_level(logging.DEBUG, "obstore"):
        stream = obs.get(store, "big").stream(CHUNK)
        assert by_name(spans, "obstore.get")
        chunks = [next(stream)]
        assert by_name(spans, "obstore.read") == []
        chunks += stream
    assert b"".join(chunks) == LARGE
    (read,) = by_name(spans, "obstore.read")
    assert read.attributes["obstore.bytes"] == len(LARGE)
    assert "obstore.given_up" not in read.attributes
    assert read.status.status_code is not StatusCode.ERROR
    first, resumed = by_name(spans, "GET")
    assert resumed.parent.span_id == read.context.span_id != first.parent.span_id
    assert "http.response.body.size" not in first.attributes
    assert caplog.records[-1].getMessage().startswith(f"read: {len(LARGE)} bytes in ")


@pytest.mark.parametrize("ending", ["close", "drop"])
def test_span_of_a_streamed_body_that_is_let_go(
    store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter, ending: str
):
    fake_s3.add("big", LARGE)

    async def read() -> None:
        stream = (await obs.get_async(store, "big")).stream(CHUNK)
        async for _ in stream:
            break
        if ending == "close":
            stream.close()

    asyncio.run(read())
    (span,) = by_name(spans, "obstore.read")
    assert dict(span.attributes) == {"obstore.operation": "read", "obstore.bytes": CHUNK, "obstore.given_up": True}
    assert span.status.status_code is not StatusCode.ERROR


def test_span_of_a_streamed_body_that_breaks(fake_s3: FakeS3, spans: InMemorySpanExporter):
    fake_s3.add("big", LARGE)
    fake_s3.inject(cut(after=CHUNK * 2), times=9)
    store = S3Store(**fake_s3.config(), retry_config={"max_retries": 0})
    stream = obs.get(store, "big").stream(CHUNK)
    with pytest.raises(obs.BaseError):
        list(stream)
    stream.close()
    (span,) = by_name(spans, "obstore.read")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["obstore.bytes"] == CHUNK * 2


def test_bytes_are_counted_however_a_body_is_read(store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter):
    fake_s3.add("big", LARGE)
    assert len(obs.get(store, "big").bytes()) == len(LARGE)
    assert obs.get(store, "big").readinto(bytearray(len(LARGE))) == len(LARGE)
    assert sum(map(len, obs.get(store, "big").stream(0))) == len(LARGE)
    assert [span.attributes["obstore.bytes"] for span in by_name(spans, "obstore.read")] == [len(LARGE)] * 3
    spans.clear()
    assert len(obs.get(store, "a").bytes()) == 100
    assert obs.get_range(store, "a", start=10, end=20) == b"x" * 10
    assert [span.attributes["http.response.body.size"] for span in by_name(spans, "GET")] == [100, 10]
    assert by_name(spans, "obstore.read") == []

    memory = obs.MemoryStore()
    memory.put("a", b"12345")
    spans.clear()
    assert list(memory.get("a").stream(2)) != []
    assert by_name(spans, "obstore.read")[0].attributes["obstore.bytes"] == 5


def test_span_of_an_attempt_without_an_answer(spans: InMemorySpanExporter):
    nobody = S3Store(
        "b",
        endpoint="http://127.0.0.1:1",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(obs.ConnectionFailedError):
        nobody.head("a")
    assert by_name(spans, "HEAD")[0].attributes["error.type"] == "connect"


def test_cancelled_operation_ends_its_spans(store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter):
    fake_s3.inject(faulty(delay=30.0), times=1)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(obs.get_async(store, "a"), 0.1)

    asyncio.run(main())
    assert len(by_name(spans, "obstore.get")) == 1
    assert by_name(spans, "GET")[0].attributes["error.type"] == "Cancelled"


def test_operation_whose_event_loop_is_closed_ends_its_spans(
    store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter
):
    fake_s3.inject(faulty(delay=30.0), times=1)
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        return obs.get_async(store, "a")

    started = loop.run_until_complete(begin())
    loop.close()
    del started
    give_up = time.monotonic() + 30
    while not by_name(spans, "obstore.get"):  # until its attempt has let go, on a thread of the engine's
        assert time.monotonic() < give_up
        obs.stats()
        gc.collect()
    assert by_name(spans, "GET")[0].attributes["error.type"] == "GeneratorExit"


def test_log_tells_attempts_and_retries(store: S3Store, fake_s3: FakeS3, caplog: pytest.LogCaptureFixture):
    fake_s3.inject(status(503), times=1)
    with caplog.at_level(logging.DEBUG, "obstore"):
        obs.get(store, "a").bytes()
    first, retry, second = [record.getMessage() for record in caplog.records]
    assert first.startswith(f"get: GET {fake_s3.url}/bucket/a -> HTTP 503 in ")
    assert first.rpartition(" ms, ")[2].startswith("try 1")
    assert retry.startswith("get: try 1 failed (HTTP 503), trying again in ")
    assert "-> HTTP 200" in second
    assert "try 2" in second
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "DEBUG"]

    caplog.clear()
    with caplog.at_level(logging.INFO, "obstore"):
        obs.get(store, "a").bytes()
    obs.get(store, "a").bytes()
    assert caplog.records == []


def test_secrets_are_nowhere(
    store: S3Store, fake_s3: FakeS3, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
):
    fake_s3.inject(status(403), times=1, after=3)
    with caplog.at_level(logging.DEBUG, "obstore"):
        obs.put(store, "c", b"1")
        list(obs.list(store))
        obs.head(store, "a")
        with pytest.raises(obs.PermissionDeniedError):
            obs.get(store, "a")
    told = caplog.text + "".join(span.to_json() for span in spans.get_finished_spans())
    assert "obstore.get" in told
    for secret in (SECRET, TOKEN, "Signature=", "AKIDEXAMPLE"):
        assert secret not in told


def test_nothing_is_wrapped_while_nobody_watches(store: S3Store, monkeypatch: pytest.MonkeyPatch):
    from obstore._run import observe

    def fail(*_arguments: Any) -> None:
        raise AssertionError("watched")

    monkeypatch.setattr(observe, "watched", fail)
    assert obs.head(store, "a")["size"] == 100
    logging.getLogger("obstore").setLevel(logging.INFO)
    try:
        with pytest.raises(AssertionError, match="watched"):
            obs.head(store, "a")
    finally:
        logging.getLogger("obstore").setLevel(logging.NOTSET)


def test_wrong_tracer_is_named():
    with pytest.raises(TypeError, match=r"^tracer: .str. object is neither"):
        obs.set_options(tracer="jaeger")
    assert obs.get_options()["tracer"] is None


def test_store_counts_its_own_requests(store: S3Store, fake_s3: FakeS3):
    other = S3Store(**fake_s3.config())
    assert set(store.stats().values()) == {0}
    fake_s3.inject(status(503), times=1)
    for _ in range(3):
        obs.get(store, "a").bytes()
    obs.put(store, "c", b"12345")
    counted = store.stats()
    expected = {
        "requests": 5,
        "succeeded": 4,
        "failed": 1,
        "throttled": 1,
        "retries": 1,
        "bytes_in": 300,
        "bytes_out": 5,
    }
    assert {name: counted[name] for name in expected} == expected
    assert counted["in_flight"] == counted["cancelled"] == 0
    assert 0 < counted["first_byte_p50"] <= counted["first_byte_p99"] < 60
    assert other.stats()["requests"] == 0
    assert set(obs.MemoryStore().stats().values()) == {0}


def test_timing_and_attempts(store: S3Store, fake_s3: FakeS3):
    timing = obs.get(store, "a").timing
    assert 0 < timing.first_byte <= timing.total or timing.total == 0
    assert (timing.remote_ip, timing.http_version) == ("127.0.0.1", "1.1")
    fake_s3.inject(status(503), times=9)
    with pytest.raises(obs.ThrottledError) as caught:
        obs.head(store, "a")
    assert [attempt.status for attempt in caught.value.attempts] == [503] * 4
    assert [attempt.number for attempt in caught.value.attempts] == [1, 2, 3, 4]

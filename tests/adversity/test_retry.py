"""What is repeated, how often, and after how long. Times are lower bounds only."""

from __future__ import annotations

import asyncio
import email.utils
import time
from datetime import timedelta

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.fakes3 import FakeS3, Fault, dropped, faulty, puts, status
from tests.servers.faultproxy import ConnectionFault
from tests.servers.scripted import Reply

BACKOFF = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}
QUICK = {"backoff": BACKOFF}

OPERATIONS = {
    "get": lambda face, store: face.body(face.get(store, "k")),
    "get_range": lambda face, store: face.get_range(store, "k", start=0, end=1),
    "head": lambda face, store: face.head(store, "k"),
    "put": lambda face, store: face.put(store, "new", b"1"),
    "multipart": lambda face, store: face.put(store, "new", b"123", chunk_size=1),
    "list": lambda face, store: face.items(face.list(store)),
    "list_with_delimiter": lambda face, store: face.list_with_delimiter(store),
    "delete": lambda face, store: face.delete(store, "k"),
    "copy": lambda face, store: face.copy(store, "k", "new"),
}


@pytest.fixture(params=OPERATIONS)
def operate(request: pytest.FixtureRequest):
    return OPERATIONS[request.param]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_troubles_are_repeated(fake_s3: FakeS3, face: Face, operate, code: int):
    fake_s3.add("k", b"data")
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    fake_s3.inject(status(code), times=2)
    operate(face, store)
    first, second, third = fake_s3.requests[:3]
    assert (first.method, first.path) == (second.method, second.path) == (third.method, third.path)
    assert first.body == second.body == third.body


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 412, 501])
def test_lasting_troubles_are_not(fake_s3: FakeS3, face: Face, operate, code: int):
    fake_s3.add("k", b"data")
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    fake_s3.inject(status(code, error="Refused"), times=float("inf"))
    with pytest.raises(obs.BaseError) as caught:
        operate(face, store)
    # Neither the abort of an upload nor the look at the size of what a copy refused is a repetition.
    assert sum(r.method == fake_s3.requests[0].method for r in fake_s3.requests) == 1
    assert len(caught.value.attempts) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("fault", ["status", "drop", "reset", "hang"])
def test_max_retries_counts_repetitions(fake_s3: FakeS3, retries: int, fault: str):
    fake_s3.add("k", b"data")
    made = {
        "status": status(503),
        "drop": dropped(),
        "reset": dropped(reset=True),
        "hang": faulty(hang=True),
    }[fault]
    fake_s3.inject(made, times=float("inf"))
    store = S3Store(
        **fake_s3.config(retry_config={**QUICK, "max_retries": retries}, client_options={"read_timeout": "100ms"})
    )
    with pytest.raises(obs.GenericError) as caught:
        obs.get(store, "k")
    assert len(fake_s3.requests) == retries + 1
    assert [attempt.number for attempt in caught.value.attempts] == list(range(1, retries + 2))
    assert caught.value.attempts[-1].wait_seconds == 0
    if fault == "hang":
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, obs.RequestTimeoutError)
    elif fault == "status":
        assert isinstance(caught.value, obs.ThrottledError)
    else:
        assert isinstance(caught.value, ConnectionError)


def test_dropped_requests_are_repeated(fake_s3: FakeS3, face: Face, operate):
    fake_s3.add("k", b"data")
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    fake_s3.inject(dropped(), times=1)
    fake_s3.inject(dropped(reset=True), times=1)
    operate(face, store)
    assert len({(r.method, r.path) for r in fake_s3.requests[:3]}) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_obeyed(fake_s3: FakeS3, face: Face, form: str, code: int):
    fake_s3.add("k", b"data")
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    # A date has whole seconds: two seconds ahead is more than one second from now.
    value = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    fake_s3.inject(status(code, retry_after=value))
    assert face.body(face.get(store, "k")) == b"data"
    first, second = fake_s3.requests
    assert second.time - first.time >= 0.95
    assert second.headers["x-amz-date"] != first.headers["x-amz-date"], "every attempt is signed afresh"
    assert second.headers["authorization"] != first.headers["authorization"]


def test_retry_after_beyond_the_window_fails_at_once(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config(retry_config={**QUICK, "retry_timeout": timedelta(seconds=5)}))
    fake_s3.inject(status(503, retry_after=3600), times=float("inf"))
    with pytest.raises(obs.ThrottledError) as caught:
        obs.get(store, "k")
    assert len(fake_s3.requests) == 1
    assert caught.value.retryable


def test_retry_timeout_ends_it(fake_s3: FakeS3):
    config = {
        "max_retries": 1_000_000,
        "retry_timeout": timedelta(milliseconds=300),
        "backoff": {"init_backoff": timedelta(milliseconds=20), "max_backoff": timedelta(milliseconds=20)},
    }
    store = S3Store(**fake_s3.config(retry_config=config))
    fake_s3.inject(status(500), times=float("inf"))
    with pytest.raises(obs.GenericError):
        obs.get(store, "k")
    assert len(fake_s3.requests) >= 3


def test_pauses_are_kept(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config(retry_config={**QUICK, "max_retries": 4}))
    fake_s3.inject(status(500), times=float("inf"))
    with pytest.raises(obs.GenericError) as caught:
        obs.get(store, "k")
    times = [r.time for r in fake_s3.requests]
    for before, after, attempt in zip(times, times[1:], caught.value.attempts, strict=False):
        assert after - before >= attempt.wait_seconds * 0.9
        assert attempt.wait_seconds <= 0.02


def test_put_create_whose_answer_is_lost_is_not_taken_for_a_rival(fake_s3: FakeS3):
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    fake_s3.inject(faulty(drop=True), when=puts)  # the server acted, its answer is lost
    with pytest.raises(obs.GenericError) as caught:
        obs.put(store, "k", b"1", mode="create")
    assert not isinstance(caught.value, obs.AlreadyExistsError)
    assert fake_s3.objects["k"].body == b"1"
    assert len(fake_s3.requests) == 1


@pytest.mark.parametrize(
    "lost", [faulty(drop=True), faulty(drop=True, reset=True), faulty(status=500), faulty(status=504)]
)
@pytest.mark.parametrize("mode", ["create", "update"])
def test_conditional_put_that_was_sent_twice_is_not_refused_by_itself(fake_s3: FakeS3, mode: str, lost: Fault):
    """On a kept connection that ends without an answer libcurl sends it again, whatever it is; so do we after a 500."""
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    before = obs.put(store, "k", b"1") if mode == "update" else obs.put(store, "other", b"1")
    fake_s3.inject(lost, when=puts)
    with pytest.raises(obs.GenericError, match="lost") as caught:
        obs.put(store, "k", b"2", mode={"e_tag": before["e_tag"]} if mode == "update" else "create")
    assert not isinstance(caught.value, (obs.AlreadyExistsError, obs.PreconditionError))
    assert fake_s3.objects["k"].body == b"2"
    assert fake_s3.count("PUT") == 3


@pytest.mark.parametrize("reset", [False, True])
def test_conditional_put_on_a_stale_connection_succeeds(fake_s3: FakeS3, reset: bool):
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    obs.put(store, "other", b"1")
    fake_s3.inject(dropped(reset=reset), when=puts)
    obs.put(store, "k", b"2", mode="create")
    with pytest.raises(obs.AlreadyExistsError):
        obs.put(store, "k", b"2", mode="create")
    assert (fake_s3.count("PUT"), fake_s3.opened) == (4, 2)


def test_conflicting_conditional_put_is_repeated(fake_s3: FakeS3):
    stored = fake_s3.add("k", b"1")
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    fake_s3.inject(status(409, error="ConditionalRequestConflict"), when=puts)
    obs.put(store, "k", b"2", mode={"e_tag": stored.e_tag})
    assert fake_s3.objects["k"].body == b"2"
    assert len(fake_s3.requests) == 2


def test_copy_that_answers_an_error_with_200_is_repeated(fake_s3: FakeS3):
    fake_s3.add("k", b"1")
    body = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>again</Message></Error>'
    fake_s3.inject(lambda request, proceed: Reply(200, {"content-type": "application/xml"}, body), when=puts)
    obs.copy(S3Store(**fake_s3.config(retry_config=QUICK)), "k", "new")
    assert fake_s3.objects["new"].body == b"1"


# ---- connections ----------------------------------------------------------------------------------------


def test_connection_closed_as_it_is_reused(fake_s3: FakeS3, face: Face):
    fake_s3.add("k", b"data")
    fake_s3.inject(faulty(close_on_reuse=True), times=6)
    store = S3Store(**fake_s3.config(retry_config={**QUICK, "max_retries": 1}))
    for number in range(3):
        assert face.body(face.get(store, "k")) == b"data"
        face.put(store, f"new{number}", b"x" * 100_000)
    assert fake_s3.opened >= 6
    assert len(fake_s3.requests) == 6


def test_connections_refused_at_first(fake_s3: FakeS3, fault_proxy):
    fake_s3.add("k", b"data")
    proxy = fault_proxy(fake_s3.url)
    proxy.push(ConnectionFault(refuse=True), ConnectionFault(refuse=True))
    store = S3Store(**{**fake_s3.config(retry_config=QUICK), "endpoint": proxy.url})
    assert obs.get(store, "k").bytes() == b"data"
    assert proxy.opened == 3


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_signed_transfers_survive_a_bad_line(moto_auth, judges, fault_proxy, reset: bool):
    judge = judges(moto_auth.endpoint)
    bucket = f"line-{'rst' if reset else 'fin'}"
    judge.create_bucket(Bucket=bucket)
    proxy = fault_proxy(moto_auth.endpoint.url)
    store = S3Store(**{**moto_auth.endpoint.config(bucket), "endpoint": proxy.url}, retry_config=QUICK)
    data = bytes(range(256)) * 8192  # 2 MiB
    proxy.push(ConnectionFault(cut_up=1 << 20, reset=reset))
    obs.put(store, "k", data)
    with judge.get_object(Bucket=bucket, Key="k")["Body"] as body:
        assert body.read() == data
    proxy.push(ConnectionFault(cut_down=1 << 20, reset=reset), ConnectionFault(cut_down=300_000, reset=reset))
    assert obs.get(store, "k").bytes() == data
    assert proxy.spoiled == 3


def test_early_refusal_of_an_upload_is_understood(fake_s3: FakeS3):
    from tests.servers.fakes3 import error_reply

    fake_s3.on_head = lambda request: error_reply(403, "AccessDenied")
    with pytest.raises(obs.PermissionDeniedError):
        obs.put(S3Store(**fake_s3.config(retry_config=QUICK)), "k", bytes(20 << 20), use_multipart=False)


# ---- timeouts -------------------------------------------------------------------------------------------


def test_total_timeout_bounds_an_attempt(fake_s3: FakeS3):
    fake_s3.add("k", bytes(100_000))
    fake_s3.inject(faulty(rate=20_000), times=float("inf"))
    options = {"timeout": "300ms", "read_timeout": "10s"}
    store = S3Store(**fake_s3.config(retry_config={"max_retries": 0}, client_options=options))
    with pytest.raises(TimeoutError) as caught:
        obs.get(store, "k").bytes()
    assert isinstance(caught.value, obs.RequestTimeoutError)


@pytest.mark.timeout(20)  # less than the time after which the stalled body would end by itself
def test_cancelled_get_lets_go_of_its_connection(fake_s3: FakeS3):
    fake_s3.add("k", bytes(1000))
    fake_s3.inject(faulty(stall_after=500, stall=60), times=float("inf"))
    store = S3Store(**fake_s3.config())

    async def main() -> None:
        result = await obs.get_async(store, "k")
        task = asyncio.ensure_future(result.bytes_async())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        whole = asyncio.ensure_future(obs.get_range_async(store, "k", start=0, end=1000))
        await asyncio.sleep(0.05)
        whole.cancel()
        with pytest.raises(asyncio.CancelledError):
            await whole

    asyncio.run(main())
    fake_s3.wait_for(lambda: fake_s3.in_flight == 0)

"""`RemoteBackend.request`: what is sent again, when, how often, and what the error tells."""

from __future__ import annotations

import gc
import re
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from obstore._auth.aws import AwsCredential
from obstore._dialect.base import format_http_date
from obstore._ops import retry as retry_module
from obstore._types import GetSpec, PutSpec
from obstore.exceptions import (
    BaseError,
    ConnectionFailedError,
    GenericError,
    NotFoundError,
    PermissionDeniedError,
    RequestTimeoutError,
    ThrottledError,
)
from tests.unit.script import Answer, Driver, FakeSource, backend_of, failed, plan

HEAD = Answer(200, content_length="3", etag='"e"')
ERROR = "<Error><Code>{}</Code><Message>m</Message></Error>"


def error(status: int, code: str | None = None, **headers: str) -> Answer:
    return Answer(status, b"" if code is None else ERROR.format(code).encode(), **headers)


class Clock:
    """Time that passes only where a test lets it; sleeping is the driver's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(retry_module.time, "monotonic", lambda: self.now)


def delete_one(backend: Any) -> Any:
    """Delete a key, and raise what became of it."""
    for outcome in (yield from backend.delete(["k"])):
        if outcome is not None:
            raise outcome


OPERATIONS = {
    "get": lambda backend: backend.get_range("k", 0, 3, None),
    "head": lambda backend: backend.head("k", None),
    "list": lambda backend: backend.list_page("", None, delimiter=False, cursor=None),
    "put": lambda backend: backend.put("k", [b"abc"], PutSpec()),
    "create": lambda backend: backend.put("k", [b"abc"], PutSpec(mode="create")),
    "update": lambda backend: backend.put("k", [b"abc"], PutSpec(mode="update", e_tag='"e"')),
    "start": lambda backend: backend.start_upload("k", PutSpec()),
    "copy": lambda backend: backend.copy("a", "k", overwrite=True),
    "delete": delete_one,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code", "repeated"),
    [
        (500, None, True),
        (502, None, True),
        (503, "SlowDown", True),
        (504, None, True),
        (429, None, True),
        (408, None, True),
        (400, "RequestTimeout", True),
        (501, "NotImplemented", False),
        (505, None, False),
        (400, "InvalidArgument", False),
        (401, None, False),
        (403, "AccessDenied", False),
        (404, "NoSuchKey", False),
        (405, None, False),
    ],
)
def test_which_answers_are_asked_for_again(operation: str, status: int, code: str | None, repeated: bool) -> None:
    backend = backend_of(policy={"max_retries": 2, "init_backoff_s": 0.0})
    driver = Driver(lambda _: error(status, code))
    with pytest.raises(BaseError) as caught:
        driver.run(OPERATIONS[operation](backend))
    sends = 1 if not repeated else 3
    if operation == "copy" and status == 400 and not repeated:
        sends += 1  # looks whether the object was too large for one request
    if operation == "delete" and status in (405, 501):
        sends += 1  # the service may only lack deletions of many at once
    assert len(driver.sends) == sends
    assert caught.value.retryable is repeated


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["connect", "dns", "timeout", "stall", "interrupted", "tls", "protocol", "overflow"])
@pytest.mark.parametrize("sent", [False, True])
def test_which_failures_are_tried_again(operation: str, kind: str, sent: bool) -> None:
    """What no server can have acted on is always repeated; else what may be repeated without harm."""
    harmless = operation not in ("create", "update")
    repeated = kind in ("connect", "dns") or (kind in ("timeout", "stall", "interrupted") and (harmless or not sent))
    backend = backend_of(policy={"max_retries": 2, "init_backoff_s": 0.0})
    driver = Driver(lambda _: failed(kind, sent=sent))
    with pytest.raises(GenericError) as caught:
        driver.run(OPERATIONS[operation](backend))
    assert len(driver.sends) == (3 if repeated else 1)
    assert [attempt.error for attempt in caught.value.attempts] == [kind] * len(driver.sends)
    wanted = {"timeout": RequestTimeoutError, "stall": RequestTimeoutError}
    wanted |= dict.fromkeys(("connect", "dns", "interrupted"), ConnectionFailedError)
    assert type(caught.value) is wanted.get(kind, GenericError)


@pytest.mark.parametrize("kind", ["parked", "cancelled"])
def test_our_own_doing_is_repeated_at_once_and_not_counted(kind: str) -> None:
    backend = backend_of(policy={"max_retries": 0})
    driver = Driver([failed(kind)] * 20 + [HEAD])
    assert driver.run(backend.head("k", None))["size"] == 3
    assert driver.slept == []


def test_retries_end_and_the_error_tells_them_all() -> None:
    backend = backend_of(policy={"max_retries": 2, "init_backoff_s": 0.0})
    driver = Driver([error(503, "SlowDown", x_amz_request_id="R1"), failed("connect"), error(500, "InternalError")])
    with pytest.raises(GenericError) as caught:
        driver.run(backend.head("k", None))
    attempts = [(one.number, one.status, one.code, one.request_id, one.error) for one in caught.value.attempts]
    assert attempts == [
        (1, 503, "SlowDown", "R1", None),
        (2, None, None, None, "connect"),
        (3, 500, "InternalError", None, None),
    ]
    assert "after 2 retries, max_retries: 2, retry_timeout: 180s" in str(caught.value)
    assert caught.value.attempts[-1].wait_seconds == 0.0


def test_throttling_that_does_not_end_has_its_class() -> None:
    driver = Driver(lambda _: error(503, "SlowDown"))
    with pytest.raises(ThrottledError):
        driver.run(backend_of(policy={"max_retries": 1, "init_backoff_s": 0.0}).head("k", None))


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_pauses_are_drawn_below_a_growing_bound(monkeypatch: pytest.MonkeyPatch, draw: float) -> None:
    monkeypatch.setattr(retry_module.random, "uniform", lambda low, high: low + (high - low) * draw)
    Clock(monkeypatch)
    backend = backend_of(policy={"max_retries": 6, "init_backoff_s": 1.0, "base": 3.0, "max_backoff_s": 20.0})
    driver = Driver([failed("connect")] * 6 + [HEAD])
    driver.run(backend.head("k", None))
    assert driver.slept == [pytest.approx(bound * draw) for bound in (1, 3, 9, 20, 20, 20)]


def test_retry_after_in_seconds_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    backend = backend_of(policy={"init_backoff_s": 0.1})
    driver = Driver([error(503, retry_after="7"), HEAD])
    driver.run(backend.head("k", None))
    assert 7.0 <= driver.slept[0] <= 7.1  # and a jitter, so that not all come back together


def test_retry_after_as_a_date_is_obeyed() -> None:
    date = format_http_date(datetime.now(UTC) + timedelta(seconds=30))
    driver = Driver([error(503, retry_after=date), HEAD])
    driver.run(backend_of(policy={"init_backoff_s": 0.0}).head("k", None))
    assert 28.0 <= driver.slept[0] <= 30.0


@pytest.mark.parametrize("text", ["soon", "", "-5", "Fri, 99 Foo 2020 00:00:00 GMT", "Mon, 01 Jan 1990 00:00:00 GMT"])
def test_retry_after_that_means_nothing_is_ignored(text: str) -> None:
    driver = Driver([error(503, retry_after=text), HEAD])
    driver.run(backend_of(policy={"init_backoff_s": 0.0}).head("k", None))
    assert driver.slept == []


def test_retry_after_beyond_the_window_is_an_error_at_once() -> None:
    driver = Driver([error(503, retry_after="60")])
    with pytest.raises(ThrottledError):
        driver.run(backend_of(policy={"retry_timeout_s": 30.0}).head("k", None))
    assert driver.slept == []


def test_window_ends_the_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def answer(_: object) -> Exception:
        clock.now += 11.0
        return failed("connect")

    driver = Driver(answer)
    with pytest.raises(ConnectionFailedError):
        driver.run(backend_of(policy={"max_retries": 1000, "retry_timeout_s": 60.0}).head("k", None))
    assert len(driver.sends) == 6


def test_progress_refills_window_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body may break as often as it moves on, for longer than the window in all."""
    clock = Clock(monkeypatch)
    answers = iter(range(50))

    def answer(_: object) -> object:
        clock.now += 50.0
        position = next(answers)
        part = Answer(206, b"x", content_range=f"bytes {position}-49/50", etag='"e"')
        return part if position == 49 else failed("interrupted", response=part)

    driver = Driver(answer)
    backend = backend_of(policy={"max_retries": 1, "retry_timeout_s": 60.0})
    assert driver.run(backend.get_range("k", 0, 50, None)) == b"x" * 50
    assert len(driver.sends) == 50


def test_many_attempts_keep_the_first_and_the_latest() -> None:
    backend = backend_of(policy={"max_retries": 300, "init_backoff_s": 0.0})
    driver = Driver(lambda _: failed("connect"))
    with pytest.raises(ConnectionFailedError) as caught:
        driver.run(backend.head("k", None))
    numbers = [attempt.number for attempt in caught.value.attempts]
    assert len(numbers) == 100
    assert numbers[0] == 1
    assert numbers[1:] == list(range(203, 302))


# ---- credentials, clock, region ----------------------------------------------------------------------------------


def signed(*keys: str) -> tuple[FakeSource, object]:
    source = FakeSource(*[AwsCredential(key, "secret", "token") for key in keys])
    return source, backend_of(source, skip_signature=False, policy={"init_backoff_s": 0.0})


def authorization(driver: Driver) -> list[str]:
    """Access keys that requests were signed with."""
    return [
        re.search("Credential=([^/]+)", dict(send.headers)["authorization"])[1]  # type: ignore[index]
        for send in driver.requests
    ]


def test_expired_credential_is_refreshed_once() -> None:
    source, backend = signed("OLD", "NEW")
    old = source.left[0]
    driver = Driver([error(400, "ExpiredToken"), HEAD])
    driver.run(backend.head("k", None))
    assert authorization(driver) == ["OLD", "NEW"]
    assert source.refreshed == [old]
    assert driver.slept == []


def test_credential_that_is_expired_again_is_an_error() -> None:
    source, backend = signed("OLD", "NEW", "NEWER")
    driver = Driver([error(403, "ExpiredToken"), error(403, "ExpiredToken")])
    with pytest.raises(BaseError) as caught:
        driver.run(backend.head("k", None))
    assert caught.value.code == "ExpiredToken"
    assert len(source.refreshed) == 1


def test_credential_that_cannot_be_renewed_is_an_error() -> None:
    source, backend = signed("OLD", "NEW")
    source.renewable = False
    driver = Driver([error(403, "ExpiredToken")])
    with pytest.raises(BaseError, match="ExpiredToken"):
        driver.run(backend.head("k", None))
    assert source.refreshed == []


def test_failing_refresh_is_raised_as_it_is() -> None:
    source, backend = signed("OLD")
    mine = KeyError("mine")

    def refresh(after: object = None):
        raise mine
        yield

    source.refresh = refresh  # type: ignore[method-assign]
    with pytest.raises(KeyError) as caught:
        Driver([error(403, "ExpiredToken")]).run(backend.head("k", None))
    assert caught.value is mine


def test_skewed_clock_is_corrected_once() -> None:
    _, backend = signed("K")
    date = format_http_date(datetime.now(UTC) + timedelta(hours=2))
    skewed = error(403, "RequestTimeTooSkewed", date=date)
    driver = Driver([skewed, HEAD])
    driver.run(backend.head("k", None))
    stamps = [dict(send.headers)["x-amz-date"] for send in driver.requests]
    first, second = (datetime.strptime(stamp, "%Y%m%dT%H%M%SZ") for stamp in stamps)  # noqa: DTZ007
    assert timedelta(hours=1, minutes=59) < second - first < timedelta(hours=2, minutes=1)
    with pytest.raises(PermissionDeniedError):
        Driver([skewed, skewed]).run(backend.head("k", None))


def test_bucket_elsewhere_is_followed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource(AwsCredential("K", "secret"))
    backend = backend_of(source, skip_signature=False, region=None, endpoint=None)
    moved = error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    driver = Driver([moved, HEAD])
    driver.run(backend.head("k", None))
    assert [send.url for send in driver.requests][1] == "https://s3.eu-west-3.amazonaws.com/b/k"
    again = error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    driver = Driver([again, error(301, "PermanentRedirect", x_amz_bucket_region="us-west-2")])
    with pytest.raises(GenericError):
        driver.run(backend.head("k", None))
    assert len(driver.sends) == 2


# ---- errors in answers that say 200 ------------------------------------------------------------------------------


def test_copy_that_fails_with_200_is_repeated() -> None:
    driver = Driver([Answer(200, ERROR.format("InternalError").encode()), Answer(200, b"<CopyObjectResult/>")])
    driver.run(backend_of(policy={"init_backoff_s": 0.0}).copy("a", "k", overwrite=True))
    assert driver.sends == ["PUT /k", "PUT /k"]


def test_failure_below_http_leaves_nothing_of_itself_in_the_error() -> None:
    """Otherwise the error would keep the transfer, and with it what arrived of the body."""
    part = Answer(206, b"x", content_range="bytes 0-2/3")
    driver = Driver([failed("interrupted", response=part)])
    with pytest.raises(ConnectionFailedError) as caught:
        driver.run(backend_of().get_range("k", 0, 3, None))  # no ETag: cannot be resumed
    chain, seen = caught.value.__context__, []
    while chain is not None:
        seen.append(chain)
        chain = chain.__context__
    assert seen == []


@pytest.mark.parametrize("tag", [None, '"e"'], ids=["not resumed", "resumed in vain"])
def test_kept_error_keeps_no_body(tag: str | None) -> None:
    """Programs collect errors; the transfers behind them must go, and not wait for the cyclic collector."""
    headers = {} if tag is None else {"etag": tag}
    part = Answer(206, b"x", content_range="bytes 0-2/3", **headers)
    gone = weakref.ref(part)
    answers = [failed("interrupted", response=part)]
    del part
    backend = backend_of(policy={"max_retries": 1, "init_backoff_s": 0.0})
    gc.disable()
    try:
        with pytest.raises(ConnectionFailedError) as caught:
            Driver(lambda _: answers.pop() if answers else failed("connect")).run(backend.get_range("k", 0, 3, None))
        assert caught.value.attempts
        assert gone() is None
    finally:
        gc.enable()


def test_headers_are_not_among_the_variables_of_frames_that_failed() -> None:
    _, backend = signed("K")
    with pytest.raises(NotFoundError) as caught:
        Driver([error(404, "NoSuchKey")]).run(backend.head("k", None))
    trace = caught.value.__traceback__
    texts = []
    while trace is not None:
        if "obstore" in trace.tb_frame.f_code.co_filename:
            texts += [repr(value) for value in trace.tb_frame.f_locals.values()]
        trace = trace.tb_next
    assert texts
    assert not any("token" in text and "x-amz-security-token" in text for text in texts)


def test_get_gives_the_connection_back_when_the_answer_is_unreadable() -> None:
    answer = Answer(200, etag='"e"')  # without a length
    with pytest.raises(GenericError, match="Content-Length"):
        Driver([answer]).run(backend_of().get("k", GetSpec()))
    assert answer.cancelled == 1


def test_script_says_what_it_expected() -> None:
    with pytest.raises(AssertionError):
        Driver(plan([("HEAD /other", HEAD)])).run(backend_of().head("k", None))

"""Bodies that break: they go on where they broke, in the same version of the object, or not at all."""

from __future__ import annotations

import pytest

from obstore._effects import Cancelled, Collect, Read
from obstore._types import GetSpec, Range
from obstore.exceptions import BaseError, ConnectionFailedError, GenericError, IntegrityError, PreconditionError
from tests.unit.script import Answer, Driver, backend_of, failed

BODY = bytes(range(100))
TAG = '"e"'


def backend(**policy):
    return backend_of(policy={"init_backoff_s": 0.0, **policy})


def part(start: int, stop: int, *, told: int | None = None, tag: str | None = TAG) -> Answer:
    """A 206 that promises bytes from ``start`` to ``told`` and delivers those to ``stop``."""
    headers = {} if tag is None else {"etag": tag}
    return Answer(206, BODY[start:stop], content_range=f"bytes {start}-{(told or 100) - 1}/100", **headers)


def broken(start: int, stop: int, kind: str = "interrupted", **more):
    return failed(kind, response=part(start, stop, **more))


def ranges(driver: Driver) -> list[str | None]:
    return [dict(send.headers).get("range") for send in driver.requests]


# ---- get_range ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["interrupted", "stall", "timeout", "parked", "cancelled"])
@pytest.mark.parametrize("into", [False, True])
def test_range_goes_on_where_it_broke(kind: str, into: bool) -> None:
    target = bytearray(b"\xff" * 90)

    def answer(send):
        position = {1: 10, 2: 40, 3: 41}[len(driver.requests)]
        stop = {10: 40, 40: 41, 41: 100}[position]
        if into:
            assert send.into.nbytes == 100 - position
            send.into[: stop - position] = BODY[position:stop]
        answer = part(position, stop)
        return answer if stop == 100 else failed(kind, response=answer)

    driver = Driver(answer)
    result = driver.run(backend().get_range("k", 10, 100, memoryview(target) if into else None))
    assert (bytes(target), result) == (BODY[10:], 90) if into else result == BODY[10:]
    assert ranges(driver) == ["bytes=10-99", "bytes=40-99", "bytes=41-99"]
    assert [dict(send.headers).get("if-match") for send in driver.requests] == [None, TAG, TAG]


def test_range_that_broke_before_its_first_byte_starts_over() -> None:
    driver = Driver([failed("interrupted", response=part(0, 0)), part(0, 100)])
    assert driver.run(backend().get_range("k", 0, 100, None)) == BODY
    assert ranges(driver) == ["bytes=0-99", "bytes=0-99"]


def test_range_complete_when_it_broke_is_not_asked_for_again() -> None:
    driver = Driver([broken(0, 100)])
    assert driver.run(backend().get_range("k", 0, 100, None)) == BODY


def test_range_clipped_at_the_end_of_the_object_resumes_within_it() -> None:
    first = Answer(206, BODY[50:60], content_range="bytes 50-99/100", etag=TAG)
    driver = Driver([failed("interrupted", response=first), part(60, 100)])
    assert driver.run(backend().get_range("k", 50, 500, None)) == BODY[50:]
    assert ranges(driver) == ["bytes=50-499", "bytes=60-99"]


def test_changed_object_is_not_mixed() -> None:
    driver = Driver([broken(0, 10), part(10, 100, tag='"other"')])
    with pytest.raises(GenericError, match="the object changed while it was read"):
        driver.run(backend().get_range("k", 0, 100, None))
    driver = Driver([broken(0, 10), Answer(412)])
    with pytest.raises(PreconditionError):
        driver.run(backend().get_range("k", 0, 100, None))
    driver = Driver([broken(0, 10), broken(10, 20, tag='"other"')])
    with pytest.raises(GenericError, match="the object changed while it was read"):
        driver.run(backend().get_range("k", 0, 100, None))


def test_without_an_etag_there_is_no_going_on() -> None:
    driver = Driver([broken(0, 10, tag=None)])
    with pytest.raises(ConnectionFailedError) as caught:
        driver.run(backend().get_range("k", 0, 100, None))
    assert [attempt.bytes_received for attempt in caught.value.attempts] == [10]


def test_server_that_ignores_the_resumed_range_is_found_out() -> None:
    driver = Driver([broken(0, 10), Answer(200, BODY, content_length="100", etag=TAG)])
    with pytest.raises(GenericError, match="non-partial response"):
        driver.run(backend().get_range("k", 0, 100, None))


@pytest.mark.parametrize("resumed", [False, True])
def test_short_body_is_an_error(resumed: bool) -> None:
    answers = [broken(0, 10), part(10, 99)] if resumed else [part(0, 99)]
    with pytest.raises(IntegrityError, match="99 bytes of 100 arrived"):
        Driver(answers).run(backend().get_range("k", 0, 100, None))


def test_no_progress_uses_up_the_retries() -> None:
    answers = iter([broken(0, 10)])
    driver = Driver(lambda _: next(answers, None) or failed("connect"))
    with pytest.raises(ConnectionFailedError):
        driver.run(backend(max_retries=3).get_range("k", 0, 100, None))
    # Ten bytes are progress: three retries after them, of which the resumption is the first.
    assert len(driver.sends) == 1 + 3


# ---- get: collect and read ---------------------------------------------------------------------------------------


def opened(driver: Driver, **spec):
    return driver.run(backend().get("k", GetSpec(**spec)))


def whole(received: int = 100) -> Answer:
    answer = Answer(200, BODY[:received], content_length="100", etag=TAG)
    answer.received = received
    return answer


def test_collect_resumes_and_keeps_of_the_response_what_it_says() -> None:
    first = whole(30)
    driver = Driver([first, broken(30, 31), part(31, 100)], [failed("interrupted", response=first)])
    result = opened(driver)
    assert driver.run(result.collect()) == BODY
    assert ranges(driver) == [None, "bytes=30-99", "bytes=31-99"]
    assert first.body() == b""
    assert result.meta["e_tag"] == TAG
    assert result.timing.total == 0.0
    result.close()


def test_collect_of_a_suffix_resumes_by_absolute_position() -> None:
    first = part(80, 90)
    driver = Driver([first, part(90, 100)], [failed("parked", response=first)])
    result = opened(driver, range=Range(suffix=20))
    assert driver.run(result.collect()) == BODY[80:]
    assert ranges(driver) == ["bytes=-20", "bytes=90-99"]


def test_read_resumes_as_often_as_it_moves_on() -> None:
    """One byte a response, a hundred responses."""
    position = 0

    def answer(send):
        return whole() if dict(send.headers).get("range") is None else part(position, position + 1)

    def body(effect):
        nonlocal position
        if effect.response in served:
            failure = failed("interrupted")
            failure.received = 1
            return failure
        served.append(effect.response)
        position += 1
        return BODY[position - 1 : position]

    served: list[Answer] = []
    driver = Driver(answer, body)
    result = driver.run(backend_of(policy={"init_backoff_s": 0.0, "max_retries": 1}).get("k", GetSpec()))
    assert driver.run(result.read(40)) == BODY[:40]
    assert driver.run(result.read(40)) == BODY[40:80]
    assert driver.run(result.read(40)) == BODY[80:]
    assert driver.run(result.read(40)) == b""
    assert len(driver.sends) == 100


def test_read_of_any_size_gives_what_is_there() -> None:
    driver = Driver([whole()], [b"ab", BODY[2:]])
    result = opened(driver)
    assert driver.run(result.read(0)) == b"ab"
    assert driver.run(result.read(0)) == BODY[2:]
    assert driver.run(result.read(0)) == b""


def test_read_that_ends_early_is_an_error() -> None:
    driver = Driver([whole()], [b"ab", b""])
    result = opened(driver)
    with pytest.raises(IntegrityError, match="2 bytes of 100"):
        driver.run(result.read(10))


def test_read_of_a_changed_object_ends_and_frees_the_new_response() -> None:
    other = part(0, 100, tag='"other"')
    driver = Driver([whole(), other], [failed("interrupted")])
    with pytest.raises(GenericError, match="changed"):
        driver.run(opened(driver).read(10))
    assert other.cancelled == 1


def test_close_by_another_thread_ends_the_reading() -> None:
    """What was cancelled by close() is not opened again behind its back."""
    driver = Driver([whole()], lambda _: (result.close(), failed("cancelled"))[1])
    result = opened(driver)
    assert driver.run(result.read(10)) == b""
    assert len(driver.sends) == 1


def test_close_while_the_body_is_being_reopened_frees_the_new_response() -> None:
    late = part(0, 100)

    def answer(send):
        if len(driver.requests) == 1:
            return whole()
        result.close()
        return late

    driver = Driver(answer, [failed("parked"), BODY])
    result = opened(driver)
    driver.run(result.read(10))
    assert late.cancelled == 1


@pytest.mark.parametrize(("operation", "effect"), [("collect", Collect), ("read", Read)])
def test_cancelling_goes_through(operation: str, effect: type) -> None:
    driver = Driver([whole()], [Cancelled()])
    result = opened(driver)
    with pytest.raises(Cancelled):
        driver.run(result.collect() if operation == "collect" else result.read(1))
    assert driver.log == ["Send", effect.__name__]


def test_head_option_has_no_body() -> None:
    driver = Driver([Answer(200, content_length="100", etag=TAG)])
    result = opened(driver, head=True)
    assert result.meta["size"] == 100
    assert driver.run(result.collect()) == b""
    assert driver.sends == ["HEAD /k"]


def test_suffix_of_an_empty_object_is_empty() -> None:
    driver = Driver([Answer(416), Answer(200, content_length="0", etag=TAG)])
    result = opened(driver, range=Range(suffix=5))
    assert result.range == (0, 0)
    assert driver.run(result.collect()) == b""
    assert driver.sends == ["GET /k", "HEAD /k"]


def test_suffix_refused_of_an_object_with_bytes_is_an_error() -> None:
    driver = Driver([Answer(416), Answer(200, content_length="9", etag=TAG)])
    with pytest.raises(BaseError, match="changed"):
        opened(driver, range=Range(suffix=5))

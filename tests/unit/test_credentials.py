"""Credential sources, driven by hand: when they fetch, how often, what they refuse, and that they show no secrets."""

import asyncio
import copy
import datetime as dt
import functools
import pickle
import time
import traceback
import zoneinfo

import pytest

from obstore._auth.aws import (
    ANONYMOUS,
    Anonymous,
    AwsCredential,
    Static,
    Unconfigured,
    credential,
    default_source,
    provider_source,
)
from obstore._auth.cache import CachedSource
from obstore._auth.provided import ProviderSource
from obstore._effects import Await, Call, Cancelled, Flight
from obstore.exceptions import BaseError, GenericError, UnauthenticatedError

NOW = 1_700_000_000.0
SECRETS = ("hunter2-secret", "hunter2-token")


def drive(op, log=None, loop=None):
    """Perform an operation's effects in place: what the runner does, for one operation at a time."""
    log = [] if log is None else log
    resume, argument = op.send, None
    while True:
        try:
            effect = resume(argument)
        except StopIteration as stop:
            return stop.value
        log.append(type(effect).__name__)
        try:
            if isinstance(effect, Flight):
                argument = drive(effect.make(), log, loop)
            elif isinstance(effect, Call):
                argument = effect.fn(*effect.args)
            elif isinstance(effect, Await):
                if loop is None:
                    raise RuntimeError("no event loop")
                argument = loop.run_until_complete(effect.awaitable)
            else:
                pytest.fail(f"unexpected {effect!r}")
            resume = op.send
        except BaseException as error:
            resume, argument = op.throw, error


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Counting:
    """A provider whose credentials live ``life`` seconds; ``None``: forever."""

    def __init__(self, clock, life=3600.0):
        self.clock = clock
        self.life = life
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {
            "access_key_id": f"AKID{self.calls}",
            "secret_access_key": SECRETS[0],
            "token": SECRETS[1],
            "expires_at": None if self.life is None else dt.datetime.fromtimestamp(self.clock() + self.life, dt.UTC),
        }


def shape(**changes):
    given = {"access_key_id": "AKID", "secret_access_key": SECRETS[0], "token": SECRETS[1], "expires_at": None}
    given.update(changes)
    return {name: value for name, value in given.items() if value is not ...}


# ---- when a cached source fetches ----------------------------------------------------------------------------------


def test_fetched_once_while_fresh(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    assert source.current(NOW) is None
    log = []
    first = drive(credential(source, clock=clock), log)
    assert log == ["Flight", "Call"]
    clock.now += 3299
    assert source.current(clock.now) is first
    log.clear()
    assert drive(credential(source, clock=clock), log) is first
    assert log == []
    assert provider.calls == 1


def test_fetched_again_once_due(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    clock.now += 3300
    assert source.current(clock.now) is None
    second = drive(credential(source, clock=clock))
    assert (first.access_key_id, second.access_key_id) == ("AKID1", "AKID2")
    assert source.current(clock.now) is second


def test_threshold_of_the_provider_is_used(clock):
    provider = Counting(clock)
    provider.refresh_threshold = dt.timedelta(minutes=1)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    assert source.current(NOW + 3539) is first
    assert source.current(NOW + 3540) is None


def test_never_due_without_expiry(clock):
    provider = Counting(clock, life=None)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    assert first.expires_at is None
    assert source.current(NOW + 1e9) is first


def test_due_credential_serves_while_another_operation_fetches(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    clock.now += 3400
    flight = next(credential(source, clock=clock)).make()
    call = next(flight)
    assert source.current(clock.now) is first
    assert source.current(NOW + 3600) is None, "expired ones serve nobody"
    with pytest.raises(StopIteration) as landed:
        flight.send(call.fn(*call.args))
    assert source.current(clock.now) is landed.value.value is not first


def test_cancelled_fetch_ends_the_grace_of_a_due_credential(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    clock.now += 3400
    flight = source.refresh()
    next(flight)
    assert source.current(clock.now) is first
    with pytest.raises(Cancelled):
        flight.throw(Cancelled())
    assert source.current(clock.now) is None
    assert drive(credential(source, clock=clock)).access_key_id == "AKID2"


def failing_refresh(source, after=None):
    """Refresh by a fetch that fails; return what comes of it."""
    flight = source.refresh(after)
    next(flight)
    with pytest.raises(StopIteration) as landed:
        flight.throw(ValueError("no"))
    return landed.value.value


def test_due_credential_serves_on_where_the_fetch_fails(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    clock.now += 3400
    assert failing_refresh(source) is first
    assert source.current(clock.now + 14) is first, "the next try is put off"
    assert source.current(clock.now + 16) is None
    assert source.current(clock.now - 3600) is first, "a clock set back leaves it fresh"
    clock.now += 16
    assert drive(credential(source, clock=clock)).access_key_id == "AKID2"


def test_failed_fetch_is_an_error_once_nothing_else_holds(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    for now, after in ((NOW + 3400, first), (NOW + 3600, None)):  # refused by the service; expired
        clock.now = now
        flight = source.refresh(after)
        next(flight)
        with pytest.raises(ValueError, match="no"):
            flight.throw(ValueError("no"))
    clock.now = NOW + 3500
    assert failing_refresh(source) is first
    clock.now = NOW + 3601
    assert source.current(clock.now) is None, "put off is no longer than it holds"
    assert drive(credential(source, clock=clock)).access_key_id == "AKID2"


def test_short_lived_credential_is_not_fetched_for_every_request(clock):
    provider = Counting(clock, life=10)
    source = provider_source(provider, clock)
    first = drive(credential(source, clock=clock))
    assert source.current(NOW + 0.099) is first
    assert source.current(NOW + 0.101) is None
    assert source.current(NOW - 5) is None, "a clock set back must not stretch the guard"
    provider.life = 0.05
    clock.now += 1
    drive(credential(source, clock=clock))
    assert source.current(clock.now + 0.06) is None, "the guard does not outlive the credential"


def test_flight_that_starts_late_takes_what_landed_before(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    early, late = next(credential(source, clock=clock)), next(credential(source, clock=clock))
    assert early.key == late.key
    assert drive(early.make()) is drive(late.make())
    assert provider.calls == 1


def test_credential_expired_on_arrival_is_left_to_the_service(clock):
    provider = Counting(clock, life=-60)
    source = provider_source(provider, clock)
    assert drive(credential(source, clock=clock)).access_key_id == "AKID1"
    assert drive(credential(source, clock=clock)).access_key_id == "AKID2"


def test_sources_do_not_share_flights(clock):
    provider = Counting(clock)
    assert provider_source(provider).key != provider_source(provider).key


def test_forced_refresh_happens_once_for_all_who_were_refused(clock):
    provider = Counting(clock)
    source = provider_source(provider, clock)
    refused = drive(credential(source, clock=clock))
    clock.now += 0.01
    flights = [next(credential(source, after=refused, clock=clock)) for _ in range(3)]
    landed = [drive(flight.make()) for flight in flights]
    assert {one.access_key_id for one in landed} == {"AKID2"}
    assert provider.calls == 2
    assert drive(credential(source, after=landed[0], clock=clock)).access_key_id == "AKID3"


def test_forced_refresh_works_on_credentials_without_expiry(clock):
    source = provider_source(Counting(clock, life=None), clock)
    refused = drive(credential(source, clock=clock))
    assert drive(credential(source, after=refused, clock=clock)) is not refused


def test_base_source_says_what_is_missing():
    with pytest.raises(NotImplementedError):
        drive(credential(CachedSource()))


# ---- kinds of providers --------------------------------------------------------------------------------------------


async def coroutine_function():
    await asyncio.sleep(0)
    return shape()


class AsyncCallable:
    async def __call__(self):
        return await coroutine_function()


def returns_coroutine():
    return coroutine_function()


@pytest.mark.parametrize(
    ("provider", "effects"),
    [
        (shape, ["Flight", "Call"]),
        (coroutine_function, ["Flight", "Await"]),
        (functools.partial(coroutine_function), ["Flight", "Await"]),
        (AsyncCallable(), ["Flight", "Await"]),
        (returns_coroutine, ["Flight", "Call", "Await"]),
    ],
)
def test_provider_runs_where_its_kind_belongs(loop, provider, effects):
    log = []
    found = drive(credential(provider_source(provider)), log, loop)
    assert log == effects
    assert (found.access_key_id, found.secret_access_key, found.token, found.expires_at) == ("AKID", *SECRETS, None)


def test_provider_may_return_a_future(loop):
    future = loop.create_future()
    future.set_result(shape(access_key_id="FUTURE"))
    assert drive(credential(provider_source(lambda: future)), loop=loop).access_key_id == "FUTURE"


@pytest.mark.parametrize("provider", [coroutine_function, AsyncCallable(), returns_coroutine])
@pytest.mark.filterwarnings("error")
def test_async_provider_without_loop_fails_without_a_warning(provider):
    with pytest.raises(RuntimeError, match="no event loop"):
        drive(credential(provider_source(provider)))


class BoomError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "asynchronous"),
    [
        (BoomError("it"), False),
        (BoomError("it"), True),
        (UnauthenticatedError("mine"), False),
        (UnauthenticatedError("mine"), True),
        (KeyboardInterrupt(), False),
    ],
)
def test_exceptions_of_the_provider_reach_the_caller_unchanged(loop, error, asynchronous):
    def provider():
        raise error

    async def provider_async():
        raise error

    with pytest.raises(type(error)) as caught:
        drive(credential(provider_source(provider_async if asynchronous else provider)), loop=loop)
    assert caught.value is error
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("not_callable", [1, "x", None, {}])
def test_provider_must_be_callable(not_callable):
    with pytest.raises(TypeError, match=r"^Expected callable object for credential_provider\.$"):
        provider_source(not_callable)


def test_attributes_of_the_provider_are_checked(clock):
    provider = Counting(clock)
    provider.config = {"region": "us-west-2"}
    assert provider_source(provider).config == {"region": "us-west-2"}
    assert provider_source(shape).config == {}
    provider.refresh_threshold = 300
    with pytest.raises(TypeError, match="refresh_threshold of Counting must be a timedelta, not int"):
        provider_source(provider)
    del provider.refresh_threshold
    provider.config = "region"
    with pytest.raises(TypeError, match="config of Counting must be a dict, not str"):
        provider_source(provider)


# ---- what providers return -----------------------------------------------------------------------------------------

MOMENT = dt.datetime(2031, 5, 6, 7, 8, 9, 500_000, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "zone",
    [dt.UTC, dt.timezone(dt.timedelta(0)), dt.timezone(dt.timedelta(hours=-7)), zoneinfo.ZoneInfo("Asia/Kathmandu")],
)
def test_expiry_in_any_zone(zone):
    found = drive(credential(provider_source(lambda: shape(expires_at=MOMENT.astimezone(zone)))))
    assert found.expires_at == MOMENT.timestamp()


def test_token_may_be_missing():
    assert drive(credential(provider_source(lambda: shape(token=...)))).token is None
    assert drive(credential(provider_source(lambda: shape(token=None)))).token is None


BAD_SHAPES = [
    (None, "returned NoneType, not a dict"),
    (["hunter2-secret"], "returned list, not a dict"),
    (shape(access_key_id=...), "returned no access_key_id"),
    (shape(secret_access_key=...), "returned no secret_access_key"),
    (shape(expires_at=...), "returned no expires_at"),
    (shape(access_key_id=None), "returned access_key_id as NoneType, not str"),
    (shape(secret_access_key=b"hunter2-secret"), "returned secret_access_key as bytes, not str"),
    (shape(token=7), "returned token as int, not str"),
    (shape(expires_at="hunter2-secret"), "returned expires_at as str, not datetime"),
    (shape(expires_at=1.0), "returned expires_at as float, not datetime"),
    (shape(expires_at=MOMENT.replace(tzinfo=None)), "returned expires_at without a time zone"),
    (shape(access_key_id=""), "returned unusable credentials: access_key_id is empty"),
    (shape(secret_access_key="hunter2-secret\n"), "secret_access_key begins or ends with white space"),
    (shape(token="hunter2-token\r\nx: y"), "token has characters that cannot be part of it"),
    (shape(access_key_id="hunter2-secretä"), "access_key_id has characters that cannot be part of it"),
]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("given", "problem"), BAD_SHAPES)
def test_bad_shape_names_the_provider_and_the_problem_never_the_values(loop, given, problem, asynchronous):
    def my_provider():
        return given

    async def my_async_provider():
        return given

    source = provider_source(my_async_provider if asynchronous else my_provider)
    with pytest.raises(UnauthenticatedError) as caught:
        drive(credential(source), loop=loop)
    text = str(caught.value)
    assert problem in text
    assert "External AWS credential provider" in text
    assert ("my_async_provider" if asynchronous else "my_provider") in text
    assert isinstance(caught.value, BaseError)
    assert "aware datetime" in caught.value.hint
    # The frames of this test and of the little driver hold the value; those of the package must not.
    ours = [
        (frame.filename, frame.name, frame.locals)
        for frame in traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
        if "obstore" in frame.filename and "tests" not in frame.filename
    ]
    assert ours
    for shown in (text, repr(caught.value), repr(ours)):
        assert "hunter2" not in shown
    assert caught.value.__context__ is None
    assert source.current(time.time()) is None


def test_bad_shape_is_not_kept(clock):
    answers = [None, shape()]
    source = provider_source(lambda: answers.pop(0), clock)
    with pytest.raises(UnauthenticatedError):
        drive(credential(source))
    assert drive(credential(source)).access_key_id == "AKID"


def test_masking_string_subclasses_are_taken_at_their_content():
    class Masked(str):
        __slots__ = ()

        def __str__(self):
            return "****"

    found = AwsCredential(Masked("AKID"), Masked("s"), Masked("t"))
    assert [found.access_key_id, found.secret_access_key, found.token] == ["AKID", "s", "t"]
    assert {type(part) for part in (found.access_key_id, found.secret_access_key, found.token)} == {str}


# ---- secrets -------------------------------------------------------------------------------------------------------


def test_secrets_are_not_shown(clock):
    source = provider_source(Counting(clock), clock)
    found = drive(credential(source, clock=clock))
    static = default_source({"access_key_id": "AKID", "secret_access_key": SECRETS[0], "session_token": SECRETS[1]})
    for thing in (found, source, static):
        for shown in (repr(thing), str(thing), f"{thing}", "%s" % thing):  # noqa: UP031 - one more way to show it
            assert "hunter2" not in shown
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="holds secrets and is not pickled"):
                duplicate(thing)
    assert "AKID1" in repr(found)


def test_unusable_credential_does_not_show_itself():
    with pytest.raises(ValueError, match=r"^secret_access_key has characters") as caught:
        AwsCredential("AKID", "hunter2-\0secret", "hunter2-token")
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert "hunter2" not in str(frames[-1].locals)


# ---- choosing a source ---------------------------------------------------------------------------------------------

PAIR = {"access_key_id": "AKID", "secret_access_key": "s"}


def test_provider_comes_before_the_pair():
    source = default_source(PAIR, shape)
    assert isinstance(source, ProviderSource)
    assert source.renewable
    assert source.provider is shape


def test_pair_is_served_without_effects_and_never_renewed():
    source = default_source({**PAIR, "session_token": "t"})
    assert isinstance(source, Static)
    assert not source.renewable
    log = []
    found = drive(credential(source), log)
    assert (found.access_key_id, found.secret_access_key, found.token, found.expires_at) == ("AKID", "s", "t", None)
    assert source.current(NOW) is found
    assert drive(credential(source, after=found), log) is found
    assert log == []
    assert drive(source.refresh()) is found


@pytest.mark.parametrize(
    ("half", "missing"), [("access_key_id", "SecretAccessKey"), ("secret_access_key", "AccessKeyId")]
)
def test_half_a_pair_is_refused(half, missing):
    with pytest.raises(GenericError, match=f"^Generic S3 error: Missing {missing}$"):
        default_source({half: PAIR[half]})


@pytest.mark.parametrize(
    ("settings", "provider", "beneath"),
    [({}, None, Unconfigured), (PAIR, None, Static), (PAIR, shape, ProviderSource)],
)
def test_skip_signature_comes_first_and_keeps_what_presigning_needs(settings, provider, beneath):
    source = default_source({**settings, "skip_signature": True}, provider)
    assert isinstance(source, Anonymous)
    assert source.current(NOW) is ANONYMOUS
    assert drive(credential(source)) is ANONYMOUS
    assert type(source.beneath) is beneath


def test_nothing_configured_says_what_could_be():
    source = default_source({"skip_signature": False})
    assert source.current(NOW) is None
    with pytest.raises(UnauthenticatedError) as caught:
        drive(credential(source))
    for name in ("access_key_id", "AWS_SECRET_ACCESS_KEY", "credential_provider", "skip_signature"):
        assert name in caught.value.hint

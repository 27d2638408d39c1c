"""The runner: forks, cancelling, flights, interrupts and user code, on both faces. No sockets."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

import obstore as obs
from obstore._effects import Await, Call, Cancel, Cancelled, Flight, Fork, Join, Op, Sleep
from obstore._ops.forks import settle
from obstore._run import aio, future, runner, sync
from obstore._run.aio import start
from obstore._run.sync import run

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_asyncio(op: Op[Any]) -> Any:
    async def main() -> Any:
        return await start(op)

    with asyncio.Runner() as loop_runner:
        return loop_runner.run(main())


def on_uvloop(op: Op[Any]) -> Any:
    async def main() -> Any:
        return await start(op)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop_runner:
        return loop_runner.run(main())


@pytest.fixture(params=[run, on_asyncio, on_uvloop], ids=["sync", "asyncio", "uvloop"])
def perform(request: pytest.FixtureRequest) -> Callable[[Op[Any]], Any]:
    return request.param


class Mine(BaseException):
    """Of the user's."""


def value(result: Any) -> Op[Any]:
    return result
    yield


def failing(error: BaseException) -> Op[Any]:
    yield Sleep(0.001)
    raise error


def sleeping(seconds: float, log: list[str], name: str = "") -> Op[str]:
    try:
        yield Sleep(seconds)
    except BaseException as error:
        log.append(f"{name}{type(error).__name__}")
        raise
    log.append(f"{name}slept")
    return name


# ---- effects -----------------------------------------------------------------------------------------------------


def test_result(perform) -> None:
    assert perform(value(5)) == 5


def test_forks_run_beside_each_other_and_join_sees_the_first(perform) -> None:
    log: list[str] = []

    def op() -> Op[Any]:
        slow = yield Fork(sleeping(0.05, log, "slow "))
        quick = yield Fork(sleeping(0.01, log, "quick "))
        yield Join([slow, quick])
        assert quick.done
        assert not slow.done
        yield Join([slow])
        return slow.result, quick.result

    assert perform(op()) == ("slow ", "quick ")
    assert log == ["quick slept", "slow slept"]


def test_join_of_what_is_done_does_not_wait(perform) -> None:
    def op() -> Op[Any]:
        child = yield Fork(value(1))
        yield Join([child])
        return child.result

    assert perform(op()) == 1


def test_error_of_a_fork_is_on_it_and_raised_by_settle(perform) -> None:
    mine = Mine()

    def op() -> Op[None]:
        running = [(yield Fork(failing(mine))), (yield Fork(sleeping(60.0, [])))]
        try:
            yield from settle(running, 1)
        except BaseException:
            yield Cancel(running)
            raise

    began = time.monotonic()
    with pytest.raises(Mine) as caught:
        perform(op())
    assert caught.value is mine
    assert time.monotonic() - began < 10


def test_cancel_waits_until_children_have_cleaned_up(perform) -> None:
    log: list[str] = []

    def child() -> Op[None]:
        try:
            yield Sleep(60.0)
        except Cancelled:
            yield Sleep(0.01)
            log.append("clean")
            raise

    def op() -> Op[Any]:
        children = [(yield Fork(child())), (yield Fork(child()))]
        yield Cancel(children)
        assert [one.done for one in children] == [True, True]
        assert all(isinstance(one.error, Cancelled) for one in children)
        return list(log)

    assert perform(op()) == ["clean", "clean"]


def test_forks_of_forks_end_with_them(perform) -> None:
    log: list[str] = []

    def parent() -> Op[None]:
        children = [(yield Fork(sleeping(60.0, log)))]
        try:
            yield Join(children)
        except BaseException:
            yield Cancel(children)
            raise

    def op() -> Op[None]:
        child = yield Fork(parent())
        yield Cancel([child])

    perform(op())
    assert log == ["Cancelled"]


def test_what_is_no_effect_fails_where_it_was_yielded(perform) -> None:
    def op() -> Op[str]:
        try:
            yield "nonsense"
        except TypeError as error:
            return str(error)
        return ""

    assert "is no effect" in perform(op())


def test_thousands_of_finished_forks_need_no_stack(perform) -> None:
    def op() -> Op[int]:
        children = []
        for number in range(5000):
            children.append((yield Fork(value(number))))
        yield from settle(children, 1)
        return number

    assert perform(op()) == 4999


# ---- the user's code -----------------------------------------------------------------------------------------------

ERRORS = [
    Mine(),
    KeyError("mine"),
    TimeoutError("mine"),
    StopAsyncIteration("mine"),
    asyncio.CancelledError("mine"),
    GeneratorExit("mine"),
    Cancelled("mine"),
]


@pytest.mark.parametrize("mine", ERRORS, ids=lambda error: type(error).__name__)
def test_error_of_a_call_is_the_same_object(perform, mine: BaseException) -> None:
    def fail() -> None:
        raise mine

    def op() -> Op[None]:
        yield Call(fail)

    with pytest.raises(type(mine)) as caught:
        perform(op())
    if perform is run or not isinstance(mine, asyncio.CancelledError):  # a runner of asyncio's makes its own of that
        assert caught.value is mine


def test_stop_iteration_is_a_runtime_error_with_its_cause(perform) -> None:
    """PEP 479: no generator can raise it. Futures that were given one would never end."""
    mine = StopIteration("mine")

    def fail() -> None:
        raise mine

    def op() -> Op[None]:
        yield Call(fail)

    with pytest.raises(RuntimeError) as caught:
        perform(op())
    assert caught.value.__cause__ is mine


@pytest.mark.parametrize("mine", [Mine(), KeyError("mine"), TimeoutError("mine"), StopAsyncIteration("mine")])
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_error_of_an_awaitable_is_the_same_object(new_loop, mine: BaseException) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise mine

    def op() -> Op[None]:
        yield Await(fail())

    async def main() -> None:
        with pytest.raises(type(mine)) as caught:
            await start(op())
        assert caught.value is mine

    with asyncio.Runner(loop_factory=new_loop) as loop_runner:
        loop_runner.run(main())


def test_awaitables_need_a_loop() -> None:
    async def never() -> None: ...

    def op() -> Op[None]:
        yield Await(never())  # closed, or it would warn

    with pytest.raises(RuntimeError, match="no running event loop"):
        run(op())


def test_start_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        start(value(1))


def test_context_variables_are_the_callers(perform) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def op() -> Op[Any]:
        child = yield Fork(calling())
        yield Join([child])
        return (yield Call(variable.get)), child.result

    def calling() -> Op[str]:
        return (yield Call(variable.get))

    variable.set("mine")
    assert contextvars.copy_context().run(perform, op()) == ("mine", "mine")


def test_users_code_may_call_us_again() -> None:
    store = obs.MemoryStore()
    store.put("source", b"0123456789")

    def items() -> Iterator[bytes]:
        for position in range(10):
            yield bytes(obs.get_range(store, "source", start=position, length=1))

    store.put("copy", items())
    assert bytes(store.get("copy").bytes()) == b"0123456789"
    assert len(sync._runners()) == 1


def test_users_code_may_call_us_again_at_any_depth() -> None:
    def nested(depth: int) -> Op[int]:
        if depth == 0:
            return len(sync._runners())
        return (yield Call(lambda: run(nested(depth - 1))))

    assert run(nested(5)) == 6
    assert run(nested(1)) == 2


# ---- interrupts ----------------------------------------------------------------------------------------------------


def interrupt_after(seconds: float, times: int = 1) -> None:
    def send() -> None:
        for _ in range(times):
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()


def test_interrupt_cancels_and_cleans_up() -> None:
    log: list[str] = []

    def op() -> Op[None]:
        children = [(yield Fork(sleeping(60.0, log, "child ")))]
        try:
            yield from sleeping(60.0, log)
        except BaseException:
            yield Cancel(children)
            yield Sleep(0.01)
            log.append("clean")
            raise

    interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        run(op())
    assert log == ["KeyboardInterrupt", "child Cancelled", "clean"]
    assert run(value(1)) == 1


def test_interrupted_clean_up_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "SHIELD_SECONDS", 0.2)

    def op() -> Op[None]:
        try:
            yield Sleep(60.0)
        except KeyboardInterrupt:
            yield Sleep(60.0)

    interrupt_after(0.1)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(op())
    assert time.monotonic() - began < 5
    assert run(value(1)) == 1


def test_second_interrupt_ends_the_patience() -> None:
    def op() -> Op[None]:
        try:
            yield Sleep(60.0)
        except KeyboardInterrupt:
            yield Sleep(60.0)

    interrupt_after(0.1, times=2)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(op())
    assert time.monotonic() - began < 3
    assert run(value(1)) == 1


def test_interrupt_between_an_effect_and_its_wait_loses_nothing() -> None:
    """Signal handlers raise anywhere: also after a generator yielded and before anything was arranged to resume it."""
    log: list[str] = []
    runners = sync._runners()

    class Interrupted(sync.SyncRunner):
        def sleep(self, task: Any, seconds: float) -> Any:
            if seconds == 60.0:
                raise KeyboardInterrupt
            return super().sleep(task, seconds)

    runners.insert(0, Interrupted())
    try:
        with pytest.raises(KeyboardInterrupt):
            run(sleeping(60.0, log))
    finally:
        runners.pop(0)
    assert log == ["KeyboardInterrupt"]


def test_interrupt_in_a_call_reaches_the_operation() -> None:
    log: list[str] = []

    def op() -> Op[None]:
        try:
            yield Call(time.sleep, 60.0)
        except KeyboardInterrupt:
            yield Sleep(0.01)
            log.append("clean")
            raise

    interrupt_after(0.1)
    with pytest.raises(KeyboardInterrupt):
        run(op())
    assert log == ["clean"]


# ---- cancelling futures --------------------------------------------------------------------------------------------


def waits(kind: str, log: list[str]) -> Op[Any]:
    """An operation that waits in one way, for long, and cleans up."""

    async def never() -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(0.01)
            log.append("coroutine ended")

    child = None
    try:
        if kind == "sleep":
            yield Sleep(60.0)
        elif kind == "call":
            yield Call(time.sleep, 0.3)
        elif kind == "await":
            yield Await(never())
        elif kind == "future":
            yield Await(asyncio.get_running_loop().create_future())
        elif kind == "join":
            child = yield Fork(sleeping(60.0, []))
            yield Join([child])
        elif kind == "flight":
            yield Flight(("test", id(log)), lambda: sleeping(60.0, log, "flight "))
    except Cancelled:
        if child is not None:
            yield Cancel([child])
        yield Sleep(0.01)
        log.append("clean")
        raise


@pytest.mark.parametrize("kind", ["sleep", "call", "await", "future", "join", "flight"])
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_cancelling_a_future_takes_effect_once_the_operation_let_go(new_loop, kind: str) -> None:
    log: list[str] = []

    async def main() -> None:
        future = start(waits(kind, log))
        await asyncio.sleep(0.02)
        assert future.cancel("why")
        assert future.cancel("again")
        if kind != "call":
            assert not future.done()
        with pytest.raises(asyncio.CancelledError, match="why"):
            await future
        assert future.cancelled()
        assert not future.cancel()

    with asyncio.Runner(loop_factory=new_loop) as loop_runner:
        loop_runner.run(main())
    first = {"await": ["coroutine ended"], "flight": ["flight Cancelled"]}.get(kind, [])
    assert log == [*first, "clean"]


def test_cancelling_does_not_cut_clean_up_short() -> None:
    """A failed upload is aborted also if its caller gives up while that goes on."""
    log: list[str] = []

    def child() -> Op[None]:
        try:
            yield Sleep(60.0)
        finally:
            yield Sleep(0.05)

    def op() -> Op[None]:
        children = [(yield Fork(child()))]
        try:
            raise Mine
        except BaseException:
            yield Cancel(children)
            yield Sleep(0.05)
            log.append("aborted")
            raise

    async def main() -> None:
        for pause in (0.0, 0.02, 0.07):
            future = start(op())
            await asyncio.sleep(pause)
            future.cancel()
            with pytest.raises(asyncio.CancelledError):
                await future

    asyncio.run(main())
    assert log == ["aborted"] * 3


def test_operation_that_does_not_let_go_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(future, "SHIELD_SECONDS", 0.05)

    def op() -> Op[None]:
        try:
            yield Sleep(60.0)
        except Cancelled:
            yield Sleep(0.2)

    async def main() -> None:
        future = start(op())
        future.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert time.monotonic() - began < 0.2
        await asyncio.sleep(0.2)  # its end disturbs nobody

    asyncio.run(main())


def test_wait_for_cancels_and_waits() -> None:
    log: list[str] = []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(start(waits("sleep", log)), 0.02)
        assert log == ["clean"]

    asyncio.run(main())


def test_closed_loop_ends_its_operations_and_another_one_works() -> None:
    for new_loop in LOOPS.values():
        loop = new_loop()

        async def begin() -> None:
            start(sleeping(60.0, [])).add_done_callback(lambda _: None)

        loop.run_until_complete(begin())
        loop.close()
    assert on_asyncio(value(2)) == 2
    assert all(its_loop is None or not its_loop.is_closed() for its_loop in (one.loop() for one in aio._registry[:-1]))


# ---- flights -------------------------------------------------------------------------------------------------------


class Refresh:
    """Counts how often it was flown."""

    def __init__(self, seconds: float = 0.1, error: BaseException | None = None) -> None:
        self.flown = 0
        self.seconds = seconds
        self.error = error

    def op(self) -> Op[int]:
        self.flown += 1
        number = self.flown
        yield Sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return number

    def board(self) -> Op[int]:
        return (yield Flight(self, self.op))


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    outcomes: list[Any] = [None] * len(works)

    def guarded(number: int, work: Callable[[], Any]) -> None:
        try:
            outcomes[number] = work()
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=guarded, args=pair, daemon=True) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "waits for ever"
    return outcomes


def many(refresh: Refresh, new_loop: Callable[[], Any]) -> list[int]:
    async def main() -> list[int]:
        return await asyncio.gather(*[start(refresh.board()) for _ in range(50)])

    with asyncio.Runner(loop_factory=new_loop) as loop_runner:
        return loop_runner.run(main())


def test_one_flight_for_all_threads_and_loops() -> None:
    refresh = Refresh(0.5)
    outcomes = in_threads(
        *[lambda: run(refresh.board())] * 10, *[lambda: many(refresh, asyncio.new_event_loop)] * 2,
        *[lambda: many(refresh, uvloop.new_event_loop)] * 2,
    )  # fmt: skip
    assert outcomes == [1] * 10 + [[1] * 50] * 4
    assert refresh.flown == 1
    assert run(refresh.board()) == 2  # the next one is a new one


def test_error_of_a_flight_reaches_all() -> None:
    mine = Mine()
    refresh = Refresh(0.3, mine)
    assert in_threads(*[lambda: run(refresh.board())] * 5) == [mine] * 5
    assert refresh.flown == 1
    assert refresh not in runner._flights


def test_flight_that_cannot_be_made_fails_and_is_forgotten() -> None:
    def op() -> Op[None]:
        yield Flight("unmade", lambda: {}["op"])

    for _ in range(2):
        with pytest.raises(KeyError):
            run(op())
    assert "unmade" not in runner._flights


def test_when_the_leader_is_cancelled_another_one_leads() -> None:
    refresh = Refresh(0.2)

    async def main() -> None:
        leader, *others = [start(refresh.board()) for _ in range(3)]
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        assert await asyncio.gather(*others) == [2, 2]

    asyncio.run(main())


def test_waiter_that_is_cancelled_leaves_alone() -> None:
    refresh = Refresh(0.1)

    async def main() -> None:
        leader, other = start(refresh.board()), start(refresh.board())
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        assert await leader == 1

    asyncio.run(main())


def led_elsewhere(refresh: Refresh) -> tuple[threading.Thread, list[Any]]:
    """A thread that waits for a flight that somebody else leads."""
    while not refresh.flown:
        time.sleep(0.001)
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(run(refresh.board())), daemon=True)
    thread.start()
    flight = runner._flights[refresh]
    while len(flight.waiters) < 2:
        time.sleep(0.001)
    return thread, outcome


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_interrupted_leader_leaves_nobody_waiting(twice: bool) -> None:
    """Ctrl-C in the main thread while it refreshes credentials for all."""

    class Stubborn(Refresh):
        def op(self) -> Op[int]:
            self.flown += 1
            if self.flown > 1:
                return 2
            try:
                yield Sleep(60.0)
            except Cancelled:
                yield Sleep(60.0 if twice else 0.01)
                raise
            return 1

    refresh = Stubborn()
    others: list[Any] = []

    def interrupt() -> None:
        others.append(led_elsewhere(refresh))
        for _ in range(2 if twice else 1):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    helper = threading.Thread(target=interrupt)
    helper.start()
    with pytest.raises(KeyboardInterrupt):
        run(refresh.board())
    helper.join()
    [(thread, outcome)] = others
    thread.join(10)
    assert outcome == [2]


def test_closed_loop_that_led_leaves_nobody_waiting() -> None:
    refresh = Refresh(0.1)
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        start(refresh.board()).add_done_callback(lambda _: None)

    loop.run_until_complete(begin())
    thread, outcome = led_elsewhere(refresh)
    loop.close()
    gc.collect()
    asyncio.run(asyncio.sleep(0))
    thread.join(10)
    assert outcome == [2]


def test_late_landing_does_not_resume_another_wait() -> None:
    """A result that was posted to a task that has gone on to another flight is not that flight's."""
    first, second = Refresh(0.05), Refresh(0.3)
    got: list[Any] = []

    def op() -> Op[None]:
        try:
            yield from first.board()
        except Cancelled:
            got.append((yield Flight("second", lambda: value_after(second))))
            raise

    def value_after(refresh: Refresh) -> Op[str]:
        yield from refresh.op()
        return "second's"

    async def main() -> None:
        leader, other = start(first.board()), start(op())
        original = other._task.runner.post
        other._task.runner.post = lambda *args: (other.cancel(), original(*args))
        await asyncio.wait([leader, other])

    asyncio.run(main())
    assert got == ["second's"]


# ---- nothing is left to the cyclic collector -----------------------------------------------------------------------


class Traced:
    """Something that an operation holds."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def let_go(gone: weakref.ref[Traced]) -> bool:
    """Whether the object is gone; from Python 3.12 on the frames of some errors wait for the collector."""
    if sys.version_info >= (3, 12):
        gc.collect()
    return gone() is None


def ends(ending: str, held: Traced) -> Op[Any]:
    """An operation that holds something and ends in one way."""

    def fail(_: Any) -> None:
        raise Mine

    def fork(held: Any) -> Op[None]:
        yield Sleep(0.001)
        raise Mine

    if ending == "error":
        raise Mine
    if ending == "error of a call":
        yield Call(fail, held)
    if ending == "error of a flight":
        yield Flight("cycle", lambda: fork(held))
    if ending == "error of a fork":
        running = [(yield Fork(fork(held)))]
        yield from settle(running, 1)
    if ending == "error thrown in":
        try:
            yield "nonsense"
        except TypeError as error:
            raise Mine from error


ENDINGS = ["result", "error", "error of a call", "error of a fork", "error of a flight", "error thrown in"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_operation_leaves_no_cycle(no_collector: None, ending: str) -> None:
    """Bodies and buffers are freed when the last reference goes, not when the collector comes."""
    traced = Traced()
    gone = weakref.ref(traced)
    op = ends(ending, traced)
    del traced

    def attempt(op: Op[Any]) -> bool:
        try:
            run(op)
        except Mine:
            return False
        return True

    assert attempt(op) is (ending == "result")
    del op
    assert let_go(gone)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_operation_on_a_loop_leaves_no_cycle(no_collector: None, new_loop, ending: str) -> None:
    async def attempt(op: Op[Any]) -> bool:
        try:
            await start(op)
        except Mine:
            return False
        return True

    async def main() -> None:
        traced = Traced()
        gone = weakref.ref(traced)
        op = ends(ending, traced)
        del traced
        assert await attempt(op) is (ending == "result")
        del op
        await asyncio.sleep(0)
        assert let_go(gone)

    with asyncio.Runner(loop_factory=new_loop) as loop_runner:
        loop_runner.run(main())


def test_cancelled_operation_leaves_no_cycle(no_collector: None) -> None:
    async def main() -> weakref.ref[Traced]:
        traced = Traced()
        gone = weakref.ref(traced)

        def op(held: Traced) -> Op[None]:
            yield Sleep(60.0)

        future = start(op(traced))
        del traced
        future.cancel()
        try:
            await future
        except asyncio.CancelledError:
            del future
        await asyncio.sleep(0)
        return gone

    assert let_go(asyncio.run(main()))

"""What takes a hand in the effects of an operation, and lets everything else through."""

from __future__ import annotations

from typing import Any

import pytest

from obstore._effects import Cancelled, Op, Sleep, handed_on


def asking(log: list[Any]) -> Op[str]:
    """Yields two effects and logs what it is resumed with."""
    try:
        log.append((yield Sleep(1)))
        try:
            log.append((yield Sleep(2)))
        except ValueError as error:
            log.append(str(error))
        return "done"
    finally:
        log.append("closed")


def test_effects_are_swapped_and_outcomes_noted_before_the_operation_goes_on() -> None:
    log: list[Any] = []
    op = handed_on(
        asking(log), lambda effect: Sleep(effect.seconds * 10), lambda value, error: log.append(("note", value, error))
    )
    assert next(op).seconds == 10
    assert op.send("a").seconds == 20
    error = ValueError("b")
    with pytest.raises(StopIteration) as stop:
        op.throw(error)
    assert stop.value.value == "done"
    assert log == [("note", "a", None), "a", ("note", None, error), "b", "closed"]


def test_what_the_operation_does_not_catch_comes_out_unchanged() -> None:
    log: list[Any] = []
    op = handed_on(asking(log), lambda effect: effect)
    next(op)
    error = Cancelled()
    with pytest.raises(Cancelled) as caught:
        op.throw(error)
    assert caught.value is error
    assert log == ["closed"]


def test_operation_is_closed_with_what_hands_it_on_and_when_that_fails() -> None:
    log: list[Any] = []
    op = handed_on(asking(log), lambda effect: effect, lambda value, error: log.append((value, type(error))))
    next(op)
    op.close()
    assert log == [(None, GeneratorExit), "closed"]

    log.clear()
    op = handed_on(asking(log), lambda _effect: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        next(op)
    assert log == ["closed"]

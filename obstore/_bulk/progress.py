"""How a bulk transfer tells of its progress: to tqdm, rich, an fsspec Callback, or any callable; at most 20 times a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from obstore._bulk.result import BulkResult, human_bytes

_INTERVAL_SECONDS = 0.05


class Progress(NamedTuple):
    """Where a bulk transfer stands; what a callable gets.

    Attributes:
        objects: done, or left alone because they were there.
        bytes: in place: only what needs not be sent again counts, so this never falls.
        failed: objects that failed.
        total_objects, total_bytes: of all; ``None`` until all are known.
        seconds: since the beginning.
    """

    objects: int
    bytes: int
    failed: int
    total_objects: int | None
    total_bytes: int | None
    seconds: float


class Meter:
    """Samples a transfer. Subclasses show it."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown_at = 0.0
        self.extra_bytes = 0  # of objects that are not finished
        self.total_objects: int | None = None
        self.total_bytes: int | None = None
        self.largest = 0

    def sample(self, result: BulkResult, *, last: bool = False) -> None:
        """Show where it stands, unless that was done just now."""
        now = time.monotonic()
        if not last and now - self._shown_at < _INTERVAL_SECONDS:
            return
        self._shown_at = now
        self.largest = max(self.largest, result.bytes + self.extra_bytes)
        self.show(
            Progress(
                result.objects + result.skipped,
                self.largest,
                len(result.failures),
                self.total_objects,
                self.total_bytes,
                now - self._began,
            )
        )
        if last:
            self.close()

    def show(self, progress: Progress) -> None:
        """Show it."""

    def close(self) -> None:
        """No more will come."""


class _Callable(Meter):
    def __init__(self, call: Callable[[Progress], Any]) -> None:
        super().__init__()
        self._call = call

    def show(self, progress: Progress) -> None:
        self._call(progress)


class _Tqdm(Meter):
    """A bar of tqdm: of ours, which is closed at the end, or of the caller's."""

    def __init__(self, bar: Any, *, ours: bool) -> None:
        super().__init__()
        self._bar = bar
        self._ours = ours
        self._told = 0

    def show(self, progress: Progress) -> None:
        if progress.total_bytes is not None and self._bar.total != progress.total_bytes:
            self._bar.total = progress.total_bytes
        if self._ours:
            self._bar.set_postfix_str(f"{progress.objects:,} objects", refresh=False)
        self._bar.update(progress.bytes - self._told)
        self._told = progress.bytes

    def close(self) -> None:
        if self._ours:
            self._bar.close()


class _Rich(Meter):
    def __init__(self, progress: Any, title: str) -> None:
        super().__init__()
        self._progress = progress
        self._task = progress.add_task(title, total=None)

    def show(self, progress: Progress) -> None:
        self._progress.update(self._task, completed=progress.bytes, total=progress.total_bytes)


class _Fsspec(Meter):
    def __init__(self, callback: Any) -> None:
        super().__init__()
        self._callback = callback

    def show(self, progress: Progress) -> None:
        if progress.total_bytes is not None:
            self._callback.set_size(progress.total_bytes)
        self._callback.absolute_update(progress.bytes)


class _Line(Meter):
    """A line on standard error, where there is no tqdm."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def show(self, progress: Progress) -> None:
        rate = progress.bytes / progress.seconds if progress.seconds else 0
        text = f"{self._title}: {progress.objects:,} objects, {human_bytes(progress.bytes)}, {human_bytes(rate)}/s"
        sys.stderr.write(f"\r{text:<78}")
        sys.stderr.flush()

    def close(self) -> None:
        sys.stderr.write("\n")


def make_meter(progress: Any, title: str) -> Meter:
    """The meter for what the caller gave as ``progress``.

    Raises:
        TypeError: it is nothing that progress can be shown on.
    """
    if progress is None or progress is False:
        return Meter()
    if progress is True:
        try:
            from tqdm import tqdm
        except ImportError:
            return _Line(title)
        return _Tqdm(tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024), ours=True)
    if hasattr(progress, "absolute_update") and hasattr(progress, "set_size"):
        return _Fsspec(progress)
    if hasattr(progress, "add_task") and hasattr(progress, "update"):
        return _Rich(progress, title)
    if isinstance(progress, type) and hasattr(progress, "set_postfix_str"):
        return _Tqdm(progress(desc=title, unit="B", unit_scale=True, unit_divisor=1024), ours=True)
    if hasattr(progress, "update") and hasattr(progress, "total"):
        return _Tqdm(progress, ours=False)
    if callable(progress):
        return _Callable(progress)
    raise TypeError(
        f"progress: '{type(progress).__name__}' object is not True, a callable, or a progress bar of tqdm, rich or fsspec"
    )

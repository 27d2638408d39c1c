"""What a bulk transfer came to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Failure(NamedTuple):
    """One object that was not transferred.

    Attributes:
        path: its key, or the path of the local file.
        error: why.
    """

    path: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.path}: {self.error}"


class Action(NamedTuple):
    """What a dry run would do to one object.

    Attributes:
        kind: ``download``, ``upload``, ``copy`` or ``delete``.
        path: of the object, relative to both sides.
        size: bytes; ``None`` where unknown.
    """

    kind: str
    path: str
    size: int | None


@dataclass
class BulkResult:
    """What a bulk transfer came to; a failed object does not stop the others.

    Attributes:
        objects: transferred, or deleted.
        bytes: in them.
        skipped: left alone: up to date, or finished by an earlier run.
        deleted: removed from the destination (``sync``).
        failures: the others.
        seconds: that it took.
        resumed_bytes: found on disk from an earlier run.
        verified: objects whose content matched a checksum of the service.
        actions: of a dry run: what would be done.
        stopped: whether it was interrupted: then some objects are in none of the counts.
    """

    objects: int = 0
    bytes: int = 0
    skipped: int = 0
    deleted: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    resumed_bytes: int = 0
    verified: int = 0
    actions: list[Action] = field(default_factory=list)
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether all is done that was to be done."""
        return not self.failures and not self.stopped

    @property
    def objects_per_second(self) -> float:
        """Rate over the whole time."""
        return self.objects / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Rate over the whole time."""
        return self.bytes / self.seconds if self.seconds else 0.0

    def raise_for_failures(self) -> None:
        """Raise where something failed.

        Raises:
            ExceptionGroup: of the errors, each with the object's path as a note.
        """
        if not self.failures:
            return
        errors = []
        for failure in self.failures:
            failure.error.add_note(f"object: {failure.path}")
            errors.append(failure.error)
        raise ExceptionGroup(f"{len(errors)} objects were not transferred", errors)

    def add(self, other: BulkResult) -> None:
        """Count another part of the same transfer in."""
        self.objects += other.objects
        self.bytes += other.bytes
        self.skipped += other.skipped
        self.deleted += other.deleted
        self.failures += other.failures
        self.resumed_bytes += other.resumed_bytes
        self.verified += other.verified
        self.actions += other.actions
        self.stopped = self.stopped or other.stopped

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "skipped": self.skipped,
            "deleted": self.deleted,
            "failures": [
                {"path": path, "error": str(error), "type": type(error).__name__} for path, error in self.failures
            ],
            "seconds": round(self.seconds, 3),
            "resumed_bytes": self.resumed_bytes,
            "verified": self.verified,
            "stopped": self.stopped,
        }

    def __str__(self) -> str:
        no_bytes = self.objects > 0 and self.bytes == 0  # deletions, copies by the service
        parts = [f"{self.objects:,} object{'' if self.objects == 1 else 's'}"]
        if not no_bytes:
            parts.append(human_bytes(self.bytes))
        parts += [
            f"{count:,} {name}" for name, count in (("skipped", self.skipped), ("deleted", self.deleted)) if count
        ]
        if self.failures:
            parts.append(f"{len(self.failures):,} failed")
        rate = f"{self.objects_per_second:,.0f} objects" if no_bytes else human_bytes(self.bytes_per_second)
        text = f"{', '.join(parts)} in {self.seconds:.1f} s ({rate}/s)"
        return f"stopped after {text}" if self.stopped else text


class BulkInterrupted(KeyboardInterrupt):
    """Ctrl-C during a bulk transfer. What was finished is whole; nothing is half-written.

    Attributes:
        result: what was done until then.
    """

    def __init__(self, result: BulkResult) -> None:
        super().__init__(str(result))
        self.result = result


class ExecutorBrokenError(RuntimeError):
    """The workers of an executor are gone, as after one of its processes was killed; the cause says how.

    What was finished is whole; the same call on another executor goes on from there.

    Attributes:
        result: what was done until then.
    """

    def __init__(self, result: BulkResult) -> None:
        super().__init__(f"the executor lost its workers: {result}")
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.result,)


class Clock:
    """Times a transfer into its result."""

    def __init__(self, result: BulkResult) -> None:
        self._result = result
        self._began = time.monotonic()

    def stop(self) -> None:
        """Write down how long it took."""
        self._result.seconds = time.monotonic() - self._began


def human_bytes(count: float) -> str:
    """``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")

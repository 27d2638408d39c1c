"""What commands print: tables for people, lines of JSON for programs, progress on standard error."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import click

from obstore._bulk.result import BulkResult, human_bytes

OK, SOME_FAILED, USAGE, NOT_FOUND, DENIED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class Output:
    """How a command speaks: for people, as JSON, or not at all."""

    def __init__(self, *, as_json: bool, quiet: bool, progress: bool | None) -> None:
        self.as_json = as_json
        self.quiet = quiet
        if progress is None:
            progress = sys.stderr.isatty() and not quiet and not as_json
        self.progress = progress

    def line(self, text: str, value: Any = None) -> None:
        """A line; as JSON, the value."""
        if self.as_json:
            click.echo(json.dumps(value, default=str, ensure_ascii=False))
        elif not self.quiet:
            click.echo(text)

    def finish(self, result: BulkResult, *, dry_run: bool = False) -> int:
        """Say what came of a transfer; returns the exit code."""
        if dry_run:
            for action in result.actions:
                self.line(
                    f"(dry run) {action.kind} {action.path}",
                    {"dry_run": True, "action": action.kind, "path": action.path, "size": action.size},
                )
        for failure in result.failures:
            complain(failure.path, failure.error)
        if self.as_json:
            click.echo(json.dumps(result.as_dict(), ensure_ascii=False))
        elif not self.quiet and not dry_run:
            click.echo(str(result))
        if result.stopped:
            return INTERRUPTED
        if not result.failures:
            return OK
        # Of nothing but missing objects, or forbidden ones, scripts want to know that.
        codes = {code_of(failure.error) for failure in result.failures}
        return SOME_FAILED if result.objects or len(codes) > 1 else codes.pop()


def complain(what: str, error: BaseException) -> None:
    """One line on standard error, and the hint if there is one."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    click.echo(f"obstore: {what}: {text}" if what else f"obstore: {text}", err=True)
    hint = getattr(error, "hint", None)
    if hint and hint not in text:
        click.echo(f"  hint: {hint}", err=True)


def code_of(error: BaseException) -> int:
    """The exit code that says what kind of error it was."""
    if isinstance(error, PermissionError) or getattr(error, "status", None) in (401, 403):
        return DENIED
    return NOT_FOUND if isinstance(error, FileNotFoundError) else SOME_FAILED


def moment(value: datetime) -> str:
    """Local time, to the second."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def listed(meta: Any, path: str) -> dict[str, Any]:
    """An object, for JSON."""
    return {
        "path": path,
        "size": meta["size"],
        "last_modified": meta["last_modified"].astimezone(UTC).isoformat(),
        "e_tag": meta["e_tag"],
        "version": meta["version"],
    }


def size_text(size: int, *, human: bool) -> str:
    """Bytes, as they are or rounded."""
    return human_bytes(size) if human else str(size)


class Tree:
    """Paths in order, drawn as a tree as they come."""

    def __init__(self) -> None:
        self._open: list[str] = []

    def lines(self, path: str, note: str) -> list[str]:
        """The lines to draw for the next path."""
        *folders, name = path.split("/")
        shared = 0
        while shared < min(len(folders), len(self._open)) and folders[shared] == self._open[shared]:
            shared += 1
        lines = [f"{'  ' * depth}{folders[depth]}/" for depth in range(shared, len(folders))]
        self._open = folders
        return [*lines, f"{'  ' * len(folders)}{name}  {note}".rstrip()]

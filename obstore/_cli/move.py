"""Commands that change something: cp, mv, sync, rm, bench."""

from __future__ import annotations

import glob
import os
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

import obstore
from obstore import bulk
from obstore._bulk.changing import Copying
from obstore._bulk.match import make_filter
from obstore._bulk.options import make_options
from obstore._bulk.result import Action, BulkResult, human_bytes
from obstore._bulk.select import Keys, Recorded, select
from obstore._bulk.tree import walk
from obstore._cli import options
from obstore._cli.options import Limits, Size
from obstore._cli.place import Connection, Place, UsageError
from obstore._cli.show import Output, complain
from obstore._run import run as run_op
from obstore._transfers import Job, noting, upload_pairs

_PIPE_BYTES = 1 << 20
_DOWN = ("connections", "memory", "rate", "verify", "resume", "overwrite")
_UP = ("connections", "memory", "rate", "resume", "overwrite")
_ACROSS = ("connections", "memory", "rate", "overwrite")


def _copy(
    source: Place,
    target: Place,
    out: Output,
    limits: Limits,
    *,
    recursive: bool,
    include: Any,
    exclude: Any,
    dry_run: bool,
    move: bool,
) -> BulkResult:
    """One source to the target."""
    many = recursive or source.is_pattern
    if source.path is not None and target.path is not None:
        raise UsageError("both are local: at least one of source and target must be a URL")
    if source.is_pipe or target.is_pipe:
        return _pipe(source, target, dry_run=dry_run, move=move)
    if source.path is not None:
        return _send(source, target, out, limits, many, include, exclude, dry_run, move)
    what: Any = source.key
    if not many:
        if source.key == "" or source.key.endswith("/"):
            raise UsageError(f"{source.text} is a prefix: use -r for everything below it")
        what = Keys([source.key])
        what.single = True
        what.cut = source.key.rfind("/") + 1
    else:
        what = select(source.store._backend, source.key, include, exclude)  # noqa: SLF001 - ours
    if dry_run:
        return _planned(what, "download" if target.path is not None else "copy")
    pages = Recorded(what)
    if target.path is not None:
        result = _fetch(source, target, pages, out, limits, many)
    else:
        result = _across(source, target, pages, out, limits, many)
    if not many and not result.ok and isinstance(result.failures[0].error, FileNotFoundError) and _has_below(source):
        result.failures[0].error.add_note("prefix")
        complain(source.text, UsageError("is a prefix: use -r for everything below it"))
    if move:
        failed = {failure.path for failure in result.failures}
        done = bulk.delete_many(source.store, [key for key in pages.keys if key not in failed])
        result.failures += done.failures
    return result


def _planned(pages: Any, kind: str) -> BulkResult:
    result = BulkResult()
    while page := run_op(pages.next()):
        for item in page:
            key, size = (item, None) if isinstance(item, str) else (item["path"], item["size"])
            result.actions.append(Action(kind, key, size))
    return result


def _has_below(place: Place) -> bool:
    level = obstore.list_with_delimiter(place.store, place.key)
    return bool(level["objects"] or level["common_prefixes"])


def _fetch(source: Place, target: Place, pages: Recorded, out: Output, limits: Limits, many: bool) -> BulkResult:
    assert target.path is not None
    if many:
        return bulk.download(source.store, pages, target.path, progress=out.progress, **limits.only(*_DOWN))
    name = source.key.rpartition("/")[2]
    file = target.path / name if target.is_folder else target.path
    pages.keys.append(source.key)
    names = ("connections", "verify", "resume", "overwrite")
    return bulk.download_file(
        source.store, obstore.RawKey(source.key), file, progress=out.progress, **limits.only(*names)
    )


def _across(source: Place, target: Place, pages: Recorded, out: Output, limits: Limits, many: bool) -> BulkResult:
    base = target.key
    if many:
        base = target.key.rstrip("/") + "/" if target.key.strip("/") else ""
        return bulk.copy_many(source.store, target.store, pages, base, progress=out.progress, **limits.only(*_ACROSS))
    if target.is_folder:
        base += source.key.rpartition("/")[2]
    job = Job("copy", out.progress)
    given = limits.only(*_ACROSS)
    from_, to = source.store._backend, target.store._backend  # noqa: SLF001 - ours
    return job.run(Copying(from_, to, pages, lambda _key: base, make_options(**given), job.result, job.meter).run())


def _send(
    source: Place,
    target: Place,
    out: Output,
    limits: Limits,
    many: bool,
    include: Any,
    exclude: Any,
    dry_run: bool,
    move: bool,
) -> BulkResult:
    assert source.path is not None
    prefix = target.key if not target.key or target.key.endswith("/") else f"{target.key}/"
    if many and source.is_pattern:
        paths = [path for path in sorted(glob.glob(source.text, recursive=True)) if os.path.isfile(path)]
        wanted = make_filter(include, exclude)
        files = [
            (path, prefix + os.path.basename(path))
            for path in paths
            if wanted is None or wanted(os.path.basename(path))
        ]
        if not files:
            raise FileNotFoundError(2, "nothing matches", source.text)
    elif many:
        if not source.path.exists():
            raise FileNotFoundError(2, "No such file or directory", source.text)
        result = BulkResult()
        found = walk(source.path, make_filter(include, exclude), on_error=noting(result))
        if not (dry_run or move):
            sent = bulk.upload(
                target.store,
                source.path,
                target.key.rstrip("/"),
                include=include or None,
                exclude=exclude or None,
                progress=out.progress,
                **limits.only(*_UP),
            )
            sent.add(result)
            return sent
        files = [(file.path, prefix + file.name) for file in found]
    else:
        if source.path.is_dir():
            raise UsageError(f"{source.text} is a directory: use -r for everything in it")
        if not source.path.exists():
            raise FileNotFoundError(2, "No such file or directory", source.text)
        files = [(source.text, target.key + source.path.name if target.is_folder else target.key)]
    if dry_run:
        planned = BulkResult()
        planned.actions = [Action("upload", path, os.path.getsize(path)) for path, _ in files]
        return planned
    result = upload_pairs(Job("upload", out.progress), target.store, files, make_options(**limits.only(*_UP)))
    if move:
        failed = {failure.path for failure in result.failures}
        for path, _ in files:
            if path not in failed:
                os.unlink(path)
    return result


def _pipe(source: Place, target: Place, *, dry_run: bool, move: bool) -> BulkResult:
    """From standard input, or to standard output."""
    if move:
        raise UsageError("a pipe cannot be moved")
    if dry_run:
        raise UsageError("--dry-run says nothing of a pipe")
    result = BulkResult()
    began = time.monotonic()
    if source.is_pipe:
        store = target.needs_store("cp -")
        if target.is_folder:
            raise UsageError("cp - needs the name of an object, not of a prefix")

        def chunks() -> Iterator[bytes]:
            while chunk := sys.stdin.buffer.read(_PIPE_BYTES):
                result.bytes += len(chunk)
                yield chunk

        obstore.put(store, obstore.RawKey(target.key), chunks())
    else:
        opened = obstore.get(source.needs_store("cp"), obstore.RawKey(source.key))
        for chunk in opened.stream(min_chunk_size=_PIPE_BYTES):
            result.bytes += len(chunk)
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    result.objects = 1
    result.seconds = time.monotonic() - began
    return result


def _copy_command(
    arguments: tuple[str, ...], connection: Connection, out: Output, limits: Limits, *, dry_run: bool, **how: Any
) -> int:
    if len(arguments) < 2:
        raise UsageError("a source and a target are needed")
    *sources, last = [Place(text, connection) for text in arguments]
    if len(sources) > 1 and not last.is_folder:
        raise UsageError(f"several sources need a directory or prefix as target: write {last.text}/")
    total = BulkResult()
    began = time.monotonic()
    for source in sources:
        total.add(_copy(source, last, out, limits, dry_run=dry_run, **how))
    total.seconds = time.monotonic() - began
    if not limits.only("overwrite")["overwrite"]:  # what is there was to be left alone
        there = [failure for failure in total.failures if isinstance(failure.error, FileExistsError)]
        total.failures = [failure for failure in total.failures if failure not in there]
        total.skipped += len(there)
    if last.is_pipe:
        return 0
    return out.finish(total, dry_run=dry_run)


_NO_CLOBBER = click.option("--no-clobber", is_flag=True, help="Leave alone what is at the target.")


_CP_EXAMPLES = """\b
Examples:
  obstore cp report.csv s3://bucket/reports/
  obstore cp -r s3://bucket/logs/2024 ./logs --include '*.gz'
  obstore cp 's3://bucket/parts/*.csv' gs://other/parts/
  tar c data | obstore cp - s3://bucket/data.tar"""


@click.command("cp", epilog=_CP_EXAMPLES, short_help="Copy up, down, or between stores.")
@click.argument("arguments", nargs=-1, metavar="SOURCE... TARGET")
@options.RECURSIVE
@options.DRY_RUN
@_NO_CLOBBER
@options.command(transfers=True, filters=True)
def cp(
    arguments: tuple[str, ...],
    recursive: bool,
    dry_run: bool,
    no_clobber: bool,
    include: Any,
    exclude: Any,
    connection: Connection,
    out: Output,
    limits: Limits,
) -> int:
    """Copy files to objects, objects to files, or objects to objects.

    One of them may be - for standard input or output. Copies that were interrupted go on where they were.
    """
    return _copy_command(
        arguments,
        connection,
        out,
        limits.with_(overwrite=not no_clobber),
        dry_run=dry_run,
        recursive=recursive,
        include=include,
        exclude=exclude,
        move=False,
    )


@click.command("mv", short_help="Copy, then remove the sources.")
@click.argument("arguments", nargs=-1, metavar="SOURCE... TARGET")
@options.RECURSIVE
@options.DRY_RUN
@_NO_CLOBBER
@options.command(transfers=True, filters=True)
def mv(
    arguments: tuple[str, ...],
    recursive: bool,
    dry_run: bool,
    no_clobber: bool,
    include: Any,
    exclude: Any,
    connection: Connection,
    out: Output,
    limits: Limits,
) -> int:
    """As cp, and then remove the sources of what was copied."""
    if no_clobber:
        raise UsageError("mv --no-clobber would remove what it did not copy")
    return _copy_command(
        arguments,
        connection,
        out,
        limits.with_(overwrite=True),
        dry_run=dry_run,
        recursive=recursive,
        include=include,
        exclude=exclude,
        move=True,
    )


_SYNC_EXAMPLES = """\b
Examples:
  obstore sync ./site s3://bucket/site --delete --dry-run"""


@click.command("sync", epilog=_SYNC_EXAMPLES, short_help="Copy what is missing or differs.")
@click.argument("source")
@click.argument("target")
@click.option("--delete", is_flag=True, help="Delete at the target what the source lacks.")
@click.option("--size-only", is_flag=True, help="Take equal size for equal content.")
@options.DRY_RUN
@options.command(transfers=True, filters=True)
def sync(
    source: str,
    target: str,
    delete: bool,
    size_only: bool,
    dry_run: bool,
    include: Any,
    exclude: Any,
    connection: Connection,
    out: Output,
    limits: Limits,
) -> int:
    """Copy what is missing at the target, of another size, or older there."""
    from_, to = Place(source, connection), Place(target, connection)
    sides: list[Any] = [from_.store or from_.path, to.store or to.path]
    for place in (from_, to):
        if place.is_pipe or place.is_pattern:
            raise UsageError("sync takes directories and prefixes")
    result = bulk.sync(
        *sides,
        source_prefix=from_.key,
        target_prefix=to.key,
        delete=delete,
        dry_run=dry_run,
        size_only=size_only,
        include=include or None,
        exclude=exclude or None,
        progress=out.progress and not dry_run,
        **limits.only("connections", "memory", "rate", "verify"),
    )
    return out.finish(result, dry_run=dry_run)


_RM_EXAMPLES = """\b
Examples:
  obstore rm s3://bucket/one-object
  obstore rm -r s3://bucket/prefix --exclude '*.keep'
  obstore rm 's3://bucket/**'"""


@click.command("rm", epilog=_RM_EXAMPLES, short_help="Delete objects.")
@click.argument("urls", nargs=-1, required=True)
@options.RECURSIVE
@options.DRY_RUN
@options.command(filters=True)
def rm(
    urls: tuple[str, ...],
    recursive: bool,
    dry_run: bool,
    include: Any,
    exclude: Any,
    connection: Connection,
    out: Output,
) -> int:
    """Delete objects."""
    total = BulkResult()
    began = time.monotonic()
    for url in urls:
        place = Place(url, connection)
        store = place.needs_store("rm")
        if recursive or place.is_pattern:
            if place.key == "" and not (include or exclude):
                raise UsageError(f"{url} is everything there is: use {url.rstrip('/')}/** to delete it all")
            total.add(
                bulk.delete_many(
                    store,
                    place.key,
                    include=include or None,
                    exclude=exclude or None,
                    dry_run=dry_run,
                    progress=out.progress and not dry_run,
                )
            )
        elif place.is_folder:
            raise UsageError(f"{url} is a prefix: use -r for everything below it")
        elif dry_run:
            total.actions.append(Action("delete", place.key, None))
        else:
            obstore.head(store, obstore.RawKey(place.key))  # services do not tell a missing key from a deleted one
            total.add(bulk.delete_many(store, [obstore.RawKey(place.key)]))
    total.seconds = time.monotonic() - began
    return out.finish(total, dry_run=dry_run)


@click.command("bench", short_help="Measure writing, reading, deleting.")
@click.argument("url")
@click.option("--size", type=Size(), default="1MiB", show_default=True, metavar="SIZE", help="Bytes of each object.")
@click.option("--count", type=click.IntRange(1), default=64, show_default=True, help="Objects.")
@options.command(transfers=True)
def bench(url: str, size: int, count: int, connection: Connection, out: Output, limits: Limits) -> int:
    """Measure writing, reading and deleting objects below a prefix; what it writes it removes."""
    place = Place(url, connection)
    store = place.needs_store("bench")
    base = f"{place.key.rstrip('/')}/" if place.key.strip("/") else ""
    keys = [f"{base}obstore-bench-{secrets.token_hex(4)}/{number:06}" for number in range(count)]
    body = os.urandom(size)
    given = limits.only("connections", "memory", "rate")
    reading = limits.only("connections", "memory")
    try:
        for name, work in (
            ("put", lambda: bulk.put_many(store, ((key, body) for key in keys), **given)),
            ("get", lambda: sum(len(read) for _, read in bulk.get_many(store, keys, **reading))),
        ):
            began = time.monotonic()
            work()
            seconds = time.monotonic() - began
            out.line(
                f"{name}: {count / seconds:,.0f} objects/s, {human_bytes(count * size / seconds)}/s",
                {"operation": name, "objects": count, "bytes": count * size, "seconds": seconds},
            )
    finally:
        began = time.monotonic()
        bulk.delete_many(store, keys)
        seconds = time.monotonic() - began
    out.line(f"delete: {count / seconds:,.0f} objects/s", {"operation": "delete", "objects": count, "seconds": seconds})
    return 0


COMMANDS = (cp, mv, sync, rm, bench)

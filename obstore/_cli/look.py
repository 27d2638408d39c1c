"""Commands that only look: ls, find, du, stat, cat, head, sign."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import click

import obstore
from obstore._bulk.select import select
from obstore._bulk.tree import File, walk
from obstore._cli import options
from obstore._cli.options import Size
from obstore._cli.place import Connection, Place, UsageError
from obstore._cli.show import Output, Tree, complain, listed, moment, size_text
from obstore._config.duration import parse_duration
from obstore._run import run as run_op
from obstore.store import LocalStore

_CHUNK_BYTES = 4 << 20
_TABLE_ROWS = 10_000


def objects_below(
    place: Place, include: Any = (), exclude: Any = (), *, recursive: bool = True
) -> Iterator[dict[str, Any]]:
    """Objects, or files, at a place; of a pattern, those that match it.

    Raises:
        FileNotFoundError: there is nothing.
    """
    found = False
    for item in _objects(place, include, exclude, recursive):
        found = True
        yield item
    if not found and (place.key or place.path is not None) and not include and not exclude:
        raise FileNotFoundError(2, "nothing there", place.text)


def _objects(place: Place, include: Any, exclude: Any, recursive: bool) -> Iterable[dict[str, Any]]:
    if place.store is None:
        from obstore._bulk.match import make_filter

        assert place.path is not None
        base = "" if place.path.is_file() else f"{place.path}/"
        for file in walk(
            place.path,
            make_filter(include, exclude),
            recursive=recursive,
            on_error=complain,
        ):
            yield _file_meta(file, base)
        return
    pages = select(place.store._backend, place.key, include, exclude, recursive=recursive)  # noqa: SLF001 - ours
    while page := run_op(pages.next()):
        for item in page:
            if isinstance(item, dict):
                yield item
                continue
            try:  # nothing is below it: an object, or nothing at all
                yield dict(obstore.head(place.store, item))
            except FileNotFoundError:
                return


def _file_meta(file: File, base: str) -> dict[str, Any]:
    return {
        "path": f"{base}{file.name}" if base else file.path,
        "size": file.size,
        "last_modified": datetime.fromtimestamp(file.modified, UTC),
        "e_tag": None,
        "version": None,
    }


@click.command("ls", short_help="List objects and prefixes.")
@click.argument("urls", nargs=-1, required=True)
@click.option("--long", "-l", is_flag=True, help="With size and time.")
@click.option("--human", "-H", is_flag=True, help="Sizes as 1.5 MiB.")
@options.RECURSIVE
@click.option("--tree", is_flag=True, help="Everything below, as a tree.")
@click.option(
    "--arrow", type=click.Path(dir_okay=False), metavar="FILE", help="Write an Arrow IPC file (needs pyarrow)."
)
@click.option(
    "--parquet", type=click.Path(dir_okay=False), metavar="FILE", help="Write a Parquet file (needs pyarrow)."
)
@options.command(filters=True)
def ls(
    urls: tuple[str, ...],
    long: bool,
    human: bool,
    recursive: bool,
    tree: bool,
    arrow: str | None,
    parquet: str | None,
    include: Any,
    exclude: Any,
    connection: Connection,
    out: Output,
) -> None:
    """List objects and prefixes.

    Without -r, one level: prefixes end with a slash.
    """
    if arrow or parquet:
        _write_table([Place(url, connection) for url in urls], include, exclude, arrow, parquet)
        return
    for url in urls:
        place = Place(url, connection)
        drawn = Tree() if tree else None
        if not (recursive or tree or place.is_pattern or place.is_file or include or exclude) and _level(
            place, out, long=long, human=human
        ):
            continue
        cut = place.key.rfind("/") + 1 if drawn is not None else 0
        deep = recursive or tree or place.is_pattern or place.is_remote
        for meta in objects_below(place, include, exclude, recursive=deep):
            path = meta["path"]
            if drawn is not None and not out.as_json:
                for line in drawn.lines(path[cut:], size_text(meta["size"], human=human) if long or human else ""):
                    out.line(line)
                continue
            out.line(
                _line(meta, path, long=long, human=human), listed(meta, place.url(path) if place.is_remote else path)
            )


def _line(meta: Any, path: str, *, long: bool, human: bool) -> str:
    if not long:
        return path
    return f"{moment(meta['last_modified'])} {size_text(meta['size'], human=human):>12} {path}"


def _level(place: Place, out: Output, *, long: bool, human: bool) -> bool:
    """One level; false where there is none: then the key may be an object's."""
    store, key = (LocalStore(place.path), "") if place.path is not None else (place.store, place.key)
    level = obstore.list_with_delimiter(store, key or None)
    if not level["objects"] and not level["common_prefixes"]:
        return False
    for prefix in level["common_prefixes"]:
        text = f"{prefix}/"
        out.line(f"{'':19} {'DIR':>12} {text}" if long else text, {"prefix": place.url(text)})
    for meta in sorted(level["objects"], key=lambda meta: meta["path"]):
        out.line(_line(meta, meta["path"], long=long, human=human), listed(meta, place.url(meta["path"])))
    return True


def _write_table(places: list[Place], include: Any, exclude: Any, arrow: str | None, parquet: str | None) -> None:
    try:
        import pyarrow as pa
    except ImportError:
        raise UsageError("--arrow and --parquet need pyarrow: pip install 'obstore[arrow]'") from None
    schema = pa.schema(
        [
            ("path", pa.string()),
            ("last_modified", pa.timestamp("us", "UTC")),
            ("size", pa.int64()),
            ("e_tag", pa.string()),
            ("version", pa.string()),
        ]
    )
    rows = (
        {**meta, "path": place.url(meta["path"]) if place.is_remote else meta["path"]}
        for place in places
        for meta in objects_below(place, include, exclude)
    )
    with contextlib.ExitStack() as files:
        writers: list[Any] = []
        if arrow:
            writers.append(files.enter_context(pa.ipc.new_file(arrow, schema)))
        if parquet:
            import pyarrow.parquet as pq

            writers.append(files.enter_context(pq.ParquetWriter(parquet, schema)))
        while batch := list(islice(rows, _TABLE_ROWS)):
            for writer in writers:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))


@click.command("find", short_help="Print the URLs of objects by name, size, age.")
@click.argument("urls", nargs=-1, required=True)
@click.option("--name", metavar="PATTERN", help="Only where the last part of the path matches.")
@click.option("--larger", type=Size(), metavar="SIZE", help="Only objects of more bytes.")
@click.option("--smaller", type=Size(), metavar="SIZE", help="Only objects of fewer bytes.")
@click.option("--newer", metavar="AGE", help="Only objects modified within so long: 90m, 2d ...")
@click.option("--older", metavar="AGE", help="Only objects modified longer ago.")
@click.option("--print0", "-0", is_flag=True, help="End lines with NUL, for xargs -0.")
@options.command(filters=True)
def find(
    urls: tuple[str, ...],
    name: str | None,
    larger: int | None,
    smaller: int | None,
    newer: str | None,
    older: str | None,
    print0: bool,
    include: Any,
    exclude: Any,
    connection: Connection,
    out: Output,
) -> None:
    """Print the URLs of objects that fulfil all conditions."""
    from obstore._bulk.match import compile_glob

    pattern = None if name is None else compile_glob(name)
    now = datetime.now(UTC)
    after = None if newer is None else now - _age(newer)
    before = None if older is None else now - _age(older)
    for url in urls:
        place = Place(url, connection)
        for meta in objects_below(place, include, exclude):
            path, size, modified = meta["path"], meta["size"], meta["last_modified"]
            if (
                (pattern is not None and not pattern.fullmatch(path.rpartition("/")[2]))
                or (larger is not None and size <= larger)
                or (smaller is not None and size >= smaller)
                or (after is not None and modified < after)
                or (before is not None and modified > before)
            ):
                continue
            text = place.url(path) if place.is_remote else path
            if print0:
                click.echo(text + "\0", nl=False)
            else:
                out.line(text, listed(meta, text))


def _age(text: str) -> timedelta:
    try:
        return timedelta(seconds=parse_duration(text, "age"))
    except (TypeError, ValueError) as error:
        raise click.BadParameter(str(error)) from None


@click.command("du", short_help="Count objects and bytes.")
@click.argument("urls", nargs=-1, required=True)
@click.option("--human", "-H", is_flag=True, help="Sizes as 1.5 MiB.")
@options.command(filters=True)
def du(urls: tuple[str, ...], human: bool, include: Any, exclude: Any, connection: Connection, out: Output) -> None:
    """Count objects and bytes below each URL."""
    for url in urls:
        count = total = 0
        place = Place(url, connection)
        for meta in objects_below(place, include, exclude):
            count += 1
            total += meta["size"]
        text = f"{size_text(total, human=human)} in {count:,} object{'' if count == 1 else 's'}: {place.text}"
        out.line(text, {"url": place.text, "objects": count, "bytes": total})


@click.command("stat", short_help="Show size, time, attributes, metadata.")
@click.argument("urls", nargs=-1, required=True)
@options.command()
def stat(urls: tuple[str, ...], connection: Connection, out: Output) -> None:
    """Show what is known of objects, attributes and metadata included."""
    for url in urls:
        place = Place(url, connection)
        store, key = place.opened("stat")
        with obstore.get(store, obstore.RawKey(key), options={"head": True}) as result:
            value = {**listed(result.meta, place.text), "attributes": dict(result.attributes)}
        lines = [f"{name + ':':<15}{text}" for name, text in value.items() if name != "attributes" and text is not None]
        lines += [f"{name + ':':<15}{text}" for name, text in value["attributes"].items()]
        out.line("\n".join(lines), value)


@click.command("cat", short_help="Write content to standard output.")
@click.argument("urls", nargs=-1, required=True)
@options.command()
def cat(urls: tuple[str, ...], connection: Connection, out: Output) -> None:  # noqa: ARG001 - all commands have it
    """Write the content of objects to standard output, one after the other."""
    for url in urls:
        for store, key in _each(Place(url, connection), "cat"):
            _pour(store, key, None)


@click.command("head", short_help="Write the first lines or bytes of objects.")
@click.argument("urls", nargs=-1, required=True)
@click.option("--bytes", "-c", "count", type=Size(), metavar="SIZE", help="So many bytes instead of lines.")
@click.option("--lines", "-n", type=click.IntRange(1), default=10, show_default=True, help="So many lines.")
@options.command()
def head(
    urls: tuple[str, ...],
    count: int | None,
    lines: int,
    connection: Connection,
    out: Output,  # noqa: ARG001
) -> None:
    """Write the first lines, or bytes, of objects to standard output; the rest is not fetched."""
    for url in urls:
        for store, key in _each(Place(url, connection), "head"):
            if count is not None:
                _pour(store, key, count)
            else:
                _pour_lines(store, key, lines)


def _each(place: Place, command: str) -> Iterator[tuple[Any, str]]:
    if not place.is_pattern or place.path is not None:
        yield place.opened(command)
        return
    for meta in objects_below(place):
        yield place.store, meta["path"]


def _pour(store: Any, key: str, count: int | None) -> None:
    result = obstore.get(store, obstore.RawKey(key), options=None if count is None else {"range": (0, count)})
    for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _pour_lines(store: Any, key: str, lines: int) -> None:
    with obstore.get(store, obstore.RawKey(key)) as result:
        for chunk in result.stream(min_chunk_size=64 << 10):
            parts = bytes(chunk).splitlines(keepends=True)[:lines]
            sys.stdout.buffer.write(b"".join(parts))
            lines -= sum(part.endswith(b"\n") for part in parts)
            if lines <= 0:
                break
    sys.stdout.buffer.flush()


@click.command("sign", short_help="Make URLs that give access for a while.")
@click.argument("urls", nargs=-1, required=True)
@click.option(
    "--expires", default="1h", show_default=True, metavar="AGE", help="How long the URL holds: 90s, 15m, 7d ..."
)
@click.option("--method", default="GET", show_default=True, help="What it allows: GET, PUT, HEAD, DELETE.")
@options.command()
def sign(urls: tuple[str, ...], expires: str, method: str, connection: Connection, out: Output) -> None:
    """Print URLs that give access without credentials for a while."""
    for url in urls:
        place = Place(url, connection)
        signed = obstore.sign(place.needs_store("sign"), method.upper(), place.key, expires_in=_age(expires))  # type: ignore[call-overload]
        out.line(signed, {"url": place.text, "signed": signed, "method": method.upper()})


COMMANDS = (ls, find, du, stat, cat, head, sign)

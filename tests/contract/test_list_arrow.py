"""Listings as Arrow: the same objects as dicts give, in every store, into every library, without a copy."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

import obstore as obs
from tests.fix_stores import Face, Subject

NAMES = ["path", "last_modified", "size", "e_tag", "version"]
TYPES = ["string", "timestamp[us, tz=UTC]", "int64", "string", "string"]
KEYS = ["a/1", "a/2", "b", "c/d/e", "c/é ü", "c/\U0001f600", "d'\"<&>"]


@pytest.fixture
def filled(quick: Subject) -> Subject:
    for number, key in enumerate(KEYS):
        obs.put(quick.store, key, b"x" * number)
    return quick


@pytest.fixture
def arro3():
    obs.set_options(arrow="arro3")
    yield
    obs.set_options(arrow="pyarrow")


def as_dicts(store: Any, prefix: str | None = None) -> list[dict[str, Any]]:
    return sorted((dict(item.items()) for item in obs.list(store, prefix)), key=lambda item: item["path"])


def rows(table: Any) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda item: item["path"])


def test_arrow_holds_what_dicts_hold(filled: Subject, face: Face):
    batches = face.items(face.list(filled.store, return_arrow=True))
    import pyarrow as pa

    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    assert rows(pa.Table.from_batches(batches)) == as_dicts(filled.store)
    schema = face.list(filled.store, return_arrow=True).schema
    assert (schema.names, list(map(str, schema.types))) == (NAMES, TYPES)
    assert [field.nullable for field in schema] == [False, False, False, True, True]
    assert rows(face.collect(face.list(filled.store, "c", return_arrow=True))) == as_dicts(filled.store, "c")


def test_arrow_batches_have_the_rows_asked_for(filled: Subject):
    sizes = [batch.num_rows for batch in obs.list(filled.store, chunk_size=3, return_arrow=True)]
    assert sizes == [3, 3, 1]
    assert rows(obs.list(filled.store, chunk_size=3, return_arrow=True).read_all()) == as_dicts(filled.store)


def test_arrow_level(filled: Subject, face: Face):
    level = face.list_with_delimiter(filled.store, "c", return_arrow=True)
    assert level["common_prefixes"] == ["c/d"]
    assert rows(level["objects"]) == [item for item in as_dicts(filled.store, "c") if item["path"].count("/") == 1]


def test_nothing_to_list_is_an_empty_table(quick: Subject):
    stream = obs.list(quick.store, "none", return_arrow=True)
    assert list(stream) == []
    assert stream.read_all().num_rows == stream.collect().num_rows == 0
    assert stream.read_all().schema.names == NAMES
    assert obs.list_with_delimiter(quick.store, "none", return_arrow=True)["objects"].num_rows == 0


def test_stream_is_a_table_to_whoever_reads_it(filled: Subject):
    """As often as it is asked for, and what was yielded is not in it."""
    import pyarrow as pa

    stream = obs.list(filled.store, chunk_size=2, return_arrow=True)
    first = next(stream)
    expected = rows(pa.table(stream))
    assert len(expected) == len(KEYS) - 2
    assert rows(pa.table(stream)) == rows(pa.RecordBatchReader.from_stream(stream).read_all()) == expected
    assert pa.schema(stream).names == NAMES
    assert rows(pa.Table.from_batches([first, *stream])) == as_dicts(filled.store)
    assert pa.table(stream).num_rows == 0


def test_async_reading(filled: Subject):
    async def main() -> Any:
        return await obs.list(filled.store, return_arrow=True).read_all_async()

    assert rows(asyncio.run(main())) == as_dicts(filled.store)


def test_arro3_objects(filled: Subject, arro3: None):
    import arro3.core
    import pyarrow as pa

    assert obs.get_options()["arrow"] == "arro3"
    stream = obs.list(filled.store, return_arrow=True)
    assert isinstance(stream.schema, arro3.core.Schema)
    batch = next(stream)
    assert isinstance(batch, arro3.core.RecordBatch)
    assert rows(pa.record_batch(batch)) == as_dicts(filled.store)
    assert isinstance(obs.list(filled.store, return_arrow=True).collect(), arro3.core.RecordBatch)
    level = obs.list_with_delimiter(filled.store, return_arrow=True)
    assert isinstance(level["objects"], arro3.core.Table)


def test_into_polars_duckdb_and_pandas(filled: Subject):
    import duckdb
    import pandas as pd
    import polars as pl

    wanted = as_dicts(filled.store)
    frame = pl.DataFrame(obs.list(filled.store, return_arrow=True))
    assert sorted(frame.to_dicts(), key=lambda item: item["path"]) == wanted
    assert pl.from_arrow(obs.list(filled.store, return_arrow=True)).len() == len(KEYS)

    listing = obs.list(filled.store, return_arrow=True)  # noqa: F841 - DuckDB finds it by its name
    found = duckdb.sql("select path, size from listing order by path").fetchall()
    assert found == [(item["path"], item["size"]) for item in wanted]
    assert duckdb.sql("select count(*) from listing").fetchall() == [(len(KEYS),)]

    table = obs.list(filled.store, return_arrow=True).read_all().to_pandas()
    assert sorted(table["path"]) == [item["path"] for item in wanted]
    assert str(table["last_modified"].dt.tz) == "UTC"
    assert isinstance(table, pd.DataFrame)


def test_columns_outlive_all_they_came_from():
    """Each column keeps the memory that it lies in; letting go of parts in any order does no harm."""
    import pyarrow as pa

    store = obs.MemoryStore()
    for number in range(2500):
        obs.put(store, f"k/{number:05}", b"")
    stream = obs.list(store, return_arrow=True)
    batches = list(stream)
    assert [batch.num_rows for batch in batches] == [1000, 1000, 500]
    paths = pa.chunked_array([batch.column("path") for batch in batches])
    table = pa.table(obs.list(store, return_arrow=True))
    del stream, batches
    obs.delete(store, [f"k/{number:05}" for number in range(2500)])
    del store
    gc.collect()
    assert paths.to_pylist() == table["path"].to_pylist() == [f"k/{number:05}" for number in range(2500)]
    table.validate(full=True)


def test_nothing_is_copied_on_the_way_to_pyarrow():
    store = obs.MemoryStore()
    obs.put(store, "a", b"")
    stream = obs.list(store, return_arrow=True)
    import pyarrow as pa

    one, two = pa.table(stream), pa.table(stream)
    for name in ("path", "last_modified", "size"):
        addresses = [[b.address for b in t[name].chunk(0).buffers() if b] for t in (one, two)]
        assert addresses[0] == addresses[1]


WITHOUT = """
import sys
for name in ("pyarrow", "arro3", "arro3.core"):
    sys.modules[name] = None
import obstore as obs, polars as pl
store = obs.MemoryStore()
obs.put(store, "a/b", b"123")
frame = pl.DataFrame(obs.list(store, return_arrow=True))
assert frame["path"].to_list() == ["a/b"] and frame["size"].to_list() == [3]
stream = obs.list(store, return_arrow=True)
for call in (lambda: next(stream), lambda: stream.schema, lambda: obs.list_with_delimiter(store, return_arrow=True)):
    try:
        call()
    except ImportError as error:
        assert "pip install pyarrow" in str(error) and "set_options" in str(error)
    else:
        raise SystemExit("no ImportError")
"""


def test_arro3_where_there_is_no_pyarrow():
    program = """
import sys
sys.modules["pyarrow"] = None
import obstore as obs
store = obs.MemoryStore()
obs.put(store, "a", b"1")
print(type(obs.list(store, return_arrow=True).collect()).__module__.partition(".")[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("arro3\n", "")


def test_without_pyarrow():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"return_arrow": "yes"}, TypeError),
        ({"concurrency": 0}, ValueError),
        ({"concurrency": "many"}, ValueError),
        ({"concurrency": 1.5}, TypeError),
        ({"concurrency": True}, TypeError),
        ({"concurrency": -1}, OverflowError),
        ({"chunk_size": -1, "return_arrow": True}, OverflowError),
    ],
)
def test_wrong_arguments_are_named_at_once(arguments: dict[str, Any], error: type[Exception]):
    with pytest.raises(error, match=next(iter(arguments))):
        obs.list(obs.MemoryStore(), **arguments)


def test_wrong_choices_are_named(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"^arrow must be one of 'pyarrow', 'arro3'"):
        obs.set_options(arrow="polars")
    monkeypatch.setattr("obstore._arrow._chosen", None)
    monkeypatch.setenv("OBSTORE_ARROW", "nanoarrow")
    with pytest.raises(ValueError, match=r"^OBSTORE_ARROW must be one of"):
        obs.list(obs.MemoryStore(), return_arrow=True)
    monkeypatch.setenv("OBSTORE_ARROW", "arro3")
    assert obs.get_options()["arrow"] == "arro3"


# ---- several requests at a time ------------------------------------------------------------------------------------


@pytest.fixture
def many(s3: Subject) -> Subject:
    for key in [*(f"data/{number:04}" for number in range(60)), "e", "é", "x/y", "\U0001f600"]:
        s3.judge_put(key, b"1")
    return s3


def test_listing_by_several_requests(many: Subject):
    """On real servers, each answer whole: in order, each key once; as dicts and as Arrow; under a prefix and after an offset."""
    wanted = many.judge_keys()
    assert [item["path"] for item in obs.list(many.store, concurrency="auto")] == wanted
    assert obs.list(many.store, concurrency=4, return_arrow=True).read_all()["path"].to_pylist() == wanted
    inside = [key for key in wanted if key.startswith("data/")]
    found = [item["path"] for item in obs.list(many.store, "data", offset="data/0010", concurrency=3)]
    assert found == [key for key in inside if key > "data/0010"]


def test_many_pages_by_several_requests(fake_s3):
    """In pages of a few, with failures on the way; what is given up half-way leaves nothing behind."""
    from obstore.store import S3Store
    from tests.servers.fakes3 import status

    fake_s3.page = 7
    keys = sorted([*(f"data/part-{number:05}" for number in range(300)), *(f"z/{number}" for number in range(50)), "a"])
    for key in keys:
        fake_s3.add(key, b"")
    store = S3Store(**fake_s3.config(), retry_config={"backoff": {"init_backoff": timedelta(milliseconds=1)}})
    assert [item["path"] for item in obs.list(store)] == keys
    for fault in (None, status(503)):
        if fault is not None:
            fake_s3.inject(fault, times=5, after=3)
        assert [item["path"] for item in obs.list(store, concurrency=8)] == keys
    assert [item["path"] for item in asyncio.run(gathered(store))] == keys
    half = obs.list(store, concurrency=8)
    assert [next(half)["path"] for _ in range(20)] == keys[:20]
    del half


async def gathered(store: Any) -> list[Any]:
    return [item async for item in obs.list(store, concurrency=8)]

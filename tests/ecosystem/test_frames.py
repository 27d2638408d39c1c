"""Tables through our stores: pandas, dask, polars, pyarrow, DuckDB, universal_pathlib, each reading what it wrote."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import duckdb
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from upath import UPath

import obstore as obs
from obstore.arrow import StoreHandler, filesystem, handler
from tests.ecosystem.conftest import CLOUDS, Place, make_place

pytestmark = pytest.mark.usefixtures("registered")

FRAME = pd.DataFrame({"n": range(1_000), "text": [f"row {n}" for n in range(1_000)]})
TABLE = pa.table({"n": list(range(10_000)), "part": [n % 3 for n in range(10_000)]})


def test_pandas(place: Place):
    options = {"storage_options": place.options} if place.options else {}
    for name, write, read in (
        ("csv", lambda url: FRAME.to_csv(url, index=False, **options), pd.read_csv),
        ("csv.gz", lambda url: FRAME.to_csv(url, index=False, **options), pd.read_csv),
        ("parquet", lambda url: FRAME.to_parquet(url, **options), pd.read_parquet),
        ("json", lambda url: FRAME.to_json(url, orient="records", **options), pd.read_json),
    ):
        # pandas itself takes file:// for an address to be fetched.
        url = f"{place.root if place.kind == 's3' else f'obstore+{place.root}'}/frame.{name}"
        write(url)
        pd.testing.assert_frame_equal(read(url, **options), FRAME, check_dtype=False)
    assert sorted(item["path"] for item in obs.list(place.store)) == [
        f"frame.{name}" for name in ("csv", "csv.gz", "json", "parquet")
    ]


def test_dask(place: Place):
    import dask
    import dask.bag

    with dask.config.set(scheduler="threads"):
        dask.bag.from_sequence(["a", "b", "c"], npartitions=3).to_textfiles(
            f"{place.root}/*.txt", storage_options=place.options
        )
        lines = dask.bag.read_text(f"{place.root}/*.txt", storage_options=place.options).map(str.strip).compute()
    assert sorted(lines) == ["a", "b", "c"]


def test_polars(place: Place):
    frame = pl.DataFrame({"n": range(1_000)})
    with fsspec.open(f"{place.root}/p.parquet", "wb", **place.options) as file:
        frame.write_parquet(file)
    with fsspec.open(f"{place.root}/p.parquet", "rb", **place.options) as file:
        assert pl.read_parquet(file).equals(frame)
    with obs.open_writer(place.store, "p.csv") as file:
        frame.write_csv(file)
    assert pl.read_csv(obs.open_reader(place.store, "p.csv")).equals(frame)
    dataset = ds.dataset("p.parquet", filesystem=filesystem(place.store))
    assert pl.scan_pyarrow_dataset(dataset).filter(pl.col("n") < 5).collect().height == 5


def test_pyarrow_through_fsspec(place: Place):
    fs = place.fs()
    path = f"{place.bare}/t.parquet"
    pq.write_table(TABLE, path, filesystem=fs)
    assert pq.ParquetFile(f"{place.root}/t.parquet", filesystem=fs).read().equals(TABLE)
    assert pq.read_table(path, filesystem=pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs))).equals(TABLE)
    ds.write_dataset(TABLE, f"{place.bare}/set", filesystem=fs, format="parquet", partitioning=["part"])
    found = ds.dataset(f"{place.bare}/set", filesystem=fs, partitioning=["part"])
    assert len(found.files) == 3
    assert found.count_rows() == 10_000


def test_pyarrow_through_its_own_interface(any_place: Place):
    if any_place.kind == "memory":
        any_place.store = obs.MemoryStore()
    fs = filesystem(any_place.store)
    assert fs == pa.fs.PyFileSystem(handler(any_place.store))
    assert fs.type_name == f"py::obstore:{type(any_place.store).__name__}"
    pq.write_table(TABLE, "d/t.parquet", filesystem=fs)
    assert pq.read_table("d/t.parquet", filesystem=fs).equals(TABLE)
    assert pq.read_table("d/t.parquet", filesystem=fs, columns=["part"]).num_rows == 10_000
    ds.write_dataset(TABLE, "set", filesystem=fs, format="parquet", partitioning=["part"])
    assert (
        ds.dataset("set", filesystem=fs, partitioning=["part"]).to_table(filter=ds.field("part") == 1).num_rows == 3_333
    )
    info = fs.get_file_info(["d", "d/t.parquet", "none", ""])
    assert [each.type.name for each in info] == ["Directory", "File", "NotFound", "Directory"]
    assert info[1].size == obs.head(any_place.store, "d/t.parquet")["size"]
    assert info[1].mtime == obs.head(any_place.store, "d/t.parquet")["last_modified"]
    assert sorted(each.path for each in fs.get_file_info(pa.fs.FileSelector(""))) == ["d", "set"]
    below = fs.get_file_info(pa.fs.FileSelector("set", recursive=True))
    assert sum(each.type is pa.fs.FileType.Directory for each in below) == 3
    with pytest.raises(FileNotFoundError):
        fs.get_file_info(pa.fs.FileSelector("none"))
    assert fs.get_file_info(pa.fs.FileSelector("none", allow_not_found=True)) == []
    with pytest.raises(FileNotFoundError):
        fs.open_input_file("none")
    with fs.open_input_file("d/t.parquet") as file:
        file.seek(4)
        assert file.read(10) == obs.get_range(any_place.store, "d/t.parquet", start=4, length=10)
        assert file.read_at(4, 0) == b"PAR1"
    fs.copy_file("d/t.parquet", "d/u.parquet")
    fs.move("d/u.parquet", "e/u.parquet")
    fs.move("e", "f")
    assert fs.get_file_info("f/u.parquet").is_file
    with pytest.raises(FileNotFoundError):
        fs.delete_file("e/u.parquet")
    fs.delete_file("f/u.parquet")
    fs.delete_dir("set")
    assert [item["path"] for item in obs.list(any_place.store)] == ["d/t.parquet"]
    with pytest.raises(NotImplementedError):
        fs.open_append_stream("d/t.parquet")
    fs.delete_dir_contents("", accept_root_dir=True)
    assert not list(obs.list(any_place.store))
    with pytest.raises(ValueError, match="store"):
        StoreHandler("store")


def test_duckdb(place: Place):
    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("obstore+" + place.root.partition("://")[0], **place.options))
        root = f"obstore+{place.root}"
        connection.sql("SELECT range AS n FROM range(1000)").write_parquet(f"{root}/d.parquet")
        total = connection.execute("SELECT sum(n) FROM read_parquet(?)", [f"{root}/*.parquet"]).fetchall()
    assert total == [(499_500,)]
    assert pq.read_table("d.parquet", filesystem=filesystem(place.store)).num_rows == 1_000


@pytest.mark.parametrize("kind", ["memory", "s3", *CLOUDS])  # local paths are pathlib's own
def test_universal_pathlib(request: pytest.FixtureRequest, kind: str):
    """After `register`. It takes no names with a plus, as ours are without."""
    place = make_place(kind, request)
    root = UPath(place.root, **place.options)
    assert type(root.fs).__module__ == "obstore.fsspec"
    (root / "a" / "c").mkdir(parents=True, exist_ok=True)
    (root / "a" / "b.txt").write_text("hello")
    assert (root / "a" / "b.txt").read_text() == "hello"
    assert [path.name for path in (root / "a").iterdir()] == ["b.txt"]
    assert [path.name for path in root.glob("*/*.txt")] == ["b.txt"]
    assert [path.name for path in root.rglob("*.txt")] == ["b.txt"]
    assert (root / "a").is_dir()
    assert (root / "a" / "b.txt").is_file()
    assert (root / "a" / "b.txt").stat().st_size == 5
    assert (root / "a" / "b.txt").parent == root / "a"
    with (root / "a" / "b.txt").open("rb") as file:
        assert file.seek(1) == 1
        assert file.read(2) == b"el"
    assert pickle.loads(pickle.dumps(root / "a" / "b.txt")).read_bytes() == b"hello"
    (root / "a" / "b.txt").rename(root / "a" / "d.txt")
    assert [(path.name, dirs, files) for path, dirs, files in (root / "a").walk()] == [("a", [], ["d.txt"])]
    (root / "a" / "d.txt").unlink()
    assert not (root / "a").exists()
    if kind == "s3":
        config = place.more["endpoint"].config(place.bare)
        del config["bucket"]
        store = obs.store.from_url(root / "pre", **config)
        obs.put(store, "k", b"1")
        assert (root / "pre" / "k").read_bytes() == b"1"


def test_paths_that_have_urls(tmp_path: Path):
    assert obs.store.from_url(tmp_path) == obs.LocalStore(tmp_path)
    with pytest.raises(TypeError, match="url"):
        obs.store.from_url(1)  # type: ignore[arg-type]


def test_csv_written_by_many_small_writes(place: Place):
    with obs.open_writer(place.store, "many.csv") as file:
        FRAME.to_csv(file, index=False)
    assert pd.read_csv(obs.open_reader(place.store, "many.csv")).equals(FRAME)
    counted = sum(1 for _ in itertools.islice(obs.open_reader(place.store, "many.csv"), 2_000))
    assert counted == 1_001

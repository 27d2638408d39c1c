"""Arrays through our stores: zarr and its own suite, xarray, HDF5, VirtualiZarr, zarrs, async-tiff, rustac, PIL."""

from __future__ import annotations

import asyncio
import io
import pickle
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import PIL.Image
import pytest
import xarray as xr
import zarr
import zarr.storage
from zarr.core.buffer import Buffer, cpu
from zarr.testing.store import StoreTests

import obstore as obs
from tests.ecosystem.conftest import Place, make_place

NUMBERS = np.arange(10_000, dtype="f8").reshape(100, 100)


class TestZarrSuite(StoreTests[zarr.storage.ObjectStore, cpu.Buffer]):
    """zarr's own suite of what a store has to do."""

    store_cls = zarr.storage.ObjectStore
    buffer_cls = cpu.Buffer

    @pytest.fixture(params=["local", "s3"])
    def store_kwargs(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"store": make_place(request.param, request).store, "read_only": False}

    @pytest.fixture
    def store(self, store_kwargs: dict[str, Any]) -> zarr.storage.ObjectStore:
        return self.store_cls(**store_kwargs)

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> zarr.storage.ObjectStore:
        return self.store_cls(**store_kwargs)

    async def get(self, store: zarr.storage.ObjectStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(obs.get(store.store, key).bytes())

    async def set(self, store: zarr.storage.ObjectStore, key: str, value: Buffer) -> None:
        obs.put(store.store, key, value.to_bytes())

    def test_store_repr(self, store: zarr.storage.ObjectStore) -> None:
        assert str(store) == f"object_store://{store.store!r}"

    def test_store_supports_writes(self, store: zarr.storage.ObjectStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: zarr.storage.ObjectStore) -> None:
        assert store.supports_listing


def cube(place: Place, name: str = "cube.zarr") -> Any:
    """A store for a zarr hierarchy below the place."""
    if place.kind == "local":
        return obs.LocalStore(Path(place.bare) / name, mkdir=True)
    return obs.S3Store(**place.more["endpoint"].config(place.bare), prefix=name)


def test_zarr_arrays(place: Place):
    root = zarr.storage.ObjectStore(cube(place))
    array = zarr.create_array(root, name="n", shape=NUMBERS.shape, chunks=(10, 10), shards=(50, 50), dtype="f8")
    array[:] = NUMBERS
    again = zarr.open_array(pickle.loads(pickle.dumps(root)), path="n", mode="r")
    assert (again[:] == NUMBERS).all()
    assert (again[5:17, 93:] == NUMBERS[5:17, 93:]).all()
    assert len(obs.list(cube(place), "n/c").collect()) == 4
    with pytest.raises(TypeError):
        zarr.storage.ObjectStore("store")


def test_zarr_through_fsspec(place: Place):
    from obstore.fsspec import FsspecStore

    fs = FsspecStore(place.root.partition("://")[0], asynchronous=True, **place.options)
    root = zarr.storage.FsspecStore(fs, path=f"{place.bare}/f.zarr")
    array = zarr.create_array(root, shape=NUMBERS.shape, chunks=(50, 50), dtype="f8")
    array[:] = NUMBERS
    assert (zarr.open_array(root, mode="r")[10:60, 70] == NUMBERS[10:60, 70]).all()


def test_zipped_zarr(place: Place, scratch: Path):
    with zarr.storage.ZipStore(scratch / "a.zip", mode="w") as zipped:
        zarr.create_array(zipped, shape=NUMBERS.shape, chunks=(50, 50), dtype="f8")[:] = NUMBERS
    obs.put(place.store, "a.zip", scratch / "a.zip")
    import zipfile

    with zipfile.ZipFile(obs.open_reader(place.store, "a.zip")) as archive:
        assert "zarr.json" in archive.namelist()


def test_xarray(place: Place):
    data = xr.Dataset({"t": (("y", "x"), NUMBERS)}, attrs={"title": "numbers"})
    root = zarr.storage.ObjectStore(cube(place))
    data.to_zarr(root, consolidated=False, zarr_format=3)
    xr.testing.assert_identical(xr.open_zarr(root, consolidated=False).load(), data)


@pytest.mark.usefixtures("registered")
def test_xarray_by_urls(place: Place, scratch: Path):
    """After `register`: xarray takes no protocols with a plus for such. Those go by fsspec's files and mappings."""
    data = xr.Dataset({"t": (("y", "x"), NUMBERS)}, attrs={"title": "numbers"})
    options = {"storage_options": place.options} if place.options else {}
    data.to_zarr(f"{place.root}/u.zarr", consolidated=False, zarr_format=3, **options)
    with xr.open_zarr(f"{place.root}/u.zarr", consolidated=False, **options) as found:
        xr.testing.assert_identical(found.load(), data)
    mapping = fsspec.get_mapper(f"obstore+{place.root}/u.zarr", **place.options, asynchronous=True)
    with xr.open_zarr(mapping, consolidated=False) as found:
        xr.testing.assert_identical(found.load(), data)
    data.to_netcdf(scratch / "a.nc", engine="h5netcdf")
    obs.put(place.store, "a.nc", scratch / "a.nc")
    opened = fsspec.open(f"obstore+{place.root}/a.nc", **place.options)
    with opened as file, xr.open_dataset(file, engine="h5netcdf") as found:
        assert (found["t"][10:20].values == NUMBERS[10:20]).all()
    if place.kind == "s3":
        with xr.open_dataset(f"{place.root}/a.nc", engine="h5netcdf", **options) as found:
            assert (found["t"].values == NUMBERS).all()


def test_hdf5(place: Place, scratch: Path):
    xr.Dataset({"t": (("y", "x"), NUMBERS)}).to_netcdf(scratch / "a.nc", engine="h5netcdf")
    obs.put(place.store, "a.nc", scratch / "a.nc")
    with h5py.File(obs.open_reader(place.store, "a.nc")) as file:
        assert (file["t"][10:20] == NUMBERS[10:20]).all()
    reader = obs.open_reader(place.store, "a.nc")
    with xr.open_dataset(reader, engine="h5netcdf") as data:
        assert (data["t"].values == NUMBERS).all()
    copy = pickle.loads(pickle.dumps(obs.open_reader(place.store, "a.nc")))
    with xr.open_dataset(copy, engine="h5netcdf") as data:
        assert float(data["t"].sum()) == NUMBERS.sum()


def test_virtualizarr(place: Place, scratch: Path):
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr import open_virtual_dataset
    from virtualizarr.parsers import HDFParser

    xr.Dataset({"t": (("y", "x"), NUMBERS)}).to_netcdf(scratch / "a.nc", engine="h5netcdf")
    obs.put(place.store, "a.nc", scratch / "a.nc")
    registry = ObjectStoreRegistry(
        {place.root if place.kind == "s3" else "file://": place.store if place.kind == "s3" else obs.LocalStore()}
    )
    url = f"{place.root}/a.nc"
    with open_virtual_dataset(url, registry=registry, parser=HDFParser(), loadable_variables=[]) as virtual:
        assert virtual["t"].shape == (100, 100)
    with open_virtual_dataset(url, registry=registry, parser=HDFParser(), loadable_variables=["t"]) as virtual:
        assert (virtual["t"].values == NUMBERS).all()


def test_virtualizarr_of_zarr(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Its parser of zarr reads listings as arro3's objects."""
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr import open_virtual_dataset
    from virtualizarr.parsers import ZarrParser

    monkeypatch.setenv("OBSTORE_ARROW", "arro3")
    xr.Dataset({"t": (("y", "x"), NUMBERS)}).to_zarr(
        zarr.storage.ObjectStore(cube(place)), consolidated=False, zarr_format=3, encoding={"t": {"chunks": (50, 50)}}
    )
    root = place.root if place.kind == "s3" else "file://"
    registry = ObjectStoreRegistry({root: place.store if place.kind == "s3" else obs.LocalStore()})
    url = f"{place.root}/cube.zarr"
    with open_virtual_dataset(url, registry=registry, parser=ZarrParser(), loadable_variables=[]) as virtual:
        manifest = virtual["t"].variable.data.manifest
        assert manifest.shape_chunk_grid == (2, 2)
        assert set(manifest.dict()) == {"0.0", "0.1", "1.0", "1.1"}
    with open_virtual_dataset(url, registry=registry, parser=ZarrParser(), loadable_variables=["t"]) as virtual:
        assert (virtual["t"].values == NUMBERS).all()


def test_icechunk_of_what_virtualizarr_found(request: pytest.FixtureRequest, scratch: Path):
    """References found through our store are kept in a repository, which then reads the object by itself."""
    import icechunk
    from obspec_utils.registry import ObjectStoreRegistry
    from virtualizarr import open_virtual_dataset
    from virtualizarr.parsers import HDFParser

    place = make_place("s3", request)
    endpoint = place.more["endpoint"]
    xr.Dataset({"t": (("y", "x"), NUMBERS)}).to_netcdf(scratch / "a.nc", engine="h5netcdf")
    obs.put(place.store, "a.nc", scratch / "a.nc")
    container = f"{place.root}/"
    config = icechunk.RepositoryConfig.default()
    reach = icechunk.s3_store(
        region=endpoint.region, endpoint_url=endpoint.url, allow_http=True, s3_compatible=True, force_path_style=True
    )
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(container, reach))
    keys = icechunk.s3_credentials(access_key_id=endpoint.access_key_id, secret_access_key=endpoint.secret_access_key)
    repository = icechunk.Repository.create(
        icechunk.in_memory_storage(),
        config,
        authorize_virtual_chunk_access=icechunk.containers_credentials({container: keys}),
    )
    session = repository.writable_session("main")
    registry = ObjectStoreRegistry({place.root: place.store})
    with open_virtual_dataset(
        f"{place.root}/a.nc", registry=registry, parser=HDFParser(), loadable_variables=[]
    ) as virtual:
        virtual.vz.to_icechunk(session.store)
    session.commit("references")
    with xr.open_zarr(repository.readonly_session("main").store, consolidated=False, zarr_format=3) as found:
        assert (found["t"].values == NUMBERS).all()


REBUILT = pytest.mark.filterwarnings("ignore:Successfully reconstructed a store defined in another Python module")


@REBUILT
def test_zarrs(place: Place):
    import zarrs  # noqa: F401 - registers its pipeline

    root = zarr.storage.ObjectStore(cube(place))
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = zarr.create_array(root, shape=NUMBERS.shape, chunks=(50, 50), dtype="f8")
        array[:] = NUMBERS
        assert (zarr.open_array(root, mode="r")[:] == NUMBERS).all()


def test_images(place: Place):
    picture = PIL.Image.fromarray(np.arange(256 * 256, dtype="u1").reshape(256, 256))
    for name in ("p.png", "p.tif"):
        with obs.open_writer(place.store, name) as file:
            packed = io.BytesIO()
            picture.save(packed, format="PNG" if name == "p.png" else "TIFF")
            file.write(packed.getbuffer())
        with PIL.Image.open(obs.open_reader(place.store, name)) as found:
            assert (np.asarray(found) == np.asarray(picture)).all()


def test_async_tiff(place: Place):
    from async_tiff import TIFF

    packed = io.BytesIO()
    PIL.Image.fromarray(np.arange(64 * 64, dtype="u1").reshape(64, 64)).save(
        packed, format="TIFF", tiffinfo={277: 1, 284: 1}
    )
    obs.put(place.store, "d/p.tif", packed.getvalue())

    async def main() -> tuple[int, int]:
        tiff = await TIFF.open("d/p.tif", store=place.store)
        return tiff.ifds[0].image_width, tiff.ifds[0].image_height

    assert asyncio.run(main()) == (64, 64)


@REBUILT
def test_rustac(place: Place):
    import rustac

    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "one",
        "geometry": {"type": "Point", "coordinates": [1.0, 2.0]},
        "bbox": [1.0, 2.0, 1.0, 2.0],
        "properties": {"datetime": "2026-01-01T00:00:00Z"},
        "links": [],
        "assets": {},
    }

    async def main() -> dict[str, Any]:
        await rustac.write("d/item.json", item, store=place.store)
        return await rustac.read("d/item.json", store=place.store)

    assert asyncio.run(main())["id"] == "one"
    assert obs.head(place.store, "d/item.json")["size"] > 100

"""The example that users copy: it finds nothing wrong with a sound store, and says so where a store is not."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from obstore.store import MemoryStore

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "bulk_download.py"
MIB = 2**20


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bulk_download", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sound_store_has_no_differences(example, capsys):
    store = MemoryStore()
    assert asyncio.run(example.round_trip(store, 100, 1000, 3 * MIB)) == []
    assert "compared 101 objects" in capsys.readouterr().out
    assert store.list().collect() == []


@pytest.mark.parametrize("key", ["demo/small/000042", "demo/large.bin"])
def test_one_flipped_bit_is_reported(example, monkeypatch, key):
    put = example.obs.put_async

    def flipping(store, path, body):
        if path == key:
            body = bytes([body[0] ^ 1, *body[1:]])
        return put(store, path, body)

    monkeypatch.setattr(example.obs, "put_async", flipping)
    assert asyncio.run(example.round_trip(MemoryStore(), 100, 1000, MIB)) == [f"{key}: downloaded bytes differ"]


def test_stray_object_is_reported(example, monkeypatch):
    put = example.obs.put_async

    def doubling(store, path, body):
        if path == "demo/small/000007":
            put(store, "demo/small/unasked", body)
        return put(store, path, body)

    monkeypatch.setattr(example.obs, "put_async", doubling)
    assert asyncio.run(example.round_trip(MemoryStore(), 10, 1000, MIB)) == [
        "the listing differs from what was uploaded",
        "1 objects are still listed after their deletion",
    ]


def test_mismatch_makes_the_program_fail(example, monkeypatch, capsys):
    async def one_problem(*_args):
        return ["demo/small/000001: downloaded bytes differ"]

    monkeypatch.setattr(example, "round_trip", one_problem)
    monkeypatch.setattr("sys.argv", ["bulk_download.py", "--bucket", "b", "--region", "us-east-1"])
    assert example.main() == 1
    assert "downloaded bytes differ" in capsys.readouterr().err

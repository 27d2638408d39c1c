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


def test_sound_store_has_no_differences(example, capsys, tmp_path):
    store = MemoryStore()
    assert asyncio.run(example.round_trip(store, 100, 1000, 3 * MIB, tmp_path)) == []
    assert "compared 101 objects: all equal" in capsys.readouterr().out
    assert store.list().collect() == []


def test_one_flipped_bit_is_reported(example, monkeypatch, tmp_path):
    put_many = example.bulk.put_many_async

    def flipping(store, items):
        body = items["demo/small/000042"]
        return put_many(store, {**items, "demo/small/000042": bytes([body[0] ^ 1, *body[1:]])})

    monkeypatch.setattr(example.bulk, "put_many_async", flipping)
    assert asyncio.run(example.round_trip(MemoryStore(), 100, 1000, MIB, tmp_path)) == [
        "small/000042: downloaded bytes differ",
        "1 objects differ when read into memory",
    ]


def test_stray_object_is_reported(example, monkeypatch, tmp_path):
    put_many = example.bulk.put_many_async
    monkeypatch.setattr(
        example.bulk, "put_many_async", lambda store, items: put_many(store, {**items, "demo/small/unasked": b"x"})
    )
    assert asyncio.run(example.round_trip(MemoryStore(), 10, 1000, MIB, tmp_path)) == [
        "the listing differs from what was uploaded"
    ]

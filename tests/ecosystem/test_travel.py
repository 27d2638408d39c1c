"""Objects that travel: cloudpickle and dask's tokens."""

from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle
import pytest
from dask.base import tokenize

import obstore as obs
from tests.ecosystem.conftest import Place


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_stores_readers_results(place: Place, dumps):
    obs.put(place.store, "k", b"0123456789")
    store = pickle.loads(dumps(place.store))
    assert store == place.store
    reader = obs.open_reader(store, "k")
    reader.seek(3)
    assert pickle.loads(dumps(reader)).read() == b"3456789"
    result = obs.get(store, "k")
    copy = pickle.loads(dumps(result))
    assert (copy.meta, copy.range, copy.attributes) == (result.meta, result.range, result.attributes)
    assert copy.bytes() == result.bytes() == b"0123456789"
    with pytest.raises(ValueError, match="disposed"):
        pickle.loads(dumps(result)).bytes()
    assert b"".join(pickle.loads(dumps(obs.get(store, "k"))).stream()) == b"0123456789"
    writer = obs.open_writer(store, "k")
    with pytest.raises(TypeError, match="pickled"):
        dumps(writer)
    writer.abort()


def test_function_that_uses_a_store(place: Place):
    store = place.store
    obs.put(store, "k", b"1")

    def read() -> bytes:
        return bytes(store.get("k").bytes())

    assert pickle.loads(cloudpickle.dumps(read))() == b"1"


def test_tokens_are_the_same_for_the_same_data(place: Place):
    obs.put(place.store, "k", b"1")
    again = pickle.loads(pickle.dumps(place.store))
    assert tokenize(place.store) == tokenize(again)
    assert tokenize(obs.open_reader(place.store, "k")) == tokenize(obs.open_reader(again, "k"))
    assert tokenize(obs.get(place.store, "k")) == tokenize(obs.get(again, "k"))
    before = tokenize(obs.get(place.store, "k"))
    obs.put(place.store, "k", b"22")
    assert tokenize(obs.get(place.store, "k")) != before
    assert tokenize(obs.MemoryStore()) != tokenize(obs.MemoryStore())
    if place.kind == "s3":
        other = obs.S3Store(**{**place.more["endpoint"].config(place.bare), "secret_access_key": "another"})
        assert tokenize(other) == tokenize(place.store)
        assert tokenize(obs.S3Store(**place.more["endpoint"].config(place.bare), prefix="p")) != tokenize(place.store)


def test_tokens_are_the_same_in_every_process_and_hold_no_secret():
    program = """
from dask.base import tokenize
import obstore as obs
store = obs.S3Store("b", region="r", access_key_id="AKID", secret_access_key="hidden", prefix="p")
token = store.__dask_tokenize__()
assert "hidden" not in repr(token) and "AKID" not in repr(token)
print(tokenize(store))
"""
    out = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(out) == 1

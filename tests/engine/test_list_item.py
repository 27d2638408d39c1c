"""`obstore.ListItem`: a dict that passes for a batch of itself."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from obstore import ListItem

META = {"path": "a/b", "size": 3, "e_tag": '"x"', "version": None}


@pytest.fixture
def item():
    return ListItem(META)


def test_is_a_dict_of_its_values(item):
    assert isinstance(item, dict)
    assert item == META
    assert len(item) == 4
    assert item["path"] == "a/b"
    assert item.get("size") == 3
    assert item.get("nothing", 7) == 7
    assert "path" in item
    assert "nothing" not in item
    assert list(item.keys()) == list(META)
    assert list(item.values()) == list(META.values())
    assert list(item.items()) == list(META.items())


def test_iterates_itself_once(item):
    found = list(item)
    assert len(found) == 1
    assert found[0] is item
    (only,) = item
    assert only is item
    assert [inner["path"] for inner in item] == ["a/b"]


def test_a_listing_reads_alike_by_object_and_by_batch(item):
    listing = [item, ListItem(META, path="c")]
    assert [entry["path"] for entry in listing] == ["a/b", "c"]
    assert [entry["path"] for batch in listing for entry in batch] == ["a/b", "c"]


@pytest.mark.parametrize("index", [0, -1])
def test_is_its_own_first_and_last(item, index):
    assert item[index] is item


@pytest.mark.parametrize("key", [1, -2, "nothing", None, (0,)])
def test_other_keys_are_missing(item, key):
    with pytest.raises(KeyError) as caught:
        item[key]
    assert caught.value.args == (key,)


@pytest.mark.parametrize(
    "plain", [dict, lambda item: {**item}, lambda item: item | {}, lambda item: {} | item, lambda item: dict(**item)]
)
def test_becomes_a_plain_dict(item, plain):
    made = plain(item)
    assert made == META
    assert type(made) in (dict, ListItem)
    assert sorted(key for key, _ in made.items()) == sorted(META)


def test_update_of_another_dict(item):
    other = {"size": 1}
    other.update(item)
    assert other == META


def test_is_json(item):
    assert json.loads(json.dumps(item)) == META
    assert json.loads(json.dumps([item], indent=1, sort_keys=True)) == [META]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, ListItem.copy])
def test_copies(item, duplicate):
    again = duplicate(item)
    assert type(again) is ListItem
    assert again is not item
    assert again == item
    again["size"] = 9
    assert item["size"] == 3
    assert again[0] is again


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(item, protocol):
    again = pickle.loads(pickle.dumps(item, protocol))
    assert type(again) is ListItem
    assert again == META
    assert ListItem.__module__ == "obstore"


def test_matches_as_a_mapping(item):
    match item:
        case {"path": path, "size": 3}:
            assert path == "a/b"
        case _:
            pytest.fail("did not match")


def test_repr_is_that_of_a_dict(item):
    assert repr(item) == repr(META)

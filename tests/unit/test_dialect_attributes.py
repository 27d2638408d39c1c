"""Names and values of object attributes."""

import pytest

from obstore._dialect.attributes import STANDARD, canonical_attributes, canonical_name, encode_tags


@pytest.mark.parametrize("name", STANDARD)
def test_every_spelling_of_a_standard_name(name):
    for spelling in (name, name.lower(), name.upper(), name.replace("-", ""), name.replace("-", "").lower()):
        assert canonical_name(spelling) == name


def test_others_are_metadata():
    assert canonical_name("Content_Type") == "Content_Type"
    assert canonical_attributes({"Owner": "x", "contenttype": "a", "CONTENT-TYPE": "b"}) == {
        "Owner": "x",
        "Content-Type": "b",
    }


def test_values_may_be_empty_or_not_ascii():
    assert canonical_attributes({"a": "", "b": "Zoë\t\U0001f600"}) == {"a": "", "b": "Zoë\t\U0001f600"}


@pytest.mark.parametrize("value", ["a\nb", "a\r\nx-evil: 1", "\0", "\x7f", "\x1f"])
def test_control_characters_are_refused(value):
    with pytest.raises(ValueError, match=r"attributes: .*'Content-Type' holds a control character"):
        canonical_attributes({"Content-Type": value})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "é", "a/b"])
def test_names_that_are_no_header_names_are_refused(name):
    with pytest.raises(ValueError, match="attributes: "):
        canonical_attributes({name: "x"})


@pytest.mark.parametrize("attributes", [{"a": 1}, {"a": None}, {1: "a"}, {"a": b"x"}])
def test_only_text(attributes):
    with pytest.raises(TypeError, match="attributes: "):
        canonical_attributes(attributes)


def test_tags_keep_their_order():
    assert encode_tags({"b": "1 2", "a&": "=", "é": ""}) == "b=1%202&a%26=%3D&%C3%A9="

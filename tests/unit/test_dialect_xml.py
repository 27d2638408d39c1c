"""The reader and writer of small XML documents."""

from xml.etree import ElementTree as ET

import pytest

from obstore._dialect.xml import XmlError, escape, parse, root_name


def test_reads_text_children_and_namespaces():
    root = parse(
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- <x> -->\n<a:R xmlns:a="u" b=">" c=\'"/>\'>\n'
        b"<K>1 &lt;&amp;&gt;&quot;&apos;&#65;&#x1F600;</K><K/><a:L>x<![CDATA[<&]]>y<i/>z</a:L ><?pi <?></a:R>\n<!---->"
    )
    assert root.name == "R"
    assert [(child.name, child.text) for child in root.children] == [
        ("K", "1 <&>\"'A\U0001f600"),
        ("K", ""),
        ("L", "x<&yz"),
    ]
    assert root.find("L") == "x<&yz"
    assert root.find("M") is None
    assert [element.name for element in root.descendants()] == ["R", "K", "K", "L", "i"]


def test_reads_characters_that_xml_forbids():
    assert parse(b"<k>&#0;&#x1;&#xD;\r\n\x02</k>").text == "\0\x01\r\r\n\x02"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"  ",
        b"text",
        b"<a>",
        b"<a></b>",
        b"</a>",
        b"<a/><b/>",
        b"<a/>text",
        b"<a>&x;</a>",
        b"<a>&#xD800;</a>",
        b"<a>&#x110000;</a>",
        b"<a>& </a>",
        b"<a b='</a>",
        b"<a><!-- </a>",
        b"<a>\xff</a>",
        b"<!DOCTYPE a><a/>",
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b"<a><!ENTITY x></a>",
        b"<a><></a>",
    ],
)
def test_refuses(document):
    with pytest.raises(XmlError):
        parse(document)


def test_depth_costs_no_stack():
    assert parse(b"<a>" * 50_000 + b"</a>" * 50_000).name == "a"


def test_hostile_markup_takes_linear_time():
    for piece in (b"<!--", b"<a ", b"<a b='", b"<![CDATA[", b"<?", b"&", b"<a b=/ "):
        with pytest.raises(XmlError):
            parse(b"<a>" + piece * 100_000)


@pytest.mark.parametrize(
    "text", ["plain/key.txt", "<&>\"'", "\t tab", "cr\rlf\n", "\x7f\x85\u2028", "é\U0001f600", "]]>"]
)
def test_escape_survives_parsers(text):
    document = f"<k>{escape(text)}</k>".encode()
    assert parse(document).text == text
    assert ET.fromstring(document).text == text


def test_escape_keeps_what_xml_cannot_hold():
    text = "".join(map(chr, range(0x20))) + "\ufffe\uffff"
    escaped = escape(text)
    assert escaped.isascii()
    assert escaped.isprintable()
    assert parse(f"<k>{escaped}</k>".encode()).text == text


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (b"<Error>", "Error"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>\n<!-- x --> <s:Error/>", "Error"),
        (b"<ErrorResponse>", "ErrorResponse"),
        (b"", None),
        (b"Error", None),
        (b"<!DOCTYPE html><html>", None),
    ],
)
def test_root_name(document, name):
    assert root_name(document) == name

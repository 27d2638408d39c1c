"""`obstore.Bytes` beside ``bytes``: what it shares, where it differs, and whose memory it shows."""

from __future__ import annotations

import array
import collections.abc
import copy
import ctypes
import gc
import io
import json
import operator
import pickle
import re
import weakref
from unittest import mock

import pytest

from obstore import Bytes

ALL = bytes(range(256))


def named(value: object) -> str:
    """The id of a parameter: its repr, which is the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


class Sub(Bytes):
    pass


# ---- making one ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(b"xabcx")[1:4],
        memoryview(b"abc").cast("c"),
        array.array("B", b"abc"),
        (ctypes.c_ubyte * 3)(*b"abc"),
        (ctypes.c_char * 3)(*b"abc"),
        Bytes(b"abc"),
        Sub(b"abc"),
    ],
    ids=lambda source: type(source).__name__,
)
def test_takes_any_run_of_unsigned_bytes(source):
    assert Bytes(source).to_bytes() == Bytes(buf=source).to_bytes() == b"abc"


def test_is_empty_by_default():
    assert Bytes() == Bytes(b"") == b""
    assert len(Bytes()) == 0


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("x", TypeError, "a bytes-like object is required, not 'str'"),
        ([1, 2], TypeError, "a bytes-like object is required, not 'list'"),
        (3, TypeError, "a bytes-like object is required, not 'int'"),
        (None, TypeError, "a bytes-like object is required, not 'NoneType'"),
        (array.array("i", [1]), BufferError, "buffer contents are not compatible with u8"),
        (array.array("b", [1]), BufferError, "buffer contents are not compatible with u8"),
        (memoryview(b"a").cast("?"), BufferError, "buffer contents are not compatible with u8"),
        ((ctypes.c_byte * 1)(), BufferError, "buffer contents are not compatible with u8"),
        (memoryview(b"abcdef")[::2], ValueError, "Buffer is not C contiguous"),
        (memoryview(b"abcdef")[::-1], ValueError, "Buffer is not C contiguous"),
        (memoryview(b"abcdef").cast("B", (2, 3)), ValueError, "Buffer must be one-dimensional"),
        (memoryview(b"a").cast("B", ()), ValueError, "Buffer must be one-dimensional"),
    ],
    ids=named,
)
def test_refuses_other_sources(source, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        Bytes(source)


@pytest.mark.parametrize("args", [(b"a", b"b"), (b"a", 1)])
def test_takes_one_argument(args):
    with pytest.raises(TypeError):
        Bytes(*args)
    with pytest.raises(TypeError):
        Bytes(buffer=b"a")


# ---- whose memory -------------------------------------------------------------------------------------

VIEWS = [
    lambda b: b,
    lambda b: b[1:],
    lambda b: b[1:][1:],
    lambda b: b.removeprefix(b"a"),
    lambda b: b.removesuffix(b"f"),
    memoryview,
    lambda b: memoryview(b[2:])[1:],
]


@pytest.mark.parametrize("view_of", VIEWS)
def test_view_pins_its_source(view_of):
    source = bytearray(b"abcdef")
    view = view_of(Bytes(source))
    with pytest.raises(BufferError):
        source.append(1)
    before = bytes(view)
    source[:] = b"ABCDEF"
    assert bytes(view) == before.upper(), "no copy was made"
    del view
    source.append(1)


@pytest.mark.parametrize(
    "copy_of",
    [
        lambda b: b[::2],
        lambda b: b[0:0],
        lambda b: b.lower(),
        lambda b: b.upper(),
        lambda b: b + b"",
        lambda b: b * 1,
        Bytes.to_bytes,
        copy.copy,
        copy.deepcopy,
    ],
)
def test_copy_lets_go_of_its_source(copy_of):
    source = bytearray(b"abcdef")
    made = copy_of(Bytes(source))
    source.append(1)
    before = bytes(made)
    source[:] = b"zzzzzzz"
    assert bytes(made) == before


def test_slice_outlives_what_it_was_cut_from():
    source = bytearray(1 << 20)
    whole = Bytes(source)
    piece = whole[1000:2000]
    source[1000:2000] = bytes(range(250)) * 4
    gone = weakref.ref(whole)
    del whole
    gc.collect()
    assert piece == bytes(range(250)) * 4
    if gone() is not None:  # a slice of a view keeps the view
        del piece
        assert gone() is None


def test_cycle_through_a_slice_is_collected():
    whole = Sub(bytearray(b"abcdef"))
    whole.piece = whole[1:]  # type: ignore[attr-defined]
    gone = weakref.ref(whole)
    del whole
    gc.collect()
    assert gone() is None


def test_exported_buffer_keeps_the_object():
    made = Bytes(b"abc") + b"def"  # memory of its own
    gone = weakref.ref(made)
    view = memoryview(made)
    del made
    assert gone() is not None
    assert view.tobytes() == b"abcdef"
    view.release()
    assert gone() is None


# ---- buffer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [Bytes(b"abc"), Bytes(bytearray(b"xabc"))[1:], Bytes(), Bytes(b"abc")[3:]], ids=named)
def test_exports_a_read_only_run_of_bytes(made):
    view = memoryview(made)
    assert view.readonly
    assert (view.format, view.itemsize, view.ndim, view.strides, view.nbytes) == ("B", 1, 1, (1,), len(made))
    assert view.c_contiguous
    assert view.obj is made
    with pytest.raises(TypeError, match="read-write"):
        io.BytesIO(b"abc").readinto(made)
    with pytest.raises(TypeError):
        view[:] = bytes(len(made))


def test_goes_where_bytes_go(tmp_path):
    made = Bytes(b"12")
    assert bytes(made) == bytearray(made) == b"12"
    assert b"".join([made, made]) == b"1212"
    assert b"%s!" % made == b"12!"
    assert int(made) == 12
    assert float(made) == 12.0
    path = tmp_path / "file"
    with path.open("wb") as file:
        assert file.write(made) == 2
        assert file.write(made[1:]) == 1
    assert path.read_bytes() == b"122"
    assert re.match(rb"(\d+)", made)[1] == b"12"  # type: ignore[index]


def test_numpy_reads_it_in_place():
    import numpy as np

    source = bytearray(range(10))
    made = np.frombuffer(Bytes(source)[2:], dtype=np.uint8)
    assert made.tolist() == list(range(2, 10))
    assert not made.flags.writeable
    source[2] = 77
    assert made[0] == 77
    assert Bytes(np.arange(5, dtype=np.uint8)) == bytes(range(5))
    with pytest.raises(BufferError):
        Bytes(np.arange(5, dtype=np.uint16))


@pytest.mark.parametrize("attempt", [lambda b: operator.setitem(b, 0, 1), lambda b: operator.delitem(b, 0)])
def test_cannot_be_changed(attempt):
    with pytest.raises(TypeError):
        attempt(Bytes(b"abc"))
    with pytest.raises(AttributeError):
        Bytes(b"abc").anything = 1  # type: ignore[attr-defined]


# ---- comparison ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        b"ab",
        bytearray(b"ab"),
        memoryview(b"ab"),
        memoryview(b"axbx")[::2],
        memoryview(b"ba")[::-1],
        array.array("B", b"ab"),
        (ctypes.c_ubyte * 2)(*b"ab"),
        Bytes(b"ab"),
        Sub(b"ab"),
        Bytes(b"xabx")[1:3],
        mock.ANY,
    ],
    ids=named,
)
def test_equals_the_same_bytes_in_any_buffer(other):
    made = Bytes(b"ab")
    assert made == other
    assert other == made
    assert not made != other  # noqa: SIM202 - the operator under test


@pytest.mark.parametrize(
    "other",
    [
        b"abc",
        b"a",
        b"",
        b"aB",
        memoryview(b"axcx")[::2],
        array.array("b", b"ab"),
        array.array("H", b"ab"),
        memoryview(b"ab").cast("B", (1, 2)),
        "ab",
        [97, 98],
        (97, 98),
        None,
        97,
        object,
    ],
    ids=named,
)
def test_differs_from_all_else(other):
    made = Bytes(b"ab")
    assert made != other
    assert other != made
    assert not made == other  # noqa: SIM201 - the operator under test


@pytest.mark.parametrize("operation", [operator.lt, operator.le, operator.gt, operator.ge])
@pytest.mark.parametrize("other", [Bytes(b"b"), b"b"], ids=named)
def test_has_no_order(operation, other):
    with pytest.raises(TypeError, match="not supported between instances of"):
        operation(Bytes(b"a"), other)


def test_has_no_hash():
    with pytest.raises(TypeError, match=r"unhashable type: 'obstore\.Bytes'"):
        hash(Bytes(b"a"))
    assert not isinstance(Bytes(), collections.abc.Hashable)


# ---- operators ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [b"b", bytearray(b"b"), memoryview(b"b"), Bytes(b"b"), b"", ALL], ids=named)
def test_adds_any_buffer(other):
    assert_is(Bytes(b"a") + other, b"a" + bytes(other))
    assert b"x" + Bytes(b"a") == b"xa"
    assert type(b"x" + Bytes(b"a")) is bytes


@pytest.mark.parametrize("other", ["b", 1, None, [1], array.array("i", [1]), memoryview(b"abcd")[::2]], ids=named)
def test_adds_nothing_else(other):
    with pytest.raises(TypeError, match=r"unsupported operand type\(s\) for \+"):
        Bytes(b"a") + other
    with pytest.raises(TypeError):
        "b" + Bytes(b"a")


@pytest.mark.parametrize("count", [0, 1, 2, 1000, True])
@pytest.mark.parametrize("content", [b"", b"a", b"abc"])
def test_repeats(content, count):
    assert_is(Bytes(content) * count, content * count)


@pytest.mark.parametrize(
    ("count", "kind"),
    [
        (-1, TypeError),
        (-(1 << 70), TypeError),
        (1.0, TypeError),
        ("a", TypeError),
        (None, TypeError),
        (1 << 62, OverflowError),
        (1 << 70, OverflowError),
        (1 << 61, MemoryError),
    ],
)
def test_does_not_repeat_so(count, kind):
    with pytest.raises(kind):
        Bytes(b"abc") * count


def test_is_repeated_from_the_right_only():
    with pytest.raises(TypeError):
        3 * Bytes(b"ab")


def test_augmented_assignment_makes_a_new_object():
    made = before = Bytes(b"ab")
    made += b"c"
    made *= 2
    assert_is(made, b"abcabc")
    assert before == b"ab"


@pytest.mark.parametrize("needle", [b"", b"a", b"c", b"bc", b"abc", b"abcd", b"x", b"ac", b"\0"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, Bytes])
def test_contains_as_bytes_does(needle, kind):
    for content in (b"abc", b"", b"a\0b", b"ab" * 500 + b"c"):
        assert (kind(needle) in Bytes(content)) is (needle in content)


@pytest.mark.parametrize(
    ("needle", "kind"),
    [
        (97, TypeError),
        ("a", TypeError),
        (None, TypeError),
        (array.array("i", [97]), BufferError),
        (memoryview(b"abcd")[::2], ValueError),
    ],
    ids=named,
)
def test_contains_takes_byte_strings_only(needle, kind):
    with pytest.raises(kind):
        needle in Bytes(b"a\0\0\0")  # noqa: B015 - raises


# ---- items --------------------------------------------------------------------------------------------


def test_iterates_over_integers():
    made = Bytes(ALL)
    assert list(made) == list(ALL)
    assert list(reversed(made)) == list(reversed(ALL))
    assert len(made) == 256
    assert list(Bytes()) == []
    iterator = iter(made)
    del made
    assert next(iterator) == 0


@pytest.mark.parametrize(("content", "truth"), [(b"", False), (b"\0", True), (b"ab", True)])
def test_truth_is_length(content, truth):
    assert bool(Bytes(content)) is truth


@pytest.mark.parametrize("index", [0, 1, 255, -1, -256, True])
def test_index(index):
    assert Bytes(ALL)[index] == ALL[index]


class Index:
    def __index__(self):
        return 2


def test_index_of_any_integer_type():
    assert Bytes(ALL)[Index()] == 2


@pytest.mark.parametrize("index", [3, -4, 1 << 40])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=r"^Index out of range$"):
        Bytes(b"abc")[index]


@pytest.mark.parametrize("index", [1 << 70, -(1 << 70)])
def test_index_beyond_all_sizes(index):
    with pytest.raises(IndexError):
        Bytes(b"abc")[index]


@pytest.mark.parametrize("index", ["a", 1.0, None, (0, 1), b"a"])
def test_index_of_another_type(index):
    with pytest.raises(TypeError):
        Bytes(b"abc")[index]


BOUNDS = [None, 0, 1, 3, 5, 6, 99, -1, -3, -6, -99, 1 << 70, -(1 << 70)]


@pytest.mark.parametrize("step", [None, 1, 2, 5, 99, -1, -2, -99, 1 << 70])
def test_slices_as_bytes_do(step):
    content = b"abcdef"
    for start in BOUNDS:
        for stop in BOUNDS:
            wanted = content[start:stop:step]
            assert_is(Bytes(content)[start:stop:step], wanted)
            assert_is(Bytes(b"__abcdef__")[2:-2][start:stop:step], wanted)


def test_slice_refusals():
    with pytest.raises(ValueError, match=r"^slice step cannot be zero$"):
        Bytes(b"abc")[::0]
    with pytest.raises(TypeError):
        Bytes(b"abc")["a":]  # type: ignore[misc]


# ---- methods ------------------------------------------------------------------------------------------

TEXTS = [
    b"",
    b"a",
    b"A",
    b"1",
    b" ",
    b"aB",
    b"a1",
    b"A1",
    b"a ",
    b" \t\n\r\x0b\x0c",
    b"\x1c",
    b"\x85",
    b"\xe9",
    b"a\0",
    b"1\0",
]


@pytest.mark.parametrize("name", ["isalnum", "isalpha", "isascii", "isdigit", "islower", "isspace", "isupper"])
def test_asks_what_bytes_asks(name):
    ask = operator.methodcaller(name)
    for content in (
        *TEXTS,
        *(bytes([c]) for c in ALL),
        *(b"a" + bytes([c]) for c in ALL),
        *(b"Z" + bytes([c]) for c in ALL),
    ):
        assert ask(Bytes(content)) is ask(content), content
    with pytest.raises(TypeError):
        getattr(Bytes(b"a"), name)(1)


def test_changes_case_as_bytes_does():
    assert_is(Bytes(ALL).lower(), ALL.lower())
    assert_is(Bytes(ALL).upper(), ALL.upper())
    assert_is(Bytes().upper(), b"")


@pytest.mark.parametrize("name", ["removeprefix", "removesuffix"])
@pytest.mark.parametrize("affix", [b"", b"a", b"b", b"ab", b"ba", b"aba", b"abab", b"x"])
@pytest.mark.parametrize("kind", [bytes, bytearray, Bytes])
def test_removes_affixes_as_bytes_does(name, affix, kind):
    for content in (b"", b"a", b"aba"):
        made = Bytes(content)
        found = getattr(made, name)(kind(affix))
        wanted = getattr(content, name)(affix)
        assert_is(found, wanted)
        assert (found is made) is (wanted == content)


@pytest.mark.parametrize("name", ["removeprefix", "removesuffix"])
def test_affix_refusals(name):
    remove = getattr(Bytes(b"ab"), name)
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        remove("a")
    with pytest.raises(TypeError):
        remove()
    with pytest.raises(TypeError):
        remove(buf=b"a")
    with pytest.raises(BufferError):
        remove(array.array("i", [1]))


def test_to_bytes():
    assert Bytes(ALL).to_bytes() == ALL
    assert type(Bytes(ALL).to_bytes()) is bytes


def test_has_the_published_methods_and_no_more():
    assert {name for name in dir(Bytes) if not name.startswith("_")} == {
        *("isalnum", "isalpha", "isascii", "isdigit", "islower", "isspace", "isupper"),
        *("lower", "upper", "removeprefix", "removesuffix", "to_bytes"),
    }
    assert not isinstance(Bytes(), collections.abc.Sequence)
    with pytest.raises(TypeError):
        json.loads(Bytes(b"[1]"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        operator.index(Bytes(b"1"))  # type: ignore[arg-type]


# ---- as an object -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", r'Bytes(b"")'),
        (b"plain text", r'Bytes(b"plain text")'),
        (b"'\"", r"""Bytes(b"'\"")"""),
        (b"\\\n\r\t", r'Bytes(b"\\\n\r\t")'),
        (b"\0\x01\x0b\x0c\x1f \x7e\x7f\x80\xff", r'Bytes(b"\x00\x01\x0b\x0c\x1f ~\x7f\x80\xff")'),
        ("é".encode(), r'Bytes(b"\xc3\xa9")'),
    ],
)
def test_repr(content, text):
    assert repr(Bytes(content)) == str(Bytes(content)) == f"{Bytes(content)}" == text


def test_repr_is_an_expression():
    assert eval(repr(Bytes(ALL))) == ALL  # noqa: S307 - our own


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("made", [Bytes(), Bytes(ALL), Bytes(bytearray(ALL))[3:9], Sub(b"abc")], ids=named)
def test_pickles(made, protocol):
    again = pickle.loads(pickle.dumps(made, protocol))
    assert again == made
    assert type(again) is type(made)


def test_pickle_names_the_public_class():
    assert b"obstore\n" in pickle.dumps(Bytes(b"ab"), 0).replace(b"cobstore", b"obstore")
    assert b"_core" not in pickle.dumps(Bytes(b"ab"), 2)
    assert (Bytes.__module__, Bytes.__qualname__) == ("obstore", "Bytes")
    assert Bytes(b"ab").__getnewargs_ex__() == ((b"ab",), {})


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies(duplicate):
    made = Sub(bytearray(b"abc"))
    again = duplicate(made)
    assert again == made
    assert type(again) is Sub


def test_weak_reference():
    made = Bytes(b"a")
    reference = weakref.ref(made)
    assert reference() is made
    del made
    assert reference() is None


def test_subclass_yields_plain_objects():
    made = Sub(b"Abc")
    for found in (
        made[1:],
        made[::2],
        made + b"x",
        made * 2,
        made.lower(),
        made.removeprefix(b"A"),
        made.removesuffix(b"c"),
    ):
        assert type(found) is Bytes
    assert made.removeprefix(b"x") is made
    made.note = "subclasses have a dict"  # type: ignore[attr-defined]


def assert_is(found: object, wanted: bytes) -> None:
    assert type(found) is Bytes
    assert found.to_bytes() == wanted

# Bytes: a view on a body or on any buffer. Included by _core.pyx.

# What bytes.isalnum() and its like say of each byte, one bit each; and what lower() and upper() make of it.
cdef enum:
    IS_ALNUM = 1
    IS_ALPHA = 2
    IS_ASCII = 4
    IS_DIGIT = 8
    IS_LOWER = 16
    IS_SPACE = 32
    IS_UPPER = 64

cdef unsigned char[256] _NATURE
cdef unsigned char[256] _LOWER
cdef unsigned char[256] _UPPER


def _fill_byte_tables():
    tests = [bytes.isalnum, bytes.isalpha, bytes.isascii, bytes.isdigit, bytes.islower, bytes.isspace, bytes.isupper]
    for c in range(256):
        byte = bytes([c])
        _NATURE[c] = sum(1 << bit for bit, test in enumerate(tests) if test(byte))
        _LOWER[c] = byte.lower()[0]
        _UPPER[c] = byte.upper()[0]


_fill_byte_tables()


cdef bint _holds_bytes(const Py_buffer *view) noexcept:
    """Whether the items are unsigned bytes; ctypes writes the byte order even for those."""
    cdef const char *kind = view.format
    if view.itemsize != 1:
        return False
    if kind == NULL:
        return True
    if kind[0] in (c"<", c">", c"=", c"@", c"!"):
        kind += 1
    return kind[0] in (c"B", c"c") and kind[1] == 0


cdef int _open_bytes(object buf, Py_buffer *view) except -1:
    """Export ``buf``, which must be one C-contiguous run of unsigned bytes; the caller releases ``view``."""
    if not PyObject_CheckBuffer(buf):
        raise TypeError(f"a bytes-like object is required, not '{type(buf).__name__}'")
    PyObject_GetBuffer(buf, view, PyBUF_FORMAT | PyBUF_ND | PyBUF_STRIDES)
    try:
        if not _holds_bytes(view):
            raise BufferError("buffer contents are not compatible with u8")
        if view.ndim != 1:
            raise ValueError("Buffer must be one-dimensional")
        if not PyBuffer_IsContiguous(view, c"C"):
            raise ValueError("Buffer is not C contiguous")
    except BaseException:
        PyBuffer_Release(view)
        raise
    return 0


@cython.no_gc_clear  # clearing _owner would take the memory away that _c_data points to
cdef class Bytes:
    """A read-only view on bytes, without a copy: a downloaded body, or any contiguous buffer given to it.

    Behaves much like ``bytes``: length, indexing, slicing (slices are views), comparison with any buffer, ``+``, ``*``,
    ``in``, iteration; exports the buffer protocol, so ``memoryview``, ``file.write``, ``numpy.frombuffer`` take it as it is.

    Args:
        buf: any C-contiguous one-dimensional buffer of unsigned bytes. It stays exported while this object lives.

    Raises:
        TypeError: ``buf`` has no buffer.
        BufferError: its items are not unsigned bytes.
        ValueError: it is not C-contiguous or not one-dimensional.
    """

    cdef const char *_c_data
    cdef Py_ssize_t _c_len
    cdef ob_block *_c_block  # one reference, or NULL
    cdef Py_buffer _c_view
    cdef bint _c_has_view
    cdef Bytes _owner  # the Bytes whose memory a slice shows, if that memory is a view
    cdef object __weakref__

    def __cinit__(self, buf=b""):
        self._c_data = b""
        self._c_len = 0
        self._c_block = NULL
        self._c_has_view = False
        if buf is _EMPTY:
            return
        _open_bytes(buf, &self._c_view)
        self._c_has_view = True
        self._c_data = <const char *>self._c_view.buf
        self._c_len = self._c_view.len

    def __dealloc__(self):
        if self._c_has_view:
            PyBuffer_Release(&self._c_view)
        ob_block_unref(self._c_block)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *>self._c_data, self._c_len, 1, flags)

    def __len__(self):
        return self._c_len

    def __bool__(self):
        return self._c_len != 0

    cdef Bytes _slice(self, Py_ssize_t start, Py_ssize_t length):
        cdef Bytes view = Bytes.__new__(Bytes, _EMPTY)
        if length > 0:
            view._c_data = self._c_data + start
            view._c_len = length
            if self._c_block != NULL:
                view._c_block = ob_block_ref(self._c_block)
            else:
                view._owner = self if self._owner is None else self._owner
        return view

    def __getitem__(self, key):
        cdef Py_ssize_t start, stop, step, length, index
        if isinstance(key, slice):
            PySlice_Unpack(key, &start, &stop, &step)
            length = PySlice_AdjustIndices(self._c_len, &start, &stop, step)
            if step == 1:
                return self._slice(start, length)
            return Bytes(PyBytes_FromStringAndSize(self._c_data, self._c_len)[key])
        index = PyNumber_AsSsize_t(key, IndexError)
        if index < 0:
            index += self._c_len
        if index < 0 or index >= self._c_len:
            raise IndexError("Index out of range")
        return <unsigned char>self._c_data[index]

    def __iter__(self):
        return iter(memoryview(self))

    def __contains__(self, needle):
        cdef Py_buffer view
        cdef const void *found
        _open_bytes(needle, &view)
        with nogil:
            found = memmem(self._c_data, <size_t>self._c_len, view.buf, <size_t>view.len)
        PyBuffer_Release(&view)
        return found != NULL

    def __eq__(self, other):
        cdef Py_buffer view
        if not PyObject_CheckBuffer(other):
            return NotImplemented
        try:
            PyObject_GetBuffer(other, &view, PyBUF_FULL_RO)
        except BufferError:
            return NotImplemented
        try:
            if not _holds_bytes(&view) or view.ndim != 1 or view.len != self._c_len:
                return False
            if PyBuffer_IsContiguous(&view, c"C"):
                return memcmp(view.buf, self._c_data, <size_t>self._c_len) == 0
        finally:
            PyBuffer_Release(&view)
        return self == memoryview(other).tobytes()  # with strides

    __hash__ = None

    def __add__(self, other):
        cdef Py_buffer view
        cdef Bytes result
        try:
            _open_bytes(other, &view)
        except (TypeError, BufferError, ValueError):
            return NotImplemented
        try:
            result = _bytes_of_size(self._c_len + view.len)
            memcpy(<char *>result._c_data, self._c_data, self._c_len)
            memcpy(<char *>result._c_data + self._c_len, view.buf, view.len)
            return result
        finally:
            PyBuffer_Release(&view)

    def __mul__(self, count):
        cdef Py_ssize_t i, n
        cdef Bytes result
        if not isinstance(count, int):
            return NotImplemented
        if count < 0:
            raise TypeError("cannot repeat bytes a negative number of times")
        if count and count > PY_SSIZE_T_MAX // max(1, self._c_len):
            raise OverflowError("repeated bytes are too long")
        n = count
        result = _bytes_of_size(n * self._c_len)
        for i in range(n):
            memcpy(<char *>result._c_data + i * self._c_len, self._c_data, self._c_len)
        return result

    def __repr__(self):
        cdef Py_ssize_t i
        cdef unsigned char c
        out = []
        for i in range(self._c_len):
            c = <unsigned char>self._c_data[i]
            out.append(_REPR[c])
        return 'Bytes(b"' + "".join(out) + '")'

    def __reduce__(self):
        return (type(self), (self.to_bytes(),))

    def __getnewargs_ex__(self):
        return ((self.to_bytes(),), {})

    def to_bytes(self):
        """A copy as ``bytes``."""
        return PyBytes_FromStringAndSize(self._c_data, self._c_len)

    def removeprefix(self, buf, /):
        """The rest after the prefix ``buf``, or this object where it does not start so."""
        cdef Py_buffer view
        cdef Py_ssize_t n
        cdef bint found
        _open_bytes(buf, &view)
        n = view.len
        found = 0 < n <= self._c_len and memcmp(self._c_data, view.buf, <size_t>n) == 0
        PyBuffer_Release(&view)
        return self._slice(n, self._c_len - n) if found else self

    def removesuffix(self, buf, /):
        """What is before the suffix ``buf``, or this object where it does not end so."""
        cdef Py_buffer view
        cdef Py_ssize_t n
        cdef bint found
        _open_bytes(buf, &view)
        n = view.len
        found = 0 < n <= self._c_len and memcmp(self._c_data + self._c_len - n, view.buf, <size_t>n) == 0
        PyBuffer_Release(&view)
        return self._slice(0, self._c_len - n) if found else self

    cdef bint _all_are(self, int nature) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self._c_len):
            if not _NATURE[<unsigned char>self._c_data[i]] & nature:
                return False
        return True

    cdef bint _cased(self, int nature, int other) noexcept nogil:
        """Whether one byte at least is of ``nature`` and none is of ``other``."""
        cdef Py_ssize_t i
        cdef int seen = 0
        for i in range(self._c_len):
            seen |= _NATURE[<unsigned char>self._c_data[i]]
            if seen & other:
                return False
        return seen & nature != 0

    cdef Bytes _mapped(self, const unsigned char *table):
        cdef Py_ssize_t i
        cdef Bytes result = _bytes_of_size(self._c_len)
        cdef unsigned char *target = <unsigned char *>result._c_data
        with nogil:
            for i in range(self._c_len):
                target[i] = table[<unsigned char>self._c_data[i]]
        return result

    def isalnum(self):
        """As ``bytes.isalnum``."""
        return self._c_len != 0 and self._all_are(IS_ALNUM)

    def isalpha(self):
        """As ``bytes.isalpha``."""
        return self._c_len != 0 and self._all_are(IS_ALPHA)

    def isascii(self):
        """As ``bytes.isascii``."""
        return self._all_are(IS_ASCII)

    def isdigit(self):
        """As ``bytes.isdigit``."""
        return self._c_len != 0 and self._all_are(IS_DIGIT)

    def islower(self):
        """As ``bytes.islower``."""
        return self._cased(IS_LOWER, IS_UPPER)

    def isspace(self):
        """As ``bytes.isspace``."""
        return self._c_len != 0 and self._all_are(IS_SPACE)

    def isupper(self):
        """As ``bytes.isupper``."""
        return self._cased(IS_UPPER, IS_LOWER)

    def lower(self):
        """As ``bytes.lower``."""
        return self._mapped(_LOWER)

    def upper(self):
        """As ``bytes.upper``."""
        return self._mapped(_UPPER)


@cython.no_gc
cdef class NewBytes:
    """A ``bytes`` object that nobody has seen yet: first a writable buffer, then a value."""

    cdef bytes _value

    def __cinit__(self, Py_ssize_t size):
        self._value = PyBytes_FromStringAndSize(NULL, size)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, PyBytes_AS_STRING(self._value), len(self._value), 0, flags)

    def value(self, Py_ssize_t size):
        """The first ``size`` bytes, once; nothing may be written from here on."""
        cdef bytes value = self._value
        self._value = b""
        return value if size == len(value) else value[:size]


# The names by which errors, help() and pickles know them.
(<PyTypeObject *>Bytes).tp_name = b"obstore.Bytes"


cdef object _EMPTY = object()  # what internal factories pass to make an empty Bytes
cdef list _REPR = []


def _fill_repr_table():
    named = {0x5C: "\\\\", 0x22: '\\"', 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
    for c in range(256):
        _REPR.append(named.get(c) or (chr(c) if 0x20 <= c < 0x7F else f"\\x{c:02x}"))


_fill_repr_table()


cdef Bytes _bytes_of_block(ob_block *block):
    """Takes over the caller's reference."""
    cdef Bytes result
    if block == NULL:
        raise MemoryError("out of memory for a response body")
    try:
        result = Bytes.__new__(Bytes, _EMPTY)
    except BaseException:
        ob_block_unref(block)
        raise
    result._c_block = block
    result._c_data = block.data
    result._c_len = <Py_ssize_t>block.len
    return result


cdef Bytes _bytes_of_size(Py_ssize_t size):
    cdef ob_block *block = ob_block_new(<size_t>size)
    if block != NULL:
        block.len = <size_t>size
    return _bytes_of_block(block)

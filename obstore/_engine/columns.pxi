# Rows of listings as Arrow columns, and the capsules by which they leave. Included by _core.pyx.

cdef extern from *:
    """
    /* Capsules call their destructor with what they hold; moved-out structures have no release callback left. */
    static void obstore_release_schema(PyObject *capsule) {
        struct ArrowSchema *s = PyCapsule_GetPointer(capsule, "arrow_schema");
        if (s->release != NULL) s->release(s);
        PyMem_Free(s);
    }
    static void obstore_release_array(PyObject *capsule) {
        struct ArrowArray *a = PyCapsule_GetPointer(capsule, "arrow_array");
        if (a->release != NULL) a->release(a);
        PyMem_Free(a);
    }
    static void obstore_release_stream(PyObject *capsule) {
        struct ArrowArrayStream *s = PyCapsule_GetPointer(capsule, "arrow_array_stream");
        if (s->release != NULL) s->release(s);
        PyMem_Free(s);
    }
    """
    void obstore_release_schema(object capsule)
    void obstore_release_array(object capsule)
    void obstore_release_stream(object capsule)


cdef class Columns:
    """Rows of a listing as Arrow columns ``path``, ``last_modified``, ``size``, ``e_tag`` and ``version``.

    One thread builds; from the first export on they are constant, and usable from any thread. Every Arrow library takes them
    without a copy, by the Arrow PyCapsule interface (https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html).

    Args:
        rows: how many to make room for.
    """

    cdef ob_columns *_c_columns

    def __cinit__(self, Py_ssize_t rows=0):
        self._c_columns = ob_columns_new(<size_t>max(0, rows))
        if self._c_columns == NULL:
            raise MemoryError("out of memory for a listing")

    def __dealloc__(self):
        ob_columns_unref(self._c_columns)

    def __reduce__(self):
        raise TypeError("columns cannot be pickled; the tables made of them can")

    def __len__(self):
        return <Py_ssize_t>ob_columns_rows(self._c_columns)

    @property
    def nbytes(self):
        """Bytes that the columns occupy."""
        return ob_columns_bytes(self._c_columns)

    def add(self, items):
        """Add ``ObjectMeta`` dicts."""
        cdef ob_row row
        cdef bytes path
        self._check_builder()
        for item in items:
            path = _utf8(item["path"])
            e_tag, version = item["e_tag"], item["version"]
            e_tag_text = None if e_tag is None else _utf8(e_tag)
            version_text = None if version is None else _utf8(version)
            row.path = PyBytes_AS_STRING(path)
            row.path_len = <size_t>len(path)
            row.e_tag = _c_text(e_tag_text)
            row.e_tag_len = 0 if e_tag_text is None else <size_t>len(e_tag_text)
            row.version = _c_text(version_text)
            row.version_len = 0 if version_text is None else <size_t>len(version_text)
            row.size = item["size"]
            row.modified_us = _us_of(item["last_modified"])
            _check_columns(ob_columns_add(self._c_columns, &row))

    def append(self, Columns other not None, Py_ssize_t start, Py_ssize_t stop):
        """Add rows ``start`` to ``stop`` (exclusive) of other columns."""
        self._check_builder()
        if not 0 <= start <= stop <= len(other):
            raise IndexError("row index out of range")
        _check_columns(ob_columns_append(self._c_columns, other._c_columns, <size_t>start, <size_t>stop))

    cdef int _check_builder(self) except -1:
        if ob_columns_is_shared(self._c_columns):
            raise RuntimeError("exported columns are constant")
        return 0

    def __arrow_c_schema__(self):
        """Capsule ``arrow_schema``."""
        return _schema_capsule()

    def __arrow_c_array__(self, requested_schema=None):
        """Capsules ``arrow_schema`` and ``arrow_array``. ``requested_schema``: ignored, the caller casts."""
        cdef ArrowArray *array
        schema = _schema_capsule()
        array = <ArrowArray *>PyMem_Malloc(sizeof(ArrowArray))
        if array == NULL:
            raise MemoryError("out of memory for a listing")
        array.release = NULL
        capsule = PyCapsule_New(array, "arrow_array", obstore_release_array)
        _check_columns(ob_columns_export(self._c_columns, array))
        return schema, capsule


class Schema:
    """The columns of a listing, for whoever reads the Arrow PyCapsule interface."""

    __slots__ = ()

    names = ("path", "last_modified", "size", "e_tag", "version")

    def __arrow_c_schema__(self):
        """Capsule ``arrow_schema``."""
        return _schema_capsule()


def column_stream(list batches not None):
    """Capsule ``arrow_array_stream`` of `Columns`, one batch each."""
    cdef Py_ssize_t i, n = len(batches)
    cdef ArrowArrayStream *stream
    cdef ob_columns **items = <ob_columns **>PyMem_Malloc(<size_t>max(1, n) * sizeof(ob_columns *))
    cdef int rc
    if items == NULL:
        raise MemoryError("out of memory for a listing")
    try:
        for i in range(n):
            items[i] = (<Columns?>batches[i])._c_columns
        stream = <ArrowArrayStream *>PyMem_Malloc(sizeof(ArrowArrayStream))
        if stream == NULL:
            raise MemoryError("out of memory for a listing")
        stream.release = NULL
        capsule = PyCapsule_New(stream, "arrow_array_stream", obstore_release_stream)
        _check_columns(ob_columns_stream(items, <size_t>n, stream))
        return capsule
    finally:
        PyMem_Free(items)


cdef object _schema_capsule():
    cdef ArrowSchema *schema = <ArrowSchema *>PyMem_Malloc(sizeof(ArrowSchema))
    if schema == NULL:
        raise MemoryError("out of memory for a listing")
    schema.release = NULL
    capsule = PyCapsule_New(schema, "arrow_schema", obstore_release_schema)
    _check_columns(ob_columns_schema(schema))
    return capsule


cdef int _check_columns(int rc) except -1:
    if rc == 0:
        return 0
    if rc == -2:
        raise OverflowError("one Arrow batch holds at most 2 GiB of text: read the listing in batches, or as a table")
    raise MemoryError("out of memory for a listing")


cdef bytes _utf8(str text):
    """UTF-8, or nearly: what came from undecodable bytes goes back to them, and becomes U+FFFD in the columns."""
    return text.encode("utf-8", "surrogateescape")


cdef object _EPOCH = datetime_new(1970, 1, 1, 0, 0, 0, 0, get_utc())


cdef int64_t _us_of(object moment) except? -1:
    """Microseconds since 1970 of an aware datetime."""
    since = moment - _EPOCH
    return since.days * 86400000000 + since.seconds * 1000000 + since.microseconds

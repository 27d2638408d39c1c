# List pages as Python objects. Included by _core.pyx.

cdef extern from *:
    """
    /* Up to 3.13 a dict is known to the garbage collector only once something is put in that may be part of a cycle, but for
     * those of subclasses, which are from the start: a collection would look at every object of a listing. From 3.14 on every
     * dict is known for ever. */
    #if PY_VERSION_HEX < 0x030E0000
    #define obstore_forget_until_needed(dict) PyObject_GC_UnTrack(dict)
    #else
    #define obstore_forget_until_needed(dict) ((void)(dict))
    #endif
    """
    void obstore_forget_until_needed(object dict_)

cdef extern from "Python.h":
    list PyList_New(Py_ssize_t size)
    void PyList_SET_ITEM(object target, Py_ssize_t i, object item)

cdef class ListItem(dict):
    """One object of a listing: an ``ObjectMeta`` dict.

    Iterating it yields itself once and ``item[0]`` is itself, so that code written for batches
    (``for batch in obs.list(store): for obj in batch: ...``) and code written for single objects both work.
    ``keys()``, ``items()``, ``dict(item)``, ``**item`` and lookups are those of a dict.
    """

    def __iter__(self):
        return iter((self,))

    def __missing__(self, key):
        if key == 0 or key == -1:
            return self
        raise KeyError(key)

    def __reduce__(self):
        return (type(self), (dict(self.items()),))

    def copy(self):
        """A shallow copy of the same kind."""
        return ListItem(dict(self.items()))


(<PyTypeObject *>ListItem).tp_name = b"obstore.ListItem"


class Listing:
    """A page of a listing as parsed by the C core.

    Attributes:
        objects: `Rows`, paths without the prefix that was to be stripped.
        prefixes: common prefixes, likewise stripped, without their trailing slash.
        token: continuation token of the next page, or ``None``.
        marker: next marker (ListObjects V1), or ``None``.
        truncated: whether the page says that there are more.
    """

    __slots__ = ("marker", "objects", "prefixes", "token", "truncated")

    def __init__(self, objects, prefixes, token, marker, truncated):
        self.truncated = truncated
        self.objects = objects
        self.prefixes = prefixes
        self.token = token
        self.marker = marker


cdef class Rows:
    """The objects of a page: a sequence whose `ListItem` dicts are made one by one, when they are asked for.

    Constant once it was given away; any thread. Lives on the parser's memory, which it owns.
    """

    cdef ob_listxml *_c_list
    cdef ob_list_page _c_page
    cdef object _strip
    cdef const char *_c_strip  # the same, borrowed
    cdef Py_ssize_t _c_strip_len
    # Datetimes that were made, by their second: what was written together often shares it. No time at all: nothing was made.
    cdef int64_t[64] _c_moments
    cdef list _moments

    def __cinit__(self):
        cdef int i
        self._c_list = NULL
        for i in range(64):
            self._c_moments[i] = INT64_MIN
        self._moments = [_EPOCH] * 64

    def __dealloc__(self):
        ob_listxml_free(self._c_list)

    def __reduce__(self):
        raise TypeError("the rows of a page cannot be pickled")

    def __len__(self):
        return <Py_ssize_t>self._c_page.n_entries

    def __getitem__(self, index):
        cdef Py_ssize_t start, stop, step, i, n = <Py_ssize_t>self._c_page.n_entries
        if isinstance(index, slice):
            start, stop, step = index.indices(n)
            if step == 1:
                return self._items(start, max(start, stop))
            return [self._item(i) for i in range(start, stop, step)]
        i = PyNumber_AsSsize_t(index, IndexError)
        if i < 0:
            i += n
        if not 0 <= i < n:
            raise IndexError("row index out of range")
        return self._item(i)

    def key(self, index):
        """The key of an object as the server has it, but for the stripped front: bytes, as they are ordered."""
        cdef Py_ssize_t i = index, cut
        cdef const ob_list_entry *entry
        if not 0 <= i < <Py_ssize_t>self._c_page.n_entries:
            raise IndexError("row index out of range")
        entry = &self._c_page.entries[i]
        cut = self._cut_of(entry)
        return PyBytes_FromStringAndSize(self._c_page.text + entry.key_off + cut, entry.key_len - cut)

    def in_order(self):
        """Whether each key is greater than the one before it, byte by byte."""
        cdef const ob_list_entry *before
        cdef const ob_list_entry *entry
        cdef size_t i
        cdef int sign
        for i in range(1, self._c_page.n_entries):
            before = &self._c_page.entries[i - 1]
            entry = &self._c_page.entries[i]
            sign = memcmp(
                self._c_page.text + before.key_off, self._c_page.text + entry.key_off,
                min(before.key_len, entry.key_len),
            )
            if sign > 0 or (sign == 0 and before.key_len >= entry.key_len):
                return False
        return True

    def cut(self, n):
        """Keep the first ``n`` objects only. For whoever has the page to himself."""
        self._c_page.n_entries = min(self._c_page.n_entries, <size_t>max(0, <Py_ssize_t>n))

    def columns(self):
        """The same objects as Arrow `Columns`."""
        cdef Columns columns = Columns(len(self))
        cdef int rc
        with nogil:
            rc = ob_columns_add_page(columns._c_columns, &self._c_page, self._c_strip, <size_t>self._c_strip_len)
        _check_columns(rc)
        return columns

    cdef Py_ssize_t _cut_of(self, const ob_list_entry *entry) noexcept:
        """Bytes to take off the front of an entry's key."""
        if _starts_with(self._c_page.text + entry.key_off, entry.key_len, self._c_strip, self._c_strip_len):
            return self._c_strip_len
        return 0

    cdef list _items(self, Py_ssize_t start, Py_ssize_t stop):
        cdef list items = PyList_New(stop - start)
        cdef Py_ssize_t i
        for i in range(start, stop):
            item = self._item(i)
            Py_INCREF(item)  # the list takes it over
            PyList_SET_ITEM(items, i - start, item)
        return items

    cdef ListItem _item(self, Py_ssize_t i):
        cdef const ob_list_entry *entry = &self._c_page.entries[i]
        cdef const char *text = self._c_page.text
        cdef ListItem item = ListItem.__new__(ListItem)
        PyDict_SetItem(item, "path", _key_of(text + entry.key_off, entry.key_len, self._cut_of(entry)))
        PyDict_SetItem(item, "last_modified", self._datetime(entry.modified_us))
        PyDict_SetItem(item, "size", entry.size if entry.size >= 0 else 0)
        PyDict_SetItem(item, "e_tag", _optional(text, entry.etag_off, entry.etag_len))
        PyDict_SetItem(item, "version", _optional(text, entry.version_off, entry.version_len))
        obstore_forget_until_needed(item)
        return item

    @cython.cdivision(True)
    cdef object _datetime(self, int64_t us):
        cdef uint64_t slot = (<uint64_t>us // 1000000) & 63
        if us == INT64_MIN:
            return _EPOCH
        with cython.critical_section(self):
            if self._c_moments[slot] != us:
                self._moments[slot] = _datetime_of(us)
                self._c_moments[slot] = us
            return self._moments[slot]


cdef class Reader:
    """An iterator over the pages of a listing, as quick as C allows: the base of the streams that users see.

    What is at hand is ``_page`` (`Rows`, or a list of `ListItem`) from ``_position`` on; the class below fetches more. Each object
    goes to one caller, also where threads without a GIL in common take them at once.
    """

    cdef object _c_page
    cdef Rows _c_rows  # the same, where it is rows
    cdef Py_ssize_t _c_position
    cdef Py_ssize_t _c_stop

    def __cinit__(self, *args, **kwargs):
        self._c_page = []
        self._c_rows = None
        self._c_position = self._c_stop = 0

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            item = self._next_one()
            if item is not None:
                return item
            if not self._fetch_one():
                raise StopIteration

    def _fetch_one(self):
        """Have an object at hand. False: there is none left."""
        raise NotImplementedError

    @cython.critical_section
    def _set_page(self, page):
        """Now ``page`` is at hand, from its first object on."""
        self._c_page = page
        self._c_rows = page if type(page) is Rows else None
        self._c_position = 0
        self._c_stop = len(page)

    def _left(self):
        """Number of objects at hand."""
        return self._c_stop - self._c_position

    def _take_one(self):
        """The next object, or ``None`` where nothing is at hand."""
        return self._next_one()

    cdef object _next_one(self):
        cdef Py_ssize_t i
        cdef Rows rows
        with cython.critical_section(self):
            i = self._c_position
            if i >= self._c_stop:
                return None
            self._c_position = i + 1
            rows = self._c_rows
            if rows is None:
                return self._c_page[i]
        return rows._item(i)

    @cython.critical_section
    def _take(self, Py_ssize_t n):
        """A list of the next objects at hand, at most ``n``."""
        cdef Py_ssize_t start = self._c_position
        cdef Py_ssize_t stop = min(self._c_stop, start + max(0, n))
        self._c_position = stop
        return self._c_page[start:stop]


@cython.cdivision(True)
cdef object _datetime_of(int64_t us):
    """UTC datetime of microseconds since 1970 (civil-from-days, proleptic Gregorian)."""
    # LL: without it these numbers, and all that is computed with them, would be Python's.
    cdef int64_t days, rest, era, doe, yoe, doy, mp, year, month, day
    if us == INT64_MIN:
        return _EPOCH
    days = us // 86400000000LL
    rest = us - days * 86400000000LL
    if rest < 0:
        rest += 86400000000LL
        days -= 1
    days += 719468
    era = (days if days >= 0 else days - 146096) // 146097
    doe = days - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = mp + 3 if mp < 10 else mp - 9
    year = yoe + era * 400 + (1 if month <= 2 else 0)
    return datetime_new(
        <int>year, <int>month, <int>day, <int>(rest // 3600000000LL), <int>(rest // 60000000 % 60),
        <int>(rest // 1000000 % 60), <int>(rest % 1000000), get_utc(),
    )


cdef object _key_of(const char *text, Py_ssize_t size, Py_ssize_t strip):
    """The key after `strip` bytes; a RawKey where the plain string would be normalised to another key."""
    cdef const char *start = text + strip
    cdef Py_ssize_t n = size - strip
    key = PyUnicode_DecodeUTF8(start, n, "surrogateescape")
    if n == 0:
        return RawKey(key)
    if start[0] == c"/" or start[n - 1] == c"/" or ob_text_has_control(start, <size_t>n):
        return RawKey(key)
    return key

# List pages as Python objects. Included by _core.pyx.

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
        objects: `ListItem` dicts, paths without the prefix that was to be stripped.
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


cdef object _EPOCH_FALLBACK = datetime_new(1970, 1, 1, 0, 0, 0, 0, get_utc())


cdef object _datetime_of(int64_t us):
    """UTC datetime of microseconds since 1970 (civil-from-days, proleptic Gregorian)."""
    cdef int64_t days, rest, era, doe, yoe, doy, mp, year, month, day
    if us == INT64_MIN:
        return _EPOCH_FALLBACK
    days = us // 86400000000
    rest = us - days * 86400000000
    if rest < 0:
        rest += 86400000000
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
        <int>year, <int>month, <int>day, <int>(rest // 3600000000), <int>(rest // 60000000 % 60),
        <int>(rest // 1000000 % 60), <int>(rest % 1000000), get_utc(),
    )


cdef object _key_of(const char *text, Py_ssize_t size, Py_ssize_t strip):
    """The key after `strip` bytes; a RawKey where the plain string would be normalised to another key."""
    cdef const char *start = text + strip
    cdef Py_ssize_t n = size - strip, i
    cdef bint raw
    key = PyUnicode_DecodeUTF8(start, n, "surrogateescape")
    if n == 0:
        return RawKey(key)
    raw = start[0] == c"/" or start[n - 1] == c"/"
    if not raw:
        for i in range(n):
            if <unsigned char>start[i] < 0x20 or <unsigned char>start[i] == 0x7F:
                raw = True
                break
    return RawKey(key) if raw else key

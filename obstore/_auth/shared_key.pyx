"""Shared Key: how Azure's storage services sign requests, and the HMAC that shared access signatures are made with.

Everything here is pure: no clock, no network, no configuration. What is signed is what is sent: the path as it is
encoded in the URL, the values of the query decoded.
"""

cimport cython

import base64
import binascii
import time
from operator import itemgetter

from obstore._auth.sha256 cimport OB_SHA256_BYTES, ob_hmac, ob_hmac_key, ob_sha256

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef object b2a_base64 = binascii.b2a_base64
cdef object name_of = itemgetter(0)

cdef tuple DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
cdef tuple MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Dates are cheap to make again, so a full cache is simply emptied.
cdef Py_ssize_t MAX_DATES = 4
cdef dict dates = {}

# The headers whose values are signed in these places; the date is always sent as x-ms-date, which empties its own.
cdef dict PLACES = {
    "content-encoding": 0,
    "content-language": 1,
    "content-md5": 3,
    "content-type": 4,
    "if-modified-since": 6,
    "if-match": 7,
    "if-none-match": 8,
    "if-unmodified-since": 9,
    "range": 10,
}


def http_date(double now):
    """The time of a request as ``x-ms-date`` has it; made once a second.

    Args:
        now: seconds since the epoch.
    """
    cdef long long second = <long long>now
    found = dates.get(second)
    if found is None:
        parts = time.gmtime(second)
        found = (
            f"{DAYS[parts.tm_wday]}, {parts.tm_mday:02} {MONTHS[parts.tm_mon - 1]} {parts.tm_year:04} "
            f"{parts.tm_hour:02}:{parts.tm_min:02}:{parts.tm_sec:02} GMT"
        )
        if len(dates) >= MAX_DATES:
            dates.clear()
        dates[second] = found
    return found


@cython.final
cdef class Hmac:
    """HMAC-SHA256 under one key, as the two states that every signature starts from. Never changes.

    Neither ``repr`` nor a pickle shows the key.

    Args:
        key: the key in base64, as the service hands it out.

    Raises:
        ValueError: it is empty or not base64.
    """

    cdef ob_sha256 inner
    cdef ob_sha256 outer

    def __init__(self, str key not None):
        cdef bytes secret
        try:
            secret = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            del key
            raise ValueError("the key is not base64") from None
        if not secret:
            raise ValueError("the key is empty")
        ob_hmac_key(secret, len(secret), &self.inner, &self.outer)

    def __reduce__(self):
        raise TypeError("Hmac holds a secret and is not pickled")

    def states(self):
        """Both states, as the C core takes them: as secret as the key."""
        cdef bytes inner = (<const char*>&self.inner)[:sizeof(ob_sha256)]
        cdef bytes outer = (<const char*>&self.outer)[:sizeof(ob_sha256)]
        return inner + outer

    cpdef str sign(self, str text):
        """The signature of ``text``, in base64."""
        cdef unsigned char[OB_SHA256_BYTES] mac
        cdef Py_ssize_t size = 0
        cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
        ob_hmac(&self.inner, &self.outer, data, size, mac)
        return b2a_base64(mac[:OB_SHA256_BYTES], newline=False).decode("ascii")


def string_to_sign(
    str method not None, str account not None, str path not None, query, headers, long long length
):
    """What the signature of a request is made of.

    Source: "Authorize with Shared Key", learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key, in the form
    of version 2015-02-21 and later.

    Args:
        method: HTTP method in upper case.
        account: the account's name.
        path: absolute path, percent-encoded as it is sent.
        query: decoded name-value pairs.
        headers: name-value pairs, names in lower case, ``x-ms-date`` and ``x-ms-version`` included.
        length: bytes of the body.

    Raises:
        ValueError: a header value has a control character: it would be sent as something else than what is signed.
    """
    cdef list fields = ["", "", str(length) if length else "", "", "", "", "", "", "", "", ""]
    cdef list own = []
    cdef bint metadata = False
    for name, value in headers:
        if name.startswith("x-ms-"):
            metadata = metadata or name.startswith("x-ms-meta-")
            own.append((name, normal_value(name, value)))
        else:
            place = PLACES.get(name)
            if place is not None:
                fields[place] = value.strip(" \t")
    own.sort(key=_collation if metadata else name_of)
    cdef list lines = [method, *fields]
    for name, value in own:
        lines.append(f"{name}:{value}")
    lines.append(f"/{account}{path}")
    if query:
        lines.extend(canonical_query(query))
    return "\n".join(lines)


# The service does not sort by code points, as it says, but as dictionaries do: hyphens count only where all else is equal, other
# marks come before digits, digits before letters. It makes a difference among names of metadata only.
cdef dict MARKS = {ord(mark): chr(place) for place, mark in enumerate("!#$%&*.^_`|~+", 1)}
cdef dict LAST = {ord("-"): "\x7f"}


def _collation(pair):
    """Sort key of a header."""
    cdef str name = pair[0]
    return name.replace("-", "").translate(MARKS), name.translate(LAST)


cdef list canonical_query(query):
    """``name:value`` lines by name in lower case; values of a repeated name sorted, with commas between."""
    cdef dict found = {}
    for name, value in query:
        found.setdefault(name.lower(), []).append(value or "")
    return [f"{name}:{','.join(sorted(found[name]))}" for name in sorted(found)]


cdef str normal_value(str name, str value):
    """A header value as it is signed: runs of blanks are one, none at its ends."""
    if value.isprintable():
        if "  " not in value:
            return value.strip(" ")
    elif any([c < " " and c != "\t" or c == "\x7f" for c in value]):
        raise ValueError(f"header {name!r} has a control character in its value")
    return " ".join(value.split())


def authorize(
    Hmac hmac not None, str method not None, str account not None, str path not None, query, headers, long long length
):
    """The value of the ``authorization`` header; arguments as of `string_to_sign`."""
    return f"SharedKey {account}:{hmac.sign(string_to_sign(method, account, path, query, headers, length))}"

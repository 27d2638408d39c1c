"""AWS Signature Version 4: header signing and query signing, and the encodings that must agree with them.

Everything here is pure: no clock, no network, no configuration. What is sent must be what is signed, byte for
byte, so the encoders of keys and query strings live beside the signer and the dialects use no others.

Header values are signed as UTF-8, runs of blanks taken as one, which is how the services read them back.
"""

cimport cython

import base64
import time
from operator import itemgetter

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport free, malloc

from obstore._auth.sha256 cimport (
    OB_SHA256_BYTES,
    ob_hex,
    ob_hmac,
    ob_hmac_key,
    ob_sha256,
    ob_sha256_final,
    ob_sha256_has_pairs,
    ob_sha256_init,
    ob_sha256_update,
    ob_sha256_update_pair,
)

from obstore._lazy import setting_up

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeASCII(const char* data, Py_ssize_t size, const char* errors)
    object PyUnicode_FromObject(object text)

UNSIGNED = "UNSIGNED-PAYLOAD"

cdef str ALGORITHM = "AWS4-HMAC-SHA256"
cdef str EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
cdef object hashlib = None
cdef object name_of = itemgetter(0)

# Sent but not signed: what the transport adds or rewrites, and what proxies and tracers may change on the way.
cdef frozenset UNSIGNED_HEADERS = frozenset((
    "accept", "baggage", "connection", "content-length", "expect", "keep-alive", "proxy-authenticate",
    "proxy-authorization", "proxy-connection", "te", "traceparent", "tracestate", "trailer", "transfer-encoding",
    "upgrade", "user-agent", "x-amzn-trace-id",
))

# Keys and dates are cheap to make again, so a full cache is simply emptied.
cdef Py_ssize_t MAX_KEYS = 8
cdef Py_ssize_t MAX_DATES = 4


# ---- percent-encoding -------------------------------------------------------------------------------------------

cdef unsigned char UNRESERVED[256]
cdef int _code
for _code in range(256):
    UNRESERVED[_code] = _code in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

cdef const char* HEX = b"0123456789ABCDEF"


cdef str quote(object text, bint keep_slash):
    """Percent-encode the UTF-8 form of ``text``, all but RFC 3986's unreserved characters (and ``/`` if kept)."""
    cdef Py_ssize_t size = 0, i, unsafe = 0, at = 0
    cdef const unsigned char* data = <const unsigned char*>PyUnicode_AsUTF8AndSize(text, &size)
    cdef unsigned char c
    cdef char* out
    for i in range(size):
        c = data[i]
        if not UNRESERVED[c] and not (keep_slash and c == c"/"):
            unsafe += 1
    if unsafe == 0:
        return PyUnicode_FromObject(text)
    out = <char*>malloc(size + 2 * unsafe)
    if out == NULL:
        raise MemoryError
    try:
        for i in range(size):
            c = data[i]
            if UNRESERVED[c] or (keep_slash and c == c"/"):
                out[at] = <char>c
                at += 1
            else:
                out[at] = c"%"
                out[at + 1] = HEX[c >> 4]
                out[at + 2] = HEX[c & 15]
                at += 3
        return PyUnicode_DecodeASCII(out, at, NULL)
    finally:
        free(out)


def quote_key(key):
    """Percent-encode an object key for a URL path.

    Args:
        key: the key. Its UTF-8 bytes are encoded except ``A-Z a-z 0-9 - . _ ~ /``; nothing is normalised.

    Returns:
        The encoded key, pure ASCII, without a leading slash of its own.

    Raises:
        UnicodeEncodeError: the key holds a lone surrogate.
    """
    return quote(key, True)


def encode_query(query):
    """Encode a query string as it is sent: strictly by RFC 3986, in the given order.

    Args:
        query: decoded name-value pairs; a value of ``None`` sends the bare name.

    Returns:
        The text that follows ``?``; empty for no pairs.

    Raises:
        UnicodeEncodeError: a name or value holds a lone surrogate.
    """
    cdef list parts = []
    for name, value in query:
        parts.append(quote(name, False) if value is None else f"{quote(name, False)}={quote(value, False)}")
    return "&".join(parts)


cdef str canonical_query(query):
    """Sorted by encoded name, then by encoded value: pairs, because ``=`` sorts above digits, ``-`` and ``%``."""
    if not query:
        return ""
    cdef list pairs = [(quote(name, False), "" if value is None else quote(value, False)) for name, value in query]
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


# ---- payloads ---------------------------------------------------------------------------------------------------

cdef object load_hashlib():
    """The module, with the first body that is hashed: it loads OpenSSL, which programs that only read have no use for."""
    global hashlib
    if hashlib is None:
        with setting_up():  # forks wait for it
            import hashlib as module
        hashlib = module
    return hashlib


cdef object digest_of(object state, body):
    """Feed every buffer to a hash; hashlib releases the GIL for those above 2047 bytes."""
    for buffer in body:
        if type(buffer) is not bytes:
            buffer = memoryview(buffer)
            if buffer.ndim != 1:  # hashlib takes no others; an empty one cannot be cast
                if buffer.nbytes == 0:
                    continue
                buffer = buffer.cast("B")
        state.update(buffer)
    return state


def payload_hash(body):
    """SHA-256 of a request body.

    Args:
        body: C-contiguous buffers, sent one after the other, or ``None`` for no body.

    Returns:
        64 hexadecimal digits in lower case.
    """
    if not body:
        return EMPTY_SHA256
    return digest_of(load_hashlib().sha256(), body).hexdigest()


def hashes_pairs():
    """Whether this processor hashes two bodies beside each other in less time than one after the other."""
    return bool(ob_sha256_has_pairs())


def payload_hashes(bodies):
    """`payload_hash` of each body; those of a single buffer two at a time, where `hashes_pairs`."""
    cdef list hashes = []
    cdef Py_ssize_t i = 0, n = len(bodies)
    while i < n:
        if i + 1 < n and len(bodies[i]) == 1 and len(bodies[i + 1]) == 1:
            hashes += hash_pair(bodies[i][0], bodies[i + 1][0])
            i += 2
        else:
            hashes.append(payload_hash(bodies[i]))
            i += 1
    return hashes


cdef list hash_pair(object first, object second):
    cdef Py_buffer a, b
    cdef ob_sha256 sha_a, sha_b
    cdef size_t both
    cdef unsigned char[OB_SHA256_BYTES] digest_a, digest_b
    PyObject_GetBuffer(first, &a, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(second, &b, PyBUF_SIMPLE)
    except BaseException:
        PyBuffer_Release(&a)
        raise
    with nogil:
        both = <size_t>min(a.len, b.len)
        ob_sha256_init(&sha_a)
        ob_sha256_init(&sha_b)
        ob_sha256_update_pair(&sha_a, a.buf, &sha_b, b.buf, both)
        ob_sha256_update(&sha_a, <const char*>a.buf + both, <size_t>a.len - both)
        ob_sha256_update(&sha_b, <const char*>b.buf + both, <size_t>b.len - both)
        ob_sha256_final(&sha_a, digest_a)
        ob_sha256_final(&sha_b, digest_b)
    PyBuffer_Release(&b)
    PyBuffer_Release(&a)
    return [hex_of(digest_a), hex_of(digest_b)]


def content_md5(body):
    """MD5 of a request body, as the Content-MD5 header has it.

    Args:
        body: C-contiguous buffers, sent one after the other, or ``None`` for no body.

    Returns:
        The digest in base64.
    """
    return base64.b64encode(digest_of(load_hashlib().md5(usedforsecurity=False), body or ()).digest()).decode("ascii")


# ---- signing ----------------------------------------------------------------------------------------------------

def signing_key(str secret, str day, str region, str service):
    """The key that requests of a day are signed with.

    Args:
        secret: the secret access key.
        day: ``YYYYMMDD``, in UTC.
        region, service: of the credential scope.

    Returns:
        32 bytes.
    """
    cdef ob_sha256 inner, outer
    cdef unsigned char[OB_SHA256_BYTES] mac
    cdef bytes text = f"AWS4{secret}".encode()
    ob_hmac_key(text, len(text), &inner, &outer)
    for part in (day, region, service, "aws4_request"):
        text = part.encode()
        ob_hmac(&inner, &outer, <const char*>text, len(text), mac)
        ob_hmac_key(mac, OB_SHA256_BYTES, &inner, &outer)
    return (<const char*>mac)[:OB_SHA256_BYTES]


@cython.final
cdef class SigningKey:
    """A derived key as the two SHA-256 states of its HMAC, with the texts that go with it. Never changes."""

    cdef str scope
    cdef str credential
    cdef ob_sha256 inner
    cdef ob_sha256 outer

    def __cinit__(self, str secret, str access_key_id, str day, str region, str service):
        cdef bytes key = signing_key(secret, day, region, service)
        ob_hmac_key(key, len(key), &self.inner, &self.outer)
        self.scope = f"{day}/{region}/{service}/aws4_request"
        self.credential = f"{access_key_id}/{self.scope}"

    cdef str signature(self, str date, ob_sha256* canonical_request):
        """Sign what was fed to the hash, which is thereby finished."""
        cdef unsigned char[OB_SHA256_BYTES] digest
        cdef char[2 * OB_SHA256_BYTES] text
        cdef ob_sha256 sha = self.inner
        ob_sha256_final(canonical_request, digest)
        ob_hex(digest, text)
        feed(&sha, ALGORITHM)
        ob_sha256_update(&sha, b"\n", 1)
        feed(&sha, date)
        ob_sha256_update(&sha, b"\n", 1)
        feed(&sha, self.scope)
        ob_sha256_update(&sha, b"\n", 1)
        ob_sha256_update(&sha, text, 2 * OB_SHA256_BYTES)
        return self.mac(&sha)

    cdef str digest(self, str text):
        cdef ob_sha256 sha = self.inner
        feed(&sha, text)
        return self.mac(&sha)

    cdef str mac(self, ob_sha256* inner):
        """The rest of an HMAC whose text was fed to the inner hash."""
        cdef unsigned char[OB_SHA256_BYTES] digest
        cdef ob_sha256 sha = self.outer
        ob_sha256_final(inner, digest)
        ob_sha256_update(&sha, digest, OB_SHA256_BYTES)
        ob_sha256_final(&sha, digest)
        return hex_of(digest)


cdef int feed(ob_sha256* sha, str text) except -1:
    """Add a text in UTF-8."""
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    ob_sha256_update(sha, data, size)
    return 0


cdef int feed_line(ob_sha256* sha, str text) except -1:
    feed(sha, text)
    ob_sha256_update(sha, b"\n", 1)
    return 0


cdef str hex_of(const unsigned char* digest):
    cdef char[2 * OB_SHA256_BYTES] text
    ob_hex(digest, text)
    return PyUnicode_DecodeASCII(text, 2 * OB_SHA256_BYTES, NULL)


cdef str normal_value(str name, value):
    """A header value as it is signed: blanks trimmed, runs of them one space."""
    cdef Py_ssize_t size = 0, i
    cdef const unsigned char* data = <const unsigned char*>PyUnicode_AsUTF8AndSize(value, &size)
    cdef unsigned char c, previous = c" "
    cdef bint blanks = False
    for i in range(size):
        c = data[i]
        if c < 0x20 or c == 0x7F:
            if c != c"\t":  # would be sent as something else than what is signed
                raise ValueError(f"header {name!r} has a control character in its value")
            c = c" "
            blanks = True
        if c == c" " and previous == c" ":
            blanks = True
        previous = c
    if not blanks and (size == 0 or previous != c" "):
        return PyUnicode_FromObject(value)
    return " ".join([word for word in value.replace("\t", " ").split(" ") if word])


cdef str normal_path(str path):
    """Without empty, ``.`` and ``..`` segments; a trailing slash stays."""
    cdef list kept = []
    cdef str segment
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment and segment != ".":
            kept.append(segment)
    if not kept:
        return "/"
    return f"/{'/'.join(kept)}{'/' if path.endswith('/') else ''}"


@cython.final
cdef class Signer:
    """Signs requests for one service. Safe to share between threads and across forks.

    Derived keys are kept for the last few combinations of credential, day and region; neither ``repr`` nor a
    pickle shows them.

    Args:
        service: the service in the credential scope.
        normalize_path: sign the path without ``.``, ``..`` and empty segments. S3 wants it as it is.
        double_encode: sign the path percent-encoded once more. Every service but S3 wants that.
        payload_header: send ``x-amz-content-sha256``. S3 requires it.
        token_header: name under which a session token is sent.
    """

    cdef readonly str service
    cdef bint normalize_path
    cdef bint double_encode
    cdef bint payload_header
    cdef str token_header
    # Assigned once; threads meet only in the dicts, whose single operations are atomic.
    cdef dict keys
    cdef dict dates

    def __init__(
        self,
        str service not None="s3",
        *,
        bint normalize_path=False,
        bint double_encode=False,
        bint payload_header=True,
        str token_header not None="x-amz-security-token",
    ):
        self.service = service
        self.normalize_path = normalize_path
        self.double_encode = double_encode
        self.payload_header = payload_header
        self.token_header = token_header
        self.keys = {}
        self.dates = {}

    def __repr__(self):
        return f"Signer({self.service!r})"

    def __reduce__(self):
        options = (self.normalize_path, self.double_encode, self.payload_header, self.token_header)
        return _restore, (self.service, *options)

    cdef tuple date(self, double now):
        """``(20130524T000000Z, 20130524)``, made once a second."""
        cdef long long second = <long long>now
        cdef tuple found = self.dates.get(second)
        if found is None:
            text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            found = (text, text[:8])
            if len(self.dates) >= MAX_DATES:
                self.dates.clear()
            self.dates[second] = found
        return found

    cdef SigningKey key(self, str secret, str access_key_id, str day, str region):
        cdef tuple index = (secret, access_key_id, day, region)
        found = self.keys.get(index)
        if found is None:
            found = SigningKey(secret, access_key_id, day, region, self.service)
            if len(self.keys) >= MAX_KEYS:
                self.keys.clear()
            self.keys[index] = found
        return found

    cdef str canonical_path(self, str path):
        if self.normalize_path:
            path = normal_path(path)
        return quote(path, True) if self.double_encode else path

    def sign(
        self,
        str method not None,
        str host not None,
        str path not None,
        query,
        headers,
        str payload_hash not None,
        str access_key_id not None,
        str secret_access_key not None,
        str token,
        str region not None,
        double now,
    ):
        """Sign one request in its headers.

        Args:
            method: HTTP method in upper case.
            host: the host header as it is sent; with its port only where that is not the scheme's default.
            path: absolute path, percent-encoded as it is sent.
            query: decoded name-value pairs as `encode_query` sends them.
            headers: name-value pairs, names in lower case, without host. Those the signer sets are replaced.
            payload_hash: from `payload_hash`, or `UNSIGNED`.
            access_key_id: the public half of the credential.
            secret_access_key: the secret half.
            token: session token or ``None``.
            region: the region in the credential scope.
            now: seconds since the epoch, UTC, as the service's clock has it.

        Returns:
            All headers to send but host, in order: the given ones, then date, payload hash, token, authorization.

        Raises:
            ValueError: a header value has a control character, or ``host`` is among the headers.
        """
        cdef str date, day
        date, day = self.date(now)
        cdef SigningKey key = self.key(secret_access_key, access_key_id, day, region)
        cdef ob_sha256 sha
        cdef list own = [("x-amz-date", date)]
        if self.payload_header:
            own.append(("x-amz-content-sha256", payload_hash))
        if token is not None:
            own.append((self.token_header, token))

        cdef list sent = []
        cdef list signed = [("host", host), *own]
        for header in headers:
            name, value = header
            if name in UNSIGNED_HEADERS:
                sent.append(header)
            elif not self.is_own(name):
                sent.append(header)
                signed.append((name, normal_value(name, value)))

        cdef str names = signed_names(signed)
        cdef str signature = key.signature(date, self.canonical(&sha, method, path, query, signed, names, payload_hash))
        sent += own
        sent.append((
            "authorization", f"{ALGORITHM} Credential={key.credential}, SignedHeaders={names}, Signature={signature}"
        ))
        return sent

    cdef ob_sha256* canonical(
        self, ob_sha256* sha, str method, str path, query, list headers, str names, str payload_hash
    ) except NULL:
        """Feed the canonical request to a hash that begins here. ``headers`` are sorted; values of a repeated name are joined."""
        cdef str name, value, previous = None
        ob_sha256_init(sha)
        feed_line(sha, method)
        feed_line(sha, self.canonical_path(path))
        feed_line(sha, canonical_query(query))
        for name, value in headers:
            if name == previous:
                ob_sha256_update(sha, b",", 1)
            else:
                if previous is not None:
                    ob_sha256_update(sha, b"\n", 1)
                feed(sha, name)
                ob_sha256_update(sha, b":", 1)
            feed(sha, value)
            previous = name
        ob_sha256_update(sha, b"\n\n", 2)
        feed_line(sha, names)
        feed(sha, payload_hash)
        return sha

    cdef bint is_own(self, str name) except -1:
        """Whether the signer sets this header itself; the caller's would be sent beside it."""
        if name == "host":
            raise ValueError("host is not given among the headers")
        return (
            name == "authorization"
            or name == "x-amz-date"
            or name == self.token_header
            or (self.payload_header and name == "x-amz-content-sha256")
        )

    def presign(
        self,
        str method not None,
        str host not None,
        str path not None,
        query,
        headers,
        long long expires,
        str access_key_id not None,
        str secret_access_key not None,
        str token,
        str region not None,
        double now,
        str payload_hash not None=UNSIGNED,
    ):
        """Sign one request in its query string, for someone else to send.

        Args:
            method: HTTP method in upper case.
            host: the host header as it will be sent.
            path: absolute path, percent-encoded as it will be sent.
            query: further decoded name-value pairs to sign and to include.
            headers: name-value pairs that the sender must send as they are; names in lower case, without host.
                An ``x-amz-content-sha256`` among them stands for ``payload_hash``.
            expires: seconds from ``now`` for which the signature holds.
            access_key_id: the public half of the credential.
            secret_access_key: the secret half.
            token: session token or ``None``.
            region: the region in the credential scope.
            now: seconds since the epoch, UTC, as the service's clock has it.
            payload_hash: of the body that will be sent; `UNSIGNED` leaves it open.

        Returns:
            The whole query string, signature last; it follows ``?``.

        Raises:
            ValueError: ``expires`` is negative, a header value has a control character, or ``host`` is among
                the headers.
        """
        if expires < 0:
            raise ValueError(f"expires must not be negative, not {expires}")
        cdef str date, day
        date, day = self.date(now)
        cdef SigningKey key = self.key(secret_access_key, access_key_id, day, region)
        cdef ob_sha256 sha

        cdef list signed = [("host", host)]
        for name, value in headers:
            if name == "x-amz-content-sha256":  # the sender promises a certain body
                payload_hash = value
                signed.append((name, value))
            elif name == "content-length" or (name not in UNSIGNED_HEADERS and not self.is_own(name)):
                signed.append((name, normal_value(name, value)))
        cdef str names = signed_names(signed)

        cdef list pairs = [
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", key.credential),
            ("X-Amz-Date", date),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", names),
            *query,
        ]
        if token is not None:
            pairs.append(("X-Amz-Security-Token", token))
        cdef str signature = key.signature(date, self.canonical(&sha, method, path, pairs, signed, names, payload_hash))
        return f"{encode_query(pairs)}&X-Amz-Signature={signature}"

    def sign_policy(
        self,
        policy not None,
        str access_key_id not None,
        str secret_access_key not None,
        str token,
        str region not None,
        double now,
    ):
        """Sign the policy of a form upload.

        Args:
            policy: called with the fields that are part of the signature; returns the policy, encoded as it is sent.
            access_key_id: the public half of the credential.
            secret_access_key: the secret half.
            token: session token or ``None``.
            region: the region in the credential scope.
            now: seconds since the epoch, UTC, as the service's clock has it.

        Returns:
            A dict of the form's fields: those that ``policy`` was called with, policy and signature.
        """
        cdef str date, day
        date, day = self.date(now)
        cdef SigningKey key = self.key(secret_access_key, access_key_id, day, region)
        cdef dict fields = {"x-amz-algorithm": ALGORITHM, "x-amz-credential": key.credential, "x-amz-date": date}
        if token is not None:
            fields[self.token_header] = token
        cdef str encoded = policy(fields)
        return {**fields, "policy": encoded, "x-amz-signature": key.digest(encoded)}


cdef str signed_names(list headers):
    """Sort the headers by name; returns the names, each once."""
    cdef list names = []
    cdef str name, previous = None
    if len(headers) > 1:
        headers.sort(key=name_of)
    for name, _ in headers:
        if name != previous:
            names.append(name)
        previous = name
    return ";".join(names)


def _restore(service, normalize_path, double_encode, payload_header, token_header):
    """Make a `Signer` out of its pickle."""
    return Signer(
        service,
        normalize_path=normalize_path,
        double_encode=double_encode,
        payload_header=payload_header,
        token_header=token_header,
    )

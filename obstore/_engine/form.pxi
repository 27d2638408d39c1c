# Requests that differ in their key and body only: Form. Included by _core.pyx.

# What stands in a form for what differs between requests (csrc/ob_form.h).
MARK_HASH, MARK_CHECK, MARK_LENGTH, MARK_KEY = map(chr, (OB_MARK_HASH, OB_MARK_CHECK, OB_MARK_LENGTH, OB_MARK_KEY))
cdef dict FORM_SIGNING = {"sigv4": OB_SIGN_SIGV4, "shared_key": OB_SIGN_SHARED_KEY}
cdef dict FORM_CHECKS = {
    None: OB_DIGEST_NONE, "SHA256": OB_DIGEST_NONE, "CRC32": OB_DIGEST_CRC32, "CRC32C": OB_DIGEST_CRC32C,
    "CRC64NVME": OB_DIGEST_CRC64NVME,
}


cdef class Form:
    """What many requests have in common: the C core makes each of them out of it and a key. Immutable; any thread, any process.

    Args:
        form: a `RequestForm` of the dialect.
    """

    cdef ob_form *_c_form

    def __cinit__(self, form not None):
        self._c_form = _make_form(form)

    def __dealloc__(self):
        ob_form_free(self._c_form)

    def __reduce__(self):
        raise TypeError("a form cannot be pickled: it holds a signing key")


cdef ob_form *_make_form(form) except NULL:
    """The form as the C core has it; the caller frees it."""
    cdef ob_form_spec spec
    cdef ob_form *made
    signing, body = form.signing, form.body
    spec.signing = OB_SIGN_NOT if signing is None else <ob_signing><int>FORM_SIGNING[signing.kind]
    spec.check = <ob_digest_kind><int>FORM_CHECKS[form.check]
    spec.keep_slash = form.keep_slash
    texts = [text.encode() for text in (form.method, form.origin, form.path, form.suffix)]
    texts += [b""] * 4 if signing is None else [
        text.encode() for text in (signing.before, signing.after, signing.scope_text, signing.authorization)
    ]
    texts += [b""] * 2 if body is None else [text.encode() for text in body]
    spec.method = PyBytes_AS_STRING(texts[0])
    spec.origin = PyBytes_AS_STRING(texts[1])
    spec.path = PyBytes_AS_STRING(texts[2])
    spec.suffix = PyBytes_AS_STRING(texts[3])
    spec.before = PyBytes_AS_STRING(texts[4])
    spec.after = PyBytes_AS_STRING(texts[5])
    spec.scope_text = PyBytes_AS_STRING(texts[6])
    spec.authorization = PyBytes_AS_STRING(texts[7])
    spec.body_head = NULL if body is None else PyBytes_AS_STRING(texts[8])
    spec.body_tail = NULL if body is None else PyBytes_AS_STRING(texts[9])
    if signing is not None:
        _set_key(&spec, signing.kind, signing.key)
    lines = _header_lines(form.headers)
    made = ob_form_new(&spec, PyBytes_AS_STRING(lines), <size_t>len(lines))
    if made == NULL:
        raise MemoryError("out of memory for a form")
    return made


cdef int _set_key(ob_form_spec *spec, str kind, bytes key) except -1:
    """A derived key of 32 bytes, or both states of an HMAC."""
    cdef const char *data = PyBytes_AS_STRING(key)
    if kind == "sigv4" and len(key) == 32:
        ob_hmac_key(<const unsigned char *>data, 32, &spec.inner, &spec.outer)
    elif kind == "shared_key" and len(key) == 2 * sizeof(ob_sha256):
        memcpy(&spec.inner, data, sizeof(ob_sha256))
        memcpy(&spec.outer, data + sizeof(ob_sha256), sizeof(ob_sha256))
    else:
        raise ValueError("no key of a known form")
    return 0


cdef bytes _header_lines(headers):
    """``name NUL value NUL`` for each; what cannot stand in a header is refused where it is sent."""
    cdef list lines = []
    for name, value in headers:
        if "\0" in name or "\0" in value or not name:
            raise ValueError(f"the header {name!r} contains a control character")
        lines.append(f"{name}\0{value}\0")
    return "".join(lines).encode()

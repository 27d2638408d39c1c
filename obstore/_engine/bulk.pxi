# Many small reads at once, without Python between them: Bulk. Included by _core.pyx.

from _thread import allocate_lock

DIGEST_NONE = OB_DIGEST_NONE
DIGEST_AUTO = OB_DIGEST_AUTO
cdef tuple DIGEST_NAMES = ("", "auto", "crc32", "crc32c", "crc64nvme")
cdef tuple BULK_OUTCOMES = ("body", "partial", "status", "failed", "corrupt", "file", "unsafe")


cdef tuple _digest_of(const ob_digest *digest):
    return (<int>digest.kind, digest.value, digest.expected if digest.announced else None)


def digest_update(int kind, data, uint64_t value=0):
    """Checksum of ``data``, continuing ``value``; 0 for DIGEST_NONE."""
    cdef Py_buffer view
    cdef ob_digest digest
    digest.kind = <ob_digest_kind>kind
    digest.value = value
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            ob_digest_update(&digest, view.buf, <size_t>view.len)
        return digest.value
    finally:
        PyBuffer_Release(&view)


def digest_combine(int kind, uint64_t a, uint64_t b, uint64_t len_b):
    """Checksum of a followed by b, from both and the length of b."""
    return ob_digest_combine(<ob_digest_kind>kind, a, b, len_b)


def digest_name(int kind):
    """``crc32c`` ...; empty for none."""
    return DIGEST_NAMES[kind]


class BulkItem:
    """What `Bulk` does not settle by itself.

    Attributes:
        id, key, name: as fed.
        outcome: ``body`` (whole, in ``body``), ``partial`` (the first bytes of a larger object, in ``body`` or in the file ``part``),
            ``status`` (an answer other than 200), ``failed`` (no answer, or none that is whole; ``kind`` says how), ``corrupt``
            (not the checksum that was announced), ``file`` (``oserrno`` says what was wrong with it), ``unsafe`` (no name below
            the destination).
        size: of the whole object; -1 unknown.
        received: bytes that came.
        digest: ``(kind, value of the bytes that came, value announced for the whole object or None)``.
        modified: seconds since 1970; -1 unknown.
    """

    __slots__ = (
        "body", "digest", "e_tag", "id", "key", "kind", "modified", "name", "oserrno", "outcome", "part", "received",
        "size", "status",
    )


cdef object _bulk_text(const char *text):
    return None if text == NULL else (<bytes>text).decode("utf-8", "surrogateescape")


cdef object _bulk_item(const ob_bulk_item *item):
    result = BulkItem()
    result.id = item.id
    result.key = _bulk_text(item.key)
    result.name = _bulk_text(item.name)
    result.outcome = BULK_OUTCOMES[<int>item.outcome]
    result.kind = ob_kind_name(item.kind).decode()
    result.status = item.status
    result.oserrno = item.oserrno
    result.size = item.size
    result.received = item.received
    result.digest = _digest_of(&item.digest)
    result.modified = item.modified_s
    result.part = _bulk_text(item.part)
    result.e_tag = _bulk_text(item.e_tag)
    result.body = None
    if item.body != NULL:
        result.body = _bytes_of_block(ob_block_ref(item.body))
    return result


cdef class Bulk:
    """Reads many objects to files, or into memory; see csrc/ob_bulk.h.

    One thread at a time: `step` and the others exclude each other by a lock, so that `close` may come from elsewhere.

    Args:
        client: of the store.
        window: requests in flight.
        memory: bytes of bodies in flight or waiting; 0: no bound.
        piece: of larger objects only so many bytes are taken; 0: all.
        verify: compare with announced checksums.
        flat: refuse names with a slash.
        dir_fd, temp_fd: destination and place of unfinished files; -1: bodies stay in memory.
        journal_fd: gets 8 bytes for each finished file; -1: none.
    """

    cdef ob_bulk *_c_bulk
    cdef object _lock

    def __cinit__(
        self, Client client not None, *, int64_t window, int64_t memory=0, uint64_t piece=0, bint verify=True,
        bint flat=False, int dir_fd=-1, int temp_fd=-1, int journal_fd=-1,
    ):
        cdef ob_bulk_options options
        self._lock = allocate_lock()
        options.window = window
        options.memory = memory
        options.piece = piece
        options.to_files = dir_fd >= 0
        options.verify = verify
        options.flat = flat
        options.dir_fd = dir_fd
        options.temp_fd = temp_fd
        options.journal_fd = journal_fd
        self._c_bulk = ob_bulk_new(client._c_client, &options)
        if self._c_bulk == NULL:
            raise OSError("cannot begin a bulk transfer: out of memory or file descriptors")

    def __dealloc__(self):
        if self._c_bulk != NULL:
            ob_bulk_free(self._c_bulk, 1000)

    def __reduce__(self):
        raise TypeError("a bulk transfer cannot be pickled")

    def close(self):
        """Cancel what is in flight, wait for it, let go of everything. Any thread, any number of times."""
        cdef ob_bulk *bulk = self._c_bulk
        if bulk == NULL or ob_bulk_stale(bulk):
            return
        ob_bulk_cancel(bulk)  # before the lock: it ends a step that has it
        with self._lock:
            bulk, self._c_bulk = self._c_bulk, NULL
            if bulk != NULL:
                with nogil:
                    ob_bulk_free(bulk, 5000)

    cdef int _check(self) except -1:
        if self._c_bulk == NULL:
            raise ValueError("the bulk transfer is closed")
        if ob_bulk_stale(self._c_bulk):
            raise RuntimeError("this bulk transfer belongs to the parent process")
        return 0

    def set_form(self, str origin not None, str path not None, str suffix not None, bint keep_slash, headers, signing=None):
        """What all requests sent from now on have in common.

        Args:
            origin, path, suffix: of the URL: the key, percent-encoded, stands between the last two.
            keep_slash: whether slashes of keys are sent as they are.
            headers: ``(name, value)`` pairs.
            signing: ``None``, or what AWS Signature Version 4 needs: ``(canonical tail, scope text, authorization, key)``.
        """
        cdef ob_bulk_form form
        cdef const char *key
        texts = [text.encode() for text in (origin, path, suffix)]
        form.origin = PyBytes_AS_STRING(texts[0])
        form.path = PyBytes_AS_STRING(texts[1])
        form.suffix = PyBytes_AS_STRING(texts[2])
        form.keep_slash = keep_slash
        form.canonical_tail = form.scope_text = form.authorization = ""
        form.key_len = 0
        if signing is not None:
            texts += [text.encode() for text in signing[:3]]
            form.canonical_tail = PyBytes_AS_STRING(texts[3])
            form.scope_text = PyBytes_AS_STRING(texts[4])
            form.authorization = PyBytes_AS_STRING(texts[5])
            secret = <bytes?>signing[3]
            if len(secret) != 32:
                raise ValueError("a signing key has 32 bytes")
            key = PyBytes_AS_STRING(secret)
            memcpy(form.key, key, 32)
            form.key_len = 32
        lines = _header_lines(headers)
        with self._lock:
            self._check()
            if ob_bulk_set_form(self._c_bulk, &form, PyBytes_AS_STRING(lines), <size_t>len(lines)) != 0:
                raise MemoryError("out of memory for a bulk transfer, or a credential of unusual length")

    cdef list _add_rows(self, uint64_t first, Rows rows, Py_ssize_t cut, int64_t limit):
        """Feed a page as the C core parsed it: its keys never become Python's."""
        cdef size_t i
        cdef const ob_list_entry *entry
        cdef const char *key
        cdef Py_ssize_t key_len, strip
        cdef list skipped = []
        for i in range(rows._c_page.n_entries):
            entry = &rows._c_page.entries[i]
            key = rows._c_page.text + entry.key_off
            key_len = entry.key_len
            strip = rows._cut_of(entry)
            key += strip
            key_len -= strip
            if (
                (entry.size > limit >= 0) or key_len == 0 or key[key_len - 1] == c"/" or cut >= key_len
                or memchr(key, 0, <size_t>key_len) != NULL
            ):
                skipped.append(i)
            elif ob_bulk_add(
                self._c_bulk, first + i, key, key_len, key + cut if cut >= 0 else NULL, key_len - cut if cut >= 0 else 0,
                entry.size, NULL, 0, NULL, 0,
            ) != 0:
                raise MemoryError("out of memory for a bulk transfer")
        return skipped

    def add(self, uint64_t first, items not None, Py_ssize_t cut, int64_t limit):
        """Feed objects of a listing (`Rows`, or dicts with ``path`` and ``size``) or keys (``str``); ids count from ``first``.

        Args:
            first: id of the first one.
            items: what to feed.
            cut: characters, of `Rows` bytes, to take off the front of each key for the name of its file; -1: bodies have no names.
            limit: objects known to be larger are not fed.

        Returns:
            The indices of those that were not fed: larger ones, keys that are no UTF-8, and of `Rows` those that end with a slash.
        """
        cdef Py_ssize_t i, n = len(items), key_len, name_len
        cdef const char *key
        cdef const char *name
        cdef int64_t size
        cdef list skipped = []
        with self._lock:
            self._check()
            if isinstance(items, Rows):
                return self._add_rows(first, <Rows>items, cut, limit)
            for i in range(n):
                item = items[i]
                size = -1
                if isinstance(item, dict):
                    size = item["size"]
                    item = item["path"]
                if size > limit >= 0:
                    skipped.append(i)
                    continue
                try:
                    key = PyUnicode_AsUTF8AndSize(item, &key_len)
                except UnicodeEncodeError:
                    skipped.append(i)
                    continue
                name = NULL
                name_len = 0
                tail = item
                if cut > 0:
                    tail = item[cut:]
                if cut >= 0:
                    name = PyUnicode_AsUTF8AndSize(tail, &name_len)
                if memchr(key, 0, <size_t>key_len) != NULL:
                    skipped.append(i)
                    continue
                if ob_bulk_add(self._c_bulk, first + i, key, key_len, name, name_len, size, NULL, 0, NULL, 0) != 0:
                    raise MemoryError("out of memory for a bulk transfer")
        return skipped

    def add_request(self, uint64_t id_, str key not None, name, int64_t size, str url not None, headers):
        """Feed one object with a request of its own, ready to be sent."""
        cdef const char *name_text = NULL
        cdef Py_ssize_t key_len, name_len = 0, url_len
        cdef const char *key_text = PyUnicode_AsUTF8AndSize(key, &key_len)
        cdef const char *url_text = PyUnicode_AsUTF8AndSize(url, &url_len)
        if name is not None:
            name_text = PyUnicode_AsUTF8AndSize(name, &name_len)
        lines = _header_lines(headers)
        with self._lock:
            self._check()
            if ob_bulk_add(
                self._c_bulk, id_, key_text, key_len, name_text, name_len, size, url_text, url_len,
                PyBytes_AS_STRING(lines), <size_t>len(lines),
            ) != 0:
                raise MemoryError("out of memory for a bulk transfer")

    def step(self, double seconds, uint64_t low):
        """Work, without the GIL, for so long at most.

        Ends sooner where fewer than ``low`` keys are pending, something waits in `take`, nothing is left to do, or a signal came:
        its handler runs, and what it raises is raised.
        """
        cdef int ms = <int>(seconds * 1000)
        cdef ob_bulk *bulk
        with self._lock:
            self._check()
            bulk = self._c_bulk
            with nogil:
                ob_bulk_step(bulk, ms, low)
        _freeze_at_exit()
        PyErr_CheckSignals()

    def take(self):
        """What is left over: a list of `BulkItem`, or of ``(id, key, Bytes)`` for whole bodies."""
        cdef list taken = []
        cdef ob_bulk_item *item
        cdef ob_bulk_item *next_
        with self._lock:
            self._check()
            item = ob_bulk_take(self._c_bulk)
        while item != NULL:
            next_ = item.next
            try:
                if item.outcome == OB_BULK_BODY:
                    taken.append((item.id, _bulk_text(item.key), _bytes_of_block(ob_block_ref(item.body))))
                else:
                    taken.append(_bulk_item(item))
            finally:
                ob_bulk_item_free(item)
                item = next_
        return taken

    def counts(self):
        """``(done, bytes in them, pending, active, left)``."""
        cdef ob_bulk_counts counts
        with self._lock:
            self._check()
            ob_bulk_count(self._c_bulk, &counts)
        return (counts.done, counts.bytes, counts.pending, counts.active, counts.left)


def bytes_of_rows(Rows rows not None):
    """Sum of the sizes of a page's objects."""
    cdef int64_t total = 0
    cdef size_t i
    for i in range(rows._c_page.n_entries):
        if rows._c_page.entries[i].size > 0:
            total += rows._c_page.entries[i].size
    return total


cdef bytes _header_lines(headers):
    """``name NUL value NUL`` for each; what cannot stand in a header is refused where it is sent."""
    cdef list lines = []
    for name, value in headers:
        if "\0" in name or "\0" in value or not name:
            raise ValueError(f"the header {name!r} contains a control character")
        lines.append(f"{name}\0{value}\0")
    return "".join(lines).encode()

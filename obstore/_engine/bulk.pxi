# Many small transfers at once, without Python between them: Bulk. Included by _core.pyx.

from _thread import allocate_lock

DIGEST_NONE = OB_DIGEST_NONE
DIGEST_AUTO = OB_DIGEST_AUTO
DIGEST_MD5 = OB_DIGEST_MD5
cdef tuple DIGEST_NAMES = ("", "auto", "crc32", "crc32c", "crc64nvme", "md5")
cdef tuple BULK_OUTCOMES = ("body", "partial", "status", "failed", "corrupt", "file", "unsafe", "other")
BULK_FORMS = OB_BULK_FORMS


cdef tuple _digest_of(const ob_digest *digest):
    return (<int>digest.kind, digest.value, digest.expected if digest.announced else None)


def digest_update(int kind, data, uint64_t value=0):
    """Checksum of ``data``, continuing ``value``; 0 for DIGEST_NONE."""
    cdef Py_buffer view
    cdef ob_digest digest
    if kind == OB_DIGEST_MD5:
        raise ValueError("an MD5 cannot be continued: use hashlib")
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
            ``status`` (an answer that is no success), ``failed`` (no answer, or none that is whole; ``kind`` says how), ``corrupt``
            (not the checksum that was announced), ``file`` (``oserrno`` says what was wrong with it), ``unsafe`` (no name below
            the destination), ``other`` (to be sent: no regular file, or larger than a piece).
        size: of the whole object; -1 unknown.
        received: bytes that came.
        digest: ``(kind, value of the bytes that came, value announced for the whole object or None)``.
        modified: seconds since 1970; -1 unknown.
        body: what came, or what was to be sent.
        form: number of the form that it was to be sent by.
        forms: how many forms had been set when it was sent.
        transfer: of ``status`` and ``failed``: the `Transfer` of the attempt; ``None`` where nothing was sent.
    """

    __slots__ = (
        "body", "digest", "e_tag", "form", "forms", "id", "key", "kind", "modified", "name", "oserrno", "outcome", "part",
        "received", "size", "status", "transfer",
    )


cdef object _bulk_text(const char *text):
    return None if text == NULL else (<bytes>text).decode("utf-8", "surrogateescape")


cdef Transfer _ended_transfer(ob_transfer *x):
    """An attempt that was not made by `submit`, and has ended."""
    cdef Transfer transfer = Transfer.__new__(Transfer)
    transfer._c_xfer = ob_transfer_ref(x)
    transfer.ended = True
    transfer.events = OB_EVENT_END
    transfer._c_headed = True
    transfer.sink = SINK_COLLECT
    return transfer


cdef object _bulk_item(const ob_bulk_item *item):
    result = BulkItem()
    result.id = item.id
    result.form = item.form
    result.forms = item.forms
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
    result.transfer = None
    if item.body != NULL:
        result.body = _bytes_of_block(ob_block_ref(item.body))
    if item.transfer != NULL:
        result.transfer = _ended_transfer(item.transfer)
    return result


cdef const char *NO_CONTENT = ""


cdef bint _holds_nul(const ob_bulk_text *text) noexcept:
    return text.data != NULL and memchr(text.data, 0, text.len) != NULL


cdef int _set_text(ob_bulk_text *text, object value) except -1:
    """Borrowed: valid while the ``str`` lives."""
    cdef Py_ssize_t size
    text.data = PyUnicode_AsUTF8AndSize(value, &size)
    text.len = <size_t>size
    return 0


cdef class Bulk:
    """Reads many objects to files, or into memory, or writes many; see csrc/ob_bulk.h.

    One thread at a time: `step` and the others exclude each other by a lock, so that `close` may come from elsewhere.

    Args:
        client: of the store.
        window: requests in flight.
        memory: bytes of bodies in flight or waiting; 0: no bound.
        piece: of larger objects only so many bytes are taken, and larger files are not sent; 0: all.
        sends: objects are written.
        verify: compare with announced checksums.
        flat: refuse names with a slash.
        dir_fd, temp_fd: destination and place of unfinished files; -1: bodies stay in memory.
        journal_fd: gets 8 bytes for each finished file; -1: none.
    """

    cdef ob_bulk *_c_bulk
    cdef object _lock
    cdef list _has_form

    def __cinit__(
        self, Client client not None, *, int64_t window, int64_t memory=0, uint64_t piece=0, bint sends=False,
        bint verify=True, bint flat=False, int dir_fd=-1, int temp_fd=-1, int journal_fd=-1,
    ):
        cdef ob_bulk_options options
        self._lock = allocate_lock()
        self._has_form = [False] * OB_BULK_FORMS
        options.window = window
        options.memory = memory
        options.piece = piece
        options.sends = sends
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
        cdef ob_bulk *bulk
        with cython.critical_section(self):  # nobody frees it meanwhile
            if self._c_bulk == NULL or ob_bulk_stale(self._c_bulk):
                return
            ob_bulk_cancel(self._c_bulk)  # before the lock: it ends a step that has it
        with self._lock:
            with cython.critical_section(self):
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

    cdef int _check_form(self, Py_ssize_t number) except -1:
        if not 0 <= number < OB_BULK_FORMS or not self._has_form[number]:
            raise IndexError(f"there is no form {number}")
        return 0

    def set_form(self, int number, form not None):
        """What all requests sent by that number from now on have in common.

        Args:
            number: below `BULK_FORMS`.
            form: a `RequestForm` of the dialect.

        Returns:
            How many forms were set so far.
        """
        if not 0 <= number < OB_BULK_FORMS:
            raise IndexError(f"there is no form {number}")
        cdef ob_form *made = _make_form(form)
        with self._lock:
            try:
                self._check()
            except BaseException:
                ob_form_free(made)
                raise
            self._has_form[number] = True
            return ob_bulk_set_form(self._c_bulk, number, made)

    cdef int _feed(self, const ob_bulk_task *task) except -1:
        if ob_bulk_add(self._c_bulk, task) != 0:
            raise MemoryError("out of memory for a bulk transfer")
        return 0

    cdef list _add_rows(self, uint64_t first, Rows rows, Py_ssize_t cut, int64_t limit):
        """Feed a page as the C core parsed it: its keys never become Python's."""
        cdef size_t i
        cdef const ob_list_entry *entry
        cdef const char *key
        cdef Py_ssize_t key_len, strip
        cdef ob_bulk_task task
        cdef list skipped = []
        memset(&task, 0, sizeof(task))
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
                continue
            task.id = first + i
            task.key.data = key
            task.key.len = <size_t>key_len
            task.size = entry.size
            if cut >= 0:
                task.name.data = key + cut
                task.name.len = <size_t>(key_len - cut)
            self._feed(&task)
        return skipped

    def add(self, uint64_t first, items not None, Py_ssize_t cut, int64_t limit):
        """Feed objects of a listing (`Rows`, or dicts with ``path`` and ``size``) or keys (``str``), to be read by form 0.

        Args:
            first: id of the first one; they count from there.
            items: what to feed.
            cut: characters, of `Rows` bytes, to take off the front of each key for the name of its file; -1: bodies have no names.
            limit: objects known to be larger are not fed.

        Returns:
            The indices of those that were not fed: larger ones, keys that are no UTF-8, and of `Rows` those that end with a slash.
        """
        cdef Py_ssize_t i, n = len(items)
        cdef ob_bulk_task task
        cdef list skipped = []
        memset(&task, 0, sizeof(task))
        with self._lock:
            self._check()
            self._check_form(0)
            if isinstance(items, Rows):
                return self._add_rows(first, <Rows>items, cut, limit)
            for i in range(n):
                item = items[i]
                task.id = first + i
                task.size = -1
                if isinstance(item, dict):
                    task.size = item["size"]
                    item = item["path"]
                if task.size > limit >= 0:
                    skipped.append(i)
                    continue
                try:
                    _set_text(&task.key, item)
                except UnicodeEncodeError:
                    skipped.append(i)
                    continue
                if _holds_nul(&task.key):
                    skipped.append(i)
                    continue
                tail = item
                if cut > 0:
                    tail = item[cut:]
                if cut >= 0:
                    _set_text(&task.name, tail)
                self._feed(&task)
        return skipped

    def add_request(self, uint64_t id_, str key not None, name, int64_t size, str url not None, headers):
        """Feed one object with a request of its own, ready to be sent."""
        cdef ob_bulk_task task
        memset(&task, 0, sizeof(task))
        task.id = id_
        task.size = size
        _set_text(&task.key, key)
        _set_text(&task.url, url)
        if name is not None:
            _set_text(&task.name, name)
        lines = _header_lines(headers)
        task.headers.data = PyBytes_AS_STRING(lines)
        task.headers.len = <size_t>len(lines)
        with self._lock:
            self._check()
            self._feed(&task)

    def add_sources(self, uint64_t first, sources not None, Py_ssize_t start, uint64_t limit, int64_t room):
        """Feed what is to be written: ``(key, form number, path or buffer, size)`` each.

        Args:
            first: id of the first of ``sources``; they count from there.
            sources: files, whose size is known or -1, and buffers, whose size is ``None``. A form number below 0: not to be fed.
            start: which of them is the first to be fed.
            limit: larger ones are not fed.
            room: stop before more content than so many bytes is waiting; where nothing waits, one is fed whatever its size.

        Returns:
            ``(the index after the last one that was looked at, indices of those that were not fed)``: larger ones, keys and paths
            that the C core cannot hold, buffers that are not contiguous.
        """
        cdef Py_ssize_t i = start, n = len(sources), number
        cdef ob_bulk_task task
        cdef ob_bulk_counts counts
        cdef Py_buffer view
        cdef bint has_view
        cdef list skipped = []
        with self._lock:
            self._check()
            while i < n:
                key, number, content, size = sources[i]
                has_view = False
                try:
                    if number < 0:
                        skipped.append(i)
                        i += 1
                        continue
                    self._check_form(number)
                    memset(&task, 0, sizeof(task))
                    task.id = first + i
                    task.form = <int>number
                    _set_text(&task.key, key)
                    if size is None:
                        PyObject_GetBuffer(content, &view, PyBUF_SIMPLE)
                        has_view = True
                        task.size = view.len
                        task.content.data = <const char *>view.buf if view.len > 0 else NO_CONTENT
                        task.content.len = <size_t>view.len
                    else:
                        path = PyUnicode_EncodeFSDefault(content)
                        task.size = size
                        task.name.data = PyBytes_AS_STRING(path)
                        task.name.len = <size_t>len(<bytes>path)
                    if task.size > <int64_t>limit or _holds_nul(&task.key) or _holds_nul(&task.name):
                        skipped.append(i)
                    else:
                        ob_bulk_count(self._c_bulk, &counts)
                        if counts.pending_bytes and <int64_t>(counts.pending_bytes + task.content.len) > room:
                            break
                        self._feed(&task)
                except (UnicodeEncodeError, BufferError):
                    skipped.append(i)
                finally:
                    if has_view:
                        PyBuffer_Release(&view)
                i += 1
        return i, skipped

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
                    taken.append((
                        item.id, PyUnicode_DecodeUTF8(item.key, <Py_ssize_t>item.key_len, "surrogateescape"),
                        _bytes_of_block(ob_block_ref(item.body)),
                    ))
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

    def verified(self):
        """How many of those that are done equal a checksum that the service announced."""
        cdef ob_bulk_counts counts
        with self._lock:
            self._check()
            ob_bulk_count(self._c_bulk, &counts)
        return counts.verified


def bytes_of_rows(Rows rows not None):
    """Sum of the sizes of a page's objects."""
    cdef int64_t total = 0
    cdef size_t i
    for i in range(rows._c_page.n_entries):
        if rows._c_page.entries[i].size > 0:
            total += rows._c_page.entries[i].size
    return total

# One HTTP attempt: Transfer, its Timing, and submit. Included by _core.pyx.

cdef enum:
    SINK_COLLECT = 0
    SINK_STREAM = 1
    SINK_INTO = 2
    SINK_LIST = 3
    SINK_DISCARD = 4
    SINK_FILE = 5

HEAD = OB_EVENT_HEAD
DATA = OB_EVENT_DATA
END = OB_EVENT_END


class Timing:
    """Where the time of one HTTP attempt went; seconds from its submission, 0.0 for steps that did not happen.

    Attributes:
        queue: waited for a place among the allowed connections.
        dns, connect, tls: name resolved, TCP connected, TLS done (0.0 on a kept connection).
        first_byte: first byte of the response.
        total: complete.
        remote_ip, remote_port: the server's address.
        http_version: "1.1", "2" ... or "" where unknown.
        reused: whether a kept connection was used.
    """

    __slots__ = (
        "connect", "dns", "first_byte", "http_version", "queue", "remote_ip", "remote_port", "reused", "tls", "total",
    )

    def __init__(self, queue, dns, connect, tls, first_byte, total, remote_ip, remote_port, http_version, reused):
        self.queue = queue
        self.dns = dns
        self.connect = connect
        self.tls = tls
        self.first_byte = first_byte
        self.total = total
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.http_version = http_version
        self.reused = reused

    def __repr__(self):
        return "Timing(" + ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__) + ")"

    def __getstate__(self):
        return {name: getattr(self, name) for name in self.__slots__}

    def __setstate__(self, state):
        for name, value in state.items():
            setattr(self, name, value)


cdef enum:
    _NOT_FILLING
    _FILLING
    _TURNING


_HTTP_VERSIONS = {10: "1.0", 11: "1.1", 20: "2", 30: "3"}


cdef class Transfer:
    """One HTTP attempt, made by `submit`.

    Attributes:
        waiter: who is to be told, whatever the runner puts there.
        events: bits of HEAD, DATA, END that happened and were not cleared by the runner.
        ended: END was taken; the outcome is final.
    """

    cdef ob_transfer *_c_xfer
    cdef ob_listxml *_c_list
    cdef Py_buffer *_c_views
    cdef Py_ssize_t _c_n_views
    cdef Py_buffer _c_fill  # what a stream's bytes go into
    cdef int _c_filling  # _NOT_FILLING, _FILLING; _TURNING: a thread takes the buffer or lets go of it
    cdef object _c_waiter
    cdef public int events
    cdef readonly bint ended
    cdef readonly int sink
    cdef bint _c_headed  # HEAD or END was taken: only then does the loop write no more headers
    cdef uint32_t _c_generation

    def __cinit__(self):
        self._c_xfer = NULL
        self._c_list = NULL
        self._c_views = NULL
        self._c_n_views = 0
        self._c_filling = _NOT_FILLING
        self.ended = False
        self.events = 0
        self._c_generation = ob_engine_generation()

    def __dealloc__(self):
        if self._c_filling:
            self.unfill()
        self._release_views()
        if self._c_xfer != NULL:
            if not self.ended:
                ob_transfer_cancel(self._c_xfer)
            ob_transfer_unref(self._c_xfer)
        ob_listxml_free(self._c_list)

    def __reduce__(self):
        raise TypeError("a transfer cannot be pickled")

    @property
    def waiter(self):
        with cython.critical_section(self):
            return self._c_waiter

    @waiter.setter
    def waiter(self, value):
        with cython.critical_section(self):
            self._c_waiter = value

    cdef void _release_views(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self._c_n_views):
            PyBuffer_Release(&self._c_views[i])
        self._c_n_views = 0
        if self._c_views != NULL:
            PyMem_Free(self._c_views)
            self._c_views = NULL

    cdef int _settle(self) except -1:
        """END was taken: let go of the buffers and of the reference that `submit` took."""
        self.ended = True
        self._release_views()
        Py_DECREF(self)
        return 0

    @property
    def usable(self):
        """False in a child process for the transfers of its parent."""
        return self._c_generation == ob_engine_generation()

    @property
    def status(self):
        """HTTP status of the final response; 0 before its HEAD, or END, was taken."""
        return ob_transfer_status(self._c_xfer) if self._c_headed else 0

    def header(self, str name not None):
        """Value of the last header of that name (any case), or ``None``; as early as ``status``."""
        cdef Py_ssize_t name_len
        cdef size_t value_len = 0
        cdef const char *name_text = PyUnicode_AsUTF8AndSize(name, &name_len)
        cdef const char *value = NULL
        if self._c_headed:
            value = ob_transfer_header(self._c_xfer, name_text, <size_t>name_len, &value_len)
        return None if value == NULL else _header_text(value, <Py_ssize_t>value_len)

    def headers(self):
        """All headers of the final response in order, names in lower case; as early as ``status``."""
        cdef const char *name
        cdef const char *value
        cdef size_t name_len, value_len, i
        cdef list result = []
        if not self._c_headed:
            return result
        for i in range(ob_transfer_header_count(self._c_xfer)):
            ob_transfer_header_at(self._c_xfer, i, &name, &name_len, &value, &value_len)
            result.append((
                PyUnicode_DecodeLatin1(name, <Py_ssize_t>name_len, NULL).lower(),
                _header_text(value, <Py_ssize_t>value_len),
            ))
        return result

    @property
    def kind(self):
        """How the attempt ended, as text: "ok", "connect", "interrupted" ...; final once ``ended``."""
        return ob_kind_name(ob_transfer_outcome(self._c_xfer).kind).decode()

    @property
    def ok(self):
        """Whether the attempt ended with a whole response."""
        return self.ended and ob_transfer_outcome(self._c_xfer).kind == OB_KIND_OK

    @property
    def answered(self):
        """Whether there is a success: whole, or of a stream its head. A body that breaks behind that shows when it is read."""
        cdef int status = self.status
        return 200 <= status < 300 and ((self.events & OB_EVENT_HEAD) != 0 or self.ok)

    @property
    def message(self):
        """libcurl's text of the failure."""
        return (<const char *>ob_transfer_outcome(self._c_xfer).message).decode("utf-8", "replace")

    @property
    def sent(self):
        """Whether any byte of the request may have reached the server."""
        return ob_transfer_outcome(self._c_xfer).sent != 0

    @property
    def resent(self):
        """Whether libcurl sent the request once more by itself: a kept connection had ended without an answer."""
        return ob_transfer_outcome(self._c_xfer).resent != 0

    @property
    def received(self):
        """Body bytes of a 2xx response that arrived."""
        return ob_transfer_outcome(self._c_xfer).received

    @property
    def sliced(self):
        """Whether a 200 answer to a range request was cut to the range."""
        return ob_transfer_outcome(self._c_xfer).slice_taken != 0

    @property
    def oserrno(self):
        """The system's error number of a failed connection, or 0."""
        return ob_transfer_outcome(self._c_xfer).oserrno

    @property
    def announced(self):
        """Content-Length of the response; -1 where it has none."""
        return ob_transfer_outcome(self._c_xfer).announced

    def digest(self):
        """Checksum of the body, once ``ended``: ``(kind, value, expected)``, the last ``None`` where none was announced."""
        return _digest_of(ob_transfer_digest(self._c_xfer))

    def announced_digest(self):
        """What its headers say of the whole object: ``(digest kind, value)``, ``(DIGEST_NONE, None)`` where they say nothing."""
        cdef ob_digest digest
        ob_transfer_announced(self._c_xfer, &digest)
        return (<int>digest.kind, digest.expected if digest.announced else None)

    def timing(self):
        """The attempt's `Timing`; complete once ``ended``."""
        cdef const ob_outcome *outcome = ob_transfer_outcome(self._c_xfer)
        cdef const ob_timing *t = &outcome.timing
        return Timing(
            t.queue_us / 1e6, t.dns_us / 1e6, t.connect_us / 1e6, t.tls_us / 1e6, t.first_byte_us / 1e6,
            t.total_us / 1e6, (<const char *>outcome.remote_ip).decode("ascii", "replace"), outcome.remote_port,
            _HTTP_VERSIONS.get(outcome.http_version, ""), outcome.reused != 0,
        )

    def body(self):
        """After END: the collected body, an error's body, or what a stream still holds."""
        if not self.ended:
            raise RuntimeError("the transfer has not ended")
        return _bytes_of_block(ob_transfer_body(self._c_xfer))

    def take_body(self):
        """After END: the same as `body`, which the transfer then holds no longer."""
        whole = self.body()
        ob_transfer_forget_body(self._c_xfer)
        return whole

    def cancel(self):
        """Ask for the end; END comes all the same. Any thread, any number of times.

        Where there is no waiter END goes to the orphans, which anybody's next submit lets go of: the thread that opened
        a response, and dropped it or gave it away, may never look into its own queue again.
        """
        if not self.ended and self._c_generation == ob_engine_generation():
            with cython.critical_section(self):
                if self._c_waiter is None and ob_engine_orphans() != NULL:
                    ob_transfer_retarget(self._c_xfer, ob_engine_orphans())
            ob_transfer_cancel(self._c_xfer)

    def attach(self, Queue queue not None, waiter, instead_of):
        """From now on events go to ``queue`` and concern ``waiter``; events already taken are kept.

        Args:
            queue: where events go.
            waiter: whom they concern.
            instead_of: who was seen to be the waiter. False: it is another one by now, and nothing changed.
        """
        self._check_generation()
        with cython.critical_section(self):
            if self._c_waiter is not instead_of:
                return False
            self._c_waiter = waiter
            ob_transfer_retarget(self._c_xfer, queue._c_cq)
        return True

    def want(self, uint64_t size):
        """Stream: ask for DATA once ``size`` bytes are there. True: they are there, no event will come for it."""
        return ob_transfer_want(self._c_xfer, size) != 0

    def collect(self):
        """Stream: keep everything from now on; END follows. For other sinks END follows anyway."""
        if self.sink == SINK_STREAM:
            ob_transfer_collect(self._c_xfer)

    @property
    def buffered(self):
        """Stream: bytes that can be taken now."""
        return ob_transfer_buffered(self._c_xfer)

    def fill(self, target):
        """Stream: the next bytes go into the writable buffer ``target``, which stays exported until `unfill`.

        Raises:
            RuntimeError: another buffer is being filled.
        """
        if not self._turn(_NOT_FILLING, _TURNING):
            raise RuntimeError("the body is being read already")
        try:
            PyObject_GetBuffer(target, &self._c_fill, PyBUF_SIMPLE | PyBUF_WRITABLE)
        except BaseException:
            self._turn(_TURNING, _NOT_FILLING)
            raise
        self._turn(_TURNING, _FILLING)
        with nogil:
            ob_transfer_fill(self._c_xfer, self._c_fill.buf, <size_t>self._c_fill.len)

    def want_full(self):
        """While filling: ask for DATA once the buffer is full. True: it is, no event will come for it."""
        return ob_transfer_want_full(self._c_xfer) != 0

    def unfill(self):
        """Let go of the buffer, which nothing is written to any more; returns how many bytes landed."""
        cdef uint64_t landed = ob_transfer_unfill(self._c_xfer)
        if self._turn(_FILLING, _TURNING):
            PyBuffer_Release(&self._c_fill)
            self._turn(_TURNING, _NOT_FILLING)
        return landed

    cdef bint _turn(self, int was, int becomes) noexcept:
        """Whether the filling was as told, and is now as wished: among threads without a GIL one alone has the buffer."""
        with cython.critical_section(self):
            if self._c_filling != was:
                return False
            self._c_filling = becomes
        return True

    def take(self, uint64_t size):
        """Stream: what is buffered as ``bytes``: at least ``size`` where that many are there; ``b""`` where nothing is."""
        cdef ob_block *head = ob_transfer_take(self._c_xfer, size)
        cdef ob_block *block = head
        cdef ob_block *next_
        cdef Py_ssize_t total = 0, offset = 0
        cdef bytes result
        cdef char *target
        while block != NULL:
            total += <Py_ssize_t>block.len
            block = block.next
        try:
            result = PyBytes_FromStringAndSize(NULL, total)
            target = PyBytes_AS_STRING(result)
            with nogil:
                block = head
                while block != NULL:
                    memcpy(target + offset, block.data, block.len)
                    offset += <Py_ssize_t>block.len
                    block = block.next
            return result
        finally:
            block = head
            while block != NULL:
                next_ = block.next
                ob_block_unref(block)
                block = next_

    def listing(self, str strip not None):
        """LIST sink after END: the page as a `Listing`. Once: the page is then the listing's.

        Args:
            strip: what to take off the front of every key and prefix; entries that do not start so keep their key.

        Raises:
            ValueError: the document is malformed, incomplete or not a listing; the text says which.
        """
        cdef Rows rows = Rows()
        cdef const ob_list_page *page = &rows._c_page
        cdef const ob_list_entry *entry
        cdef Py_ssize_t strip_len, cut
        cdef const char *strip_text = PyUnicode_AsUTF8AndSize(strip, &strip_len)
        cdef size_t i
        cdef list prefixes = []
        if not self.ended or self._c_list == NULL:
            raise RuntimeError("the transfer has no listing")
        if ob_listxml_finish(self._c_list, &rows._c_page) != 0:
            raise ValueError(ob_listxml_error(self._c_list).decode())
        for i in range(page.n_prefixes):
            entry = &page.prefixes[i]
            cut = strip_len if _starts_with(page.text + entry.key_off, entry.key_len, strip_text, strip_len) else 0
            prefixes.append(_prefix_of(page.text + entry.key_off, entry.key_len, cut))
        rows._strip = strip
        rows._c_strip = strip_text
        rows._c_strip_len = strip_len
        rows._c_list, self._c_list = self._c_list, NULL  # END was taken: the loop no longer writes there
        return Listing(
            rows, prefixes,
            _optional(page.text, page.token_off, page.token_len),
            _optional(page.text, page.marker_off, page.marker_len),
            page.truncated != 0,
        )

    def list_root(self):
        """LIST sink after END, before `listing`: name of the document's root element, "" where there was none."""
        return "" if self._c_list == NULL else ob_listxml_root(self._c_list).decode()

    cdef int _check_generation(self) except -1:
        if self._c_generation != ob_engine_generation():
            raise RuntimeError("this response belongs to the parent process: it cannot be read after fork")
        return 0


cdef bint _starts_with(const char *text, Py_ssize_t size, const char *prefix, Py_ssize_t prefix_len) noexcept:
    return size >= prefix_len and memcmp(text, prefix, prefix_len) == 0


cdef object _optional(const char *text, uint32_t offset, uint32_t size):
    return None if size == UINT32_MAX else PyUnicode_DecodeUTF8(text + offset, size, "surrogateescape")


cdef object _prefix_of(const char *text, Py_ssize_t size, Py_ssize_t cut):
    if size > cut and text[size - 1] == c"/":
        size -= 1
    return PyUnicode_DecodeUTF8(text + cut, size - cut, "surrogateescape")


cdef object _header_text(const char *value, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(value, size, NULL)
    except UnicodeDecodeError:
        return PyUnicode_DecodeLatin1(value, size, NULL)


def submit(
    Queue queue not None, Client client not None, waiter, str method not None, str url not None, headers, body, int sink,
    into=None, slice_=None, bint inline=False,
):
    """Build a `Transfer` and hand it to a loop. Its events come to ``queue``.

    Args:
        queue: where its events go.
        client: the store's connection options.
        waiter: kept as ``Transfer.waiter``.
        method, url: as sent; the URL is complete and percent-encoded.
        headers: sequence of ``(name, value)``.
        body: sequence of contiguous buffers, pinned until END, or ``None`` for no body.
        sink: COLLECT, STREAM, INTO, LIST, DISCARD or FILE of ``obstore._effects``.
        into: writable buffer, or `obstore._types.Scatter`, for INTO; ``(fd, offset, digest kind, whether HEAD is an event)`` for FILE, whose descriptor stays
            open until END.
        slice_: ``(start, length)`` to cut out of a 200 answer.
        inline: this thread is about to wait for it in ``queue``, which may therefore drive it without a loop thread.

    Raises:
        ValueError: a header, the method or the URL holds a control character; no such sink.
        BufferError: ``into`` is not writable, or a buffer is not contiguous.
        MemoryError: out of memory.
        RuntimeError: the interpreter is shutting down.
    """
    cdef Transfer transfer = _new_transfer(client, waiter, sink)
    cdef ob_transfer *x = transfer._c_xfer
    cdef Py_ssize_t n, i, total_views
    cdef Py_ssize_t name_len, value_len, text_len
    cdef const char *name_text
    cdef const char *value_text
    cdef ob_iovec *parts
    cdef list pieces = None
    cdef int rc

    name_text = PyUnicode_AsUTF8AndSize(url, &text_len)
    _check_text(ob_transfer_set_url(x, name_text, <size_t>text_len), "URL")
    name_text = PyUnicode_AsUTF8AndSize(method, &text_len)
    _check_text(ob_transfer_set_method(x, name_text, <size_t>text_len), "method")
    for name, value in headers:
        name_text = PyUnicode_AsUTF8AndSize(name, &name_len)
        value_text = PyUnicode_AsUTF8AndSize(value, &value_len)
        rc = ob_transfer_add_header(x, name_text, <size_t>name_len, value_text, <size_t>value_len)
        if rc != 0:
            _check_text(rc, f"header {name!r}")

    if body is not None or sink == SINK_INTO:
        n = 0 if body is None else len(body)
        total_views = n
        if sink == SINK_INTO:
            pieces = into.pieces if type(into) is Scatter else [(0, into)]
            total_views += len(pieces)
        transfer._c_views = <Py_buffer *>PyMem_Malloc(max(1, total_views) * sizeof(Py_buffer))
        if transfer._c_views == NULL:
            raise MemoryError("out of memory for a request body")
        if body is not None:
            parts = <ob_iovec *>PyMem_Malloc(max(1, n) * sizeof(ob_iovec))
            if parts == NULL:
                raise MemoryError("out of memory for a request body")
            try:
                for i in range(n):
                    PyObject_GetBuffer(body[i], &transfer._c_views[i], PyBUF_SIMPLE)
                    transfer._c_n_views = i + 1
                    parts[i].data = <const char *>transfer._c_views[i].buf
                    parts[i].len = <size_t>transfer._c_views[i].len
                _check_text(ob_transfer_set_source(x, parts, <size_t>n), "body")
            finally:
                PyMem_Free(parts)
        for i in range(n, total_views):
            PyObject_GetBuffer(pieces[i - n][1], &transfer._c_views[i], PyBUF_SIMPLE | PyBUF_WRITABLE)
            transfer._c_n_views = i + 1
        if sink == SINK_INTO and type(into) is Scatter:
            _scatter_into(x, pieces, &transfer._c_views[n], into.size)
        elif sink == SINK_INTO:
            ob_transfer_sink_into(x, transfer._c_views[n].buf, <size_t>transfer._c_views[n].len)

    if not SINK_COLLECT <= sink <= SINK_FILE:
        raise ValueError(f"no such sink: {sink}")
    if sink == SINK_STREAM:
        ob_transfer_sink_stream(x, 0)
    elif sink == SINK_COLLECT:
        ob_transfer_sink_collect(x, -1)
    elif sink == SINK_LIST:
        transfer._c_list = ob_listxml_new()
        if transfer._c_list == NULL:
            raise MemoryError("out of memory for a listing")
        ob_transfer_sink_list(x, transfer._c_list)
    elif sink == SINK_DISCARD:
        ob_transfer_sink_discard(x)
    elif sink == SINK_FILE:
        ob_transfer_sink_fd(x, into[0], into[1])
        ob_transfer_set_digest(x, into[2])
        if into[3]:
            ob_transfer_want_head(x)
    if slice_ is not None:
        ob_transfer_set_slice(x, slice_[0], slice_[1])

    return _hand_over(transfer, queue, inline)


def submit_form(
    Queue queue not None, Client client not None, waiter, Form form not None, key, content, int sink,
    span=None, bint inline=False,
):
    """The same for a request made of a form and a key.

    Args:
        content: a contiguous buffer to be sent, pinned until END, or ``None``.
        sink: COLLECT or STREAM.
        span: first byte to read and the one after the last, for a range.

    Returns:
        The transfer; ``None`` where the C core cannot hold the key.
    """
    cdef Py_ssize_t key_len
    cdef const char *text = PyUnicode_AsUTF8AndSize(key, &key_len)
    if memchr(text, 0, <size_t>key_len) != NULL:
        return None
    cdef Transfer transfer = _new_transfer(client, waiter, sink)
    cdef ob_transfer *x = transfer._c_xfer
    cdef ob_iovec body
    cdef ob_iovec *sent = NULL
    cdef uint64_t start, stop
    cdef char value[64]
    cdef int value_len
    if content is not None:
        transfer._c_views = <Py_buffer *>PyMem_Malloc(sizeof(Py_buffer))
        if transfer._c_views == NULL:
            raise MemoryError("out of memory for a request body")
        PyObject_GetBuffer(content, transfer._c_views, PyBUF_SIMPLE)
        transfer._c_n_views = 1
        body.data = <const char *>transfer._c_views.buf
        body.len = <size_t>transfer._c_views.len
        sent = &body
    _check_text(ob_form_fill(form._c_form, x, text, sent), "request")
    if span is not None:
        start, stop = span
        value_len = snprintf(
            value, sizeof(value), "bytes=%llu-%llu", <unsigned long long>start, <unsigned long long>(stop - 1)
        )
        _check_text(ob_transfer_add_header(x, "range", 5, value, <size_t>value_len), "range")
        ob_transfer_set_slice(x, start, stop - start)
    if sink == SINK_STREAM:
        ob_transfer_sink_stream(x, 0)
    elif sink == SINK_COLLECT:
        ob_transfer_sink_collect(x, -1)
    else:
        raise ValueError(f"no sink for a form: {sink}")
    return _hand_over(transfer, queue, inline)


cdef Transfer _new_transfer(Client client, waiter, int sink):
    _freeze_at_exit()
    _reap_orphans()
    cdef Transfer transfer = Transfer.__new__(Transfer)
    transfer._c_xfer = ob_transfer_new(client._c_client, <void *>transfer)
    if transfer._c_xfer == NULL:
        raise MemoryError("out of memory for a request")
    transfer._c_waiter = waiter
    transfer.sink = sink
    return transfer


cdef Transfer _hand_over(Transfer transfer, Queue queue, bint inline):
    """To a loop."""
    cdef int rc
    Py_INCREF(transfer)  # until END was taken
    if inline and queue._c_inline == NULL:
        rc = ob_engine_submit_inline(transfer._c_xfer, queue._c_cq, &queue._c_inline)
    else:
        rc = ob_engine_submit(transfer._c_xfer, queue._c_cq)
    if rc != 0:
        transfer.ended = True
        Py_DECREF(transfer)
        if rc == -1:
            raise MemoryError("out of memory for a request")
        raise RuntimeError("obstore is shut down: the interpreter is exiting")
    return transfer


cdef int _scatter_into(ob_transfer *x, list pieces, Py_buffer *views, uint64_t size) except -1:
    cdef Py_ssize_t i, n = len(pieces)
    cdef int rc
    cdef ob_segment *segments = <ob_segment *>PyMem_Malloc(max(1, n) * sizeof(ob_segment))
    if segments == NULL:
        raise MemoryError("out of memory for a request")
    try:
        for i in range(n):
            segments[i].at = pieces[i][0]
            segments[i].data = <char *>views[i].buf
            segments[i].len = <size_t>views[i].len
        rc = ob_transfer_sink_scatter(x, segments, <size_t>n, size)
    finally:
        PyMem_Free(segments)
    if rc != 0:
        raise MemoryError("out of memory for a request")
    return 0


cdef int _check_text(int rc, str what) except -1:
    if rc == 0:
        return 0
    if rc == -2:
        raise ValueError(f"the {what} contains a control character")
    raise MemoryError("out of memory for a request")

# The C core as Cython sees it: the only file with `cdef extern` but for _auth/sha256.pxd. Contracts are in csrc/*.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "ob_body.h" nogil:
    ctypedef struct ob_block:
        char *data
        size_t len
        size_t cap
        ob_block *next

    ctypedef struct ob_iovec:
        const char *data
        size_t len

    ctypedef struct ob_segment:
        uint64_t at
        char *data
        size_t len

    ob_block *ob_block_new(size_t cap)
    ob_block *ob_block_ref(ob_block *block)
    void ob_block_unref(ob_block *block)
    void ob_block_trim()


cdef extern from "ob_listxml.h" nogil:
    ctypedef struct ob_listxml:
        pass

    ctypedef struct ob_list_entry:
        uint32_t key_off
        uint32_t key_len
        uint32_t etag_off
        uint32_t etag_len
        uint32_t version_off
        uint32_t version_len
        int64_t size
        int64_t modified_us

    ctypedef struct ob_list_page:
        const char *text
        const ob_list_entry *entries
        size_t n_entries
        const ob_list_entry *prefixes
        size_t n_prefixes
        int truncated
        uint32_t token_off
        uint32_t token_len
        uint32_t marker_off
        uint32_t marker_len

    ob_listxml *ob_listxml_new()
    void ob_listxml_free(ob_listxml *parser)
    int ob_listxml_feed(ob_listxml *parser, const char *data, size_t len)
    int ob_listxml_finish(ob_listxml *parser, ob_list_page *page)
    int ob_text_has_control(const char *text, size_t len)
    const char *ob_listxml_error(const ob_listxml *parser)
    const char *ob_listxml_root(const ob_listxml *parser)


cdef extern from "ob_columns.h" nogil:
    struct ArrowSchema:
        void (*release)(ArrowSchema *) noexcept

    struct ArrowArray:
        void (*release)(ArrowArray *) noexcept

    struct ArrowArrayStream:
        void (*release)(ArrowArrayStream *) noexcept

    ctypedef struct ob_columns:
        pass

    ctypedef struct ob_row:
        const char *path
        size_t path_len
        const char *e_tag
        size_t e_tag_len
        const char *version
        size_t version_len
        int64_t size
        int64_t modified_us

    ob_columns *ob_columns_new(size_t rows)
    void ob_columns_unref(ob_columns *columns)
    size_t ob_columns_rows(const ob_columns *columns)
    size_t ob_columns_bytes(const ob_columns *columns)
    int ob_columns_is_shared(const ob_columns *columns)
    int ob_columns_add(ob_columns *columns, const ob_row *row)
    int ob_columns_add_page(ob_columns *columns, const ob_list_page *page, const char *strip, size_t strip_len)
    int ob_columns_append(ob_columns *columns, const ob_columns *from_, size_t start, size_t stop)
    int ob_columns_schema(ArrowSchema *out)
    int ob_columns_export(ob_columns *columns, ArrowArray *out)
    int ob_columns_stream(ob_columns **batches, size_t n, ArrowArrayStream *out)


cdef extern from "ob_crc.h" nogil:
    uint32_t ob_crc32(uint32_t crc, const void *data, size_t len)
    uint32_t ob_crc32c(uint32_t crc, const void *data, size_t len)
    uint64_t ob_crc64nvme(uint64_t crc, const void *data, size_t len)


cdef extern from "ob_digest.h" nogil:
    ctypedef enum ob_digest_kind:
        OB_DIGEST_NONE
        OB_DIGEST_AUTO
        OB_DIGEST_CRC32
        OB_DIGEST_CRC32C
        OB_DIGEST_CRC64NVME
        OB_DIGEST_MD5

    ctypedef struct ob_digest:
        ob_digest_kind kind
        bint announced
        uint64_t value
        uint64_t expected

    void ob_digest_update(ob_digest *digest, const void *data, size_t len)
    uint64_t ob_digest_combine(ob_digest_kind kind, uint64_t a, uint64_t b, uint64_t len_b)


cdef extern from "ob_cq.h" nogil:
    ctypedef struct ob_cq:
        pass

    ob_cq *ob_cq_new()
    void ob_cq_unref(ob_cq *cq)
    int ob_cq_fd(const ob_cq *cq)
    int ob_cq_wait(ob_cq *cq, int timeout_ms)
    ob_transfer *ob_cq_take(ob_cq *cq)
    void ob_cq_close(ob_cq *cq)
    uint32_t ob_cq_generation(const ob_cq *cq)


cdef extern from "ob_transfer.h" nogil:
    ctypedef struct ob_transfer:
        pass

    ctypedef struct ob_client:
        pass

    enum:
        OB_EVENT_HEAD
        OB_EVENT_DATA
        OB_EVENT_END

    ctypedef enum ob_kind:
        OB_KIND_OK
        OB_KIND_ENGINE

    ctypedef struct ob_timing:
        int64_t queue_us
        int64_t dns_us
        int64_t connect_us
        int64_t tls_us
        int64_t first_byte_us
        int64_t total_us

    ctypedef struct ob_outcome:
        ob_kind kind
        int curl_code
        int oserrno
        int status
        int http_version
        int reused
        int sent
        int resent
        int slice_taken
        int64_t announced
        int64_t received
        int64_t uploaded
        ob_timing timing
        char remote_ip[48]
        int remote_port
        char message[256]

    ob_transfer *ob_transfer_new(ob_client *client, void *owner)
    int ob_transfer_set_url(ob_transfer *x, const char *url, size_t len)
    int ob_transfer_set_method(ob_transfer *x, const char *method, size_t len)
    int ob_transfer_add_header(ob_transfer *x, const char *name, size_t name_len, const char *value, size_t value_len)
    int ob_transfer_set_source(ob_transfer *x, const ob_iovec *parts, size_t n)
    void ob_transfer_sink_collect(ob_transfer *x, int64_t limit)
    void ob_transfer_sink_stream(ob_transfer *x, size_t window)
    void ob_transfer_sink_into(ob_transfer *x, void *buffer, size_t cap)
    int ob_transfer_sink_scatter(ob_transfer *x, const ob_segment *segments, size_t n, uint64_t cap)
    void ob_transfer_sink_list(ob_transfer *x, ob_listxml *parser)
    void ob_transfer_sink_discard(ob_transfer *x)
    void ob_transfer_sink_fd(ob_transfer *x, int fd, int64_t offset)
    void ob_transfer_set_digest(ob_transfer *x, ob_digest_kind kind)
    void ob_transfer_want_head(ob_transfer *x)
    const ob_digest *ob_transfer_digest(const ob_transfer *x)
    void ob_transfer_announced(const ob_transfer *x, ob_digest *digest)
    void ob_transfer_set_slice(ob_transfer *x, uint64_t start, uint64_t len)
    ob_transfer *ob_transfer_ref(ob_transfer *x)
    void ob_transfer_unref(ob_transfer *x)
    void ob_transfer_cancel(ob_transfer *x)
    void ob_transfer_retarget(ob_transfer *x, ob_cq *cq)
    int ob_transfer_want(ob_transfer *x, uint64_t bytes)
    void ob_transfer_collect(ob_transfer *x)
    void ob_transfer_fill(ob_transfer *x, void *data, size_t len)
    int ob_transfer_want_full(ob_transfer *x)
    uint64_t ob_transfer_unfill(ob_transfer *x)
    uint64_t ob_transfer_buffered(ob_transfer *x)
    ob_block *ob_transfer_take(ob_transfer *x, uint64_t min)
    ob_transfer *ob_transfer_next_taken(ob_transfer *x)
    int ob_transfer_events(ob_transfer *x, const ob_cq *taken_from)
    void *ob_transfer_owner(ob_transfer *x)
    int ob_transfer_status(const ob_transfer *x)
    const char *ob_transfer_header(const ob_transfer *x, const char *name, size_t name_len, size_t *value_len)
    size_t ob_transfer_header_count(const ob_transfer *x)
    void ob_transfer_header_at(const ob_transfer *x, size_t i, const char **name, size_t *name_len,
                               const char **value, size_t *value_len)
    const ob_outcome *ob_transfer_outcome(const ob_transfer *x)
    ob_block *ob_transfer_body(ob_transfer *x)
    void ob_transfer_forget_body(ob_transfer *x)
    const char *ob_kind_name(ob_kind kind)


cdef extern from "ob_loop.h" nogil:
    ctypedef struct ob_loop:
        pass

    enum:
        OB_DRIVE_READY
        OB_DRIVE_LEFT

    int ob_loop_drive(ob_loop *loop, ob_cq *cq, int timeout_ms)
    void ob_loop_leave(ob_loop *loop)


cdef extern from "ob_engine.h" nogil:
    ctypedef struct ob_client_options:
        const char *endpoint
        const char *user_agent
        const char *ca_file
        const char *ca_path
        const char *proxy
        const char *no_proxy
        const char *proxy_ca_file
        int64_t connect_timeout_ms
        int64_t timeout_ms
        int64_t read_timeout_ms
        int64_t idle_timeout_ms
        int64_t dns_cache_ms
        int64_t keep_alive_interval_ms
        int verify
        int http_version
        int follow
        int shuffle_dns
        int insecure_http
        int64_t max_connections
        double max_rate

    ctypedef struct ob_limits:
        int64_t connections
        int64_t threads
        int64_t memory

    ctypedef struct ob_stats:
        uint64_t requests
        uint64_t succeeded
        uint64_t failed
        uint64_t cancelled
        uint64_t parked
        uint64_t throttled
        uint64_t bytes_in
        uint64_t bytes_out
        uint64_t connections_opened
        uint64_t in_flight
        uint64_t queued
        uint64_t loops
        uint64_t wakeups
        uint64_t cq_writes
        uint64_t live_transfers
        uint64_t live_clients
        uint64_t live_queues
        uint64_t live_easies
        uint64_t live_sockets
        uint64_t block_bytes
        uint64_t kept_bytes

    ctypedef struct ob_client_stats:
        uint64_t requests
        uint64_t succeeded
        uint64_t failed
        uint64_t cancelled
        uint64_t parked
        uint64_t throttled
        uint64_t bytes_in
        uint64_t bytes_out
        uint64_t connections_opened
        uint64_t in_flight
        uint64_t first_byte_p50_us
        uint64_t first_byte_p99_us

    void ob_client_get_stats(ob_client *client, ob_client_stats *stats)
    ob_client *ob_client_new(const ob_client_options *options)
    ob_client *ob_client_limited(ob_client *client, const char *endpoint, int64_t max_connections, double max_rate)
    void ob_client_unref(ob_client *client)
    int ob_engine_submit(ob_transfer *x, ob_cq *cq)
    int ob_engine_submit_inline(ob_transfer *x, ob_cq *cq, ob_loop **loop)
    void ob_engine_set_limits(const ob_limits *limits)
    void ob_engine_get_limits(ob_limits *limits)
    void ob_engine_stats(ob_stats *stats)
    ob_cq *ob_engine_orphans()
    int ob_engine_shutdown(int timeout_ms)
    void ob_engine_forked_child()
    uint32_t ob_engine_generation()
    int64_t ob_engine_endpoint_limit(const char *endpoint)
    double ob_engine_endpoint_rate(const char *endpoint)


cdef extern from "ob_sha256.h" nogil:
    ctypedef struct ob_sha256:
        pass

    void ob_hmac_key(const unsigned char *key, size_t size, ob_sha256 *inner, ob_sha256 *outer)


cdef extern from "ob_form.h" nogil:
    const char OB_MARK_HASH, OB_MARK_CHECK, OB_MARK_LENGTH, OB_MARK_KEY

    ctypedef enum ob_signing:
        OB_SIGN_NOT
        OB_SIGN_SIGV4
        OB_SIGN_SHARED_KEY

    ctypedef struct ob_form_spec:
        const char *method
        const char *origin
        const char *path
        const char *suffix
        bint keep_slash
        ob_signing signing
        const char *before
        const char *after
        const char *scope_text
        const char *authorization
        ob_sha256 inner
        ob_sha256 outer
        const char *body_head
        const char *body_tail
        ob_digest_kind check

    ctypedef struct ob_form:
        pass

    ob_form *ob_form_new(const ob_form_spec *spec, const char *headers, size_t headers_len)
    void ob_form_free(ob_form *form)
    int ob_form_fill(const ob_form *form, ob_transfer *x, const char *key, const ob_iovec *body)


cdef extern from "ob_bulk.h" nogil:
    enum:
        OB_BULK_FORMS

    ctypedef struct ob_bulk:
        pass

    ctypedef struct ob_bulk_options:
        int64_t window
        int64_t memory
        uint64_t piece
        bint sends
        bint to_files
        bint verify
        bint flat
        int dir_fd
        int temp_fd
        int journal_fd

    ctypedef enum ob_bulk_outcome:
        OB_BULK_BODY

    ctypedef struct ob_bulk_text:
        const char *data
        size_t len

    ctypedef struct ob_bulk_task:
        uint64_t id
        int form
        ob_bulk_text key
        ob_bulk_text name
        ob_bulk_text url
        ob_bulk_text headers
        ob_bulk_text content
        int64_t size

    ctypedef struct ob_bulk_item:
        ob_bulk_item *next
        uint64_t id
        ob_bulk_outcome outcome
        ob_kind kind
        int status
        int oserrno
        int64_t size
        int64_t received
        ob_block *body
        ob_digest digest
        int64_t modified_s
        const char *key
        const char *name
        const char *part
        const char *e_tag
        size_t key_len
        ob_transfer *transfer
        int form
        uint32_t forms

    ctypedef struct ob_bulk_counts:
        uint64_t done
        uint64_t bytes
        uint64_t verified
        uint64_t pending
        uint64_t pending_bytes
        uint64_t active
        uint64_t left
        uint64_t held

    ob_bulk *ob_bulk_new(ob_client *client, const ob_bulk_options *options)
    bint ob_bulk_free(ob_bulk *bulk, int timeout_ms)
    uint32_t ob_bulk_set_form(ob_bulk *bulk, int number, ob_form *form)
    int ob_bulk_add(ob_bulk *bulk, const ob_bulk_task *task)
    void ob_bulk_step(ob_bulk *bulk, int timeout_ms, uint64_t low)
    ob_bulk_item *ob_bulk_take(ob_bulk *bulk)
    void ob_bulk_item_free(ob_bulk_item *item)
    void ob_bulk_cancel(ob_bulk *bulk)
    void ob_bulk_count(const ob_bulk *bulk, ob_bulk_counts *counts)
    bint ob_bulk_stale(const ob_bulk *bulk)


cdef extern from "ob_curl.h" nogil:
    int ob_curl_load(const char *path, char *err, size_t err_size)
    int ob_curl_loaded()
    const char *ob_curl_version()
    const char *ob_curl_tls()
    const char *ob_curl_description()
    const char *ob_curl_path()
    int ob_curl_has_http2()
    int ob_curl_has_http3()

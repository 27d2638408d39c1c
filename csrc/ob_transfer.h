/* ob_transfer.h - one HTTP attempt.
 *
 *   NEW -submit-> QUEUED -attach-> ACTIVE -headers-> HEADED -done-> DONE
 *                    |               |  ^              | ^
 *                    |         pause v  | resume       v |
 *                    |              PAUSED <-------------+
 *                    +-----cancel-----> CANCELLING -removed-> DONE
 *
 * Events to the owner: HEAD (at most once), DATA (stream sinks, when the wanted bytes are there), END (exactly
 * once, last). Reference-counted: the owner holds one, the engine one from submit to END, a queue one for each
 * entry it holds.
 */
#ifndef OB_TRANSFER_H
#define OB_TRANSFER_H

#include <stddef.h>
#include <stdint.h>

#include "ob_body.h"
#include "ob_cq.h"
#include "ob_digest.h"

typedef struct ob_transfer ob_transfer;
typedef struct ob_client ob_client;
struct ob_listxml;

typedef enum {
  OB_XFER_NEW,
  OB_XFER_QUEUED,
  OB_XFER_ACTIVE,
  OB_XFER_HEADED,
  OB_XFER_PAUSED,
  OB_XFER_CANCELLING,
  OB_XFER_DONE
} ob_xfer_state;

enum { OB_EVENT_HEAD = 1, OB_EVENT_DATA = 2, OB_EVENT_END = 4 };

/* How an attempt ended. Anything but OK means no usable (rest of the) response. */
typedef enum {
  OB_KIND_OK,
  OB_KIND_CONNECT,     /* no connection was made */
  OB_KIND_DNS,         /* the name did not resolve */
  OB_KIND_TIMEOUT,     /* connect timeout, or the attempt's total timeout */
  OB_KIND_STALL,       /* no byte moved for read_timeout_ms */
  OB_KIND_INTERRUPTED, /* reset, closed early, body shorter than announced */
  OB_KIND_TLS,         /* handshake or certificate; not retryable */
  OB_KIND_PROTOCOL,    /* not HTTP, body longer than announced, malformed list, bad URL */
  OB_KIND_OVERFLOW,    /* body larger than the caller's buffer or the collect limit */
  OB_KIND_MEMORY,      /* out of memory */
  OB_KIND_CANCELLED,   /* by the owner */
  OB_KIND_PARKED,      /* a paused stream gave its place to a waiting transfer; resume by range */
  OB_KIND_FILE,        /* the descriptor sink could not be written; oserrno says why */
  OB_KIND_ENGINE       /* the loop or the engine died, or was shut down */
} ob_kind;

typedef enum { OB_SINK_COLLECT, OB_SINK_STREAM, OB_SINK_INTO, OB_SINK_LIST, OB_SINK_DISCARD, OB_SINK_FD } ob_sink_kind;

/* Times in microseconds from submit; 0 where the step did not happen. */
typedef struct ob_timing {
  int64_t queue_us;      /* until a loop attached it */
  int64_t dns_us;        /* name resolved */
  int64_t connect_us;    /* TCP connected */
  int64_t tls_us;        /* TLS done */
  int64_t first_byte_us; /* first response byte */
  int64_t total_us;      /* END */
} ob_timing;

typedef struct ob_outcome {
  ob_kind kind;
  int curl_code;     /* CURLcode, or 0 */
  int oserrno;       /* of OB_KIND_FILE and connect failures, or 0 */
  int status;        /* HTTP status, 0 before headers */
  int http_version;  /* 10, 11, 20, 30; 0 unknown */
  int reused;        /* 1: on a kept connection */
  int sent;          /* 1: at least one request byte may have reached the server */
  int resent;        /* 1: sent once more by libcurl itself, when a kept connection had ended without an answer */
  int slice_taken;   /* 1: a 200 answer was cut to the slice asked for */
  int64_t announced; /* Content-Length of the response, -1 unknown */
  int64_t received;  /* body bytes of a 2xx response that reached the sink */
  int64_t uploaded;  /* request body bytes sent */
  ob_timing timing;
  char remote_ip[48];
  int remote_port;
  char message[256]; /* libcurl's error text or ours; no URL, no header */
} ob_outcome;

/* ---- owner's side: before submit, one thread ------------------------------------------------------- */

/* A transfer in NEW with one reference. Takes a reference on client. owner is opaque and never dereferenced. */
ob_transfer *ob_transfer_new(ob_client *client, void *owner);
/* Copy text into the arena. 0, or -1 when memory is short. method: any token. headers: "name: value" is built
 * here; an empty value is sent as "name:" with nothing after it. Names and values must not contain CR, LF or NUL: -2. */
int ob_transfer_set_url(ob_transfer *x, const char *url, size_t len);
int ob_transfer_set_method(ob_transfer *x, const char *method, size_t len);
int ob_transfer_add_header(ob_transfer *x, const char *name, size_t name_len, const char *value, size_t value_len);
/* The request body: the array is copied, the memory stays the owner's and must hold until END. n == 0 sends
 * an explicit empty body (content-length: 0); never called: no body at all. Always with content-length, never
 * chunked, no Expect; rewindable. */
int ob_transfer_set_source(ob_transfer *x, const ob_iovec *parts, size_t n);
/* Memory that lives as long as x, for what its source points to. NULL: out of memory. */
void *ob_transfer_take_memory(ob_transfer *x, size_t size);
/* Where a 2xx body goes. Other statuses: first OB_ERROR_BYTES are collected, the rest is discarded. */
void ob_transfer_sink_collect(ob_transfer *x, int64_t limit); /* limit < 0: none */
void ob_transfer_sink_stream(ob_transfer *x, size_t window);  /* 0: the default window */
void ob_transfer_sink_into(ob_transfer *x, void *buffer, size_t cap);
/* The same into several pieces of memory, by increasing `at`: bytes between them are dropped, where they overlap all get theirs.
 * cap: the longest body. The array is copied. 0, or -1 when memory is short. */
int ob_transfer_sink_scatter(ob_transfer *x, const ob_segment *segments, size_t n, uint64_t cap);
void ob_transfer_sink_list(ob_transfer *x, struct ob_listxml *parser); /* parser stays the owner's until END */
void ob_transfer_sink_discard(ob_transfer *x);
void ob_transfer_sink_fd(ob_transfer *x, int fd, int64_t offset); /* pwrite; fd stays the owner's, open until END */
/* Checksum the body of a 2xx answer as it arrives; OB_DIGEST_AUTO: in the way that the answer announces. */
void ob_transfer_set_digest(ob_transfer *x, ob_digest_kind kind);
/* Post HEAD as soon as the headers are there, also where the sink is no stream. */
void ob_transfer_want_head(ob_transfer *x);
/* If the answer is 200 (not 206): drop start bytes, take len, then end with OK without reading the rest. */
void ob_transfer_set_slice(ob_transfer *x, uint64_t start, uint64_t len);

#define OB_ERROR_BYTES 65536
/* A stream whose announced body is at most this long is delivered once, at END (HEAD and END together):
 * one wakeup and one resumption for a small object instead of two. */
#define OB_COALESCE_BYTES 65536
/* ... unless the body takes longer than this: then HEAD comes by itself. */
#define OB_COALESCE_US 20000
/* Default window of a stream: body bytes held for a consumer that is not reading before the transfer pauses. */
#define OB_WINDOW_BYTES (1u << 20)

/* ---- any thread after submit ------------------------------------------------------------------------ */

ob_transfer *ob_transfer_ref(ob_transfer *x);
void ob_transfer_unref(ob_transfer *x);
/* A request: END comes all the same, once, with OB_KIND_CANCELLED or what happened first. Idempotent. When it returns, nothing is
 * written to the owner's memory any more. */
void ob_transfer_cancel(ob_transfer *x);
/* Move to another queue: later events, and those not taken yet, appear there. */
void ob_transfer_retarget(ob_transfer *x, ob_cq *cq);
/* Stream only. Ask for DATA once `bytes` are buffered (or the body ended: then END is the answer). Also makes sure the window
 * holds at least that much and resumes a paused transfer. If they are there already, returns 1 and posts no event. */
int ob_transfer_want(ob_transfer *x, uint64_t bytes);
/* Stream only. From now on everything is kept, in one block where the length is known; HEAD, DATA stop, END follows. */
void ob_transfer_collect(ob_transfer *x);
/* Stream only. The next `len` bytes of the body go to the owner's memory, those that are buffered before this returns; what comes
 * behind them is buffered as ever. Resumes a paused transfer. The memory must hold until ob_transfer_unfill or END. */
void ob_transfer_fill(ob_transfer *x, void *data, size_t len);
/* While filling: ask for DATA once the memory is full (or END, where the body is shorter). If it is, returns 1 and posts no event. */
int ob_transfer_want_full(ob_transfer *x);
/* Nothing is written to the memory any more; returns how many bytes landed. Harmless where nothing was being filled. */
uint64_t ob_transfer_unfill(ob_transfer *x);
/* Stream only. Bytes buffered now. */
uint64_t ob_transfer_buffered(ob_transfer *x);
/* Stream only. Detach buffered blocks of at least `min` bytes together (all where fewer are there); chained by next; caller
 * owns the references. The window opens by what was taken. A block being filled may be returned with what it has. */
ob_block *ob_transfer_take(ob_transfer *x, uint64_t min);

/* ---- consumer's side, after ob_cq_take -------------------------------------------------------------- */

ob_transfer *ob_transfer_next_taken(ob_transfer *x);
/* Events since last asked, cleared. Call once per entry taken `from` that queue. 0: it was moved to another queue meanwhile, and
 * what happened has gone there, too; its owner may be gone. */
int ob_transfer_events(ob_transfer *x, const ob_cq *from);
void *ob_transfer_owner(ob_transfer *x);

/* ---- after HEAD ------------------------------------------------------------------------------------- */

int ob_transfer_status(const ob_transfer *x);
/* Last header of that name (ASCII case-insensitive), or NULL. Valid while the transfer lives. */
const char *ob_transfer_header(const ob_transfer *x, const char *name, size_t name_len, size_t *value_len);
size_t ob_transfer_header_count(const ob_transfer *x);
/* i-th header; names as received. */
void ob_transfer_header_at(const ob_transfer *x, size_t i, const char **name, size_t *name_len, const char **value,
                           size_t *value_len);

/* ---- after END -------------------------------------------------------------------------------------- */

const ob_outcome *ob_transfer_outcome(const ob_transfer *x);
/* Collected body (or error body) as one block; the caller gets a reference. NULL only when memory is short;
 * an empty body is a block of length 0. For streams: what has not been taken. */
ob_block *ob_transfer_body(ob_transfer *x);
/* Let go of the body: a transfer that is kept for its headers does not hold it any longer. */
void ob_transfer_forget_body(ob_transfer *x);

/* The body's checksum, and what the service announced; after END, `announced` and `expected` after HEAD. */
const ob_digest *ob_transfer_digest(const ob_transfer *x);
/* What the headers announce of the whole object, whether or not its body is digested. After HEAD or END. */
void ob_transfer_announced(const ob_transfer *x, ob_digest *digest);

const char *ob_xfer_state_name(ob_xfer_state state);
const char *ob_kind_name(ob_kind kind);

#endif

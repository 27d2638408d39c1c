/* ob_xfer.h - the inside of ob_transfer, shared by ob_transfer.c, ob_loop.c, ob_engine.c and ob_cq.c only.
 *
 * Each group of fields names what guards it. Lock order: engine -> transfer -> queue, engine -> inbox; no two of one
 * kind are held together but queues in ob_transfer_retarget, one after the other.
 */
#ifndef OB_XFER_H
#define OB_XFER_H

#include "ob_abi.h"
#include "ob_engine.h"
#include "ob_headers.h"
#include "ob_port.h"
#include "ob_transfer.h"

struct ob_loop;
struct ob_endpoint;

/* Commands to a loop, or-ed while the transfer lies in its inbox. */
enum { OB_CMD_ATTACH = 1, OB_CMD_CANCEL = 2, OB_CMD_RESUME = 4, OB_CMD_PARK = 8, OB_CMD_UNBOUND = 16 };

/* Where a transfer stands in the queue it reports to. */
typedef enum { OB_PLACE_NONE, OB_PLACE_LISTED, OB_PLACE_TAKEN } ob_place;

typedef struct ob_arena_chunk {
  struct ob_arena_chunk *next;
} ob_arena_chunk;

/* A bound on transfers in flight, with a queue before it. Engine's lock. */
typedef struct ob_gate {
  int64_t limit; /* 0: none */
  int64_t in_flight;
  int64_t paused; /* of those in flight */
  int64_t waiting;
  ob_transfer *first, *last;
} ob_gate;

#define OB_ARENA_INLINE 1024 /* url, method and headers of a signed request fit */
#define OB_WINDOW_NONE UINT64_MAX

/* What a request is like for libcurl: two of one client and one shape differ in a handful of options only. */
typedef enum { OB_SHAPE_OTHER, OB_SHAPE_GET, OB_SHAPE_HEAD, OB_SHAPE_PUT } ob_shape;

/* A handle of libcurl and what libcurl holds pointers to: transfers use it one after the other. Loop thread. */
typedef struct ob_easy {
  void *curl;
  ob_transfer *transfer; /* NULL between two */
  uint64_t client;       /* the number of the one whose options are set, for requests of this shape; OTHER: none are */
  ob_shape shape;
  char error[OB_CURL_ERROR_SIZE]; /* libcurl's own text: it writes there after our callbacks have spoken, too */
} ob_easy;

struct ob_transfer {
  ob_refs refs;
  uint32_t generation; /* process generation of the submit */
  ob_client *client;
  void *owner;

  /* Written before submit, constant afterwards. */
  const char *url;
  const char *method;
  ob_slist *headers, *headers_last;
  ob_slist no_expect; /* a last line that keeps libcurl from asking before it sends */
  ob_iovec *source;
  size_t n_source;
  int64_t source_bytes;
  bool has_source;
  bool has_slice;
  ob_sink_kind sink;
  uint64_t slice_start, slice_len;
  int64_t range_len;     /* bytes that a range header asks for, -1: none */
  int64_t collect_limit; /* -1: none */
  uint64_t into_cap;
  struct ob_listxml *parser;
  int fd;
  int64_t fd_offset;
  bool wants_head; /* HEAD is an event of its own, whatever the sink */

  /* lock: state, the buffered body, and which queue to report to. */
  ob_mutex lock;
  _Atomic ob_xfer_state state; /* read without the lock only where a stale answer does no harm */
  ob_block *body_first, *body_last;
  uint64_t buffered; /* bytes in the chain */
  uint64_t taken;    /* bytes handed out */
  uint64_t window;
  uint64_t wanted;      /* 0: no DATA asked for */
  bool collecting;      /* all is kept until END */
  ob_segment *segments; /* of the sinks into memory; NULL once the owner has cancelled */
  size_t n_segments;
  ob_segment segment; /* where there is only one */
  char *fill;         /* a stream's next bytes go there; NULL: into blocks */
  size_t fill_size;   /* of the owner's memory */
  size_t fill_left;   /* that may still be written to: none once the transfer was cancelled */
  uint64_t filled;    /* since `fill` was set */
  bool wants_full;    /* DATA is asked for once fill_left is 0 */
  int64_t expected;   /* body bytes that will reach the sink, -1 unknown; loop writes at HEAD */
  ob_cq *cq;          /* referenced */
  int events;         /* posted and not asked for yet */

  /* lock of the cq that `cq` points to. */
  ob_place place;
  ob_transfer *cq_prev, *cq_next;         /* entries */
  ob_transfer *member_prev, *member_next; /* transfers in flight that report here */
  bool is_member;

  /* Consumer of the queue, from take until its events are asked for. */
  ob_transfer *taken_next;

  /* Engine's lock. */
  int stage; /* gates passed */
  ob_gate *waiting_in;
  ob_transfer *gate_prev, *gate_next;
  ob_transfer *waiting_prev, *waiting_next; /* of all that wait, at whichever gate */
  ob_transfer *paused_prev, *paused_next;
  bool in_paused;
  bool parkable;
  ob_transfer *failed_next;
  bool wants_inline;            /* the owner is about to drive it, if it finds a place at once */
  int loop_index;               /* of a loop with a thread; -1: an inline loop */
  struct ob_loop *_Atomic loop; /* set once, by assignment */
  atomic_bool cancelled;        /* asked for */

  /* Lock of the loop's inbox. */
  int commands;
  bool in_inbox;
  ob_transfer *inbox_next;

  /* Loop thread. */
  ob_easy *easy; /* while it is attached */
  ob_shape shape;
  uint64_t attached_turn; /* the loop's turn in which it was attached */
  ob_transfer *attached_prev, *attached_next;
  ob_transfer *ready_next;
  int ready_events;
  bool in_ready;
  bool headed;    /* the final header block is complete */
  bool coalesced; /* HEAD comes with END, or at head_due_us */
  int64_t head_due_us;
  bool verdict_set; /* a callback ended the transfer: kind and message are ours, not libcurl's */
  uint64_t skip;    /* bytes of a 200 answer before the slice */
  size_t source_part;
  size_t source_offset;
  uint64_t next_block; /* size of the next block where the length is unknown */
  int64_t submitted_us;
  int64_t attached_us;
  int64_t moved_us;     /* a byte last moved */
  int64_t unsent;       /* bytes in the socket's send queue when last looked, -1 never */
  long connects;        /* connections made for it */
  int sends;            /* how often libcurl was about to send it */
  struct ob_host *host; /* it leads there, or waits there, while the name is being resolved */
  bool host_waits;
  ob_transfer *host_next;

  ob_headers received;
  ob_digest digest;
  ob_outcome outcome;

  ob_arena_chunk *chunks;
  char *arena_at, *arena_end;
  char arena[OB_ARENA_INLINE];
};

/* What became of a client's transfers. */
#define OB_TIME_BUCKETS 128 /* four for each doubling of a time in microseconds */
typedef struct ob_tally {
  ob_counter requests, succeeded, failed, cancelled, parked, throttled, bytes_in, bytes_out, opened;
  ob_counter first_byte[OB_TIME_BUCKETS];
} ob_tally;

struct ob_client {
  ob_refs refs;
  uint64_t number; /* no other client of the process has it, ever */
  uint32_t generation;
  ob_gate gate;                 /* engine's lock */
  struct ob_endpoint *endpoint; /* engine's lock; NULL until the first submit of this generation */
  ob_client *root;              /* a reference; NULL: itself. Its tally and its strings are used */
  ob_tally tally;
  ob_client_options options; /* strings follow in the same allocation */
};

extern ob_counter ob_live_transfers, ob_live_clients, ob_live_queues, ob_live_easies, ob_live_sockets;

/* ---- ob_transfer.c ------------------------------------------------------------------------------- */

/* The legal moves; an illegal one aborts in a debug build. Lock held. */
void ob_transfer_move_locked(ob_transfer *x, ob_xfer_state to);
/* In a child right after fork, single-threaded. */
void ob_transfer_forked_child(void);
/* Loop thread, lock held. Bytes at the end of the buffered body; -1: memory is short. */
int ob_transfer_append_locked(ob_transfer *x, const char *data, size_t len);
/* Loop thread, lock held. The bytes go where the segments say. False: the owner has taken its memory back. */
bool ob_transfer_scatter_locked(ob_transfer *x, const char *data, size_t len);
/* Lock held. How many of the bytes the owner's memory took. */
size_t ob_transfer_fill_locked(ob_transfer *x, const char *data, size_t len);
/* Any thread: whoever cancels. Nothing is written to the owner's memory from here on. */
void ob_transfer_let_go(ob_transfer *x);
/* Loop thread, lock held. A block for at least so much more, at the end of the chain; NULL: memory is short. */
ob_block *ob_transfer_next_block_locked(ob_transfer *x, size_t more);
/* Whoever ends the transfer: the first verdict stands. Copies message. */
void ob_transfer_verdict(ob_transfer *x, ob_kind kind, const char *message);
/* The same: state and total time. */
void ob_transfer_finish(ob_transfer *x);
/* True: of another process generation; its locks must not be touched. */
bool ob_transfer_stale(const ob_transfer *x);

/* ---- ob_attempt.c -------------------------------------------------------------------------------- */

/* Loop thread. Sets the options of x->easy: all, or where it is `shaped` (left by a transfer of the same client and shape) what
 * differs. NULL, or the name of the option that failed. */
const char *ob_transfer_apply_onloop(ob_transfer *x, bool shaped);
ob_shape ob_transfer_shape(const ob_transfer *x);
/* Loop thread, after removal from the multi: copies what libcurl knows. */
void ob_transfer_result_onloop(ob_transfer *x, int code);

/* ---- ob_cq.c ------------------------------------------------------------------------------------- */

/* Queues that still have to be woken, gathered over a batch so that each is written once. */
#define OB_WAKES 16
typedef struct ob_wakes {
  ob_cq *queues[OB_WAKES];
  size_t n;
  ob_cq *own; /* this thread takes from it next: it needs no wakeup */
} ob_wakes;

/* Any thread, no transfer's or queue's lock held. */
void ob_cq_publish(ob_transfer *x, int events, ob_wakes *wakes);
void ob_wakes_send(ob_wakes *wakes);
/* At submit: x reports to cq (or to the orphans if it is closed) from now on. */
void ob_cq_adopt(ob_transfer *x, ob_cq *cq);
/* Consumer thread. Something can be taken. */
bool ob_cq_ready(ob_cq *cq);
/* Consumer thread: whether the descriptor was seen to be readable. If not, the next take need not drain it. */
void ob_cq_seen(ob_cq *cq, bool readable);
/* A queue without a descriptor. */
ob_cq *ob_cq_new_silent(void);
/* Wakeup writes of all queues so far. */
extern ob_counter ob_cq_written;

/* ---- ob_engine.c --------------------------------------------------------------------------------- */

void ob_socket_opened(int fd);
void ob_socket_closed(int fd);
/* Any thread. The socket of ours at that port, -1: none. */
int ob_socket_at(int local_port);
/* Loop thread, after pausing and before resuming. */
void ob_engine_paused(ob_transfer *x);
void ob_engine_resumed(ob_transfer *x);
/* Loop thread: END was decided for these (chained by ready_next): give their places to those who wait. */
void ob_engine_released(ob_transfer *first);
/* Whoever drove an inline loop that holds nothing: it can be claimed again. */
void ob_engine_inline_idle(struct ob_loop *loop);
/* Any thread. True where live blocks exceed the limit. */
bool ob_engine_memory_short(void);
/* Loop thread. Lets those go whose token has come; when the next one is due that somebody waits for, INT64_MAX: nobody does. */
int64_t ob_engine_poll_tokens(int64_t now_us);
/* Loop thread. True: a transfer waits for memory, look again soon. */
bool ob_engine_poll_memory(void);

#endif

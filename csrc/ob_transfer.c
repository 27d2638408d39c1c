/* ob_transfer.c - one HTTP attempt as its owner sees it: request, states, buffered body, outcome. ob_attempt.c is the
 * side that libcurl sees. */
#include <ctype.h>
#include <limits.h>

#include "ob_loop.h"
#include "ob_xfer.h"

#define STREAM_BLOCK_MIN ((size_t)16 << 10)
#define STREAM_BLOCK_MAX ((size_t)1 << 20)
#define GROWING_BLOCK_MAX ((uint64_t)8 << 20)
#define SPARE_HEADERS_MAX 4096u
#define FILL_WINDOW_MAX                                                                                                \
  ((uint64_t)16 << 20) /* bytes held for whoever reads into memory of its own, while it does something else */

ob_counter ob_live_transfers;

/* ---- names ---------------------------------------------------------------------------------------- */

static const char *const state_names[] = {
    [OB_XFER_NEW] = "new",       [OB_XFER_QUEUED] = "queued", [OB_XFER_ACTIVE] = "active",
    [OB_XFER_HEADED] = "headed", [OB_XFER_PAUSED] = "paused", [OB_XFER_CANCELLING] = "cancelling",
    [OB_XFER_DONE] = "done",
};

static const char *const kind_names[] = {
    [OB_KIND_OK] = "ok",           [OB_KIND_CONNECT] = "connect",     [OB_KIND_DNS] = "dns",
    [OB_KIND_TIMEOUT] = "timeout", [OB_KIND_STALL] = "stall",         [OB_KIND_INTERRUPTED] = "interrupted",
    [OB_KIND_TLS] = "tls",         [OB_KIND_PROTOCOL] = "protocol",   [OB_KIND_OVERFLOW] = "overflow",
    [OB_KIND_MEMORY] = "memory",   [OB_KIND_CANCELLED] = "cancelled", [OB_KIND_PARKED] = "parked",
    [OB_KIND_FILE] = "file",       [OB_KIND_ENGINE] = "engine",
};

const char *ob_xfer_state_name(ob_xfer_state state) {
  return (size_t)state < sizeof state_names / sizeof *state_names ? state_names[state] : "?";
}

const char *ob_kind_name(ob_kind kind) {
  return (size_t)kind < sizeof kind_names / sizeof *kind_names ? kind_names[kind] : "?";
}

/* ---- states --------------------------------------------------------------------------------------- */

#define BIT(state) (1u << OB_XFER_##state)
static const unsigned legal_moves[] = {
    [OB_XFER_NEW] = BIT(QUEUED),
    [OB_XFER_QUEUED] = BIT(ACTIVE) | BIT(CANCELLING) | BIT(DONE), /* DONE: refused before it was attached */
    [OB_XFER_ACTIVE] = BIT(HEADED) | BIT(CANCELLING) | BIT(DONE),
    [OB_XFER_HEADED] = BIT(PAUSED) | BIT(CANCELLING) | BIT(DONE),
    [OB_XFER_PAUSED] = BIT(HEADED) | BIT(CANCELLING) | BIT(DONE), /* DONE: parked, timed out, engine stopped */
    [OB_XFER_CANCELLING] = BIT(DONE),
    [OB_XFER_DONE] = 0,
};

void ob_transfer_move_locked(ob_transfer *x, ob_xfer_state to) {
  ob_xfer_state from = atomic_load_explicit(&x->state, memory_order_relaxed);
#ifdef OB_DEBUG
  if ((legal_moves[from] & (1u << to)) == 0) {
    fprintf(stderr, "transfer: illegal move from %s to %s\n", ob_xfer_state_name(from), ob_xfer_state_name(to));
    abort();
  }
#else
  (void)legal_moves;
  (void)from;
#endif
  atomic_store_explicit(&x->state, to, memory_order_release);
}

static ob_xfer_state state_of(const ob_transfer *x) {
  return atomic_load_explicit(&((ob_transfer *)x)->state, memory_order_acquire);
}

bool ob_transfer_stale(const ob_transfer *x) {
  return x->generation != ob_engine_generation();
}

/* ---- arena ---------------------------------------------------------------------------------------- */

static void *arena_take(ob_transfer *x, size_t size) {
  size = (size + 7) & ~(size_t)7;
  if ((size_t)(x->arena_end - x->arena_at) < size) {
    size_t chunk_size = sizeof(ob_arena_chunk) + (size > 4096 ? size : 4096);
    ob_arena_chunk *chunk = ob_malloc(chunk_size);
    if (chunk == NULL) return NULL;
    chunk->next = x->chunks;
    x->chunks = chunk;
    x->arena_at = (char *)(chunk + 1);
    x->arena_end = (char *)chunk + chunk_size;
  }
  void *taken = x->arena_at;
  x->arena_at += size;
  return taken;
}

static char *arena_text(ob_transfer *x, const char *text, size_t len) {
  char *copy = arena_take(x, len + 1);
  if (copy == NULL) return NULL;
  memcpy(copy, text, len);
  copy[len] = '\0';
  return copy;
}

/* ---- memory ----------------------------------------------------------------------------------------
 *
 * What a few transfers leave is kept for the next ones, with the room for their answer's headers: they are too large for the
 * allocator's caches of threads, and are made on one thread and mostly freed on another. Not where tools watch the memory.
 */

#if defined(OB_DEBUG) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SPARES_KEPT 0
#else
#define SPARES_KEPT 128
#endif

static ob_mutex spares_lock = OB_MUTEX_INIT;
static ob_transfer *spares; /* linked by failed_next */
static int n_spares;

void ob_transfer_forked_child(void) {
  ob_mutex_init(&spares_lock);
  spares = NULL; /* another thread may have been in the middle of it */
  n_spares = 0;
}

/* Zeroed up to its arena. */
static ob_transfer *take_memory(void) {
  ob_headers received = {0};
  ob_lock(&spares_lock);
  ob_transfer *x = spares;
  if (x != NULL) {
    spares = x->failed_next;
    n_spares--;
  }
  ob_unlock(&spares_lock);
  if (x != NULL) {
    received = x->received;
    ob_headers_clear(&received);
  } else if ((x = ob_malloc(sizeof *x)) == NULL) {
    return NULL;
  }
  memset(x, 0, offsetof(ob_transfer, arena));
  x->received = received;
  return x;
}

static void give_memory(ob_transfer *x) {
  bool small = x->received.cap <= SPARE_HEADERS_MAX;
  ob_lock(&spares_lock);
  bool kept = small && n_spares < SPARES_KEPT;
  if (kept) {
    x->failed_next = spares;
    spares = x;
    n_spares++;
  }
  ob_unlock(&spares_lock);
  if (kept) return;
  ob_headers_free(&x->received);
  ob_free(x);
}

/* ---- owner's side, before submit ------------------------------------------------------------------ */

ob_transfer *ob_transfer_new(ob_client *client, void *owner) {
  ob_transfer *x = take_memory();
  if (x == NULL) return NULL;
  atomic_init(&x->refs, 1);
  atomic_init(&x->state, OB_XFER_NEW);
  ob_mutex_init(&x->lock);
  x->generation = ob_engine_generation();
  x->client = ob_client_ref(client);
  x->owner = owner;
  x->method = "GET";
  x->sink = OB_SINK_COLLECT;
  x->collect_limit = -1;
  x->range_len = -1;
  x->expected = -1;
  x->window = OB_WINDOW_NONE;
  x->unsent = -1;
  x->outcome.announced = -1;
  x->arena_at = x->arena;
  x->arena_end = x->arena + sizeof x->arena;
  ob_count(&ob_live_transfers, 1);
  return x;
}

static bool has_line_break(const char *text, size_t len) {
  return memchr(text, '\r', len) != NULL || memchr(text, '\n', len) != NULL || memchr(text, '\0', len) != NULL;
}

int ob_transfer_set_url(ob_transfer *x, const char *url, size_t len) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  if (has_line_break(url, len)) return -2;
  x->url = arena_text(x, url, len);
  return x->url != NULL ? 0 : -1;
}

static bool is_token(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    if (!isalnum(c) && strchr("!#$%&'*+-.^_`|~", c) == NULL) return false;
    if (c == '\0') return false;
  }
  return len > 0;
}

int ob_transfer_set_method(ob_transfer *x, const char *method, size_t len) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  if (!is_token(method, len)) return -2;
  char *copy = arena_text(x, method, len);
  if (copy == NULL) return -1;
  x->method = copy;
  return 0;
}

/* "bytes=a-b" and "bytes=-n": how many bytes that asks for; -1 for all else. */
static int64_t range_length(const char *value) {
  char *end;
  if (strncmp(value, "bytes=", 6) != 0) return -1;
  value += 6;
  if (*value == '-') {
    if (!isdigit((unsigned char)value[1])) return -1;
    long long n = strtoll(value + 1, &end, 10);
    return *end == '\0' ? n : -1;
  }
  if (!isdigit((unsigned char)*value)) return -1;
  long long first = strtoll(value, &end, 10);
  if (*end != '-' || !isdigit((unsigned char)end[1])) return -1;
  long long last = strtoll(end + 1, &end, 10);
  return *end == '\0' && last >= first && last < LLONG_MAX ? last - first + 1 : -1;
}

static void add_line(ob_transfer *x, ob_slist *node, char *line) {
  node->data = line;
  node->next = NULL;
  if (x->headers_last != NULL) {
    x->headers_last->next = node;
  } else {
    x->headers = node;
  }
  x->headers_last = node;
}

int ob_transfer_add_header(ob_transfer *x, const char *name, size_t name_len, const char *value, size_t value_len) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  if (!is_token(name, name_len) || has_line_break(value, value_len)) return -2;
  ob_slist *node = arena_take(x, sizeof *node + name_len + value_len + 3);
  if (node == NULL) return -1;
  char *line = (char *)(node + 1);
  memcpy(line, name, name_len);
  if (value_len == 0) {
    memcpy(line + name_len, ";", 2); /* libcurl's notation for "name:" with nothing after it */
  } else {
    memcpy(line + name_len, ": ", 2);
    memcpy(line + name_len + 2, value, value_len);
    line[name_len + 2 + value_len] = '\0';
    if (name_len == 5 && strncasecmp(name, "range", 5) == 0) x->range_len = range_length(line + 7);
  }
  add_line(x, node, line);
  return 0;
}

void *ob_transfer_take_memory(ob_transfer *x, size_t size) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  return arena_take(x, size);
}

int ob_transfer_set_source(ob_transfer *x, const ob_iovec *parts, size_t n) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  int64_t bytes = 0;
  if (n > 0) {
    x->source = arena_take(x, n * sizeof *parts);
    if (x->source == NULL) return -1;
    memcpy(x->source, parts, n * sizeof *parts);
    for (size_t i = 0; i < n; i++) bytes += (int64_t)parts[i].len;
  }
  x->n_source = n;
  x->source_bytes = bytes;
  x->has_source = true;
  return 0;
}

void ob_transfer_sink_collect(ob_transfer *x, int64_t limit) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->sink = OB_SINK_COLLECT;
  x->window = OB_WINDOW_NONE;
  x->collect_limit = limit < 0 ? -1 : limit;
}

void ob_transfer_sink_stream(ob_transfer *x, size_t window) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->sink = OB_SINK_STREAM;
  x->window = window > 0 ? window : OB_WINDOW_BYTES;
}

void ob_transfer_sink_into(ob_transfer *x, void *buffer, size_t cap) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->sink = OB_SINK_INTO;
  x->segment = (ob_segment){.at = 0, .data = buffer, .len = cap};
  x->segments = &x->segment;
  x->n_segments = 1;
  x->into_cap = cap;
}

int ob_transfer_sink_scatter(ob_transfer *x, const ob_segment *segments, size_t n, uint64_t cap) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  if (n > (SIZE_MAX / 2) / sizeof *segments) return -1;
  x->segments = arena_take(x, (n + 1) * sizeof *segments); /* never of no size: NULL means that the owner let go */
  if (x->segments == NULL) return -1;
  if (n > 0) memcpy(x->segments, segments, n * sizeof *segments);
  x->sink = OB_SINK_INTO;
  x->n_segments = n;
  x->into_cap = cap;
  return 0;
}

void ob_transfer_sink_list(ob_transfer *x, struct ob_listxml *parser) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->sink = OB_SINK_LIST;
  x->parser = parser;
}

void ob_transfer_sink_discard(ob_transfer *x) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->sink = OB_SINK_DISCARD;
}

void ob_transfer_sink_fd(ob_transfer *x, int fd, int64_t offset) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->sink = OB_SINK_FD;
  x->fd = fd;
  x->fd_offset = offset;
}

void ob_transfer_set_digest(ob_transfer *x, ob_digest_kind kind) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->digest.kind = kind;
}

void ob_transfer_want_head(ob_transfer *x) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->wants_head = true;
}

void ob_transfer_set_slice(ob_transfer *x, uint64_t start, uint64_t len) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW);
  x->has_slice = true;
  x->slice_start = start;
  x->slice_len = len;
}

/* ---- reference count ------------------------------------------------------------------------------ */

static void unref_chain(ob_block *block) {
  while (block != NULL) {
    ob_block *next = block->next;
    ob_block_unref(block);
    block = next;
  }
}

static void destroy(ob_transfer *x) {
  OB_ASSERT(state_of(x) == OB_XFER_NEW || state_of(x) == OB_XFER_DONE);
  OB_ASSERT(x->easy == NULL && !x->in_inbox && !x->is_member);
  unref_chain(x->body_first);
  while (x->chunks != NULL) {
    ob_arena_chunk *next = x->chunks->next;
    ob_free(x->chunks);
    x->chunks = next;
  }
  ob_cq_unref(x->cq);
  ob_client_unref(x->client);
  ob_uncount(&ob_live_transfers, 1);
  give_memory(x);
}

ob_transfer *ob_transfer_ref(ob_transfer *x) {
  ob_refs_take(&x->refs);
  return x;
}

void ob_transfer_unref(ob_transfer *x) {
  if (x != NULL && ob_refs_drop(&x->refs)) destroy(x);
}

void *ob_transfer_owner(ob_transfer *x) {
  return x->owner;
}

/* ---- the body, both sides ------------------------------------------------------------------------- */

static void append_block_locked(ob_transfer *x, ob_block *block) {
  if (x->body_last != NULL) {
    x->body_last->next = block;
  } else {
    x->body_first = block;
  }
  x->body_last = block;
}

/* Room for more body: one exact block where all of the rest is kept and its length known, else a piece. */
ob_block *ob_transfer_next_block_locked(ob_transfer *x, size_t more) {
  uint64_t so_far = x->taken + x->buffered;
  uint64_t size;
  if (x->expected >= 0 && (uint64_t)x->expected >= so_far + more &&
      (x->window == OB_WINDOW_NONE || (uint64_t)x->expected - so_far <= x->window)) {
    size = (uint64_t)x->expected - so_far;
  } else if (x->window == OB_WINDOW_NONE) {
    size = x->next_block > 0 ? x->next_block : STREAM_BLOCK_MIN;
    x->next_block = 2 * size > GROWING_BLOCK_MAX ? GROWING_BLOCK_MAX : 2 * size;
  } else {
    size = x->window / 4;
    if (size < STREAM_BLOCK_MIN) size = STREAM_BLOCK_MIN;
    if (size > STREAM_BLOCK_MAX) size = STREAM_BLOCK_MAX;
    if (x->expected >= 0 && size > (uint64_t)x->expected - so_far && (uint64_t)x->expected >= so_far + more) {
      size = (uint64_t)x->expected - so_far;
    }
  }
  if (size < more) size = more;
  ob_block *block = ob_block_new(size);
  if (block != NULL) append_block_locked(x, block);
  return block;
}

int ob_transfer_append_locked(ob_transfer *x, const char *data, size_t len) {
  while (len > 0) {
    ob_block *tail = x->body_last;
    if (tail == NULL || tail->len == tail->cap) {
      tail = ob_transfer_next_block_locked(x, len);
      if (tail == NULL) return -1;
    }
    size_t n = tail->cap - tail->len < len ? tail->cap - tail->len : len;
    memcpy(tail->data + tail->len, data, n);
    tail->len += n;
    x->buffered += n;
    data += n;
    len -= n;
  }
  return 0;
}

/* Segments that are full are left behind; those that overlap stay until the last of their bytes is there. */
bool ob_transfer_scatter_locked(ob_transfer *x, const char *data, size_t len) {
  uint64_t from = (uint64_t)x->outcome.received, to = from + len;
  if (x->segments == NULL) return false;
  while (x->n_segments > 0 && x->segments->at + x->segments->len <= from) {
    x->segments++;
    x->n_segments--;
  }
  for (size_t i = 0; i < x->n_segments && x->segments[i].at < to; i++) {
    const ob_segment *segment = &x->segments[i];
    uint64_t first = segment->at > from ? segment->at : from;
    uint64_t last = segment->at + segment->len < to ? segment->at + segment->len : to;
    if (first < last) memcpy(segment->data + (first - segment->at), data + (first - from), (size_t)(last - first));
  }
  return true;
}

size_t ob_transfer_fill_locked(ob_transfer *x, const char *data, size_t len) {
  size_t n = len < x->fill_left ? len : x->fill_left;
  if (n == 0) return 0;
  memcpy(x->fill, data, n);
  x->fill += n;
  x->fill_left -= n;
  x->filled += n;
  x->taken += n;
  return n;
}

/* Detach all blocks and give them back as one. NULL when memory is short; then nothing is lost. */
static ob_block *join_locked(ob_transfer *x) {
  ob_block *first = x->body_first;
  if (first != NULL && first->next == NULL) {
    x->body_first = x->body_last = NULL;
    return first;
  }
  ob_block *whole = ob_block_new(x->buffered);
  if (whole == NULL) return NULL;
  for (ob_block *block = first; block != NULL; block = block->next) {
    memcpy(whole->data + whole->len, block->data, block->len);
    whole->len += block->len;
  }
  x->body_first = x->body_last = NULL;
  unref_chain(first);
  return whole;
}

/* ---- owner's side, any thread after submit -------------------------------------------------------- */

/* Loop or NULL, with what was written before the transfer was given to it. */
static ob_loop *loop_of(ob_transfer *x) {
  return atomic_load_explicit(&x->loop, memory_order_acquire);
}

/* The loop has ended only where END was posted: then there is nothing left to resume. */
static void post_resume(ob_transfer *x) {
  ob_loop *loop = loop_of(x);
  if (loop != NULL) (void)ob_loop_post(loop, x, OB_CMD_RESUME);
}

int ob_transfer_want(ob_transfer *x, uint64_t bytes) {
  if (ob_transfer_stale(x)) return 0;
  ob_lock(&x->lock);
  bool there = x->buffered >= bytes;
  bool resume = false;
  x->wanted = 0;
  if (!there && state_of(x) != OB_XFER_DONE) {
    x->wanted = bytes;
    if (x->window < bytes) x->window = bytes;
    resume = state_of(x) == OB_XFER_PAUSED;
  }
  ob_unlock(&x->lock);
  if (resume) post_resume(x);
  return there;
}

void ob_transfer_collect(ob_transfer *x) {
  if (ob_transfer_stale(x)) return;
  ob_lock(&x->lock);
  x->window = OB_WINDOW_NONE;
  x->wanted = 0;
  x->collecting = true;
  bool resume = state_of(x) == OB_XFER_PAUSED;
  if (x->expected >= 0 && state_of(x) != OB_XFER_DONE) {
    uint64_t rest = (uint64_t)x->expected - x->taken;
    ob_block *first = x->body_first;
    bool fits = first != NULL && first->next == NULL && first->cap >= rest;
    if (!fits && rest > x->buffered) {
      /* Where there is no memory for one block now, the pieces are joined after END, or fail there. */
      ob_block *whole = ob_block_new(rest);
      if (whole != NULL) {
        for (ob_block *block = first; block != NULL; block = block->next) {
          memcpy(whole->data + whole->len, block->data, block->len);
          whole->len += block->len;
        }
        unref_chain(first);
        x->body_first = x->body_last = whole;
      }
    }
  }
  ob_unlock(&x->lock);
  if (resume) post_resume(x);
}

uint64_t ob_transfer_buffered(ob_transfer *x) {
  if (ob_transfer_stale(x)) return state_of(x) == OB_XFER_DONE ? x->buffered : 0;
  ob_lock(&x->lock);
  uint64_t buffered = x->buffered;
  ob_unlock(&x->lock);
  return buffered;
}

/* What is buffered lands first. The rest of a block that does not fit moves to its front: a piece of a window, at most once a fill. */
static void fill_from_blocks_locked(ob_transfer *x) {
  while (x->fill_left > 0 && x->body_first != NULL) {
    ob_block *block = x->body_first;
    size_t n = ob_transfer_fill_locked(x, block->data, block->len);
    x->buffered -= n;
    if (n < block->len) {
      memmove(block->data, block->data + n, block->len - n);
      block->len -= n;
      return;
    }
    x->body_first = block->next;
    if (x->body_first == NULL) x->body_last = NULL;
    ob_block_unref(block);
  }
}

void ob_transfer_fill(ob_transfer *x, void *data, size_t len) {
  bool stale = ob_transfer_stale(x);
  if (stale && state_of(x) != OB_XFER_DONE) return;
  if (!stale) ob_lock(&x->lock);
  bool cancelled = atomic_load_explicit(&x->cancelled, memory_order_acquire);
  x->fill = data;
  x->fill_size = len;
  x->fill_left = cancelled ? 0 : len;
  x->filled = 0;
  x->wants_full = false;
  x->wanted = 0;
  if (x->window < len) x->window = len < FILL_WINDOW_MAX ? len : FILL_WINDOW_MAX;
  fill_from_blocks_locked(x);
  bool resume = state_of(x) == OB_XFER_PAUSED;
  if (!stale) ob_unlock(&x->lock);
  if (resume) post_resume(x);
}

int ob_transfer_want_full(ob_transfer *x) {
  if (ob_transfer_stale(x)) return x->filled == x->fill_size;
  ob_lock(&x->lock);
  bool full = x->filled == x->fill_size;
  x->wants_full = !full;
  ob_unlock(&x->lock);
  return full;
}

uint64_t ob_transfer_unfill(ob_transfer *x) {
  bool stale = ob_transfer_stale(x);
  if (!stale) ob_lock(&x->lock);
  uint64_t filled = x->filled;
  x->fill = NULL;
  x->fill_size = x->fill_left = 0;
  x->filled = 0;
  x->wants_full = false;
  if (!stale) ob_unlock(&x->lock);
  return filled;
}

void ob_transfer_let_go(ob_transfer *x) {
  ob_lock(&x->lock);
  x->segments = NULL;
  x->fill_left = 0;
  ob_unlock(&x->lock);
}

/* A last block that is mostly empty stays for the bytes to come; what it has goes out in a copy of its size. */
static ob_block *detach_last_locked(ob_transfer *x) {
  ob_block *last = x->body_last;
  if (state_of(x) == OB_XFER_DONE || last->len >= last->cap / 2) return NULL;
  ob_block *copy = ob_block_new(last->len);
  if (copy == NULL) return NULL;
  memcpy(copy->data, last->data, last->len);
  copy->len = last->len;
  last->len = 0;
  return copy;
}

static ob_block *take_locked(ob_transfer *x, uint64_t min) {
  ob_block *out = NULL, **at = &out;
  uint64_t taken = 0;
  if (min == 0) min = UINT64_MAX;
  while (taken < min && x->body_first != NULL && x->body_first->len > 0) {
    ob_block *block = x->body_first;
    if (block->next == NULL && (block = detach_last_locked(x)) == NULL) block = x->body_first;
    if (block == x->body_first) {
      x->body_first = block->next;
      if (x->body_first == NULL) x->body_last = NULL;
    }
    block->next = NULL;
    *at = block;
    at = &block->next;
    taken += block->len;
  }
  x->buffered -= taken;
  x->taken += taken;
  return out;
}

ob_block *ob_transfer_take(ob_transfer *x, uint64_t min) {
  if (ob_transfer_stale(x)) {
    /* The child has its own copy of what had ended before the fork, and nobody else to share it with. */
    return state_of(x) == OB_XFER_DONE ? take_locked(x, min) : NULL;
  }
  ob_lock(&x->lock);
  ob_block *out = take_locked(x, min);
  bool resume = state_of(x) == OB_XFER_PAUSED && x->buffered <= x->window / 2;
  ob_unlock(&x->lock);
  if (resume) post_resume(x);
  return out;
}

/* ---- after HEAD, after END ------------------------------------------------------------------------ */

int ob_transfer_status(const ob_transfer *x) {
  return x->outcome.status;
}

const char *ob_transfer_header(const ob_transfer *x, const char *name, size_t name_len, size_t *value_len) {
  const ob_header *header = ob_headers_find(&x->received, name, name_len);
  if (header == NULL) return NULL;
  *value_len = header->value_len;
  return x->received.text + header->value_off;
}

size_t ob_transfer_header_count(const ob_transfer *x) {
  return x->received.n;
}

void ob_transfer_header_at(const ob_transfer *x, size_t i, const char **name, size_t *name_len, const char **value,
                           size_t *value_len) {
  const ob_header *header = &x->received.index[i];
  *name = x->received.text + header->name_off;
  *name_len = header->name_len;
  *value = x->received.text + header->value_off;
  *value_len = header->value_len;
}

const ob_outcome *ob_transfer_outcome(const ob_transfer *x) {
  return &x->outcome;
}

const ob_digest *ob_transfer_digest(const ob_transfer *x) {
  return &x->digest;
}

void ob_transfer_announced(const ob_transfer *x, ob_digest *digest) {
  digest->kind = OB_DIGEST_AUTO;
  ob_digest_begin(digest, &x->received);
}

ob_block *ob_transfer_body(ob_transfer *x) {
  bool stale = ob_transfer_stale(x);
  if (state_of(x) != OB_XFER_DONE) return NULL;
  if (!stale) ob_lock(&x->lock);
  ob_block *whole = join_locked(x);
  if (whole != NULL) {
    append_block_locked(x, whole); /* asked for again, it is here again */
    ob_block_ref(whole);
  }
  if (!stale) ob_unlock(&x->lock);
  return whole;
}

void ob_transfer_forget_body(ob_transfer *x) {
  bool stale = ob_transfer_stale(x);
  if (state_of(x) != OB_XFER_DONE) return;
  if (!stale) ob_lock(&x->lock);
  ob_block *first = x->body_first;
  x->body_first = x->body_last = NULL;
  x->taken += x->buffered;
  x->buffered = 0;
  if (!stale) ob_unlock(&x->lock);
  unref_chain(first);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

void ob_transfer_verdict(ob_transfer *x, ob_kind kind, const char *message) {
  if (x->verdict_set) return; /* the first reason is the one that counts */
  x->verdict_set = true;
  x->outcome.kind = kind;
  snprintf(x->outcome.message, sizeof x->outcome.message, "%s", message);
}

void ob_transfer_finish(ob_transfer *x) {
  x->outcome.timing.total_us = ob_now_us() - x->submitted_us;
  ob_digest_end(&x->digest);
  ob_lock(&x->lock);
  ob_transfer_move_locked(x, OB_XFER_DONE);
  ob_unlock(&x->lock);
}

/* ob_transfer.c - one HTTP attempt: what the owner asks for, libcurl's options and callbacks, the outcome. */
#include <ctype.h>
#include <limits.h>
#include <sys/socket.h>

#include "ob_listxml.h"
#include "ob_loop.h"
#include "ob_opt.h"
#include "ob_xfer.h"

#define STREAM_BLOCK_MIN ((size_t)16 << 10)
#define STREAM_BLOCK_MAX ((size_t)1 << 20)
#define GROWING_BLOCK_MAX ((uint64_t)8 << 20)

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

/* ---- owner's side, before submit ------------------------------------------------------------------ */

ob_transfer *ob_transfer_new(ob_client *client, void *owner) {
  ob_transfer *x = ob_malloc(sizeof *x);
  if (x == NULL) return NULL;
  memset(x, 0, offsetof(ob_transfer, arena));
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
  x->into = buffer;
  x->into_cap = cap;
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
  ob_headers_free(&x->received);
  while (x->chunks != NULL) {
    ob_arena_chunk *next = x->chunks->next;
    ob_free(x->chunks);
    x->chunks = next;
  }
  ob_cq_unref(x->cq);
  ob_client_unref(x->client);
  ob_uncount(&ob_live_transfers, 1);
  ob_free(x);
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

void ob_transfer_verdict(ob_transfer *x, ob_kind kind, const char *message) {
  if (x->verdict_set) return; /* the first reason is the one that counts */
  x->verdict_set = true;
  x->outcome.kind = kind;
  snprintf(x->outcome.message, sizeof x->outcome.message, "%s", message);
}

static void append_block_locked(ob_transfer *x, ob_block *block) {
  if (x->body_last != NULL) {
    x->body_last->next = block;
  } else {
    x->body_first = block;
  }
  x->body_last = block;
}

/* Room for more body: one exact block where all of the rest is kept and its length known, else a piece. */
static ob_block *next_block_locked(ob_transfer *x, size_t more) {
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

static int append_locked(ob_transfer *x, const char *data, size_t len) {
  while (len > 0) {
    ob_block *tail = x->body_last;
    if (tail == NULL || tail->len == tail->cap) {
      tail = next_block_locked(x, len);
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

/* ---- libcurl's callbacks: loop thread ------------------------------------------------------------- */

#define REFUSE ((size_t)0) /* from a header or write callback with bytes: libcurl ends the transfer */

static size_t refuse(ob_transfer *x, ob_kind kind, const char *message) {
  ob_transfer_verdict(x, kind, message);
  return REFUSE;
}

static void parse_status_line(ob_transfer *x, const char *line, size_t len) {
  const char *at = line + 5; /* after "HTTP/" */
  const char *end = line + len;
  int version = 0;
  if (at < end && isdigit((unsigned char)*at)) version = 10 * (*at++ - '0');
  if (at + 1 < end && *at == '.' && isdigit((unsigned char)at[1])) {
    version += at[1] - '0';
    at += 2;
  }
  while (at < end && *at == ' ') at++;
  int status = 0;
  for (int i = 0; i < 3 && at < end && isdigit((unsigned char)*at); i++) status = 10 * status + (*at++ - '0');
  x->outcome.http_version = version;
  x->outcome.status = status;
}

static int64_t content_length(const ob_transfer *x) {
  if (ob_headers_find(&x->received, "transfer-encoding", 17) != NULL) return -1;
  const ob_header *header = ob_headers_find(&x->received, "content-length", 14);
  if (header == NULL || header->value_len == 0 || header->value_len > 18) return -1;
  const char *value = x->received.text + header->value_off;
  int64_t length = 0;
  for (uint32_t i = 0; i < header->value_len; i++) {
    if (!isdigit((unsigned char)value[i])) return -1;
    length = 10 * length + (value[i] - '0');
  }
  return length;
}

static bool is_head_request(const ob_transfer *x) {
  return strcmp(x->method, "HEAD") == 0;
}

/* Bytes that will reach the sink, from what was announced and the slice. */
static int64_t expected_bytes(ob_transfer *x) {
  int64_t announced = x->outcome.announced;
  if (is_head_request(x) || x->outcome.status == 204) return 0;
  if (!x->has_slice || x->outcome.status != 200) return announced;
  x->outcome.slice_taken = 1;
  x->skip = x->slice_start;
  if (announced < 0) return -1;
  uint64_t rest = (uint64_t)announced > x->slice_start ? (uint64_t)announced - x->slice_start : 0;
  return (int64_t)(rest < x->slice_len ? rest : x->slice_len);
}

/* The final header block of a 2xx answer is complete. */
static size_t begin_body(ob_transfer *x, size_t len) {
  int64_t expected = expected_bytes(x);
  if (x->outcome.status == 206 && x->range_len >= 0 && expected > x->range_len) {
    return refuse(x, OB_KIND_PROTOCOL, "body longer than the range asked for");
  }
  if (x->sink == OB_SINK_INTO && expected > 0 && (uint64_t)expected > x->into_cap) {
    return refuse(x, OB_KIND_OVERFLOW, "body larger than the buffer");
  }
  if (x->sink == OB_SINK_COLLECT && x->collect_limit >= 0 && expected > x->collect_limit) {
    return refuse(x, OB_KIND_OVERFLOW, "body larger than the limit");
  }
  bool stream = x->sink == OB_SINK_STREAM;
  bool enough = true;
  x->headed = true;
  ob_lock(&x->lock);
  ob_transfer_move_locked(x, OB_XFER_HEADED);
  x->expected = expected;
  x->coalesced = stream && expected >= 0 && expected <= OB_COALESCE_BYTES;
  if (x->coalesced) x->window = OB_WINDOW_NONE;
  if ((stream || x->sink == OB_SINK_COLLECT) && expected > 0 &&
      (x->window == OB_WINDOW_NONE || (uint64_t)expected <= x->window)) {
    enough = next_block_locked(x, (size_t)expected) != NULL;
  }
  ob_unlock(&x->lock);
  if (!enough) return refuse(x, OB_KIND_MEMORY, "no memory for the body");
  if (stream && !x->coalesced) ob_loop_ready_onloop(loop_of(x), x, OB_EVENT_HEAD);
  return len;
}

static size_t on_header(char *line, size_t size, size_t n, void *argument) {
  ob_transfer *x = argument;
  size_t len = size * n;
  x->moved_us = ob_now_us();
  if (x->headed) return len; /* a trailer */
  if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
    ob_headers_clear(&x->received);
    parse_status_line(x, line, len);
    return len;
  }
  if (len > 2 || (len > 0 && line[0] != '\r' && line[0] != '\n')) {
    if (ob_headers_add(&x->received, line, len) != 0) return refuse(x, OB_KIND_MEMORY, "no memory for the headers");
    return len;
  }
  if (x->outcome.status < 200) return len; /* interim: the final answer follows */
  x->outcome.announced = content_length(x);
  return x->outcome.status < 300 ? begin_body(x, len) : len;
}

/* Other statuses: enough to see what the server said. */
static size_t keep_error_body(ob_transfer *x, const char *data, size_t len) {
  ob_lock(&x->lock);
  if (x->body_first == NULL) {
    x->window = OB_WINDOW_NONE; /* never pauses */
    x->expected = x->outcome.announced > OB_ERROR_BYTES ? OB_ERROR_BYTES : x->outcome.announced;
  }
  size_t room = x->buffered < OB_ERROR_BYTES ? OB_ERROR_BYTES - (size_t)x->buffered : 0;
  int rc = append_locked(x, data, len < room ? len : room);
  ob_unlock(&x->lock);
  return rc == 0 ? len : refuse(x, OB_KIND_MEMORY, "no memory for the body");
}

static int write_all(ob_transfer *x, const char *data, size_t len) {
  int64_t at = x->fd_offset + x->outcome.received;
  while (len > 0) {
    ssize_t n = pwrite(x->fd, data, len, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      x->outcome.oserrno = n < 0 ? errno : EIO;
      return -1;
    }
    data += n;
    len -= (size_t)n;
    at += n;
  }
  return 0;
}

/* Stream and collect: kept in blocks, or paused. */
static size_t buffer_body(ob_transfer *x, const char *data, size_t len, size_t whole) {
  bool data_event = false;
  ob_lock(&x->lock);
  if (x->sink == OB_SINK_STREAM && !x->coalesced && x->buffered > 0 && x->buffered >= x->wanted) {
    if (x->buffered >= x->window || (!x->collecting && ob_engine_memory_short())) {
      ob_transfer_move_locked(x, OB_XFER_PAUSED);
      ob_unlock(&x->lock);
      ob_engine_paused(x);
      return OB_CURL_WRITEFUNC_PAUSE;
    }
  }
  int rc = append_locked(x, data, len);
  if (x->wanted > 0 && x->buffered >= x->wanted && !x->coalesced) {
    x->wanted = 0;
    data_event = true;
  }
  ob_unlock(&x->lock);
  if (rc != 0) return refuse(x, OB_KIND_MEMORY, "no memory for the body");
  if (data_event) ob_loop_ready_onloop(loop_of(x), x, OB_EVENT_DATA);
  return whole;
}

static size_t deliver(ob_transfer *x, const char *data, size_t len, size_t whole) {
  uint64_t after = (uint64_t)x->outcome.received + len;
  size_t rc = whole;
  if (x->outcome.status == 206 && x->range_len >= 0 && after > (uint64_t)x->range_len) {
    return refuse(x, OB_KIND_PROTOCOL, "body longer than the range asked for");
  }
  switch (x->sink) {
  case OB_SINK_COLLECT:
    if (x->collect_limit >= 0 && after > (uint64_t)x->collect_limit) {
      return refuse(x, OB_KIND_OVERFLOW, "body larger than the limit");
    }
    rc = buffer_body(x, data, len, whole);
    break;
  case OB_SINK_STREAM:
    rc = buffer_body(x, data, len, whole);
    break;
  case OB_SINK_INTO:
    if (after > x->into_cap) return refuse(x, OB_KIND_OVERFLOW, "body larger than the buffer");
    memcpy(x->into + x->outcome.received, data, len);
    break;
  case OB_SINK_LIST:
    if (ob_listxml_feed(x->parser, data, len) != 0) {
      return refuse(x, OB_KIND_PROTOCOL, ob_listxml_error(x->parser));
    }
    break;
  case OB_SINK_FD:
    if (write_all(x, data, len) != 0) return refuse(x, OB_KIND_FILE, strerror(x->outcome.oserrno));
    break;
  case OB_SINK_DISCARD:
    break;
  }
  if (rc == whole) x->outcome.received = (int64_t)after;
  return rc;
}

static size_t on_body(char *data, size_t size, size_t n, void *argument) {
  ob_transfer *x = argument;
  size_t len = size * n;
  x->moved_us = ob_now_us();
  if (!x->headed) return keep_error_body(x, data, len);
  if (!x->outcome.slice_taken) return len > 0 ? deliver(x, data, len, len) : 0;

  /* A paused delivery is repeated with the same bytes: skip is only advanced by bytes that are let go. */
  size_t drop = x->skip < len ? (size_t)x->skip : len;
  uint64_t rest = x->slice_len - (uint64_t)x->outcome.received;
  size_t want = len - drop < rest ? len - drop : (size_t)rest;
  if (want > 0) {
    size_t rc = deliver(x, data + drop, want, len);
    if (rc != len) return rc;
  }
  x->skip -= drop;
  if ((uint64_t)x->outcome.received < x->slice_len) return len;
  if (x->outcome.announced >= 0 && x->slice_start + x->slice_len >= (uint64_t)x->outcome.announced) return len;
  return refuse(x, OB_KIND_OK, ""); /* all that was asked for is here: the rest is not read */
}

static size_t on_read(char *buffer, size_t size, size_t n, void *argument) {
  ob_transfer *x = argument;
  size_t room = size * n;
  size_t done = 0;
  x->moved_us = ob_now_us();
  while (done < room && x->source_part < x->n_source) {
    const ob_iovec *part = &x->source[x->source_part];
    size_t left = part->len - x->source_offset;
    size_t copied = left < room - done ? left : room - done;
    if (copied > 0) memcpy(buffer + done, part->data + x->source_offset, copied);
    done += copied;
    x->source_offset += copied;
    if (x->source_offset == part->len) {
      x->source_part++;
      x->source_offset = 0;
    }
  }
  return done;
}

static int on_seek(void *argument, int64_t offset, int origin) {
  ob_transfer *x = argument;
  if (origin != SEEK_SET || offset < 0 || offset > x->source_bytes) return OB_CURL_SEEKFUNC_FAIL;
  x->source_part = 0;
  while (x->source_part < x->n_source && (uint64_t)offset >= x->source[x->source_part].len) {
    offset -= (int64_t)x->source[x->source_part].len;
    x->source_part++;
  }
  x->source_offset = (size_t)offset;
  return OB_CURL_SEEKFUNC_OK;
}

static int on_open_socket(void *argument, int purpose, ob_curl_sockaddr *address) {
  ob_transfer *x = argument;
  (void)purpose;
#ifdef SOCK_CLOEXEC
  int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
#else
  int fd = socket(address->family, address->socktype, address->protocol);
  if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
#endif
  if (fd < 0) {
    x->outcome.oserrno = errno;
    return OB_CURL_SOCKET_BAD;
  }
  ob_socket_opened(fd);
  ob_loop_resolved_onloop(loop_of(x), x);
  return fd;
}

/* A kept connection opens no socket, but comes by here. */
static int on_ready_to_send(void *argument, char *remote_ip, char *local_ip, int remote_port, int local_port) {
  ob_transfer *x = argument;
  (void)remote_ip;
  (void)local_ip;
  (void)remote_port;
  (void)local_port;
  ob_loop_resolved_onloop(loop_of(x), x);
  return OB_CURL_PREREQFUNC_OK;
}

/* Connections outlive transfers: no argument. */
static int on_close_socket(void *argument, int fd) {
  (void)argument;
  ob_socket_closed(fd);
  return close(fd);
}

/* ---- options: loop thread ------------------------------------------------------------------------- */

#define SET(type, name, value)                                                                                         \
  do {                                                                                                                 \
    if (ob_set_##type(easy, OB_CURLOPT_##name, value) != OB_CURLE_OK) return "CURLOPT_" #name;                         \
  } while (0)
#define SET_FN(name, function) SET(fn, name, (void (*)(void))(function))

static long seconds(int64_t ms, long otherwise) {
  if (ms <= 0) return otherwise;
  int64_t s = (ms + 999) / 1000;
  return s > INT_MAX ? INT_MAX : (long)s;
}

static long limited_ms(int64_t ms) {
  return ms > INT_MAX ? INT_MAX : (long)ms;
}

static const char *apply_method(ob_transfer *x, void *easy) {
  bool is_get = strcmp(x->method, "GET") == 0;
  bool must_have_body = strcmp(x->method, "PUT") == 0 || strcmp(x->method, "POST") == 0;
  if (is_head_request(x)) {
    SET(long, NOBODY, 1L);
    return NULL;
  }
  SET(long, NOBODY, 0L);
  if (!x->has_source && !must_have_body) {
    SET(long, HTTPGET, 1L);
    SET(str, CUSTOMREQUEST, is_get ? NULL : x->method);
    return NULL;
  }
  /* An upload of known size, whatever the method: content-length, and no content-type of libcurl's own. */
  SET(long, UPLOAD, 1L);
  SET(str, CUSTOMREQUEST, x->method);
  SET(off, INFILESIZE_LARGE, x->source_bytes);
  SET_FN(READFUNCTION, on_read);
  SET(ptr, READDATA, x);
  SET_FN(SEEKFUNCTION, on_seek);
  SET(ptr, SEEKDATA, x);
  (void)ob_set_long(easy, OB_CURLOPT_UPLOAD_BUFFERSIZE, ob_lib.version_num >= 0x080800 ? 524288L : 65536L); /* speed */
  return NULL;
}

static const char *apply_tls(const ob_client_options *options, void *easy) {
  if (!ob_has(OB_FEATURE_TLS)) return NULL;
  SET(long, SSLVERSION, OB_CURL_SSLVERSION_TLSV1_2);
  SET(long, SSL_VERIFYPEER, options->verify ? 1L : 0L);
  SET(long, SSL_VERIFYHOST, options->verify ? 2L : 0L);
  if (options->ca_file != NULL) SET(str, CAINFO, options->ca_file);
  if (options->ca_path != NULL) SET(str, CAPATH, options->ca_path);
  if (options->proxy == NULL || *options->proxy == '\0') return NULL;
  if (ob_has(OB_FEATURE_PROXY_TLS)) {
    SET(long, PROXY_SSL_VERIFYPEER, options->verify ? 1L : 0L);
    SET(long, PROXY_SSL_VERIFYHOST, options->verify ? 2L : 0L);
  }
  const char *proxy_ca = options->proxy_ca_file != NULL ? options->proxy_ca_file : options->ca_file;
  if (proxy_ca != NULL) SET(str, PROXY_CAINFO, proxy_ca);
  return NULL;
}

static const char *apply_connection(const ob_client_options *options, void *easy) {
  long version = OB_CURL_HTTP_VERSION_1_1;
  if (options->http_version == 20) version = OB_CURL_HTTP_VERSION_2TLS;
  if (options->http_version == 21) version = OB_CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
  if (options->http_version == 30) version = OB_CURL_HTTP_VERSION_3;
  SET(long, HTTP_VERSION, version);
  SET(long, PIPEWAIT, version == OB_CURL_HTTP_VERSION_1_1 ? 0L : 1L);
  SET(long, FRESH_CONNECT, 0L);
  SET(long, FORBID_REUSE, 0L);
  SET(long, TCP_NODELAY, 1L);
  SET(long, CONNECTTIMEOUT_MS, options->connect_timeout_ms > 0 ? limited_ms(options->connect_timeout_ms) : INT_MAX);
  SET(long, TIMEOUT_MS, limited_ms(options->timeout_ms));
  SET(long, DNS_CACHE_TIMEOUT, seconds(options->dns_cache_ms, 60));
  if (ob_has(OB_FEATURE_MAXAGE_CONN)) SET(long, MAXAGE_CONN, seconds(options->idle_timeout_ms, 60));
  if (ob_has(OB_FEATURE_DNS_SHUFFLE)) SET(long, DNS_SHUFFLE_ADDRESSES, options->shuffle_dns ? 1L : 0L);
  if (ob_has(OB_FEATURE_KEEPALIVE)) {
    long interval = seconds(options->keep_alive_interval_ms, 30);
    SET(long, TCP_KEEPALIVE, 1L);
    SET(long, TCP_KEEPIDLE, interval);
    SET(long, TCP_KEEPINTVL, interval);
  }
  if (ob_has(OB_FEATURE_PROXY) || options->proxy != NULL) {
    /* Never NULL: libcurl would then read its environment variables. */
    SET(str, PROXY, options->proxy != NULL ? options->proxy : "");
    SET(str, NOPROXY, options->no_proxy != NULL ? options->no_proxy : "");
    SET(long, SUPPRESS_CONNECT_HEADERS, 1L);
  }
  SET_FN(OPENSOCKETFUNCTION, on_open_socket);
  SET_FN(CLOSESOCKETFUNCTION, on_close_socket);
  SET(ptr, CLOSESOCKETDATA, NULL);
  return NULL;
}

static const char *apply_protocols(const ob_client_options *options, void *easy) {
  if (ob_has(OB_FEATURE_PROTOCOLS_STR)) {
    const char *allowed = options->insecure_http ? "http,https" : "https";
    if (!ob_has(OB_FEATURE_TLS)) allowed = options->insecure_http ? "http" : "";
    SET(str, PROTOCOLS_STR, allowed);
    SET(str, REDIR_PROTOCOLS_STR, allowed);
  } else {
    long allowed = OB_CURLPROTO_HTTPS | (options->insecure_http ? OB_CURLPROTO_HTTP : 0L);
    SET(long, PROTOCOLS, allowed);
    SET(long, REDIR_PROTOCOLS, allowed);
  }
  return NULL;
}

const char *ob_transfer_apply_onloop(ob_transfer *x) {
  static char no_expect[] = "Expect:";
  static ob_slist no_expect_only = {no_expect, NULL};
  const ob_client_options *options = &x->client->options;
  void *easy = x->easy;
  const char *failed;

  SET(ptr, PRIVATE, x);
  SET(ptr, ERRORBUFFER, x->error);
  SET(long, NOSIGNAL, 1L);
  SET(long, NOPROGRESS, 1L);
  SET(long, PATH_AS_IS, 1L);
  SET(long, FAILONERROR, 0L);
  SET(long, HTTP09_ALLOWED, 0L);
  SET(long, AUTOREFERER, 0L);
  SET(long, UNRESTRICTED_AUTH, 0L);
  if (ob_has(OB_FEATURE_NETRC)) SET(long, NETRC, 0L);
  SET(long, FOLLOWLOCATION, options->follow > 0 ? 1L : 0L);
  SET(long, MAXREDIRS, options->follow > 0 ? (long)options->follow : 0L);
  /* Since 8.8 the receive buffer belongs to the multi, one for all; before that, each handle has its own. */
  (void)ob_set_long(easy, OB_CURLOPT_BUFFERSIZE, ob_lib.version_num >= 0x080800 ? 524288L : 131072L); /* only speed */
  SET(str, USERAGENT, options->user_agent != NULL && *options->user_agent != '\0' ? options->user_agent : NULL);
  SET_FN(HEADERFUNCTION, on_header);
  SET(ptr, HEADERDATA, x);
  SET_FN(WRITEFUNCTION, on_body);
  SET(ptr, WRITEDATA, x);
  SET(ptr, OPENSOCKETDATA, x);
  if (x->host != NULL) {
    SET_FN(PREREQFUNCTION, on_ready_to_send);
    SET(ptr, PREREQDATA, x);
  }
  if ((failed = apply_protocols(options, easy)) != NULL) return failed;
  SET(str, URL, x->url != NULL ? x->url : "");
  if ((failed = apply_method(x, easy)) != NULL) return failed;
  if ((failed = apply_connection(options, easy)) != NULL) return failed;
  if ((failed = apply_tls(options, easy)) != NULL) return failed;
  if (x->has_source) {
    ob_slist *node = arena_take(x, sizeof *node);
    if (node == NULL) return "CURLOPT_HTTPHEADER";
    add_line(x, node, no_expect);
  }
  SET(ptr, HTTPHEADER, x->headers != NULL ? x->headers : (x->has_source ? &no_expect_only : NULL));
  return NULL;
}

/* ---- outcome -------------------------------------------------------------------------------------- */

/* A handshake that broke off because the connection did can be tried again; a refused one cannot. */
static ob_kind tls_kind(const ob_transfer *x, long os_error) {
  const char *text = x->error;
  bool broke = os_error == ECONNRESET || os_error == EPIPE || os_error == ETIMEDOUT ||
               strstr(text, "SSL_ERROR_SYSCALL") != NULL || strstr(text, "unexpected eof") != NULL ||
               strstr(text, "reset by peer") != NULL;
  return broke ? OB_KIND_CONNECT : OB_KIND_TLS;
}

static ob_kind kind_of(const ob_transfer *x, int code, long os_error) {
  switch (code) {
  case OB_CURLE_OK:
    return OB_KIND_OK;
  case OB_CURLE_COULDNT_RESOLVE_HOST:
  case OB_CURLE_COULDNT_RESOLVE_PROXY:
    return OB_KIND_DNS;
  case OB_CURLE_COULDNT_CONNECT:
  case OB_CURLE_QUIC_CONNECT_ERROR:
  case OB_CURLE_PROXY:
  case OB_CURLE_NO_CONNECTION_AVAILABLE:
    return OB_KIND_CONNECT;
  case OB_CURLE_OPERATION_TIMEDOUT:
    return OB_KIND_TIMEOUT;
  case OB_CURLE_GOT_NOTHING:
  case OB_CURLE_SEND_ERROR:
  case OB_CURLE_RECV_ERROR:
  case OB_CURLE_PARTIAL_FILE:
  case OB_CURLE_SEND_FAIL_REWIND:
  case OB_CURLE_HTTP2:
  case OB_CURLE_HTTP2_STREAM:
  case OB_CURLE_HTTP3:
    return OB_KIND_INTERRUPTED;
  case OB_CURLE_SSL_CONNECT_ERROR:
    return tls_kind(x, os_error);
  case OB_CURLE_SSL_ENGINE_NOTFOUND:
  case OB_CURLE_SSL_ENGINE_SETFAILED:
  case OB_CURLE_SSL_ENGINE_INITFAILED:
  case OB_CURLE_SSL_CERTPROBLEM:
  case OB_CURLE_SSL_CIPHER:
  case OB_CURLE_PEER_FAILED_VERIFICATION:
  case OB_CURLE_USE_SSL_FAILED:
  case OB_CURLE_SSL_CACERT_BADFILE:
  case OB_CURLE_SSL_CRL_BADFILE:
  case OB_CURLE_SSL_ISSUER_ERROR:
  case OB_CURLE_SSL_PINNEDPUBKEYNOTMATCH:
  case OB_CURLE_SSL_INVALIDCERTSTATUS:
    return OB_KIND_TLS;
  case OB_CURLE_OUT_OF_MEMORY:
    return OB_KIND_MEMORY;
  case OB_CURLE_FAILED_INIT:
  case OB_CURLE_NOT_BUILT_IN:
  case OB_CURLE_BAD_FUNCTION_ARGUMENT:
  case OB_CURLE_UNKNOWN_OPTION:
  case OB_CURLE_ABORTED_BY_CALLBACK:
    return OB_KIND_ENGINE;
  default:
    return OB_KIND_PROTOCOL; /* not HTTP, a bad URL, too many redirects */
  }
}

void ob_transfer_result_onloop(ob_transfer *x, int code) {
  ob_outcome *outcome = &x->outcome;
  void *easy = x->easy;
  long os_error = ob_get_long(easy, OB_CURLINFO_OS_ERRNO);
  const char *ip = ob_get_ptr(easy, OB_CURLINFO_PRIMARY_IP);
  int64_t before = x->attached_us - x->submitted_us;

  outcome->curl_code = x->verdict_set ? 0 : code;
  if (!x->verdict_set) {
    outcome->kind = kind_of(x, code, os_error);
    if (code != OB_CURLE_OK) { /* else the text may tell of a try that was mended */
      const char *text = x->error[0] != '\0' ? x->error : ob_lib.easy_strerror(code);
      snprintf(outcome->message, sizeof outcome->message, "%s", text);
      if (outcome->oserrno == 0) outcome->oserrno = (int)os_error;
    }
  }
  x->connects = ob_get_long(easy, OB_CURLINFO_NUM_CONNECTS);
  outcome->sent = ob_get_long(easy, OB_CURLINFO_REQUEST_SIZE) > 0;
  outcome->reused = outcome->sent && x->connects == 0;
  outcome->uploaded = ob_get_off(easy, OB_CURLINFO_SIZE_UPLOAD_T);
  outcome->remote_port = (int)ob_get_long(easy, OB_CURLINFO_PRIMARY_PORT);
  snprintf(outcome->remote_ip, sizeof outcome->remote_ip, "%s", ip != NULL ? ip : "");

  int64_t step;
  if ((step = ob_get_off(easy, OB_CURLINFO_NAMELOOKUP_TIME_T)) > 0) outcome->timing.dns_us = before + step;
  if ((step = ob_get_off(easy, OB_CURLINFO_CONNECT_TIME_T)) > 0) outcome->timing.connect_us = before + step;
  if ((step = ob_get_off(easy, OB_CURLINFO_APPCONNECT_TIME_T)) > 0) outcome->timing.tls_us = before + step;
  if ((step = ob_get_off(easy, OB_CURLINFO_STARTTRANSFER_TIME_T)) > 0) outcome->timing.first_byte_us = before + step;

  if (outcome->kind != OB_KIND_OK || !x->headed) return;
  if (x->expected >= 0 && outcome->received != x->expected) {
    outcome->kind = OB_KIND_INTERRUPTED;
    snprintf(outcome->message, sizeof outcome->message, "body of %lld bytes where %lld were announced",
             (long long)outcome->received, (long long)x->expected);
  } else if (x->sink == OB_SINK_LIST && !is_head_request(x)) {
    ob_list_page page;
    if (ob_listxml_finish(x->parser, &page) != 0) {
      outcome->kind = OB_KIND_PROTOCOL;
      snprintf(outcome->message, sizeof outcome->message, "%s", ob_listxml_error(x->parser));
    }
  }
}

void ob_transfer_finish(ob_transfer *x) {
  x->outcome.timing.total_us = ob_now_us() - x->submitted_us;
  ob_lock(&x->lock);
  ob_transfer_move_locked(x, OB_XFER_DONE);
  ob_unlock(&x->lock);
}

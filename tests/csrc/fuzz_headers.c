/* sources: all but ob_attempt.c
 *
 * Fuzzing of what reads an answer: the callbacks that libcurl gives header lines and pieces of the body, on a transfer that no loop
 * knows. Every line goes to them from memory of exactly its size. A reader of a few lines, written without looking at the other one,
 * says what the headers have to be; the sinks may hold no more than they were made for.
 *
 *   clang -fsanitize=fuzzer,address,undefined -DOB_LIBFUZZER -D_GNU_SOURCE -DOB_DEBUG -Icsrc tests/csrc/fuzz_headers.c \
 *     $(find csrc -name "ob_[b-z]*.c") -ldl -pthread
 *
 * Without libFuzzer, main() mutates answers by a fixed pseudo-random sequence: a.out [runs] [seed]
 */
#include "ob_attempt.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPECT(condition)                                                                                              \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

#define INTO_BYTES 40

typedef struct answer {
  ob_transfer *x;
  const uint8_t *last_block; /* where the headers that count begin */
  size_t last_len;
} answer;

/* From memory of exactly the size, for the sanitizer's sake. */
static bool give(size_t (*callback)(char *, size_t, size_t, void *), const uint8_t *data, size_t len, ob_easy *easy) {
  char *copy = malloc(len > 0 ? len : 1);
  EXPECT(copy != NULL);
  memcpy(copy, data, len);
  size_t taken = callback(copy, 1, len, easy);
  free(copy);
  EXPECT(taken == len || easy->transfer->verdict_set);
  return taken == len;
}

static bool blank(uint8_t c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The value of the last line of that name in the block; -1: none. */
static long find(const answer *a, const char *name, size_t name_len, const uint8_t **value) {
  long found = -1;
  for (size_t at = 0; at < a->last_len;) {
    const uint8_t *line = a->last_block + at;
    const uint8_t *end = memchr(line, '\n', a->last_len - at);
    size_t len = end != NULL ? (size_t)(end - line) + 1 : a->last_len - at;
    at += len;
    const uint8_t *colon = memchr(line, ':', len);
    if (colon == NULL || (size_t)(colon - line) != name_len || name_len == 0) continue;
    if (strncasecmp((const char *)line, name, name_len) != 0) continue;
    const uint8_t *from = colon + 1, *to = line + len;
    while (from < to && blank(*from)) from++;
    while (to > from && blank(to[-1])) to--;
    *value = from;
    found = to - from;
  }
  return found;
}

static void check_headers(const answer *a) {
  static const char *const names[] = {"etag", "content-length", "content-range", "transfer-encoding", "x", "location"};
  ob_transfer *x = a->x;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    size_t len = 0;
    const uint8_t *wanted = NULL;
    long wanted_len = find(a, names[i], strlen(names[i]), &wanted);
    const char *got = ob_transfer_header(x, names[i], strlen(names[i]), &len);
    EXPECT((got == NULL) == (wanted_len < 0));
    if (got == NULL) continue;
    EXPECT(len == (size_t)wanted_len && memcmp(got, wanted, len) == 0 && got[len] == '\0');
  }
  for (size_t i = 0; i < ob_transfer_header_count(x); i++) {
    const char *name, *value;
    size_t name_len, value_len;
    ob_transfer_header_at(x, i, &name, &name_len, &value, &value_len);
    EXPECT(name[name_len] == '\0' && value[value_len] == '\0' && name_len > 0);
    EXPECT(value_len == 0 || (!blank((uint8_t)value[0]) && !blank((uint8_t)value[value_len - 1])));
  }
  EXPECT(x->outcome.status >= 0 && x->outcome.status <= 999);
  EXPECT(x->outcome.announced >= -1);
}

static void check_body(ob_transfer *x, int sink) {
  int64_t received = x->outcome.received;
  EXPECT(received >= 0);
  if (sink == 1) EXPECT(received <= INTO_BYTES);
  if (sink == 0 && x->collect_limit >= 0) EXPECT(received <= x->collect_limit);
  if (x->has_slice && x->outcome.slice_taken) EXPECT((uint64_t)received <= x->slice_len);
  if (x->outcome.status == 206 && x->range_len >= 0) EXPECT(received <= x->range_len);
  ob_block *body = ob_transfer_body(x);
  EXPECT(body != NULL);
  if (sink == 0 && x->headed) EXPECT((int64_t)body->len == received);
  if (!x->headed) EXPECT(body->len <= OB_ERROR_BYTES);
  ob_block_unref(body);
}

/* First byte: sink, method, what was asked for. The rest: lines up to the end of the last header block, then the body. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  unsigned int how = data[0], more = data[1];
  static ob_client *client;
  if (client == NULL) client = ob_client_new(&(ob_client_options){.endpoint = "http://h"});
  EXPECT(client != NULL);
  static char buffer[INTO_BYTES];
  int sink = (int)(how % 4);
  ob_listxml *parser = sink == 2 ? ob_listxml_new() : NULL;
  ob_transfer *x = ob_transfer_new(client, NULL);
  EXPECT(x != NULL && ob_transfer_set_url(x, "http://h/", 9) == 0);
  EXPECT(ob_transfer_set_method(x, (how & 4) != 0 ? "HEAD" : "GET", (how & 4) != 0 ? 4 : 3) == 0);
  if (sink == 0) ob_transfer_sink_collect(x, (how & 8) != 0 ? 50 : -1);
  if (sink == 1) ob_transfer_sink_into(x, buffer, sizeof buffer);
  if (sink == 2) ob_transfer_sink_list(x, parser);
  if (sink == 3) ob_transfer_sink_discard(x);
  if ((how & 16) != 0) ob_transfer_set_slice(x, more % 16, 1 + more / 16);
  if ((how & 32) != 0) ob_transfer_set_digest(x, OB_DIGEST_AUTO);
  if ((how & 64) != 0) EXPECT(ob_transfer_add_header(x, "range", 5, "bytes=2-9", 9) == 0);
  ob_easy easy = {.transfer = x};
  x->easy = &easy;
  x->shape = ob_transfer_shape(x);
  atomic_store(&x->state, OB_XFER_ACTIVE);

  answer a = {x, data + 2, 0};
  size_t at = 2;
  bool alive = true, ended = false;
  while (alive && !ended && at < size) {
    const uint8_t *line = data + at, *end = memchr(line, '\n', size - at);
    size_t len = end != NULL ? (size_t)(end - line) + 1 : size - at;
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) a.last_block = line + len, a.last_len = 0;
    bool empty = len <= 2 && (line[0] == '\r' || line[0] == '\n');
    alive = give(on_header, line, len, &easy);
    at += len;
    if (!alive) break;
    a.last_len = (size_t)(data + at - a.last_block);
    ended = empty && x->outcome.status >= 200;
  }
  if (alive) check_headers(&a);
  while (alive && ended && !is_head_request(x) && at < size) {
    size_t len = 1 + (how * 7 + at) % 23;
    if (len > size - at) len = size - at;
    alive = give(on_body, data + at, len, &easy);
    at += len;
  }
  /* Trailers are nobody's. */
  if (alive && x->headed) EXPECT(give(on_header, (const uint8_t *)"etag: late\r\n", 12, &easy));
  if (alive && x->headed) check_headers(&a);
  atomic_store(&x->state, OB_XFER_DONE); /* as after END */
  x->easy = NULL;
  check_body(x, sink);
  ob_transfer_unref(x);
  ob_listxml_free(parser);
  return 0;
}

#ifdef OB_TORTURE
_Atomic long ob_torture_countdown = -1;
#endif

#ifndef OB_LIBFUZZER

static const char *const SEEDS[] = {
    "@\x41HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 8\r\nContent-Range: bytes 2-9/20\r\nX:\r\n\r\n01234567",
    "\x50\x31HTTP/1.1 100 Continue\r\n\r\nHTTP/2 206\r\netag:  W/\"a b\" \t\r\ncontent-length: 40\r\nx: 1\r\nX: "
    "2\r\n\r\nabcdefgh",
    "\x02\x02HTTP/1.0 200\nTransfer-Encoding: chunked\nContent-Length: 3\n\n<ListBucketResult></ListBucketResult>",
    "\x20\x02HTTP/1.1 200 OK\r\nx-amz-checksum-crc32c: AAAAAA==\r\nx-goog-hash: crc32c=AAAAAA==,md5=x\r\n\r\nbody of a "
    "kind",
    "\x07\x02HTTP/1.1 301 Moved\r\nLocation: /b\r\n\r\nHTTP/1.1 503 Slow\r\nRetry-After: 1\r\ncontent-length: "
    "5\r\n\r\n<Err>"};

static const char *const TOKENS[] = {
    "\r\n",  "\n",      "\r\n\r\n", ":",    ": ",   "HTTP/", "HTTP/1.1 200\r\n", "HTTP/9.9 206 x\r\n",
    " ",     "\t",      "\r",       "etag", "ETag", "X",     "content-length: ", "99999999999999999999",
    "-1",    "0",       "7",        ";",    ",",    "\x7f",  "content-range: ",  "transfer-encoding: x\r\n",
    "bytes", "x: y\r\n"};

static uint64_t random_state;

static uint32_t below(size_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)((random_state >> 32) % n);
}

int main(int argc, char **argv) {
  long runs = argc > 1 ? atol(argv[1]) : 20000;
  random_state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 88172645463325252u;
  for (long run = 0; run < runs; run++) {
    uint8_t buffer[1024];
    const char *seed = SEEDS[(size_t)run % (sizeof SEEDS / sizeof *SEEDS)];
    size_t len = 2 + strlen(seed + 2);
    memcpy(buffer, seed, len);
    if (below(2) == 0) buffer[0] = (uint8_t)below(256);
    if (below(2) == 0) buffer[1] = (uint8_t)below(256);
    for (uint32_t changes = below(5); changes > 0; changes--) {
      size_t at = 2 + below(len - 1), cut = below(4) == 0 ? below(30) : below(2);
      const char *token = TOKENS[below(sizeof TOKENS / sizeof *TOKENS)];
      uint8_t byte = (uint8_t)below(256);
      const void *with = below(3) == 0 ? (const void *)&byte : (const void *)token;
      size_t n = with == &byte ? 1 : strlen(token);
      if (cut > len - at) cut = len - at;
      if (len - cut + n > sizeof buffer) continue;
      memmove(buffer + at + n, buffer + at + cut, len - at - cut);
      memcpy(buffer + at, with, n);
      len += n - cut;
    }
    LLVMFuzzerTestOneInput(buffer, len);
  }
  return 0;
}

#endif

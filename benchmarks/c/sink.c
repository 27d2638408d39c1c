/* sink PORT DELAY_MS [KEYS] - an object server for what nginx cannot do: bodies are counted and thrown away, answers wait, lists
 * begin at any key.
 *
 * GET and HEAD of anything answer 1 KiB, but for lists (ListObjectsV2) where KEYS is given: pages of 1,000 of as many keys, which
 * are those of server.py, with start-after, prefix and continuation tokens as S3 has them. PUT takes a body of any size (Content-Length or chunked) and forgets it, in the
 * way of S3 or of Azure; POST begins and completes multipart uploads, or takes an object as Google's JSON API does. Every
 * answer leaves DELAY_MS after its request has arrived whole: what a distant server looks like from a client that is never
 * short of bandwidth. One thread, epoll, no allocation per request.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 16384, SCRATCH_BYTES = 1 << 18, MAX_FDS = 1 << 16, EVENTS = 256 };
enum { PAGE_KEYS = 1000, KEY_BYTES = 64, ENTRY_BYTES = 320, PAGE_BYTES = PAGE_KEYS * ENTRY_BYTES + 2048 };

typedef enum { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, IN_CHUNK_END, IN_TRAILER, ANSWERING } state;
typedef enum {
  ANSWER_OBJECT,
  ANSWER_HEAD,
  ANSWER_STORED,
  ANSWER_CREATED,
  ANSWER_RESOURCE,
  ANSWER_BEGUN,
  ANSWER_COMPLETED,
  ANSWER_DELETED,
  ANSWER_PAGE
} answer;

typedef struct {
  state state;
  answer answer;
  uint32_t generation; /* a delayed answer to a closed connection finds another number */
  size_t have;         /* bytes of head[] */
  uint64_t left;       /* of the body, or of the chunk */
  size_t line;         /* length of the chunk size or trailer line so far */
  char *head;
  size_t first, end; /* of a page: its first key, and the end of those with the prefix */
  char *page;        /* what is being sent of it */
  size_t page_len, page_sent;
} connection;

typedef struct {
  int64_t due_us;
  uint32_t generation;
  int fd;
} delayed;

static connection connections[MAX_FDS];
static delayed queue[MAX_FDS]; /* one request per connection at a time: it cannot overflow */
static size_t queue_head, queue_tail;
static int64_t delay_us;
static int epoll_fd;
static char scratch[SCRATCH_BYTES];
static char object[1024];
/* The entries of all list pages one after the other; entry i is entries[entry_at[i] .. entry_at[i + 1]). */
static size_t n_keys;
static char *entries;
static size_t *entry_at;

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void drop(int fd) {
  connections[fd].generation++;
  close(fd);
}

/* ---- lists ------------------------------------------------------------------------------------------- */

static void key_of(size_t number, char key[KEY_BYTES]) {
  snprintf(key, KEY_BYTES, "data/year=2026/part-%08zu.parquet", number);
}

static void make_entries(void) {
  entries = malloc(n_keys * ENTRY_BYTES + 1);
  entry_at = malloc((n_keys + 1) * sizeof *entry_at);
  if (entries == NULL || entry_at == NULL) abort();
  size_t at = 0;
  for (size_t i = 0; i < n_keys; i++) {
    char key[KEY_BYTES];
    key_of(i, key);
    entry_at[i] = at;
    at += (size_t)snprintf(
        entries + at, ENTRY_BYTES,
        "<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:%02zu.000Z</LastModified>"
        "<ETag>&quot;%032zx&quot;</ETag><Size>%zu</Size><StorageClass>STANDARD</StorageClass></Contents>",
        key, i % 60, i, i * 37 + 1);
  }
  entry_at[n_keys] = at;
}

/* How many keys come before `text`, of which so many bytes are compared; limit 1: before it or equal to it. */
static size_t keys_before(const char *text, size_t compared, int limit) {
  size_t low = 0, high = n_keys;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    char key[KEY_BYTES];
    key_of(middle, key);
    if (strncmp(key, text, compared) < limit) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* The decoded value of a query's parameter, cut to what fits; "" where there is none. */
static void parameter(const char *query, const char *name, char *value, size_t cap) {
  size_t n = strlen(name), len = 0;
  value[0] = '\0';
  while (strncmp(query, name, n) != 0 || query[n] != '=') {
    query += strcspn(query, "& ");
    if (*query != '&') return;
    query++;
  }
  for (query += n + 1; *query != '&' && *query != ' ' && *query != '\0' && len + 1 < cap; query++) {
    if (*query == '%' && hex_digit(query[1]) >= 0 && hex_digit(query[2]) >= 0) {
      value[len++] = (char)(hex_digit(query[1]) * 16 + hex_digit(query[2]));
      query += 2;
    } else {
      value[len++] = *query;
    }
  }
  value[len] = '\0';
}

/* Decide what a list request is to get. */
static void find_page(connection *c, const char *query) {
  char prefix[KEY_BYTES * 2], after[KEY_BYTES * 2], token[32];
  parameter(query, "prefix", prefix, sizeof prefix);
  parameter(query, "start-after", after, sizeof after);
  parameter(query, "continuation-token", token, sizeof token);
  size_t with_prefix = keys_before(prefix, strlen(prefix), 0);
  c->end = keys_before(prefix, strlen(prefix), 1);
  /* A token stands for start-after: it is the number of the next key. */
  size_t begin = token[0] != '\0' ? strtoull(token, NULL, 10) : after[0] != '\0' ? keys_before(after, KEY_BYTES, 1) : 0;
  c->first = begin > with_prefix ? begin : with_prefix;
  if (c->first > c->end) c->first = c->end;
}

/* Send what is left of the page. */
static void send_page(int fd) {
  connection *c = &connections[fd];
  ssize_t n = send(fd, c->page + c->page_sent, c->page_len - c->page_sent, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN && errno != EINTR) {
    drop(fd);
    return;
  }
  c->page_sent += n > 0 ? (size_t)n : 0;
  int whole = c->page_sent == c->page_len;
  struct epoll_event event = {.events = whole ? EPOLLIN : EPOLLIN | EPOLLOUT, .data.fd = fd};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0) abort();
  if (whole) {
    c->state = IN_HEAD;
    c->have = 0;
  }
}

static void begin_page(int fd) {
  connection *c = &connections[fd];
  size_t stop = c->end - c->first > PAGE_KEYS ? c->first + PAGE_KEYS : c->end;
  size_t n = entry_at[stop] - entry_at[c->first];
  char before[1024], token[96] = "";
  static const char after[] = "</ListBucketResult>";
  if (stop < c->end) {
    snprintf(token, sizeof token, "<NextContinuationToken>%zu</NextContinuationToken>", stop);
  }
  size_t n_before =
      (size_t)snprintf(before, sizeof before,
                       "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
                       "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bench</Name>%s<KeyCount>%zu</KeyCount>"
                       "<MaxKeys>1000</MaxKeys><IsTruncated>%s</IsTruncated>",
                       token, stop - c->first, stop < c->end ? "true" : "false");
  if (c->page == NULL && (c->page = malloc(PAGE_BYTES)) == NULL) abort();
  size_t at = (size_t)snprintf(c->page, PAGE_BYTES,
                               "HTTP/1.1 200 OK\r\nServer: sink\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                               "Content-Type: application/xml\r\nContent-Length: %zu\r\n\r\n",
                               n_before + n + sizeof after - 1);
  memcpy(c->page + at, before, n_before);
  memcpy(c->page + at + n_before, entries + entry_at[c->first], n);
  memcpy(c->page + at + n_before + n, after, sizeof after - 1);
  c->page_len = at + n_before + n + sizeof after - 1;
  c->page_sent = 0;
  send_page(fd);
}

/* ---- requests ---------------------------------------------------------------------------------------- */

static void send_answer(int fd) {
  static const char *const xml =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?><%sResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
      "<Bucket>bench</Bucket><Key>k</Key>%s</%sResult>";
  connection *c = &connections[fd];
  char body[1024];
  char out[4096];
  size_t n_body = 0;
  const char *status = "200 OK";
  const char *type = "application/octet-stream";
  const char *data = body;
  if (c->answer == ANSWER_PAGE) {
    begin_page(fd);
    return;
  }
  switch (c->answer) {
  case ANSWER_OBJECT:
  case ANSWER_HEAD:
    n_body = sizeof object;
    data = object;
    break;
  case ANSWER_BEGUN:
    type = "application/xml";
    n_body = (size_t)snprintf(body, sizeof body, xml, "InitiateMultipartUpload", "<UploadId>u1</UploadId>",
                              "InitiateMultipartUpload");
    break;
  case ANSWER_COMPLETED:
    type = "application/xml";
    n_body = (size_t)snprintf(body, sizeof body, xml, "CompleteMultipartUpload", "<ETag>&quot;0-1&quot;</ETag>",
                              "CompleteMultipartUpload");
    break;
  case ANSWER_DELETED:
    status = "204 No Content";
    break;
  case ANSWER_RESOURCE:
    type = "application/json";
    n_body = (size_t)snprintf(body, sizeof body,
                              "{\n  \"generation\": \"1767225600000000\",\n  \"etag\": \"CICA4NOyxJEDEAE=\"\n}\n");
    break;
  case ANSWER_CREATED:
    status = "201 Created";
    break;
  case ANSWER_STORED:
  case ANSWER_PAGE:
    break;
  }
  int n = snprintf(out, sizeof out,
                   "HTTP/1.1 %s\r\nServer: sink\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: %s\r\n"
                   "Content-Length: %zu\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                   "ETag: \"0123456789abcdef0123456789abcdef\"\r\nAccept-Ranges: bytes\r\n\r\n",
                   status, type, n_body);
  if (c->answer != ANSWER_HEAD) {
    memcpy(out + n, data, n_body);
    n += (int)n_body;
  }
  c->state = IN_HEAD;
  c->have = 0;
  /* The client waits for this and nothing else is in the socket's buffer: it always fits. */
  if (send(fd, out, (size_t)n, MSG_NOSIGNAL) != n) drop(fd);
}

static void finish_request(int fd) {
  connection *c = &connections[fd];
  c->state = ANSWERING;
  if (delay_us == 0) {
    send_answer(fd);
    return;
  }
  queue[queue_tail] = (delayed){now_us() + delay_us, c->generation, fd};
  queue_tail = (queue_tail + 1) % MAX_FDS;
}

static const char *find_header(const char *head, const char *name) {
  size_t n = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':') {
      for (line += 3 + n; *line == ' '; line++) continue;
      return line;
    }
  }
  return NULL;
}

/* Takes body bytes; returns how many, or -1 if they make no sense. The request is finished with the last one. */
static int64_t take_body(int fd, const char *data, size_t n) {
  connection *c = &connections[fd];
  size_t at = 0;
  while (at < n && c->state != ANSWERING && c->state != IN_HEAD) {
    char byte = data[at];
    switch (c->state) {
    case IN_BODY:
    case IN_CHUNK: {
      size_t step = n - at < c->left ? n - at : (size_t)c->left;
      at += step;
      c->left -= step;
      if (c->left > 0) break;
      if (c->state == IN_CHUNK) {
        c->state = IN_CHUNK_END;
      } else {
        finish_request(fd);
      }
      break;
    }
    case IN_CHUNK_END: /* the CRLF after a chunk */
      at++;
      if (byte == '\n') {
        c->state = IN_CHUNK_SIZE;
        c->left = 0;
        c->line = 0;
      }
      break;
    case IN_CHUNK_SIZE:
      at++;
      if (byte == '\n') {
        c->state = c->left == 0 ? IN_TRAILER : IN_CHUNK;
        c->line = 0;
      } else if (byte == ';') {
        return -1; /* no client sends chunk extensions */
      } else if (byte != '\r') {
        int digit = byte >= '0' && byte <= '9'                 ? byte - '0'
                    : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10
                                                               : -1;
        if (digit < 0) return -1;
        c->left = c->left * 16 + (uint64_t)digit;
      }
      break;
    default: /* IN_TRAILER: lines up to an empty one */
      at++;
      if (byte == '\n') {
        if (c->line == 0) finish_request(fd);
        c->line = 0;
      } else if (byte != '\r') {
        c->line++;
      }
      break;
    }
  }
  return (int64_t)at;
}

/* The head is complete: decide the answer, take what came of the body with it. */
static int begin_request(int fd, size_t head_bytes) {
  connection *c = &connections[fd];
  char *head = c->head;
  size_t rest = c->have - head_bytes;
  head[head_bytes - 1] = '\0'; /* the last newline, so that the searches end there */
  char *line_end = strstr(head, "\r\n");
  if (line_end == NULL) return -1;
  if (strncmp(head, "GET ", 4) == 0) {
    char *query = strchr(head, '?');
    c->answer = ANSWER_OBJECT;
    if (n_keys > 0 && query != NULL && query < line_end && strstr(query, "list-type=2") != NULL) {
      c->answer = ANSWER_PAGE;
      find_page(c, query + 1);
    }
  } else if (strncmp(head, "HEAD ", 5) == 0) {
    c->answer = ANSWER_HEAD;
  } else if (strncmp(head, "PUT ", 4) == 0) {
    c->answer = find_header(head, "x-ms-version") != NULL ? ANSWER_CREATED : ANSWER_STORED;
  } else if (strncmp(head, "DELETE ", 7) == 0) {
    c->answer = ANSWER_DELETED;
  } else if (strncmp(head, "POST ", 5) == 0) {
    char *uploads = strstr(head, "?uploads");
    c->answer = strncmp(head, "POST /upload/", 13) == 0 ? ANSWER_RESOURCE
                : uploads != NULL && uploads < line_end ? ANSWER_BEGUN
                                                        : ANSWER_COMPLETED;
  } else {
    return -1;
  }
  const char *coding = find_header(head, "Transfer-Encoding");
  const char *length = find_header(head, "Content-Length");
  const char *expect = find_header(head, "Expect");
  if (expect != NULL && strncasecmp(expect, "100-continue", 12) == 0) {
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (send(fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL) != sizeof go_on - 1) return -1;
  }
  c->left = length != NULL ? strtoull(length, NULL, 10) : 0;
  c->line = 0;
  if (coding != NULL && strncasecmp(coding, "chunked", 7) == 0) {
    c->left = 0;
    c->state = IN_CHUNK_SIZE;
  } else if (c->left > 0) {
    c->state = IN_BODY;
  } else {
    if (rest > 0) return -1; /* pipelining: no client of ours does */
    finish_request(fd);
    return 0;
  }
  return take_body(fd, head + head_bytes, rest) == (int64_t)rest ? 0 : -1;
}

static void on_readable(int fd) {
  connection *c = &connections[fd];
  if (c->state != IN_HEAD) {
    ssize_t n = recv(fd, scratch, sizeof scratch, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0 || c->state == ANSWERING || take_body(fd, scratch, (size_t)n) != n) drop(fd);
    return;
  }
  ssize_t n = recv(fd, c->head + c->have, HEAD_BYTES - 1 - c->have, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    drop(fd);
    return;
  }
  c->have += (size_t)n;
  c->head[c->have] = '\0';
  char *end = memmem(c->head, c->have, "\r\n\r\n", 4);
  if (end == NULL ? c->have == HEAD_BYTES - 1 : begin_request(fd, (size_t)(end - c->head) + 4) != 0) drop(fd);
}

static void on_connecting(int listener) {
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    if (fd >= MAX_FDS) {
      close(fd);
      continue;
    }
    connection *c = &connections[fd];
    if (c->head == NULL && (c->head = malloc(HEAD_BYTES)) == NULL) abort();
    c->state = IN_HEAD;
    c->have = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) abort();
  }
}

/* Sends what is due; returns the milliseconds until the next, -1 if none waits. */
static int send_due(void) {
  int64_t now = now_us();
  while (queue_head != queue_tail) {
    delayed *next = &queue[queue_head];
    if (next->due_us > now) return (int)((next->due_us - now + 999) / 1000);
    queue_head = (queue_head + 1) % MAX_FDS;
    if (connections[next->fd].generation == next->generation) send_answer(next->fd);
  }
  return -1;
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 4) {
    fprintf(stderr, "usage: %s PORT DELAY_MS [KEYS]\n", argv[0]);
    return 2;
  }
  delay_us = atoll(argv[2]) * 1000;
  if (argc == 4) {
    n_keys = strtoull(argv[3], NULL, 10);
    make_entries();
  }
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  memset(object, 'x', sizeof object);

  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) {
    perror("sink: bind");
    return 1;
  }
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) return 1;

  struct epoll_event events[EVENTS];
  for (;;) {
    int n = epoll_wait(epoll_fd, events, EVENTS, send_due());
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        on_connecting(listener);
      } else if ((events[i].events & EPOLLOUT) != 0) {
        send_page(fd);
      } else {
        on_readable(fd);
      }
    }
  }
}

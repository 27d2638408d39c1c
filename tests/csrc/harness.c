/* harness.c - scripted server and counted calls. */
#include "harness.h"

#include <ctype.h>

const char *libcurl_path;

#ifdef OB_TORTURE
_Atomic long ob_torture_countdown = -1;
#endif

void nap_ms(int ms) {
  struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
  nanosleep(&nap, NULL);
}

/* ---- server --------------------------------------------------------------------------------------- */

void send_bytes(int fd, const void *data, size_t len) {
  const char *at = data;
  while (len > 0) {
    ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
    if (n <= 0) return; /* the client went away: tests look at the client's side */
    at += n;
    len -= (size_t)n;
  }
}

void send_text(int fd, const char *format, ...) {
  char text[8192];
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  CHECK(n >= 0 && (size_t)n < sizeof text);
  send_bytes(fd, text, (size_t)n);
}

void send_pattern(int fd, uint64_t from, uint64_t len) {
  char piece[16384];
  while (len > 0) {
    size_t n = len < sizeof piece ? (size_t)len : sizeof piece;
    for (size_t i = 0; i < n; i++) piece[i] = pattern(from + i);
    send_bytes(fd, piece, n);
    from += n;
    len -= n;
  }
}

bool is_pattern(const char *data, size_t len, uint64_t from) {
  for (size_t i = 0; i < len; i++) {
    if (data[i] != pattern(from + i)) return false;
  }
  return true;
}

void reset_connection(int fd) {
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

const char *request_header(request *r, const char *name) {
  static _Thread_local char value[4096];
  size_t name_len = strlen(name);
  for (char *line = strstr(r->head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, name, name_len) == 0 && line[2 + name_len] == ':') {
      char *at = line + 3 + name_len;
      while (*at == ' ') at++;
      size_t len = strcspn(at, "\r\n");
      CHECK(len < sizeof value);
      memcpy(value, at, len);
      value[len] = '\0';
      return value;
    }
  }
  return NULL;
}

typedef struct connection {
  server *server;
  int fd;
} connection;

/* The head of the next request; bytes after it stay in the socket. */
static bool read_head(int fd, request *r) {
  size_t len = 0;
  while (len < sizeof r->head - 1) {
    ssize_t n = recv(fd, r->head + len, 1, 0);
    if (n <= 0) return false;
    len += (size_t)n;
    r->head[len] = '\0';
    if (len >= 4 && memcmp(r->head + len - 4, "\r\n\r\n", 4) == 0) {
      return sscanf(r->head, "%31s %511s", r->method, r->path) == 2;
    }
  }
  return false;
}

static bool read_body(int fd, request *r) {
  const char *length = request_header(r, "content-length");
  r->body_len = length != NULL ? (size_t)strtoull(length, NULL, 10) : 0;
  r->body = malloc(r->body_len + 1);
  CHECK(r->body != NULL);
  size_t len = 0;
  while (len < r->body_len) {
    ssize_t n = recv(fd, r->body + len, r->body_len - len, 0);
    if (n <= 0) return false;
    len += (size_t)n;
  }
  r->body[len] = '\0';
  return true;
}

static void *serve_connection(void *argument) {
  connection *c = argument;
  server *s = c->server;
  request *r = calloc(1, sizeof *r);
  CHECK(r != NULL);
  r->fd = c->fd;
  for (bool on = true; on; r->on_connection++) {
    r->body = NULL;
    r->body_len = 0;
    on = read_head(c->fd, r) && (!s->reads_body || read_body(c->fd, r));
    if (on) {
      r->number = atomic_fetch_add(&s->requests, 1);
      int busy = atomic_fetch_add(&s->busy, 1) + 1;
      int most = atomic_load(&s->busiest);
      while (busy > most && !atomic_compare_exchange_weak(&s->busiest, &most, busy)) continue;
      on = s->handle(r);
      atomic_fetch_sub(&s->busy, 1);
    }
    free(r->body);
  }
  close(c->fd);
  free(r);
  free(c);
  return NULL;
}

static void *accept_connections(void *argument) {
  server *s = argument;
  for (;;) {
    int fd = accept(s->fd, NULL, NULL);
    if (fd < 0) continue; /* out of descriptors for a moment */
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connection *c = malloc(sizeof *c);
    CHECK(c != NULL);
    *c = (connection){.server = s, .fd = fd};
    atomic_fetch_add(&s->connections, 1);
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    CHECK_EQ(pthread_create(&thread, &attributes, serve_connection, c), 0);
    pthread_attr_destroy(&attributes);
  }
  return NULL;
}

void server_start(server *s, handler handle) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  pthread_t thread;
  memset(s, 0, sizeof *s);
  s->handle = handle;
  s->reads_body = true;
  s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(s->fd >= 0);
  CHECK_EQ(bind(s->fd, (struct sockaddr *)&address, sizeof address), 0);
  CHECK_EQ(listen(s->fd, 1024), 0);
  CHECK_EQ(getsockname(s->fd, (struct sockaddr *)&address, &size), 0);
  s->port = ntohs(address.sin_port);
  CHECK_EQ(pthread_create(&thread, NULL, accept_connections, s), 0);
  pthread_detach(thread);
}

bool serve_object(request *r) {
  bool plain = strncmp(r->path, "/plain/", 7) == 0;
  uint64_t size = strtoull(strrchr(r->path, '/') + 1, NULL, 10);
  uint64_t first = 0, last = size - 1;
  const char *range = request_header(r, "range");
  int n = range != NULL ? sscanf(range, "bytes=%lu-%lu", &first, &last) : 0;
  if (last >= size) last = size - 1;
  send_text(r->fd, "HTTP/1.1 %s\r\nContent-Length: %llu\r\n%s", n > 0 ? "206 Partial Content" : "200 OK",
            (unsigned long long)(last - first + 1), plain ? "" : "ETag: \"e\"\r\n");
  if (n > 0) {
    send_text(r->fd, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)first, (unsigned long long)last,
              (unsigned long long)size);
  }
  send_text(r->fd, "\r\n");
  if (strcmp(r->method, "HEAD") != 0) send_pattern(r->fd, first, last - first + 1);
  return true;
}

/* ---- calls ---------------------------------------------------------------------------------------- */

static int ended;

void load(void) {
  char err[512];
  if (ob_curl_load(libcurl_path, err, sizeof err) != 0) {
    fprintf(stderr, "%s\n", err);
    exit(1);
  }
}

ob_client *client_for(const ob_client_options *options) {
  ob_client_options plain = options != NULL ? *options : (ob_client_options){.connect_timeout_ms = 5000};
  plain.insecure_http = 1;
  ob_client *client = ob_client_new(&plain);
  CHECK(client != NULL);
  return client;
}

void prepare(call *c, ob_client *client, server *s, const char *method, const char *path) {
  char url[1024];
  memset(c, 0, sizeof *c);
  int n = snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
  c->x = ob_transfer_new(client, c);
  CHECK(c->x != NULL);
  CHECK_EQ(ob_transfer_set_url(c->x, url, (size_t)n), 0);
  CHECK_EQ(ob_transfer_set_method(c->x, method, strlen(method)), 0);
}

void header(call *c, const char *name, const char *value) {
  CHECK_EQ(ob_transfer_add_header(c->x, name, strlen(name), value, strlen(value)), 0);
}

void submit(call *c, ob_cq *cq) {
  CHECK_EQ(ob_engine_submit(c->x, cq), 0);
}

bool pump(ob_cq *cq, int timeout_ms) {
  if (ob_cq_fd(cq) >= 0 && ob_cq_wait(cq, timeout_ms) != 1) return false;
  ob_transfer *next;
  ob_transfer *x = ob_cq_take(cq);
  bool any = x != NULL;
  for (; x != NULL; x = next) {
    next = ob_transfer_next_taken(x);
    call *c = ob_transfer_owner(x);
    int events = ob_transfer_events(x, cq);
    if (events == 0) { /* moved to another queue after it was taken from this one */
      ob_transfer_unref(x);
      continue;
    }
    c->last_events = events;
    CHECK(c->ends == 0); /* END is the last */
    c->entries++;
    c->heads += (c->last_events & OB_EVENT_HEAD) != 0;
    c->datas += (c->last_events & OB_EVENT_DATA) != 0;
    c->ends += (c->last_events & OB_EVENT_END) != 0;
    if (c->ends > 0) c->order = ++ended;
    CHECK(c->heads <= 1);
    ob_transfer_unref(x);
  }
  return any;
}

#define PATIENCE_MS 20000

static void await(ob_cq *cq, const int *count) {
  int64_t until = ob_now_us() + PATIENCE_MS * 1000LL;
  while (*count == 0) {
    CHECK(ob_now_us() < until);
    pump(cq, 100);
  }
}

void await_head(call *c, ob_cq *cq) {
  await(cq, &c->heads);
}

void await_data(call *c, ob_cq *cq) {
  await(cq, &c->datas);
  c->datas = 0;
}

const ob_outcome *await_end(call *c, ob_cq *cq) {
  await(cq, &c->ends);
  return ob_transfer_outcome(c->x);
}

ob_block *body_of(call *c, size_t len) {
  ob_block *body = ob_transfer_body(c->x);
  CHECK(body != NULL);
  CHECK_EQ(body->len, len);
  return body;
}

void check_kind(const ob_outcome *outcome, ob_kind kind, int status) {
  if (outcome->kind != kind || outcome->status != status) {
    fprintf(stderr, "ended as %s %d (%s), not as %s %d\n", ob_kind_name(outcome->kind), outcome->status,
            outcome->message, ob_kind_name(kind), status);
    exit(1);
  }
}

void release(call *c) {
  ob_transfer_unref(c->x);
  c->x = NULL;
}

void finish(ob_client *client, ob_cq *cq) {
  ob_stats stats;
  ob_cq_close(cq);
  ob_cq_unref(cq);
  ob_client_unref(client);
  ob_engine_stats(&stats);
  CHECK_EQ(stats.in_flight, 0);
  CHECK_EQ(stats.queued, 0);
  /* A loop may still hold the reference of a command that came after END. */
  for (int i = 0; i < 200 && stats.live_transfers > 0; i++) {
    nap_ms(10);
    ob_engine_stats(&stats);
  }
  CHECK_EQ(stats.live_transfers, 0);
  CHECK_EQ(stats.live_clients, 0);
  CHECK_EQ(stats.live_easies, 0);
  CHECK_EQ(stats.block_bytes, 0);
  CHECK(ob_engine_shutdown(5000));
  ob_engine_stats(&stats);
  CHECK_EQ(stats.live_sockets, 0);
  CHECK_EQ(stats.live_queues, ob_engine_orphans() != NULL);
  ob_block_trim();
}

int run_test(int argc, char **argv, const test *tests) {
  if (argc != 3) {
    for (; tests->name != NULL; tests++) printf("%s\n", tests->name);
    return argc == 1 ? 0 : 2;
  }
  libcurl_path = argv[1];
  alarm(120);
  for (; tests->name != NULL; tests++) {
    if (strcmp(tests->name, argv[2]) == 0) {
      load();
      tests->run();
      return 0;
    }
  }
  fprintf(stderr, "no test %s\n", argv[2]);
  return 2;
}

/* test_http.c - one attempt: requests as sent, answers as read, sinks, outcomes. */
#include "harness.h"
#include "ob_listxml.h"

static ob_client *client;
static ob_cq *cq;
static server srv;
static call one;

static void start(handler handle, const ob_client_options *options) {
  server_start(&srv, handle);
  client = client_for(options);
  cq = ob_cq_new();
  CHECK(cq != NULL);
}

static void stop(void) {
  finish(client, cq);
}

static const ob_outcome *get(const char *path) {
  prepare(&one, client, &srv, "GET", path);
  submit(&one, cq);
  return await_end(&one, cq);
}

static void check_body(const char *text) {
  ob_block *body = body_of(&one, strlen(text));
  CHECK(memcmp(body->data, text, body->len) == 0);
  ob_block_unref(body);
}

static void check_received_header(const char *name, const char *value) {
  size_t len;
  const char *have = ob_transfer_header(one.x, name, strlen(name), &len);
  CHECK(have != NULL);
  CHECK_EQ(len, strlen(value));
  CHECK(memcmp(have, value, len) == 0);
}

/* ---- answers -------------------------------------------------------------------------------------- */

static bool answer_hello(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Two: a\r\nx-two:  b \r\nEmpty:\r\n\r\nhello");
  return true;
}

static void get_collects_the_body(void) {
  start(answer_hello, NULL);
  const ob_outcome *outcome = get("/a/../b?c=%20d");
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(one.entries, 1);
  CHECK_EQ(one.heads, 0); /* only a stream tells of its head */
  CHECK_EQ(outcome->announced, 5);
  CHECK_EQ(outcome->received, 5);
  CHECK_EQ(outcome->http_version, 11);
  CHECK_EQ(outcome->reused, 0);
  CHECK_EQ(outcome->sent, 1);
  CHECK_EQ(outcome->remote_port, srv.port);
  CHECK(strcmp(outcome->remote_ip, "127.0.0.1") == 0);
  CHECK(outcome->timing.first_byte_us > 0 && outcome->timing.first_byte_us <= outcome->timing.total_us);
  check_body("hello");
  check_body("hello"); /* and again */
  check_received_header("X-TWO", "b");
  check_received_header("empty", "");
  CHECK_EQ(ob_transfer_header_count(one.x), 4);
  size_t len;
  CHECK(ob_transfer_header(one.x, "absent", 6, &len) == NULL);
  release(&one);
  CHECK_EQ(get("/")->reused, 1);
  release(&one);
  CHECK_EQ(srv.connections, 1);
  stop();
}

static bool answer_path(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(r->path), r->path);
  return true;
}

static void path_is_sent_as_it_is(void) {
  start(answer_path, NULL);
  get("/a/../b//c/./d?e=%2F..");
  check_body("/a/../b//c/./d?e=%2F..");
  release(&one);
  stop();
}

static bool answer_until_close(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\n\r\n");
  send_pattern(r->fd, 0, 3000000);
  return false;
}

static void body_without_length_ends_with_the_connection(void) {
  start(answer_until_close, NULL);
  const ob_outcome *outcome = get("/");
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->announced, -1);
  ob_block *body = body_of(&one, 3000000);
  CHECK(is_pattern(body->data, body->len, 0));
  ob_block_unref(body);
  release(&one);
  stop();
}

static bool answer_chunked(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nLate: x\r\n\r\n");
  return true;
}

static void chunked_body_and_trailer(void) {
  start(answer_chunked, NULL);
  check_kind(get("/"), OB_KIND_OK, 200);
  check_body("abcde");
  CHECK_EQ(ob_transfer_header_count(one.x), 1); /* a trailer is no header */
  release(&one);
  stop();
}

static bool answer_short(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.");
  return false;
}

static void short_body_is_interrupted(void) {
  start(answer_short, NULL);
  const ob_outcome *outcome = get("/");
  check_kind(outcome, OB_KIND_INTERRUPTED, 200);
  CHECK_EQ(outcome->received, 5);
  CHECK(outcome->message[0] != '\0');
  release(&one);
  stop();
}

static bool answer_reset(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.");
  nap_ms(50);
  reset_connection(r->fd);
  return false;
}

static void reset_is_interrupted(void) {
  start(answer_reset, NULL);
  check_kind(get("/"), OB_KIND_INTERRUPTED, 200);
  release(&one);
  stop();
}

static bool answer_nothing(request *r) {
  (void)r;
  return false;
}

static void close_without_answer_is_interrupted(void) {
  start(answer_nothing, NULL);
  const ob_outcome *outcome = get("/");
  check_kind(outcome, OB_KIND_INTERRUPTED, 0);
  CHECK_EQ(outcome->sent, 1);
  release(&one);
  stop();
}

static bool answer_garbage(request *r) {
  send_text(r->fd, "SSH-2.0-OpenSSH_9.2\r\n");
  return false;
}

static void other_protocol_is_protocol(void) {
  start(answer_garbage, NULL);
  check_kind(get("/"), OB_KIND_PROTOCOL, 0);
  release(&one);
  stop();
}

static bool answer_interim(request *r) {
  send_text(r->fd, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
  return answer_hello(r);
}

static void interim_answers_are_dropped(void) {
  start(answer_interim, NULL);
  check_kind(get("/"), OB_KIND_OK, 200);
  check_body("hello");
  CHECK_EQ(ob_transfer_header_count(one.x), 4);
  release(&one);
  stop();
}

static bool answer_redirect(request *r) {
  if (strcmp(r->path, "/there") == 0) return answer_hello(r);
  send_text(r->fd, "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 4\r\n\r\nmove");
  return true;
}

static void redirect_is_followed_when_asked(void) {
  ob_client_options options = {.follow = 3};
  start(answer_redirect, &options);
  const ob_outcome *outcome = get("/here");
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->resent, 0);
  check_body("hello");
  CHECK_EQ(ob_transfer_header_count(one.x), 4);
  release(&one);
  stop();
}

static void redirect_is_an_answer_otherwise(void) {
  start(answer_redirect, NULL);
  check_kind(get("/here"), OB_KIND_OK, 302);
  check_body("move");
  check_received_header("location", "/there");
  release(&one);
  stop();
}

static bool answer_error(request *r) {
  send_text(r->fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 200000\r\n\r\n");
  send_pattern(r->fd, 0, 200000);
  return true;
}

static void error_body_is_bounded(void) {
  char into[8];
  start(answer_error, NULL);
  for (int sink = 0; sink < 4; sink++) {
    prepare(&one, client, &srv, "GET", "/");
    if (sink == 1) ob_transfer_sink_stream(one.x, 1000);
    if (sink == 2) ob_transfer_sink_into(one.x, into, sizeof into);
    if (sink == 3) ob_transfer_sink_discard(one.x);
    submit(&one, cq);
    const ob_outcome *outcome = await_end(&one, cq);
    check_kind(outcome, OB_KIND_OK, 404);
    CHECK_EQ(one.heads, 0);
    CHECK_EQ(outcome->received, 0);
    ob_block *body = body_of(&one, OB_ERROR_BYTES);
    CHECK(is_pattern(body->data, body->len, 0));
    ob_block_unref(body);
    release(&one);
  }
  stop();
}

static void head_request_announces(void) {
  start(serve_object, NULL);
  prepare(&one, client, &srv, "HEAD", "/o/123456789");
  ob_transfer_sink_stream(one.x, 0);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->announced, 123456789);
  CHECK_EQ(outcome->received, 0);
  CHECK_EQ(one.entries, 1);
  ob_block_unref(body_of(&one, 0));
  release(&one);
  stop();
}

static bool answer_204(request *r) {
  send_text(r->fd, "HTTP/1.1 204 No Content\r\n\r\n");
  return true;
}

static void no_content_has_no_body(void) {
  start(answer_204, NULL);
  prepare(&one, client, &srv, "DELETE", "/");
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OK, 204);
  ob_block_unref(body_of(&one, 0));
  release(&one);
  stop();
}

/* ---- requests ------------------------------------------------------------------------------------- */

/* The request's head comes back as the answer's body. */
static bool answer_head(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nBody-Bytes: %zu\r\n\r\n%s", strlen(r->head), r->body_len,
            r->head);
  return true;
}

static bool contains(const char *text, size_t len, const char *what) {
  char *copy = calloc(1, len + 1);
  CHECK(copy != NULL);
  memcpy(copy, text, len);
  for (char *at = copy; *at != '\0'; at++) {
    if (*at >= 'A' && *at <= 'Z') *at = (char)(*at + 32);
  }
  bool found = strstr(copy, what) != NULL;
  free(copy);
  return found;
}

/* n < 0: no source at all. */
static void check_request(const char *method, int n, const char *length_line) {
  ob_iovec parts[2] = {{"abc", 3}, {"defgh", 5}};
  prepare(&one, client, &srv, method, "/x");
  header(&one, "x-empty", "");
  header(&one, "x-full", "a: b");
  if (n >= 0) CHECK_EQ(ob_transfer_set_source(one.x, parts, (size_t)n), 0);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 200);
  ob_block *head = ob_transfer_body(one.x);
  char line[64];
  snprintf(line, sizeof line, "%s /x HTTP/1.1\r\n", method);
  CHECK(strncmp(head->data, line, strlen(line)) == 0);
  CHECK(contains(head->data, head->len, "\r\nx-empty:\r\n"));
  CHECK(contains(head->data, head->len, "\r\nx-full: a: b\r\n"));
  CHECK(!contains(head->data, head->len, "expect"));
  CHECK(!contains(head->data, head->len, "content-type"));
  CHECK(!contains(head->data, head->len, "transfer-encoding"));
  CHECK(!contains(head->data, head->len, "accept-encoding"));
  CHECK(!contains(head->data, head->len, "user-agent"));
  CHECK_EQ(contains(head->data, head->len, "\r\ncontent-length: "), length_line != NULL);
  if (length_line != NULL) CHECK(contains(head->data, head->len, length_line));
  if (n > 0) CHECK_EQ(outcome->uploaded, n == 1 ? 3 : 8);
  ob_block_unref(head);
  release(&one);
}

static void methods_and_bodies_as_sent(void) {
  start(answer_head, NULL);
  check_request("PUT", 2, "\r\ncontent-length: 8\r\n");
  check_request("PUT", 0, "\r\ncontent-length: 0\r\n");
  check_request("PUT", -1, "\r\ncontent-length: 0\r\n");
  check_request("POST", 1, "\r\ncontent-length: 3\r\n");
  check_request("POST", 0, "\r\ncontent-length: 0\r\n");
  check_request("POST", -1, "\r\ncontent-length: 0\r\n");
  check_request("PATCH", 2, "\r\ncontent-length: 8\r\n");
  check_request("DELETE", -1, NULL);
  check_request("DELETE", 1, "\r\ncontent-length: 3\r\n");
  check_request("GET", -1, NULL);
  check_request("OPTIONS", -1, NULL);
  CHECK_EQ(srv.connections, 1); /* none of them cost the connection */
  stop();
}

static bool answer_echo(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", r->body_len);
  send_bytes(r->fd, r->body, r->body_len);
  return true;
}

static void large_body_is_sent_whole(void) {
  enum { SIZE = 5000000, CUT = 1234567 };
  char *data = malloc(SIZE);
  CHECK(data != NULL);
  for (size_t i = 0; i < SIZE; i++) data[i] = pattern(i);
  start(answer_echo, NULL);
  ob_iovec parts[] = {{data, CUT}, {data, 0}, {data + CUT, SIZE - CUT}};
  prepare(&one, client, &srv, "PUT", "/");
  CHECK_EQ(ob_transfer_set_source(one.x, parts, 3), 0);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->uploaded, SIZE);
  ob_block *body = body_of(&one, SIZE);
  CHECK(is_pattern(body->data, SIZE, 0));
  ob_block_unref(body);
  release(&one);
  free(data);
  stop();
}

/* The second request on a connection dies after part of its body: a kept connection that was closed under us. */
static bool answer_once_a_connection(request *r) {
  if (r->on_connection > 0) {
    reset_connection(r->fd);
    return false;
  }
  return answer_echo(r);
}

static void body_is_rewound_when_a_kept_connection_dies(void) {
  start(answer_once_a_connection, NULL);
  for (int i = 0; i < 2; i++) {
    ob_iovec parts[2] = {{"first ", 6}, {"second", 6}};
    prepare(&one, client, &srv, "PUT", "/");
    CHECK_EQ(ob_transfer_set_source(one.x, parts, 2), 0);
    submit(&one, cq);
    const ob_outcome *outcome = await_end(&one, cq);
    check_kind(outcome, OB_KIND_OK, 200);
    CHECK_EQ(outcome->resent, i);
    check_body("first second");
    release(&one);
  }
  CHECK_EQ(srv.connections, 2);
  stop();
}

static void bad_headers_are_refused(void) {
  start(answer_hello, NULL);
  prepare(&one, client, &srv, "GET", "/");
  CHECK_EQ(ob_transfer_add_header(one.x, "a", 1, "b\r\nc: d", 7), -2);
  CHECK_EQ(ob_transfer_add_header(one.x, "a", 1, "b\nc", 3), -2);
  CHECK_EQ(ob_transfer_add_header(one.x, "a", 1, "b\0c", 3), -2);
  CHECK_EQ(ob_transfer_add_header(one.x, "a b", 3, "c", 1), -2);
  CHECK_EQ(ob_transfer_add_header(one.x, "", 0, "c", 1), -2);
  CHECK_EQ(ob_transfer_set_method(one.x, "GET /x", 6), -2);
  CHECK_EQ(ob_transfer_set_url(one.x, "http://a/\r\nb", 12), -2);
  release(&one);
  stop();
}

static void many_headers_outgrow_the_arena(void) {
  char value[200];
  memset(value, 'v', sizeof value - 1);
  value[sizeof value - 1] = '\0';
  start(answer_head, NULL);
  prepare(&one, client, &srv, "GET", "/");
  for (int i = 0; i < 30; i++) header(&one, "x-many", value);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  CHECK(ob_transfer_outcome(one.x)->received > 30 * 200);
  release(&one);
  stop();
}

static void plain_http_is_refused_unless_allowed(void) {
  server_start(&srv, answer_hello);
  ob_client_options options = {.connect_timeout_ms = 1000};
  client = ob_client_new(&options);
  cq = ob_cq_new();
  const ob_outcome *outcome = get("/");
  check_kind(outcome, OB_KIND_PROTOCOL, 0);
  CHECK_EQ(srv.connections, 0);
  CHECK_EQ(outcome->sent, 0);
  release(&one);
  stop();
}

static void refused_connection_is_connect(void) {
  start(answer_hello, NULL);
  server closed = {.port = 1};
  prepare(&one, client, &closed, "GET", "/");
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_CONNECT, 0);
  CHECK_EQ(outcome->oserrno, ECONNREFUSED);
  CHECK_EQ(outcome->sent, 0);
  release(&one);
  stop();
}

static void unknown_host_is_dns(void) {
  start(answer_hello, NULL);
  prepare(&one, client, &srv, "GET", "/");
  CHECK_EQ(ob_transfer_set_url(one.x, "http://no-such-host.invalid/", 28), 0);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_DNS, 0);
  release(&one);
  stop();
}

static void bad_url_is_protocol(void) {
  start(answer_hello, NULL);
  prepare(&one, client, &srv, "GET", "/");
  CHECK_EQ(ob_transfer_set_url(one.x, "http://127.0.0.1:99999999/", 26), 0);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_PROTOCOL, 0);
  release(&one);
  prepare(&one, client, &srv, "GET", "/");
  CHECK_EQ(ob_transfer_set_url(one.x, "file:///etc/passwd", 18), 0);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_PROTOCOL, 0);
  release(&one);
  stop();
}

/* ---- sinks ---------------------------------------------------------------------------------------- */

static const ob_outcome *get_into(const char *path, char *buffer, size_t cap) {
  prepare(&one, client, &srv, "GET", path);
  ob_transfer_sink_into(one.x, buffer, cap);
  submit(&one, cq);
  return await_end(&one, cq);
}

static void body_lands_in_the_callers_buffer(void) {
  enum { SIZE = 300000 };
  char *buffer = calloc(1, SIZE);
  CHECK(buffer != NULL);
  start(serve_object, NULL);
  const ob_outcome *outcome = get_into("/o/300000", buffer, SIZE);
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->received, SIZE);
  CHECK(is_pattern(buffer, SIZE, 0));
  release(&one);
  check_kind(get_into("/o/300000", buffer, SIZE - 1), OB_KIND_OVERFLOW, 200);
  release(&one);
  free(buffer);
  stop();
}

static void buffer_overflow_of_unknown_length(void) {
  char buffer[1000];
  start(answer_until_close, NULL);
  check_kind(get_into("/", buffer, sizeof buffer), OB_KIND_OVERFLOW, 200);
  release(&one);
  stop();
}

static void collect_limit_is_overflow(void) {
  start(serve_object, NULL);
  prepare(&one, client, &srv, "GET", "/o/1001");
  ob_transfer_sink_collect(one.x, 1000);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OVERFLOW, 200);
  release(&one);
  prepare(&one, client, &srv, "GET", "/o/1000");
  ob_transfer_sink_collect(one.x, 1000);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  release(&one);
  stop();
}

static void collect_limit_without_length(void) {
  start(answer_until_close, NULL);
  prepare(&one, client, &srv, "GET", "/");
  ob_transfer_sink_collect(one.x, 100000);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OVERFLOW, 200);
  release(&one);
  stop();
}

static void discard_counts(void) {
  start(serve_object, NULL);
  prepare(&one, client, &srv, "GET", "/o/100000");
  ob_transfer_sink_discard(one.x);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->received, 100000);
  ob_block_unref(body_of(&one, 0));
  release(&one);
  stop();
}

static void body_lands_in_a_file(void) {
  char path[] = "/tmp/ob-test-XXXXXX";
  char data[5000];
  int fd = mkstemp(path);
  CHECK(fd >= 0);
  start(serve_object, NULL);
  prepare(&one, client, &srv, "GET", "/o/5000");
  ob_transfer_sink_fd(one.x, fd, 100);
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  release(&one);
  CHECK_EQ(pread(fd, data, sizeof data, 100), 5000);
  CHECK(is_pattern(data, sizeof data, 0));
  close(fd);
  fd = open(path, O_RDONLY);
  prepare(&one, client, &srv, "GET", "/o/5000");
  ob_transfer_sink_fd(one.x, fd, 0);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_FILE, 200);
  CHECK_EQ(outcome->oserrno, EBADF);
  release(&one);
  close(fd);
  unlink(path);
  stop();
}

static bool answer_list(request *r) {
  const char *list = "<?xml version=\"1.0\"?><ListBucketResult><Contents><Key>a&amp;b</Key><Size>7</Size></Contents>"
                     "<IsTruncated>false</IsTruncated></ListBucketResult>";
  const char *broken = "<ListBucketResult><Contents></Oops></ListBucketResult>";
  const char *text = strcmp(r->path, "/good") == 0 ? list : broken;
  if (strcmp(r->path, "/cut") == 0) {
    send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n%.40s", list);
    return true;
  }
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text);
  return true;
}

static void list_is_parsed_as_it_arrives(void) {
  start(answer_list, NULL);
  const char *paths[] = {"/good", "/cut", "/broken"};
  for (int i = 0; i < 3; i++) {
    ob_listxml *parser = ob_listxml_new();
    CHECK(parser != NULL);
    prepare(&one, client, &srv, "GET", paths[i]);
    ob_transfer_sink_list(one.x, parser);
    submit(&one, cq);
    check_kind(await_end(&one, cq), i == 0 ? OB_KIND_OK : OB_KIND_PROTOCOL, 200);
    if (i == 0) {
      ob_list_page page;
      CHECK_EQ(ob_listxml_finish(parser, &page), 0);
      CHECK_EQ(page.n_entries, 1);
      CHECK_EQ(page.entries[0].size, 7);
      CHECK(memcmp(page.text + page.entries[0].key_off, "a&b", 3) == 0);
    }
    release(&one);
    ob_listxml_free(parser);
  }
  stop();
}

/* ---- ranges --------------------------------------------------------------------------------------- */

/* A server that does not know ranges. */
static bool serve_whole(request *r) {
  uint64_t size = strtoull(strrchr(r->path, '/') + 1, NULL, 10);
  if (strncmp(r->path, "/close/", 7) == 0) {
    send_text(r->fd, "HTTP/1.1 200 OK\r\n\r\n");
  } else {
    send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)size);
  }
  send_pattern(r->fd, 0, size);
  return strncmp(r->path, "/close/", 7) != 0;
}

static void check_slice(const char *path, uint64_t start_at, uint64_t len, uint64_t expect) {
  prepare(&one, client, &srv, "GET", path);
  ob_transfer_set_slice(one.x, start_at, len);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->slice_taken, 1);
  CHECK_EQ(outcome->received, expect);
  ob_block *body = body_of(&one, expect);
  CHECK(is_pattern(body->data, body->len, start_at));
  ob_block_unref(body);
  release(&one);
}

static void whole_answer_is_cut_to_the_slice(void) {
  start(serve_whole, NULL);
  check_slice("/o/10000000", 100000, 5000, 5000);
  check_slice("/o/10000000", 0, 1, 1);
  check_slice("/o/1000", 100, 900, 900);
  check_slice("/o/1000", 900, 500, 100);
  check_slice("/o/1000", 2000, 5, 0);
  check_slice("/close/1000000", 70000, 100, 100);
  stop();
}

static void stream_is_cut_to_the_slice(void) {
  start(serve_whole, NULL);
  prepare(&one, client, &srv, "GET", "/o/10000000");
  ob_transfer_sink_stream(one.x, 100000);
  ob_transfer_set_slice(one.x, 1000000, 600000);
  submit(&one, cq);
  await_head(&one, cq);
  uint64_t at = 1000000;
  while (one.ends == 0 || ob_transfer_buffered(one.x) > 0) {
    if (ob_transfer_want(one.x, 1) == 0 && one.ends == 0) pump(cq, 1000);
    ob_block *next;
    for (ob_block *block = ob_transfer_take(one.x, 0); block != NULL; block = next) {
      next = block->next;
      CHECK(is_pattern(block->data, block->len, at));
      at += block->len;
      ob_block_unref(block);
    }
  }
  check_kind(ob_transfer_outcome(one.x), OB_KIND_OK, 200);
  CHECK_EQ(at, 1600000);
  release(&one);
  stop();
}

static void partial_answer_is_not_cut(void) {
  start(serve_object, NULL);
  prepare(&one, client, &srv, "GET", "/o/1000");
  header(&one, "Range", "bytes=100-199");
  ob_transfer_set_slice(one.x, 100, 100);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 206);
  CHECK_EQ(outcome->slice_taken, 0);
  ob_block *body = body_of(&one, 100);
  CHECK(is_pattern(body->data, body->len, 100));
  ob_block_unref(body);
  release(&one);
  stop();
}

static bool answer_too_much(request *r) {
  if (strcmp(r->path, "/known") == 0) {
    send_text(r->fd, "HTTP/1.1 206 Partial Content\r\nContent-Length: 11\r\n\r\n0123456789a");
    return true;
  }
  send_text(r->fd, "HTTP/1.1 206 Partial Content\r\n\r\n0123456789a");
  return false;
}

static void more_than_the_range_is_protocol(void) {
  start(answer_too_much, NULL);
  const char *paths[] = {"/known", "/unknown"};
  for (int i = 0; i < 2; i++) {
    prepare(&one, client, &srv, "GET", paths[i]);
    header(&one, "range", "bytes=0-9");
    submit(&one, cq);
    check_kind(await_end(&one, cq), OB_KIND_PROTOCOL, 206);
    release(&one);
  }
  stop();
}

/* ---- time ----------------------------------------------------------------------------------------- */

static bool answer_stall(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
  nap_ms(strcmp(r->path, "/short") == 0 ? 100 : 3000);
  send_text(r->fd, "67890");
  return true;
}

static void silence_is_a_stall(void) {
  ob_client_options options = {.read_timeout_ms = 500};
  start(answer_stall, &options);
  int64_t before = ob_now_us();
  check_kind(get("/"), OB_KIND_STALL, 200);
  int64_t took = ob_now_us() - before;
  CHECK(took >= 500000 && took < 2500000);
  release(&one);
  check_kind(get("/short"), OB_KIND_OK, 200);
  release(&one);
  stop();
}

static void total_timeout_is_timeout(void) {
  ob_client_options options = {.timeout_ms = 300};
  start(answer_stall, &options);
  check_kind(get("/"), OB_KIND_TIMEOUT, 200);
  release(&one);
  stop();
}

static const test tests[] = {
    {"get_collects_the_body", get_collects_the_body},
    {"path_is_sent_as_it_is", path_is_sent_as_it_is},
    {"body_without_length_ends_with_the_connection", body_without_length_ends_with_the_connection},
    {"chunked_body_and_trailer", chunked_body_and_trailer},
    {"short_body_is_interrupted", short_body_is_interrupted},
    {"reset_is_interrupted", reset_is_interrupted},
    {"close_without_answer_is_interrupted", close_without_answer_is_interrupted},
    {"other_protocol_is_protocol", other_protocol_is_protocol},
    {"interim_answers_are_dropped", interim_answers_are_dropped},
    {"redirect_is_followed_when_asked", redirect_is_followed_when_asked},
    {"redirect_is_an_answer_otherwise", redirect_is_an_answer_otherwise},
    {"error_body_is_bounded", error_body_is_bounded},
    {"head_request_announces", head_request_announces},
    {"no_content_has_no_body", no_content_has_no_body},
    {"methods_and_bodies_as_sent", methods_and_bodies_as_sent},
    {"large_body_is_sent_whole", large_body_is_sent_whole},
    {"body_is_rewound_when_a_kept_connection_dies", body_is_rewound_when_a_kept_connection_dies},
    {"bad_headers_are_refused", bad_headers_are_refused},
    {"many_headers_outgrow_the_arena", many_headers_outgrow_the_arena},
    {"plain_http_is_refused_unless_allowed", plain_http_is_refused_unless_allowed},
    {"refused_connection_is_connect", refused_connection_is_connect},
    {"unknown_host_is_dns", unknown_host_is_dns},
    {"bad_url_is_protocol", bad_url_is_protocol},
    {"body_lands_in_the_callers_buffer", body_lands_in_the_callers_buffer},
    {"buffer_overflow_of_unknown_length", buffer_overflow_of_unknown_length},
    {"collect_limit_is_overflow", collect_limit_is_overflow},
    {"collect_limit_without_length", collect_limit_without_length},
    {"discard_counts", discard_counts},
    {"body_lands_in_a_file", body_lands_in_a_file},
    {"list_is_parsed_as_it_arrives", list_is_parsed_as_it_arrives},
    {"whole_answer_is_cut_to_the_slice", whole_answer_is_cut_to_the_slice},
    {"stream_is_cut_to_the_slice", stream_is_cut_to_the_slice},
    {"partial_answer_is_not_cut", partial_answer_is_not_cut},
    {"more_than_the_range_is_protocol", more_than_the_range_is_protocol},
    {"silence_is_a_stall", silence_is_a_stall},
    {"total_timeout_is_timeout", total_timeout_is_timeout},
    {NULL, NULL},
};

int main(int argc, char **argv) {
  return run_test(argc, argv, tests);
}

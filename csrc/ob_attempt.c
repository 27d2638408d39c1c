/* ob_attempt.c - one HTTP attempt as libcurl sees it: options, callbacks, results. Loop thread only.
 *
 * No callback blocks, but for pwrite to the owner's file, and none calls anything of the program's.
 */
#include <ctype.h>
#include <limits.h>
#include <sys/socket.h>

#include "ob_listxml.h"
#include "ob_loop.h"
#include "ob_opt.h"
#include "ob_xfer.h"

/* The argument of all callbacks is the handle. */
static ob_transfer *transfer_of(void *argument) {
  return ((ob_easy *)argument)->transfer;
}

static ob_loop *loop_of(ob_transfer *x) {
  return atomic_load_explicit(&x->loop, memory_order_relaxed);
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
  return x->shape == OB_SHAPE_HEAD;
}

/* Bytes that will reach the sink, from what was announced and the slice. */
static int64_t expected_bytes(ob_transfer *x) {
  int64_t announced = x->outcome.announced;
  if (is_head_request(x) || x->outcome.status == 204) return 0;
  if (!x->has_slice || x->outcome.status != 200) return announced;
  if (ob_headers_find(&x->received, "content-range", 13) != NULL) return announced; /* a 206 by another number */
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
  ob_digest_begin(&x->digest, &x->received);
  x->digest.in_part = expected >= 0 && expected < x->outcome.announced;
  ob_lock(&x->lock);
  ob_transfer_move_locked(x, OB_XFER_HEADED);
  x->expected = expected;
  x->coalesced = stream && expected >= 0 && expected <= OB_COALESCE_BYTES;
  if (x->coalesced) x->window = OB_WINDOW_NONE;
  if ((stream || x->sink == OB_SINK_COLLECT) && expected > 0 &&
      (x->window == OB_WINDOW_NONE || (uint64_t)expected <= x->window)) {
    enough = ob_transfer_next_block_locked(x, (size_t)expected) != NULL;
  }
  ob_unlock(&x->lock);
  if (!enough) return refuse(x, OB_KIND_MEMORY, "no memory for the body");
  if (x->coalesced) {
    ob_loop_head_held_onloop(loop_of(x), x);
  } else if (stream || x->wants_head) {
    ob_loop_ready_onloop(loop_of(x), x, OB_EVENT_HEAD);
  }
  return len;
}

static size_t on_header(char *line, size_t size, size_t n, void *argument) {
  ob_transfer *x = transfer_of(argument);
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
  int rc = ob_transfer_append_locked(x, data, len < room ? len : room);
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

/* Under the lock: whoever cancels knows that nothing is written behind its back. */
static bool land(ob_transfer *x, const char *data, size_t len) {
  ob_lock(&x->lock);
  bool landed = ob_transfer_scatter_locked(x, data, len);
  ob_unlock(&x->lock);
  return landed;
}

/* Stream and collect: into the reader's memory, kept in blocks, or paused. */
static size_t buffer_body(ob_transfer *x, const char *data, size_t len, size_t whole) {
  bool data_event = false;
  ob_lock(&x->lock);
  if (x->fill_left > 0) {
    size_t n = ob_transfer_fill_locked(x, data, len);
    data += n;
    len -= n;
  } else if (x->sink == OB_SINK_STREAM && !x->coalesced && x->buffered > 0 && x->buffered >= x->wanted) {
    if (x->buffered >= x->window || (!x->collecting && ob_engine_memory_short())) {
      ob_transfer_move_locked(x, OB_XFER_PAUSED);
      ob_unlock(&x->lock);
      ob_engine_paused(x);
      return OB_CURL_WRITEFUNC_PAUSE;
    }
  }
  int rc = ob_transfer_append_locked(x, data, len);
  if (x->wanted > 0 && x->buffered >= x->wanted && !x->coalesced) {
    x->wanted = 0;
    data_event = true;
  }
  if (x->wants_full && x->fill_left == 0) {
    x->wants_full = false;
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
    if (!land(x, data, len)) return refuse(x, OB_KIND_CANCELLED, "cancelled");
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
  if (rc != whole) return rc;
  if (x->digest.kind != OB_DIGEST_NONE) ob_digest_update(&x->digest, data, len);
  x->outcome.received = (int64_t)after;
  return rc;
}

static size_t on_body(char *data, size_t size, size_t n, void *argument) {
  ob_transfer *x = transfer_of(argument);
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
  ob_transfer *x = transfer_of(argument);
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
  ob_transfer *x = transfer_of(argument);
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
  ob_transfer *x = transfer_of(argument);
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

/* What is to be read on a kept connection before anything was asked: bytes, 0 where the server has closed it, -1 nothing. Bytes are
 * left over from an answer longer than announced. Read as the next answer, they would be another object's. TLS records of their own
 * (tickets) look the same, so only plain connections are asked. */
static ssize_t peek_unasked(const ob_transfer *x, int local_port) {
  if (strncmp(x->url, "http:", 5) != 0 || ob_get_long(x->easy->curl, OB_CURLINFO_NUM_CONNECTS) != 0) return -1;
  int fd = ob_get_socket(x->easy->curl);
  if (fd == OB_CURL_SOCKET_BAD) fd = ob_socket_at(local_port); /* libcurl 7 does not say yet which one it takes */
  char byte;
  return fd == OB_CURL_SOCKET_BAD ? -1 : recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

/* The connection is there, nothing was sent yet. A kept connection opens no socket, but comes by here. */
static int on_ready_to_send(void *argument, char *remote_ip, char *local_ip, int remote_port, int local_port) {
  ob_transfer *x = transfer_of(argument);
  (void)remote_ip;
  (void)local_ip;
  (void)remote_port;
  if (x->host != NULL) ob_loop_resolved_onloop(loop_of(x), x);
  ssize_t unasked = peek_unasked(x, local_port);
  if (unasked > 0) {
    refuse(x, OB_KIND_CONNECT, "the kept connection held bytes that nobody asked for");
    return OB_CURL_PREREQFUNC_ABORT;
  }
  /* Where the server closed the connection before, what is sent there reaches nobody: libcurl sends it again on another one, and
   * no answer was lost. */
  if (unasked != 0) x->sends++;
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

ob_shape ob_transfer_shape(const ob_transfer *x) {
  if (strcmp(x->method, "GET") == 0 && !x->has_source) return OB_SHAPE_GET;
  if (strcmp(x->method, "PUT") == 0) return OB_SHAPE_PUT;
  return strcmp(x->method, "HEAD") == 0 ? OB_SHAPE_HEAD : OB_SHAPE_OTHER;
}

/* Has a body, be it an empty one. */
static bool is_upload(const ob_transfer *x) {
  if (x->shape == OB_SHAPE_GET || x->shape == OB_SHAPE_HEAD) return false;
  return x->shape == OB_SHAPE_PUT || x->has_source || strcmp(x->method, "POST") == 0;
}

static const char *apply_method(ob_transfer *x, void *easy) {
  if (is_head_request(x)) {
    SET(long, NOBODY, 1L);
    return NULL;
  }
  SET(long, NOBODY, 0L);
  if (!is_upload(x)) {
    SET(long, HTTPGET, 1L);
    SET(str, CUSTOMREQUEST, x->shape == OB_SHAPE_GET ? NULL : x->method);
    return NULL;
  }
  /* An upload of known size, whatever the method: content-length, and no content-type of libcurl's own. */
  SET(long, UPLOAD, 1L);
  SET(str, CUSTOMREQUEST, x->method);
  SET_FN(READFUNCTION, on_read);
  SET(ptr, READDATA, x->easy);
  SET_FN(SEEKFUNCTION, on_seek);
  SET(ptr, SEEKDATA, x->easy);
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

/* What all requests of one client and one shape have in common. */
static const char *apply_shape(ob_transfer *x, void *easy) {
  const ob_client_options *options = &x->client->options;
  const char *failed;

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
  SET(ptr, PRIVATE, x->easy);
  SET(ptr, ERRORBUFFER, x->easy->error);
  SET_FN(HEADERFUNCTION, on_header);
  SET(ptr, HEADERDATA, x->easy);
  SET_FN(WRITEFUNCTION, on_body);
  SET(ptr, WRITEDATA, x->easy);
  SET_FN(PREREQFUNCTION, on_ready_to_send);
  SET(ptr, PREREQDATA, x->easy);
  SET_FN(OPENSOCKETFUNCTION, on_open_socket);
  SET(ptr, OPENSOCKETDATA, x->easy);
  if ((failed = apply_protocols(options, easy)) != NULL) return failed;
  if ((failed = apply_method(x, easy)) != NULL) return failed;
  if ((failed = apply_connection(options, easy)) != NULL) return failed;
  return apply_tls(options, easy);
}

const char *ob_transfer_apply_onloop(ob_transfer *x, bool shaped) {
  static char no_expect[] = "Expect:";
  void *easy = x->easy->curl;
  const char *failed;

  if (!shaped && (failed = apply_shape(x, easy)) != NULL) return failed;
  SET(str, URL, x->url != NULL ? x->url : "");
  ob_slist *lines = x->headers;
  if (is_upload(x)) SET(off, INFILESIZE_LARGE, x->source_bytes);
  if (x->has_source) {
    x->no_expect.data = no_expect;
    *(lines != NULL ? &x->headers_last->next : &lines) = &x->no_expect;
  }
  SET(ptr, HTTPHEADER, lines);
  return NULL;
}

/* ---- outcome -------------------------------------------------------------------------------------- */

/* A handshake that broke off because the connection did can be tried again; a refused one cannot. */
static ob_kind tls_kind(const ob_transfer *x, long os_error) {
  const char *text = x->easy->error;
  bool broke = os_error == ECONNRESET || os_error == EPIPE || os_error == ETIMEDOUT ||
               strstr(text, "SSL_ERROR_SYSCALL") != NULL || strstr(text, "unexpected eof") != NULL ||
               strstr(text, "reset by peer") != NULL;
  return broke ? OB_KIND_CONNECT : OB_KIND_TLS;
}

/* Whether a proxy refused to make the connection, and would again: wrong credentials, a host that it does not let us to. */
static bool proxy_refuses(const ob_transfer *x, int code) {
  long answer = ob_get_long(x->easy->curl, OB_CURLINFO_HTTP_CONNECTCODE);
  if (answer >= 400 && answer < 500 && answer != 408 && answer != 429) return true;
  const char *text = x->easy->error; /* SOCKS answers have no status */
  return code == OB_CURLE_PROXY && (strstr(text, "rejected") != NULL || strstr(text, "authentication") != NULL);
}

static ob_kind kind_of(const ob_transfer *x, int code, long os_error) {
  switch (code) {
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

/* libcurl's text for a failed attempt, and the system's error behind it. */
static void read_failure(ob_transfer *x, int code) {
  ob_outcome *outcome = &x->outcome;
  long os_error = ob_get_long(x->easy->curl, OB_CURLINFO_OS_ERRNO);
  const char *text = x->easy->error[0] != '\0' ? x->easy->error : ob_lib.easy_strerror(code);
  outcome->kind = proxy_refuses(x, code) ? OB_KIND_PROTOCOL : kind_of(x, code, os_error);
  snprintf(outcome->message, sizeof outcome->message, "%s", text);
  if (outcome->oserrno == 0) outcome->oserrno = (int)os_error;
}

/* Steps that a kept connection had behind it say nothing of this attempt. */
static void read_timing(ob_transfer *x) {
  ob_timing *timing = &x->outcome.timing;
  int64_t before = x->attached_us - x->submitted_us, step;
  if (!x->outcome.reused) {
    if ((step = ob_get_off(x->easy->curl, OB_CURLINFO_NAMELOOKUP_TIME_T)) > 0) timing->dns_us = before + step;
    if ((step = ob_get_off(x->easy->curl, OB_CURLINFO_CONNECT_TIME_T)) > 0) timing->connect_us = before + step;
    if ((step = ob_get_off(x->easy->curl, OB_CURLINFO_APPCONNECT_TIME_T)) > 0) timing->tls_us = before + step;
  }
  if (x->outcome.status == 0) return; /* libcurl sets it without any byte, too */
  if ((step = ob_get_off(x->easy->curl, OB_CURLINFO_STARTTRANSFER_TIME_T)) > 0) timing->first_byte_us = before + step;
}

void ob_transfer_result_onloop(ob_transfer *x, int code) {
  ob_outcome *outcome = &x->outcome;
  void *easy = x->easy->curl;
  const char *ip = ob_get_ptr(easy, OB_CURLINFO_PRIMARY_IP);

  if (!x->verdict_set) {
    outcome->curl_code = code;
    if (code != OB_CURLE_OK) read_failure(x, code);
  }
  x->connects = ob_get_long(easy, OB_CURLINFO_NUM_CONNECTS);
  outcome->sent = ob_get_long(easy, OB_CURLINFO_REQUEST_SIZE) > 0;
  outcome->reused = outcome->sent && x->connects == 0;
  outcome->resent = x->sends > 1 && x->sends > 1 + ob_get_long(easy, OB_CURLINFO_REDIRECT_COUNT);
  if (x->source_bytes > 0) outcome->uploaded = ob_get_off(easy, OB_CURLINFO_SIZE_UPLOAD_T);
  outcome->remote_port = (int)ob_get_long(easy, OB_CURLINFO_PRIMARY_PORT);
  if (ip != NULL) memccpy(outcome->remote_ip, ip, '\0', sizeof outcome->remote_ip - 1);
  read_timing(x);

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

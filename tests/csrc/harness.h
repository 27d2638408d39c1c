/* harness.h - what the C tests share: checks, a scripted HTTP server, calls that count their events.
 *
 * One test a process: `test_core LIBCURL NAME`. A test fails by exit code; the text on stderr says where.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "ob_curl.h"
#include "ob_engine.h"
#include "ob_port.h"

#define CHECK(cond)                                                                                                    \
  do {                                                                                                                 \
    if (!(cond)) {                                                                                                     \
      fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #cond);                                         \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

#define CHECK_EQ(have, want)                                                                                           \
  do {                                                                                                                 \
    long long have_ = (long long)(have), want_ = (long long)(want);                                                    \
    if (have_ != want_) {                                                                                              \
      fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #have, have_, want_);                       \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* ---- scripted server: a thread for each connection, one handler for all ----------------------------- */

typedef struct request {
  int fd;
  int number;        /* of the request, over all connections, from 0 */
  int on_connection; /* of the request on its connection, from 0 */
  char method[32];
  char path[512];
  char head[16384]; /* request line and header lines */
  char *body;
  size_t body_len;
} request;

/* False: close the connection. */
typedef bool (*handler)(request *r);

typedef struct server {
  int fd;
  int port;
  handler handle;
  bool reads_body; /* false: the handler reads the request body itself */
  atomic_int connections;
  atomic_int requests;
  atomic_int busy, busiest; /* requests being answered now, and the most ever */
} server;

void server_start(server *s, handler handle);
void send_bytes(int fd, const void *data, size_t len);
void send_text(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Value of a request header, or NULL; valid until the next call on this thread. */
const char *request_header(request *r, const char *name);
void nap_ms(int ms);
/* Close with RST. */
void reset_connection(int fd);
/* Byte i of every patterned body. */
static inline char pattern(uint64_t i) {
  return (char)(i * 7 + i / 251);
}
void send_pattern(int fd, uint64_t from, uint64_t len);
bool is_pattern(const char *data, size_t len, uint64_t from);
/* An object of a size that the path names ("/o/1000"), with range support and an ETag (none under "/plain/"). */
bool serve_object(request *r);

/* ---- calls ---------------------------------------------------------------------------------------- */

typedef struct call {
  ob_transfer *x;
  int heads, datas, ends, entries;
  int last_events;
  int order; /* n-th END of all */
} call;

extern const char *libcurl_path;

void load(void);
ob_client *client_for(const ob_client_options *options); /* plain http allowed; NULL: defaults */
/* New transfer with url http://127.0.0.1:port/path, owned by c. */
void prepare(call *c, ob_client *client, server *s, const char *method, const char *path);
void header(call *c, const char *name, const char *value);
void submit(call *c, ob_cq *cq);
/* Take entries for at most so long; false: nothing came. */
bool pump(ob_cq *cq, int timeout_ms);
void await_head(call *c, ob_cq *cq);
void await_data(call *c, ob_cq *cq);
const ob_outcome *await_end(call *c, ob_cq *cq);
/* Body as one block, checked to be so long. The caller unrefs. */
ob_block *body_of(call *c, size_t len);
void check_kind(const ob_outcome *outcome, ob_kind kind, int status);
void release(call *c);
/* Everything given back: queue, client, and then nothing is left alive. */
void finish(ob_client *client, ob_cq *cq);

typedef struct test {
  const char *name;
  void (*run)(void);
} test;
int run_test(int argc, char **argv, const test *tests);

#endif

/* ob_engine.h - loops, clients, limits, process generation.
 *
 * One engine per process, made at first use, never destroyed (threads may be abandoned at exit; they hold no
 * Python state). After fork the child starts from nothing: generation + 1.
 */
#ifndef OB_ENGINE_H
#define OB_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "ob_cq.h"
#include "ob_transfer.h"

struct ob_loop;

/* Options of a client (one per store). Strings are copied; NULL: libcurl's default. Times in milliseconds, 0: none. */
typedef struct ob_client_options {
  const char *endpoint; /* "scheme://host:port": requests of all clients of one endpoint share its throttle */
  double max_rate;      /* requests a second of all clients that name this endpoint; 0: no limit but what it refuses */
  const char *user_agent; /* NULL or "" sends none */
  const char *ca_file;
  const char *ca_path;
  const char *proxy; /* NULL: none ("" is passed on so that libcurl ignores its environment) */
  const char *no_proxy;
  const char *proxy_ca_file;
  int64_t connect_timeout_ms;
  int64_t timeout_ms;             /* whole attempt */
  int64_t read_timeout_ms;        /* no byte either way while not paused */
  int64_t idle_timeout_ms;        /* kept connections older than this are not reused; 0: default 60 s */
  int64_t dns_cache_ms;           /* 0: default 60 s */
  int64_t keep_alive_interval_ms; /* TCP keep-alive; 0: default 30 s */
  int verify;                     /* TLS peer and host */
  int http_version;               /* 11, 20 (ALPN), 21 (prior knowledge), 30; 0: 11 */
  int follow;                     /* redirects to follow, 0 none */
  int shuffle_dns;
  int insecure_http;       /* 1: plain http URLs allowed; 0: refused as OB_KIND_PROTOCOL before any packet */
  int64_t max_connections; /* of this client; 0: only the engine's limit */
} ob_client_options;

/* Any thread. One reference; NULL when memory is short. */
ob_client *ob_client_new(const ob_client_options *options);
/* A client of the same options but these (endpoint NULL: the same), with a gate of its own. What its transfers come to is counted
 * with those of the first. */
ob_client *ob_client_limited(ob_client *client, const char *endpoint, int64_t max_connections, double max_rate);
ob_client *ob_client_ref(ob_client *client);
void ob_client_unref(ob_client *client);

typedef struct ob_limits {
  int64_t connections; /* transfers in flight in the process; 0: derived from RLIMIT_NOFILE */
  int64_t threads;     /* loops at most; 0: min(4, cpus) or OBSTORE_THREADS */
  int64_t memory;      /* bytes in live blocks above which streams stop growing and new collects wait; 0: none */
} ob_limits;

typedef struct ob_stats {
  uint64_t requests;  /* submitted */
  uint64_t succeeded; /* END with OK and a status under 400 */
  uint64_t failed;    /* END otherwise, cancelled ones aside */
  uint64_t cancelled;
  uint64_t parked;
  uint64_t throttled; /* answers 429 and 503 */
  uint64_t bytes_in;
  uint64_t bytes_out;
  uint64_t connections_opened;
  uint64_t in_flight; /* attached */
  uint64_t queued;    /* waiting for a place */
  uint64_t loops;     /* with a thread, and inline ones */
  uint64_t wakeups;   /* curl_multi_wakeup calls */
  uint64_t cq_writes; /* queue wakeup writes */
  /* live objects, for leak checks */
  uint64_t live_transfers;
  uint64_t live_clients;
  uint64_t live_queues;
  uint64_t live_easies; /* easy handles, pooled ones aside */
  uint64_t live_sockets;
  uint64_t block_bytes;
  uint64_t kept_bytes;
} ob_stats;

/* Any thread, not async-signal-safe. Requires ob_curl_load to have succeeded. Hands x to a loop or queues it. After 0, END
 * will come to cq (which is referenced). -1: memory; -2: the engine is shut down; then x stays NEW and the owner's. */
int ob_engine_submit(ob_transfer *x, ob_cq *cq);
/* The same, for an owner who waits for x alone: where it finds a place at once, *loop is an inline loop that the caller has claimed and
 * now drives (ob_loop.h), else NULL. */
int ob_engine_submit_inline(ob_transfer *x, ob_cq *cq, struct ob_loop **loop);
/* Any thread. Applies to later submits; a lower limit drains by itself. */
void ob_engine_set_limits(const ob_limits *limits);
void ob_engine_get_limits(ob_limits *limits); /* the values in force */
void ob_engine_stats(ob_stats *stats);
/* Any thread. What became of one client's transfers; times in microseconds, at most a fifth too long, 0 where nothing came. */
typedef struct ob_client_stats {
  uint64_t requests;  /* submitted */
  uint64_t succeeded; /* answered with a status below 400 */
  uint64_t failed, cancelled, parked;
  uint64_t throttled; /* answered with 429 or 503 */
  uint64_t bytes_in, bytes_out;
  uint64_t connections_opened;
  uint64_t in_flight; /* waiting or under way */
  uint64_t first_byte_p50_us, first_byte_p99_us;
} ob_client_stats;
void ob_client_get_stats(ob_client *client, ob_client_stats *stats);
/* The queue that collects what closed queues can no longer deliver; take from it at any submit. NULL before first use. */
ob_cq *ob_engine_orphans(void);
/* Any thread, once. Refuses new work, cancels everything, joins the loops for at most timeout_ms, then leaves them be.
 * 1: all joined. */
int ob_engine_shutdown(int timeout_ms);
/* Child after fork, before any thread exists: forgets engine, loops, locks; closes the inherited sockets (plain close). */
void ob_engine_forked_child(void);
uint32_t ob_engine_generation(void);
/* Throttle of an endpoint now: transfers allowed in flight (0: unlimited). For tests and stats. */
int64_t ob_engine_endpoint_limit(const char *endpoint);
/* The same: requests a second that it is sent at most (0: unlimited). */
double ob_engine_endpoint_rate(const char *endpoint);

#endif

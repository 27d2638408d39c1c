/* ob_loop.c - one CURLM on one thread. */
#include "ob_loop.h"

#include <sys/ioctl.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <sys/timerfd.h>
#endif

#include "ob_opt.h"
#include "ob_xfer.h"

#define TICK_US 1000000
#define MEMORY_TICK_US 20000
#define OB_STREAMS_PER_CONNECTION 16L /* HTTP/2 and HTTP/3 */
#define EASIES_KEPT OB_LOOP_TRANSFERS
#define EASIES_COMPARED 8       /* with what is to be sent: mostly the first one fits */
#define SPIN_US 60              /* what comes so soon is looked for instead of slept for */
#define SPIN_SOURCE_BYTES 65536 /* what is longer is on its way for a while */
#define SPINS_LEFT_OUT_LOG2 7   /* of waits that are slept through after one in vain: doubled each time, up to this */

ob_counter ob_live_easies;

/* A name that is being resolved, or was of late. The first transfer that needs it leads, the others wait until it has
 * the answer: one lookup instead of one for each, and libcurl's cache serves the rest. */
typedef struct ob_host {
  struct ob_host *next;
  int64_t known_until_us;
  ob_transfer *leader;
  ob_transfer *first, *last; /* waiting, in order */
  size_t len;
  char authority[];
} ob_host;

/* Who drives an inline loop. */
typedef enum { DRIVER_NONE, DRIVER_CALLER, DRIVER_THREAD } driver;

struct ob_loop {
  int index; /* -1: inline */
  ob_counter wakeups;
  _Atomic long connections;
  pthread_t thread;
  atomic_bool exited; /* nothing of the thread touches the loop any more */
  bool joined;        /* whoever joins */

  ob_mutex lock; /* the inbox */
  ob_transfer *inbox_first, *inbox_last;
  bool sleeping; /* in poll, or about to be: the next post must wake it */
  bool stop;
  bool closed; /* takes no more posts; the multi may be gone */
  driver driver;
  bool driving; /* the caller is inside ob_loop_drive */

  /* Loop thread only. */
  ob_cq *own; /* that of the caller who drives */
  void *multi;
  ob_transfer *attached;
  size_t n_attached;
  ob_transfer *ready_first, *ready_last;
  ob_host *hosts;
  ob_transfer *held_first, *held_last; /* waited for a name: attached in the next turn */
  uint64_t turn;                       /* counts calls of curl_multi_perform */
  int64_t now_us;
  int64_t next_deadline_us;
  long applied_connections;
  int timer_fd;       /* while somebody waits for a token, since multi_poll knows milliseconds only; -1: none */
  int vain_spins;     /* one after the other */
  int spins_left_out; /* waits to be slept through before the next */
  bool removed;       /* a handle went since the last perform: its connection may want to be closed */
  ob_easy *easies[EASIES_KEPT]; /* between two transfers */
  size_t n_easies;
  char broken[128]; /* why the multi failed; "" while it works */
};

static void assert_onloop(ob_loop *loop) {
  OB_ASSERT(pthread_equal(loop->thread, pthread_self()));
  (void)loop;
}

/* ---- inbox: any thread ---------------------------------------------------------------------------- */

static void wake_locked(ob_loop *loop) {
  if (!loop->sleeping) return;
  loop->sleeping = false;
  ob_count(&loop->wakeups, 1);
  (void)ob_lib.multi_wakeup(loop->multi); /* fails only where a wakeup is pending already */
}

int ob_loop_post(ob_loop *loop, ob_transfer *x, int command) {
  ob_lock(&loop->lock);
  if (loop->closed || (loop->index < 0 && loop->driver == DRIVER_NONE)) { /* the latter holds nothing: x has ended */
    ob_unlock(&loop->lock);
    return -1;
  }
  x->commands |= command;
  if (!x->in_inbox) {
    x->in_inbox = true;
    x->inbox_next = NULL;
    ob_transfer_ref(x);
    if (loop->inbox_last != NULL) {
      loop->inbox_last->inbox_next = x;
    } else {
      loop->inbox_first = x;
    }
    loop->inbox_last = x;
    wake_locked(loop);
  }
  ob_unlock(&loop->lock);
  return 0;
}

void ob_loop_wake(ob_loop *loop) {
  ob_lock(&loop->lock);
  if (!loop->closed) wake_locked(loop);
  ob_unlock(&loop->lock);
}

void ob_loop_stop(ob_loop *loop) {
  ob_lock(&loop->lock);
  loop->stop = true;
  if (!loop->closed) wake_locked(loop);
  ob_unlock(&loop->lock);
}

bool ob_loop_closed(ob_loop *loop) {
  ob_lock(&loop->lock);
  bool closed = loop->closed || loop->stop;
  ob_unlock(&loop->lock);
  return closed;
}

void ob_loop_set_connections(ob_loop *loop, long connections) {
  atomic_store_explicit(&loop->connections, connections, memory_order_relaxed);
}

uint64_t ob_loop_wakeups(ob_loop *loop) {
  return ob_counted(&loop->wakeups);
}

/* Detaches the inbox. Commands are read under the lock; the references on the transfers pass to the caller. */
static ob_transfer *swap_inbox(ob_loop *loop, bool close) {
  ob_lock(&loop->lock);
  ob_transfer *first = loop->inbox_first;
  loop->inbox_first = loop->inbox_last = NULL;
  loop->sleeping = false;
  if (close) loop->closed = true;
  ob_unlock(&loop->lock);
  return first;
}

/* From here on x may be posted again: whatever is to be known of its place in the old list must be read before. */
static int take_commands(ob_loop *loop, ob_transfer *x, ob_transfer **next) {
  ob_lock(&loop->lock);
  int commands = x->commands;
  *next = x->inbox_next;
  x->commands = 0;
  x->in_inbox = false;
  ob_unlock(&loop->lock);
  return commands;
}

/* ---- what is ready to be published ---------------------------------------------------------------- */

void ob_loop_ready_onloop(ob_loop *loop, ob_transfer *x, int events) {
  assert_onloop(loop);
  x->ready_events |= events;
  if (x->in_ready) return;
  x->in_ready = true;
  x->ready_next = NULL;
  if (loop->ready_last != NULL) {
    loop->ready_last->ready_next = x;
  } else {
    loop->ready_first = x;
  }
  loop->ready_last = x;
}

/* Places go back first, so that whoever sees an END sees the statistics after it. */
static void publish_ready(ob_loop *loop) {
  ob_transfer *x = loop->ready_first;
  if (x == NULL) return;
  loop->ready_first = loop->ready_last = NULL;
  ob_engine_released(x);
  ob_wakes wakes = {.n = 0, .own = loop->own};
  while (x != NULL) {
    ob_transfer *next = x->ready_next;
    int events = x->ready_events;
    x->ready_events = 0;
    x->in_ready = false;
    if ((events & OB_EVENT_END) != 0) {
      events = (events & ~OB_EVENT_DATA) | (x->coalesced ? OB_EVENT_HEAD : 0);
    }
    ob_cq_publish(x, events, &wakes);
    if ((events & OB_EVENT_END) != 0) ob_transfer_unref(x); /* the engine's reference */
    x = next;
  }
  ob_wakes_send(&wakes);
}

/* ---- attach and detach ---------------------------------------------------------------------------- */

static ob_easy *new_easy(void) {
  ob_easy *easy = ob_calloc(sizeof *easy);
  if (easy == NULL) return NULL;
  easy->curl = ob_torture_fails() ? NULL : ob_lib.easy_init();
  if (easy->curl != NULL) return easy;
  ob_free(easy);
  return NULL;
}

static void free_easy(ob_easy *easy) {
  ob_lib.easy_cleanup(easy->curl);
  ob_free(easy);
}

/* A kept one with the options of x's client and shape, or NULL. */
static ob_easy *fitting_easy(ob_loop *loop, const ob_transfer *x) {
  size_t looked_at = loop->n_easies < EASIES_COMPARED ? loop->n_easies : EASIES_COMPARED;
  if (x->shape == OB_SHAPE_OTHER) return NULL;
  for (size_t i = loop->n_easies; i-- > loop->n_easies - looked_at;) {
    ob_easy *easy = loop->easies[i];
    if (easy->client != x->client->number || easy->shape != x->shape) continue;
    loop->easies[i] = loop->easies[--loop->n_easies];
    return easy;
  }
  return NULL;
}

/* Sets x->easy, NULL where memory is short. True: its options are those of x's client and shape. */
static bool take_easy(ob_loop *loop, ob_transfer *x) {
  x->shape = ob_transfer_shape(x);
  x->easy = fitting_easy(loop, x);
  bool shaped = x->easy != NULL;
  if (!shaped && loop->n_easies > 0) {
    x->easy = loop->easies[--loop->n_easies];
    ob_lib.easy_reset(x->easy->curl);
  } else if (!shaped) {
    x->easy = new_easy();
  }
  if (x->easy == NULL) return false;
  x->easy->transfer = x;
  x->easy->error[0] = '\0';
  ob_count(&ob_live_easies, 1);
  return shaped;
}

/* `whole`: the transfer went well, so the handle is as good for the next one of its kind. It keeps a pointer to header lines that are
 * about to go: take_easy is always followed by new ones. */
static void give_easy(ob_loop *loop, ob_transfer *x, bool whole) {
  ob_easy *easy = x->easy;
  x->easy = NULL;
  ob_uncount(&ob_live_easies, 1);
  if (loop->n_easies == EASIES_KEPT) {
    free_easy(easy);
    return;
  }
  easy->transfer = NULL;
  easy->client = x->client->number;
  easy->shape = whole ? x->shape : OB_SHAPE_OTHER;
  if (easy->shape == OB_SHAPE_OTHER) ob_lib.easy_reset(easy->curl);
  loop->easies[loop->n_easies++] = easy;
}

static void expect_deadline(ob_loop *loop, ob_transfer *x) {
  int64_t read_timeout_us = x->client->options.read_timeout_ms * 1000;
  if (read_timeout_us > 0 && x->moved_us + read_timeout_us < loop->next_deadline_us) {
    loop->next_deadline_us = x->moved_us + read_timeout_us;
  }
}

void ob_loop_head_held_onloop(ob_loop *loop, ob_transfer *x) {
  x->head_due_us = x->moved_us + OB_COALESCE_US;
  if (x->head_due_us < loop->next_deadline_us) loop->next_deadline_us = x->head_due_us;
}

static void move(ob_transfer *x, ob_xfer_state to) {
  ob_lock(&x->lock);
  ob_transfer_move_locked(x, to);
  ob_unlock(&x->lock);
}

static void end(ob_loop *loop, ob_transfer *x) {
  ob_transfer_finish(x);
  ob_loop_ready_onloop(loop, x, OB_EVENT_END);
}

/* ---- one lookup for a name ------------------------------------------------------------------------ */

static void chain(ob_transfer **first, ob_transfer **last, ob_transfer *x) {
  x->host_next = NULL;
  *(*last != NULL ? &(*last)->host_next : first) = x;
  *last = x;
}

/* The part of the URL that names host and port; NULL where nothing is looked up: addresses, localhost, proxies. */
static const char *authority_of(const ob_transfer *x, size_t *len) {
  const char *proxy = x->client->options.proxy;
  const char *at = x->url != NULL ? strstr(x->url, "://") : NULL;
  if (at == NULL || (proxy != NULL && *proxy != '\0')) return NULL;
  at += 3;
  *len = strcspn(at, "/?#");
  size_t host = 0, numeric = 0;
  while (host < *len && at[host] != ':') host++;
  while (numeric < host && strchr("0123456789.", at[numeric]) != NULL) numeric++;
  if (host == 0 || numeric == host || *at == '[' || memchr(at, '@', *len) != NULL) return NULL;
  if (host >= 9 && memcmp(at + host - 9, "localhost", 9) == 0) return NULL;
  return at;
}

/* The entry of that name, made where there is none; those that say nothing any more go. NULL when memory is short. */
static ob_host *find_host(ob_loop *loop, const char *authority, size_t len) {
  ob_host **at = &loop->hosts;
  while (*at != NULL) {
    ob_host *host = *at;
    if (host->len == len && memcmp(host->authority, authority, len) == 0) return host;
    if (host->leader == NULL && host->first == NULL && host->known_until_us <= loop->now_us) {
      *at = host->next;
      ob_free(host);
    } else {
      at = &host->next;
    }
  }
  ob_host *host = ob_calloc(sizeof *host + len);
  if (host == NULL) return NULL;
  memcpy(host->authority, authority, len);
  host->len = len;
  host->next = loop->hosts;
  loop->hosts = host;
  return host;
}

/* True: x waits for another's lookup. */
static bool waits_for_name(ob_loop *loop, ob_transfer *x) {
  size_t len;
  const char *authority = authority_of(x, &len);
  ob_host *host = authority != NULL ? find_host(loop, authority, len) : NULL;
  if (host == NULL || host->known_until_us > loop->now_us) return false;
  x->host = host;
  if (host->leader == NULL) {
    host->leader = x;
    return false;
  }
  x->host_waits = true;
  chain(&host->first, &host->last, x);
  return true;
}

static void let_go(ob_loop *loop, ob_host *host) {
  ob_transfer *next;
  for (ob_transfer *x = host->first; x != NULL; x = next) {
    next = x->host_next;
    x->host = NULL;
    x->host_waits = false;
    chain(&loop->held_first, &loop->held_last, x);
  }
  host->first = host->last = NULL;
}

void ob_loop_resolved_onloop(ob_loop *loop, ob_transfer *x) {
  assert_onloop(loop);
  ob_host *host = x->host;
  if (host == NULL) return;
  int64_t keep_ms = x->client->options.dns_cache_ms > 0 ? x->client->options.dns_cache_ms : 60000;
  host->known_until_us = loop->now_us + keep_ms * 1000;
  host->leader = NULL;
  x->host = NULL;
  let_go(loop, host);
}

/* The leader ended without an answer. What the name server said to one it says to all; anything else may be the
 * leader's own trouble, so the next one leads. */
static void leader_failed(ob_loop *loop, ob_transfer *leader) {
  ob_host *host = leader->host;
  host->leader = NULL;
  leader->host = NULL;
  ob_kind kind = leader->outcome.kind;
  if (kind == OB_KIND_DNS || kind == OB_KIND_TIMEOUT) {
    for (ob_transfer *x = host->first; x != NULL; x = x->host_next) {
      x->host = NULL;
      x->host_waits = false;
      x->outcome.curl_code = leader->outcome.curl_code;
      ob_transfer_verdict(x, kind, leader->outcome.message);
      end(loop, x);
    }
    host->first = host->last = NULL;
  }
  let_go(loop, host);
}

/* Cancelled while it waits for a name or for the next turn. */
static void cancel_waiting(ob_loop *loop, ob_transfer *x) {
  ob_transfer **first = x->host_waits ? &x->host->first : &loop->held_first;
  ob_transfer **last = x->host_waits ? &x->host->last : &loop->held_last;
  ob_transfer *before = NULL;
  ob_transfer *at = *first;
  while (at != NULL && at != x) {
    before = at;
    at = at->host_next;
  }
  if (at == NULL) return; /* neither: it has ended */
  *(before != NULL ? &before->host_next : first) = x->host_next;
  if (*last == x) *last = before;
  x->host = NULL;
  x->host_waits = false;
  ob_transfer_verdict(x, OB_KIND_CANCELLED, "cancelled");
  move(x, OB_XFER_CANCELLING);
  end(loop, x);
}

/* Remove, take the results, reset, pool: in this order. A handle that cannot be removed is leaked, never reused. */
static void detach(ob_loop *loop, ob_transfer *x, int code) {
  int rc = ob_lib.multi_remove_handle(loop->multi, x->easy->curl);
  loop->removed = true;
  /* Before libcurl has begun, the handle still tells of the transfer before. */
  if (x->attached_turn != loop->turn) ob_transfer_result_onloop(x, code);
  *(x->attached_prev != NULL ? &x->attached_prev->attached_next : &loop->attached) = x->attached_next;
  if (x->attached_next != NULL) x->attached_next->attached_prev = x->attached_prev;
  loop->n_attached--;
  if (rc == 0) give_easy(loop, x, x->outcome.kind == OB_KIND_OK);
  x->easy = NULL;
  if (x->host != NULL) leader_failed(loop, x);
  end(loop, x);
}

static void attach(ob_loop *loop, ob_transfer *x) {
  if (atomic_load_explicit(&x->cancelled, memory_order_acquire)) {
    ob_transfer_verdict(x, OB_KIND_CANCELLED, "cancelled");
    move(x, OB_XFER_CANCELLING);
    end(loop, x);
    return;
  }
  if (waits_for_name(loop, x)) return;
  x->attached_us = x->moved_us = loop->now_us;
  x->outcome.timing.queue_us = x->attached_us - x->submitted_us;
  x->attached_turn = loop->turn;
  bool shaped = take_easy(loop, x);
  if (x->easy == NULL) {
    ob_transfer_verdict(x, OB_KIND_MEMORY, "no memory for a libcurl handle");
    if (x->host != NULL) leader_failed(loop, x);
    end(loop, x);
    return;
  }
  const char *failed = ob_transfer_apply_onloop(x, shaped);
  if (failed != NULL) {
    char text[128];
    snprintf(text, sizeof text, "libcurl refused %s", failed);
    ob_transfer_verdict(x, OB_KIND_ENGINE, text);
  } else {
    int rc = ob_lib.multi_add_handle(loop->multi, x->easy->curl);
    if (rc != 0) ob_transfer_verdict(x, OB_KIND_ENGINE, ob_lib.multi_strerror(rc));
  }
  if (x->verdict_set) {
    give_easy(loop, x, false);
    if (x->host != NULL) leader_failed(loop, x);
    end(loop, x);
    return;
  }
  x->attached_prev = NULL;
  x->attached_next = loop->attached;
  if (loop->attached != NULL) loop->attached->attached_prev = x;
  loop->attached = x;
  loop->n_attached++;
  move(x, OB_XFER_ACTIVE);
  expect_deadline(loop, x);
}

static void attach_held(ob_loop *loop) {
  ob_transfer *next;
  ob_transfer *x = loop->held_first;
  loop->held_first = loop->held_last = NULL;
  for (; x != NULL; x = next) {
    next = x->host_next;
    attach(loop, x);
  }
}

/* ---- commands ------------------------------------------------------------------------------------- */

static void resume(ob_loop *loop, ob_transfer *x) {
  move(x, OB_XFER_HEADED);
  ob_engine_resumed(x);
  x->moved_us = loop->now_us;
  x->unsent = -1;
  expect_deadline(loop, x);
  /* No lock is held: libcurl may call the write callback from here, and that may pause again. */
  int code = ob_lib.easy_pause(x->easy->curl, OB_CURLPAUSE_CONT);
  if (code != OB_CURLE_OK) detach(loop, x, code);
}

static bool is_paused(ob_transfer *x) {
  return atomic_load_explicit(&x->state, memory_order_acquire) == OB_XFER_PAUSED;
}

static void obey(ob_loop *loop, ob_transfer *x, int commands) {
  if ((commands & OB_CMD_ATTACH) != 0) attach(loop, x);
  if (x->easy == NULL) { /* not attached yet, or ended meanwhile */
    if ((commands & OB_CMD_CANCEL) != 0) cancel_waiting(loop, x);
    return;
  }
  if ((commands & OB_CMD_CANCEL) != 0) {
    ob_transfer_verdict(x, OB_KIND_CANCELLED, "cancelled");
    move(x, OB_XFER_CANCELLING);
    detach(loop, x, OB_CURLE_OK);
    return;
  }
  if ((commands & OB_CMD_UNBOUND) != 0) {
    ob_lock(&x->lock);
    x->window = OB_WINDOW_NONE;
    ob_unlock(&x->lock);
    commands |= OB_CMD_RESUME;
  }
  if ((commands & OB_CMD_RESUME) != 0) {
    if (is_paused(x)) resume(loop, x);
  } else if ((commands & OB_CMD_PARK) != 0 && is_paused(x)) {
    ob_transfer_verdict(x, OB_KIND_PARKED, "gave its place to a waiting transfer");
    detach(loop, x, OB_CURLE_OK);
  }
}

/* ---- deadlines ------------------------------------------------------------------------------------ */

/* Bytes that the kernel has not sent yet: a big upload goes on long after its last read callback. */
static int64_t unsent_bytes(ob_transfer *x) {
#ifdef SIOCOUTQ
  int fd = ob_get_socket(x->easy->curl);
  int bytes = 0;
  if (fd != OB_CURL_SOCKET_BAD && ioctl(fd, SIOCOUTQ, &bytes) == 0) return bytes;
#else
  (void)x;
#endif
  return 0;
}

/* Until the request can go out the connect timeout rules, where there is one. */
static int64_t stalls_at(ob_transfer *x) {
  const ob_client_options *options = &x->client->options;
  int64_t connected = ob_get_off(x->easy->curl, OB_CURLINFO_PRETRANSFER_TIME_T);
  int64_t since = x->moved_us;
  if (connected > 0 && x->attached_us + connected > since) since = x->attached_us + connected;
  if (connected == 0 && options->connect_timeout_ms > 0) since += options->connect_timeout_ms * 1000;
  return since + options->read_timeout_ms * 1000;
}

/* The body of a small answer is slow: its head is not kept waiting for it any longer. */
static void give_head(ob_loop *loop, ob_transfer *x) {
  ob_lock(&x->lock);
  x->coalesced = false;
  ob_unlock(&x->lock);
  ob_loop_ready_onloop(loop, x, OB_EVENT_HEAD);
}

static void check_deadlines(ob_loop *loop) {
  loop->next_deadline_us = INT64_MAX;
  ob_transfer *next;
  for (ob_transfer *x = loop->attached; x != NULL; x = next) {
    next = x->attached_next;
    if (x->coalesced) {
      if (x->head_due_us <= loop->now_us) {
        give_head(loop, x);
      } else if (x->head_due_us < loop->next_deadline_us) {
        loop->next_deadline_us = x->head_due_us;
      }
    }
    if (x->client->options.read_timeout_ms <= 0 || is_paused(x)) continue;
    int64_t at = stalls_at(x);
    if (at <= loop->now_us) {
      int64_t unsent = unsent_bytes(x);
      if (unsent > 0 && (x->unsent < 0 || unsent < x->unsent)) {
        x->unsent = unsent;
        x->moved_us = loop->now_us;
        at = stalls_at(x);
      } else {
        ob_transfer_verdict(x, OB_KIND_STALL, "no byte moved within the read timeout");
        detach(loop, x, OB_CURLE_OK);
        continue;
      }
    }
    if (at < loop->next_deadline_us) loop->next_deadline_us = at;
  }
}

/* ---- the thread ----------------------------------------------------------------------------------- */

static bool works(ob_loop *loop, const char *what, int rc) {
  if (rc == 0) return true;
  snprintf(loop->broken, sizeof loop->broken, "%s: %s", what, ob_lib.multi_strerror(rc));
  return false;
}

static void apply_connections(ob_loop *loop) {
  long connections = atomic_load_explicit(&loop->connections, memory_order_relaxed);
  if (connections == loop->applied_connections) return;
  loop->applied_connections = connections;
  /* Both only save descriptors: a libcurl that does not know them still works. */
  (void)ob_set_multi_long(loop->multi, OB_CURLMOPT_MAXCONNECTS, connections);
  (void)ob_set_multi_long(loop->multi, OB_CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
}

static void reap(ob_loop *loop) {
  ob_curl_message *message;
  int left;
  while ((message = ob_lib.multi_info_read(loop->multi, &left)) != NULL) {
    if (message->msg != OB_CURLMSG_DONE) continue;
    int code = message->data.result; /* the message dies with the next call */
    const ob_easy *easy = ob_get_ptr(message->easy, OB_CURLINFO_PRIVATE);
    detach(loop, easy->transfer, code);
  }
}

/* False: something came in between, do not sleep. */
static bool fall_asleep(ob_loop *loop) {
  ob_lock(&loop->lock);
  bool sleeps = loop->inbox_first == NULL && loop->held_first == NULL && !loop->stop;
  loop->sleeping = sleeps;
  ob_unlock(&loop->lock);
  return sleeps;
}

static bool must_stop(ob_loop *loop) {
  ob_lock(&loop->lock);
  bool stop = loop->stop;
  ob_unlock(&loop->lock);
  return stop;
}

/* All that can be done without waiting; false when the loop must end. */
static bool work(ob_loop *loop, int n_ready) {
  ob_transfer *next;
  loop->now_us = ob_now_us();
  apply_connections(loop);
  for (ob_transfer *x = swap_inbox(loop, false); x != NULL; x = next) {
    int commands = take_commands(loop, x, &next);
    obey(loop, x, commands);
    ob_transfer_unref(x);
  }
  attach_held(loop);
  if (loop->now_us >= loop->next_deadline_us) check_deadlines(loop);
  if (loop->n_attached > 0 || loop->removed || n_ready > 0) {
    int running;
    loop->removed = false;
    loop->turn++;
    if (!works(loop, "curl_multi_perform", ob_lib.multi_perform(loop->multi, &running))) return false;
    reap(loop);
  }
  publish_ready(loop);
  return !must_stop(loop);
}

/* Makes the timer go off then. False: there is none. */
static bool set_timer(ob_loop *loop, int64_t wait_us) {
#ifdef __linux__
  if (loop->timer_fd < 0) loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  const struct itimerspec when = {
      .it_value = {.tv_sec = wait_us / 1000000, .tv_nsec = wait_us > 0 ? wait_us % 1000000 * 1000 : 1}};
  return loop->timer_fd >= 0 &&
         timerfd_settime(loop->timer_fd, 0, &when, NULL) == 0; /* what went off before is forgotten */
#else
  (void)loop;
  (void)wait_us;
  return false;
#endif
}

static void drop_timer(ob_loop *loop) {
  if (loop->timer_fd >= 0) close(loop->timer_fd);
  loop->timer_fd = -1;
}

static bool has_posts(ob_loop *loop) {
  ob_lock(&loop->lock);
  bool has = loop->inbox_first != NULL || loop->stop;
  ob_unlock(&loop->lock);
  return has;
}

/* One transfer, and its answer may begin at any moment. More of them share the price of a sleep; a body is better read in large pieces,
 * which gather while we sleep. */
static bool awaits_an_answer(const ob_loop *loop) {
  const ob_transfer *x = loop->attached;
  return loop->n_attached == 1 && !x->headed && x->source_bytes <= SPIN_SOURCE_BYTES;
}

/* Falling asleep and being woken takes longer than a server next door takes for a small answer. So a wait begins with looking, for
 * as long as it takes to see that this server is not as close; the next waits are then slept through. True: something came. */
static bool spin(ob_loop *loop, ob_curl_waitfd *fds, unsigned int n, int64_t limit_us, int *n_ready) {
  if (!awaits_an_answer(loop)) return false;
  if (loop->spins_left_out > 0) {
    loop->spins_left_out--;
    return false;
  }
  int64_t until_us = ob_now_us() + (limit_us < SPIN_US ? limit_us : SPIN_US);
  do {
    if (ob_lib.multi_poll(loop->multi, fds, n, 0, n_ready) != 0)
      return false; /* so does the poll that follows, and tells */
    if (*n_ready > 0) {
      loop->vain_spins = 0;
      return true;
    }
    if (has_posts(loop)) return true;
  } while (ob_now_us() < until_us);
  if (loop->vain_spins < SPINS_LEFT_OUT_LOG2) loop->vain_spins++;
  loop->spins_left_out = 1 << loop->vain_spins;
  return false;
}

/* Waits for sockets, a wakeup, the next deadline or token, or `more`. False when the loop must end. */
static bool rest(ob_loop *loop, int64_t limit_us, ob_curl_waitfd *more, int *n_ready) {
  int64_t wait_us = ob_engine_poll_memory() ? MEMORY_TICK_US : TICK_US;
  if (limit_us < wait_us) wait_us = limit_us;
  int64_t now_us = ob_now_us();
  int64_t token_us = ob_engine_poll_tokens(now_us);
  int64_t due_us = token_us;
  if (loop->next_deadline_us < due_us) due_us = loop->next_deadline_us;
  if (due_us != INT64_MAX && due_us - now_us < wait_us) wait_us = due_us > now_us ? due_us - now_us : 0;
  if (token_us == INT64_MAX) drop_timer(loop);
  *n_ready = 0;
  ob_curl_waitfd fds[2];
  unsigned int n = 0;
  if (more != NULL) fds[n++] = *more;
  bool alive = true;
  if (!spin(loop, fds, n, wait_us, n_ready)) {
    if (!fall_asleep(loop)) return !must_stop(loop);
    /* Tokens are as close as fractions of a millisecond, and a service that knows no bursts wants them even. */
    if (due_us == token_us && wait_us > 0 && due_us - now_us == wait_us && set_timer(loop, wait_us)) {
      fds[n++] = (ob_curl_waitfd){.fd = loop->timer_fd, .events = OB_CURL_WAIT_POLLIN};
    }
    int ms = (int)((wait_us + 999) / 1000);
    alive = works(loop, "curl_multi_poll", ob_lib.multi_poll(loop->multi, fds, n, ms, n_ready));
  }
  if (more != NULL) more->revents = fds[0].revents;
  return alive;
}

/* No one can post any more; whatever is left ends here. */
static void close_loop(ob_loop *loop) {
  const char *why = loop->broken[0] != '\0' ? loop->broken : "the engine was shut down";
  ob_transfer *next;
  for (ob_transfer *x = swap_inbox(loop, true); x != NULL; x = next) {
    int commands = take_commands(loop, x, &next);
    if ((commands & OB_CMD_ATTACH) != 0) {
      ob_transfer_verdict(x, OB_KIND_ENGINE, why);
      end(loop, x);
    }
    ob_transfer_unref(x);
  }
  while (loop->attached != NULL) {
    ob_transfer_verdict(loop->attached, OB_KIND_ENGINE, why);
    detach(loop, loop->attached, OB_CURLE_OK); /* those that wait for a name are held from then on */
  }
  for (ob_transfer *x = loop->held_first; x != NULL; x = x->host_next) {
    ob_transfer_verdict(x, OB_KIND_ENGINE, why);
    end(loop, x);
  }
  loop->held_first = loop->held_last = NULL;
  publish_ready(loop);
  while (loop->hosts != NULL) {
    ob_host *next = loop->hosts->next;
    ob_free(loop->hosts);
    loop->hosts = next;
  }
  while (loop->n_easies > 0) free_easy(loop->easies[--loop->n_easies]);
  drop_timer(loop);
  (void)ob_lib.multi_cleanup(loop->multi);
}

static void *run(void *argument) {
  ob_loop *loop = argument;
  char name[16];
  int n_ready = 0;
  snprintf(name, sizeof name, "obstore-%d", loop->index);
  ob_thread_name(name);
  while (work(loop, n_ready) && rest(loop, TICK_US, NULL, &n_ready)) continue;
  close_loop(loop);
  atomic_store_explicit(&loop->exited, true, memory_order_release);
  return NULL;
}

static ob_loop *create(int index, long connections) {
  ob_loop *loop = ob_calloc(sizeof *loop);
  if (loop == NULL) return NULL;
  loop->index = index;
  loop->next_deadline_us = INT64_MAX;
  loop->timer_fd = -1;
  ob_mutex_init(&loop->lock);
  atomic_init(&loop->connections, connections);
  loop->multi = ob_torture_fails() ? NULL : ob_lib.multi_init();
  if (loop->multi == NULL) {
    ob_free(loop);
    return NULL;
  }
  /* More streams than this, and another connection is made: one alone is bounded by its windows and by one core's TLS. */
  (void)ob_set_multi_long(loop->multi, OB_CURLMOPT_MAX_CONCURRENT_STREAMS, OB_STREAMS_PER_CONNECTION);
  (void)ob_set_multi_long(loop->multi, OB_CURLMOPT_QUICK_EXIT, 1L); /* 8.20 and later: do not join resolver threads */
  return loop;
}

ob_loop *ob_loop_start(int index, long connections) {
  ob_loop *loop = create(index, connections);
  if (loop == NULL) return NULL;
  /* The thread finds its own id under the lock. */
  ob_lock(&loop->lock);
  int rc = ob_thread_start(&loop->thread, run, loop);
  ob_unlock(&loop->lock);
  if (rc != 0) {
    (void)ob_lib.multi_cleanup(loop->multi);
    ob_free(loop);
    return NULL;
  }
  return loop;
}

/* ---- inline loops --------------------------------------------------------------------------------- */

ob_loop *ob_loop_inline(long connections) {
  ob_loop *loop = create(-1, connections);
  if (loop != NULL) loop->driver = DRIVER_CALLER;
  return loop;
}

void ob_loop_claim(ob_loop *loop) {
  ob_lock(&loop->lock);
  loop->driver = DRIVER_CALLER;
  ob_unlock(&loop->lock);
}

/* Ends the claim, or the thread's turn, of a loop that holds nothing. True: it may be claimed again. */
static bool give_up_if_idle(ob_loop *loop) {
  if (loop->n_attached > 0 || loop->held_first != NULL) return false;
  ob_lock(&loop->lock);
  bool idle = loop->inbox_first == NULL && !loop->stop && !loop->closed;
  if (idle) {
    loop->driver = DRIVER_NONE;
    loop->driving = loop->sleeping = false;
  }
  ob_unlock(&loop->lock);
  return idle;
}

static bool begin_drive(ob_loop *loop) {
  ob_lock(&loop->lock);
  bool ours = !loop->closed && !loop->driving && loop->driver == DRIVER_CALLER;
  if (ours) loop->driving = true;
  ob_unlock(&loop->lock);
  if (ours) loop->thread = pthread_self();
  return ours;
}

static void end_drive(ob_loop *loop) {
  loop->own = NULL;
  ob_lock(&loop->lock);
  loop->driving = loop->sleeping = false;
  ob_unlock(&loop->lock);
}

int ob_loop_drive(ob_loop *loop, ob_cq *cq, int timeout_ms) {
  if (!begin_drive(loop)) return OB_DRIVE_LEFT;
  ob_curl_waitfd more = {.fd = ob_cq_fd(cq), .events = OB_CURL_WAIT_POLLIN};
  int64_t until_us = ob_now_us() + (int64_t)timeout_ms * 1000;
  int n_ready = 0;
  bool alive;
  loop->own = cq;
  while ((alive = work(loop, n_ready))) {
    if (ob_cq_ready(cq)) break;
    int64_t left_us = until_us - loop->now_us;
    if (left_us <= 0 || !(alive = rest(loop, left_us, &more, &n_ready))) break;
    if (n_ready == 0 || more.revents != 0) break; /* a signal, a wakeup, or another thread's entry */
  }
  ob_cq_seen(cq, more.revents != 0);
  int rc = ob_cq_ready(cq) || more.revents != 0 ? OB_DRIVE_READY : 0;
  if (!alive) {
    close_loop(loop);
    end_drive(loop);
    return OB_DRIVE_READY | OB_DRIVE_LEFT;
  }
  loop->own = NULL;
  if (give_up_if_idle(loop)) {
    ob_engine_inline_idle(loop);
    return rc | OB_DRIVE_LEFT;
  }
  end_drive(loop);
  return rc;
}

/* Drives on what the caller left, then ends. */
static void *drive_rest(void *argument) {
  ob_loop *loop = argument;
  int n_ready = 0;
  ob_thread_name("obstore-inline");
  pthread_detach(pthread_self());
  while (work(loop, n_ready)) {
    if (give_up_if_idle(loop)) {
      ob_engine_inline_idle(loop); /* from here on it is someone else's */
      return NULL;
    }
    if (!rest(loop, TICK_US, NULL, &n_ready)) break;
  }
  close_loop(loop);
  atomic_store_explicit(&loop->exited, true, memory_order_release);
  return NULL;
}

void ob_loop_leave(ob_loop *loop) {
  if (!begin_drive(loop)) return;
  if (give_up_if_idle(loop)) {
    ob_engine_inline_idle(loop);
    return;
  }
  ob_lock(&loop->lock);
  loop->driver = DRIVER_THREAD;
  loop->driving = false;
  int rc = ob_thread_start(&loop->thread, drive_rest, loop);
  if (rc != 0) { /* there is nobody to drive it */
    loop->driver = DRIVER_CALLER;
    loop->driving = true;
  }
  ob_unlock(&loop->lock);
  if (rc == 0) return;
  snprintf(loop->broken, sizeof loop->broken, "no loop thread could be started");
  close_loop(loop);
  end_drive(loop);
}

/* True: closed by now, by us where nobody drives it. */
static bool close_inline(ob_loop *loop) {
  ob_lock(&loop->lock);
  bool closed = loop->closed;
  bool ours = !closed && !loop->driving && loop->driver != DRIVER_THREAD;
  if (ours) {
    loop->driver = DRIVER_CALLER;
    loop->driving = true;
  }
  ob_unlock(&loop->lock);
  if (!ours) return closed;
  loop->thread = pthread_self();
  close_loop(loop);
  end_drive(loop);
  return true;
}

bool ob_loop_join(ob_loop *loop, int64_t deadline_us) {
  const struct timespec nap = {.tv_nsec = 500000};
  while (loop->index < 0 && !close_inline(loop)) {
    if (ob_now_us() >= deadline_us) return false;
    nanosleep(&nap, NULL);
  }
  if (loop->index < 0 || loop->joined) return true;
  while (!atomic_load_explicit(&loop->exited, memory_order_acquire)) {
    if (ob_now_us() >= deadline_us) return false;
    nanosleep(&nap, NULL);
  }
  pthread_join(loop->thread, NULL);
  loop->joined = true;
  return true;
}

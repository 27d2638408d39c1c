/* ob_engine.c - the one engine of a process: clients, gates, loops, limits, fork and shutdown.
 *
 * A transfer passes three gates in turn: its client's, its endpoint's, the engine's. Each is a bound with a FIFO queue
 * before it. Behind the last it is given to a loop. All of that belongs to the engine's lock. Nothing is published and
 * no transfer is unreferenced under that lock: what fails is chained and finished in leave().
 */
#include "ob_engine.h"

#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "ob_loop.h"
#include "ob_opt.h"
#include "ob_rate.h"
#include "ob_xfer.h"

#define LOOPS_MAX 64
#define LOOP_BUSY 64 /* a loop with so many in flight is worth a second one */
#define GATES 3
#define CUT_INTERVAL_US 100000
#define CONNECTIONS_MIN 8
#define CONNECTIONS_MAX 1024
#define DESCRIPTORS_SPARED 64 /* for files, queues and whatever else the program has open */
#define INLINE_MAX 8
#define INLINE_CONNECTIONS 2
#define INLINE_BODY_BYTES (1 << 20) /* longer ones leave the caller time for something else */

/* What an endpoint that refuses (429, 503) is spared. While it also serves, it is the rate that it wants lower, and that its successes
 * tell: requests are paced by tokens. One that only refuses gets fewer at a time. */
typedef struct ob_endpoint {
  struct ob_endpoint *next;
  uint32_t clients;
  ob_gate gate;
  double allowed; /* what gate.limit is the whole part of; 0: not throttled */
  int64_t peak;   /* most that were ever in flight */
  int64_t cut_us; /* when it was last halved */

  ob_rate rate;
  char name[];
} ob_endpoint;

typedef struct ob_engine {
  ob_mutex lock;
  bool shut;
  ob_gate gate; /* limit: what all loops together may hold */
  int64_t connections, threads, memory;
  struct {
    ob_loop *loop;
    int64_t in_flight;
  } loops[LOOPS_MAX];
  int n_loops;
  int64_t loop_cap;             /* in flight and connections of one loop */
  ob_loop *inlines[INLINE_MAX]; /* all there are */
  ob_loop *idle[INLINE_MAX];    /* those that nobody drives; the last one was used last */
  int n_inlines, max_inlines, n_idle;
  int64_t inline_in_flight;
  ob_endpoint *endpoints;
  ob_transfer *waiting;                    /* at any gate */
  ob_transfer *paused_first, *paused_last; /* oldest first */
  ob_transfer *failed;
  atomic_bool memory_waits; /* the first at the engine's gate waits for memory, not for a place */
  _Atomic int64_t token_us; /* when the next token is due that somebody waits for; INT64_MAX: none */
  ob_cq *orphans;
  ob_counter requests, succeeded, n_failed, cancelled, parked, throttled, bytes_in, bytes_out, opened;
  uint64_t cq_written_before;
} ob_engine;

ob_counter ob_live_clients, ob_live_queues, ob_live_sockets;

static _Atomic(ob_engine *) current;
static _Atomic uint32_t generation = 1;
static ob_mutex create_lock = OB_MUTEX_INIT;
/* What set_limits asked for; outlives the engine of a forked child. */
static _Atomic int64_t asked_connections, asked_threads, asked_memory;

/* ---- sockets: known so that a forked child can close them ------------------------------------------ */

#define SOCKETS_MAX 65536
/* Inode of the socket by descriptor, 0: none; read without a lock after fork. Some versions of libcurl close a socket
 * without telling, and the number may be someone else's then: the inode tells. */
static _Atomic uint64_t sockets[SOCKETS_MAX];
static atomic_int sockets_end; /* none has been this or more */

static uint64_t socket_inode(int fd) {
  struct stat about;
  return fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode) ? (uint64_t)about.st_ino : 0;
}

void ob_socket_opened(int fd) {
  if (fd < 0 || fd >= SOCKETS_MAX) return;
  int end = atomic_load_explicit(&sockets_end, memory_order_relaxed);
  while (end <= fd && !atomic_compare_exchange_weak(&sockets_end, &end, fd + 1)) continue;
  if (atomic_exchange(&sockets[fd], socket_inode(fd)) == 0) ob_count(&ob_live_sockets, 1);
}

void ob_socket_closed(int fd) {
  if (fd < 0 || fd >= SOCKETS_MAX) return;
  if (atomic_exchange(&sockets[fd], 0) != 0) ob_uncount(&ob_live_sockets, 1);
}

int ob_socket_at(int local_port) {
  int end = atomic_load_explicit(&sockets_end, memory_order_relaxed);
  for (int fd = 0; fd < end; fd++) {
    if (atomic_load_explicit(&sockets[fd], memory_order_relaxed) == 0) continue;
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) continue;
    int port = address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port)
                                             : ntohs(((struct sockaddr_in *)&address)->sin_port);
    if (port == local_port) return fd;
  }
  return -1;
}

static void close_inherited_sockets(void) {
  struct rlimit limit;
  int end = SOCKETS_MAX;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < SOCKETS_MAX) end = (int)limit.rlim_cur;
  for (int fd = 0; fd < end; fd++) {
    if (atomic_load_explicit(&sockets[fd], memory_order_relaxed) == 0) continue;
    if (socket_inode(fd) == atomic_exchange(&sockets[fd], 0)) close(fd);
  }
  atomic_store(&ob_live_sockets, 0);
}

/* ---- limits --------------------------------------------------------------------------------------- */

static int64_t default_connections(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return CONNECTIONS_MAX;
  int64_t connections = ((int64_t)limit.rlim_cur - DESCRIPTORS_SPARED) * 3 / 4;
  if (connections < CONNECTIONS_MIN) return CONNECTIONS_MIN;
  return connections < CONNECTIONS_MAX ? connections : CONNECTIONS_MAX;
}

static int64_t default_threads(void) {
  const char *asked = getenv("OBSTORE_THREADS");
  int64_t threads = asked != NULL ? strtoll(asked, NULL, 10) : 0;
  if (threads > 0) return threads;
  int64_t cpus;
#ifdef __linux__
  cpu_set_t set;
  cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
#else
  cpus = sysconf(_SC_NPROCESSORS_ONLN);
#endif
  if (cpus < 1) return 1;
  return cpus < 4 ? cpus : 4;
}

/* The multis together keep at most a third more connections than may be in flight: descriptors always suffice, and what is left over
 * lets another endpoint's connections live on. */
static void derive_limits_locked(ob_engine *e) {
  int64_t asked = atomic_load(&asked_connections);
  e->connections = asked > 0 ? asked : default_connections();
  asked = atomic_load(&asked_threads);
  e->threads = asked > 0 ? asked : default_threads();
  if (e->threads > LOOPS_MAX) e->threads = LOOPS_MAX;
  e->memory = atomic_load(&asked_memory);
  int64_t loops = e->connections / LOOP_BUSY + 1;
  if (loops > e->threads) loops = e->threads;
  if (loops < e->n_loops) loops = e->n_loops;
  int64_t inlines = e->threads < e->connections / 8 ? e->threads : e->connections / 8;
  e->max_inlines = (int)(inlines < INLINE_MAX ? inlines : INLINE_MAX);
  e->loop_cap = (e->connections * 4 / 3 - e->max_inlines * INLINE_CONNECTIONS + loops - 1) / loops;
  if (e->loop_cap < CONNECTIONS_MIN) e->loop_cap = CONNECTIONS_MIN;
  if (e->loop_cap > OB_LOOP_TRANSFERS) e->loop_cap = OB_LOOP_TRANSFERS;
  int64_t room = OB_LOOP_TRANSFERS * (e->threads > e->n_loops ? e->threads : e->n_loops);
  e->gate.limit = e->connections < room ? e->connections : room;
  for (int i = 0; i < e->n_loops; i++) ob_loop_set_connections(e->loops[i].loop, (long)e->loop_cap);
}

/* ---- the engine ----------------------------------------------------------------------------------- */

static ob_engine *engine(void) {
  return atomic_load_explicit(&current, memory_order_acquire);
}

static ob_engine *create_locked(void) {
  ob_engine *e = ob_calloc(sizeof *e);
  if (e == NULL) return NULL;
  ob_mutex_init(&e->lock);
  atomic_init(&e->token_us, INT64_MAX);
  e->orphans = ob_cq_new_silent();
  if (e->orphans == NULL) {
    ob_free(e);
    return NULL;
  }
  derive_limits_locked(e);
  e->cq_written_before = ob_counted(&ob_cq_written);
  return e;
}

static ob_engine *engine_or_create(void) {
  ob_engine *e = engine();
  if (e != NULL) return e;
  ob_lock(&create_lock);
  e = engine();
  if (e == NULL) {
    e = create_locked();
    atomic_store_explicit(&current, e, memory_order_release);
  }
  ob_unlock(&create_lock);
  return e;
}

uint32_t ob_engine_generation(void) {
  return atomic_load_explicit(&generation, memory_order_acquire);
}

ob_cq *ob_engine_orphans(void) {
  ob_engine *e = engine();
  return e != NULL ? e->orphans : NULL;
}

static bool memory_short(const ob_engine *e) {
  return e->memory > 0 && ob_block_live_bytes() > (uint64_t)e->memory;
}

bool ob_engine_memory_short(void) {
  int64_t memory = atomic_load_explicit(&asked_memory, memory_order_relaxed);
  return memory > 0 && ob_block_live_bytes() > (uint64_t)memory;
}

/* ---- clients -------------------------------------------------------------------------------------- */

static size_t text_size(const char *text) {
  return text != NULL ? strlen(text) + 1 : 0;
}

static void copy_text(const char **text, char **at) {
  if (*text == NULL) return;
  size_t size = strlen(*text) + 1;
  memcpy(*at, *text, size);
  *text = *at;
  *at += size;
}

ob_client *ob_client_new(const ob_client_options *o) {
  static _Atomic uint64_t made;
  size_t texts = text_size(o->endpoint) + text_size(o->user_agent) + text_size(o->ca_file) + text_size(o->ca_path) +
                 text_size(o->proxy) + text_size(o->no_proxy) + text_size(o->proxy_ca_file);
  ob_client *client = ob_calloc(sizeof *client + texts);
  if (client == NULL) return NULL;
  atomic_init(&client->refs, 1);
  client->number = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
  client->generation = ob_engine_generation();
  client->options = *o;
  char *at = (char *)(client + 1);
  copy_text(&client->options.endpoint, &at);
  copy_text(&client->options.user_agent, &at);
  copy_text(&client->options.ca_file, &at);
  copy_text(&client->options.ca_path, &at);
  copy_text(&client->options.proxy, &at);
  copy_text(&client->options.no_proxy, &at);
  copy_text(&client->options.proxy_ca_file, &at);
  client->gate.limit = o->max_connections > 0 ? o->max_connections : 0;
  ob_count(&ob_live_clients, 1);
  return client;
}

ob_client *ob_client_limited(ob_client *client, const char *endpoint, int64_t max_connections, double max_rate) {
  ob_client *root = client->root != NULL ? client->root : client;
  ob_client *limited = ob_calloc(sizeof *limited + text_size(endpoint));
  if (limited == NULL) return NULL;
  char *at = (char *)(limited + 1);
  atomic_init(&limited->refs, 1);
  limited->generation = ob_engine_generation();
  limited->root = ob_client_ref(root);
  limited->number = root->number; /* to libcurl they are the same */
  limited->options = root->options;
  limited->options.max_connections = max_connections;
  limited->options.max_rate = max_rate;
  copy_text(&endpoint, &at);
  if (endpoint != NULL) limited->options.endpoint = endpoint;
  limited->gate.limit = max_connections > 0 ? max_connections : 0;
  ob_count(&ob_live_clients, 1);
  return limited;
}

static ob_tally *tally_of(ob_client *client) {
  return client->root != NULL ? &client->root->tally : &client->tally;
}

ob_client *ob_client_ref(ob_client *client) {
  ob_refs_take(&client->refs);
  return client;
}

static void leave_endpoint_locked(ob_engine *e, ob_endpoint *endpoint) {
  if (--endpoint->clients > 0) return;
  OB_ASSERT(endpoint->gate.in_flight == 0 && endpoint->gate.first == NULL);
  ob_endpoint **at = &e->endpoints;
  while (*at != endpoint) at = &(*at)->next;
  *at = endpoint->next;
  ob_free(endpoint);
}

void ob_client_unref(ob_client *client) {
  if (client == NULL || !ob_refs_drop(&client->refs)) return;
  ob_engine *e = engine();
  if (client->endpoint != NULL && client->generation == ob_engine_generation() && e != NULL) {
    ob_lock(&e->lock);
    leave_endpoint_locked(e, client->endpoint);
    ob_unlock(&e->lock);
  }
  ob_client_unref(client->root);
  ob_free(client);
  ob_uncount(&ob_live_clients, 1);
}

static ob_endpoint *find_endpoint_locked(ob_engine *e, const char *name) {
  ob_endpoint *endpoint = e->endpoints;
  while (endpoint != NULL && strcmp(endpoint->name, name) != 0) endpoint = endpoint->next;
  return endpoint;
}

/* Before the first submit of a client, and of an inherited one in a forked child. 0, or -1 when memory is short. */
static int prepare_client_locked(ob_engine *e, ob_client *client) {
  uint32_t now = ob_engine_generation();
  if (client->generation != now) {
    int64_t limit = client->gate.limit;
    client->gate = (ob_gate){.limit = limit}; /* the parent's transfers are not ours */
    client->endpoint = NULL;
    client->generation = now;
  }
  const char *name = client->options.endpoint;
  if (client->endpoint != NULL || name == NULL) return 0;
  ob_endpoint *endpoint = find_endpoint_locked(e, name);
  if (endpoint == NULL) {
    endpoint = ob_calloc(sizeof *endpoint + strlen(name) + 1);
    if (endpoint == NULL) return -1;
    memcpy(endpoint->name, name, strlen(name) + 1);
    ob_rate_begin(&endpoint->rate, client->options.max_rate, ob_now_us());
    endpoint->next = e->endpoints;
    e->endpoints = endpoint;
  }
  endpoint->clients++;
  client->endpoint = endpoint;
  return 0;
}

/* ---- gates ---------------------------------------------------------------------------------------- */

static ob_gate *gate_at(ob_engine *e, ob_transfer *x, int stage) {
  if (stage == 0) return &x->client->gate;
  if (stage == 1) return x->client->endpoint != NULL ? &x->client->endpoint->gate : NULL;
  return &e->gate;
}

static void enqueue_locked(ob_engine *e, ob_gate *gate, ob_transfer *x) {
  x->waiting_in = gate;
  x->gate_next = NULL;
  x->gate_prev = gate->last;
  *(gate->last != NULL ? &gate->last->gate_next : &gate->first) = x;
  gate->last = x;
  gate->waiting++;
  x->waiting_prev = NULL;
  x->waiting_next = e->waiting;
  if (e->waiting != NULL) e->waiting->waiting_prev = x;
  e->waiting = x;
}

static void dequeue_locked(ob_engine *e, ob_transfer *x) {
  ob_gate *gate = x->waiting_in;
  *(x->gate_prev != NULL ? &x->gate_prev->gate_next : &gate->first) = x->gate_next;
  *(x->gate_next != NULL ? &x->gate_next->gate_prev : &gate->last) = x->gate_prev;
  gate->waiting--;
  *(x->waiting_prev != NULL ? &x->waiting_prev->waiting_next : &e->waiting) = x->waiting_next;
  if (x->waiting_next != NULL) x->waiting_next->waiting_prev = x->waiting_prev;
  x->waiting_in = NULL;
}

static bool full(const ob_gate *gate) {
  return gate->limit > 0 && gate->in_flight >= gate->limit;
}

/* A collect may be as large as it likes, so it waits while blocks exceed the limit - but never for ever: with nothing
 * running but paused streams it goes ahead. */
static bool waits_for_memory(ob_engine *e, const ob_gate *gate, const ob_transfer *x) {
  return gate == &e->gate && x->sink == OB_SINK_COLLECT && gate->in_flight > gate->paused && memory_short(e);
}

/* ---- the rate of an endpoint ---------------------------------------------------------------------- */

static ob_rate *rate_of_gate(const ob_gate *gate, const ob_transfer *x) {
  ob_endpoint *endpoint = x->client->endpoint;
  return endpoint != NULL && gate == &endpoint->gate ? &endpoint->rate : NULL;
}

static bool has_token_locked(ob_rate *rate) {
  return rate == NULL || !ob_rate_limits(rate) || ob_rate_has_token(rate, ob_now_us());
}

static int choose_loop_locked(ob_engine *e);

/* Somebody waits for a token: a loop has to look again when it is due. Sooner than planned, it has to be told. */
static void plan_token_locked(ob_engine *e, const ob_gate *gate, ob_rate *rate) {
  if (rate == NULL || !ob_rate_limits(rate) || gate->first == NULL) return;
  int64_t due_us = ob_rate_due_us(rate);
  if (due_us >= atomic_load_explicit(&e->token_us, memory_order_relaxed)) return;
  atomic_store_explicit(&e->token_us, due_us, memory_order_relaxed);
  int i = choose_loop_locked(e);
  if (i >= 0) {
    ob_loop_wake(e->loops[i].loop);
  } else {
    rate->rate = rate->ceiling = 0; /* no thread to be had: rather too many requests than none */
  }
}

double ob_engine_endpoint_rate(const char *name) {
  ob_engine *e = engine();
  if (e == NULL) return 0;
  ob_lock(&e->lock);
  ob_endpoint *endpoint = find_endpoint_locked(e, name);
  double rate = endpoint != NULL ? ob_rate_allowed(&endpoint->rate) : 0;
  ob_unlock(&e->lock);
  return rate;
}

/* ---- through the gates ---------------------------------------------------------------------------- */

static void fail_locked(ob_engine *e, ob_transfer *x, ob_kind kind, const char *message) {
  ob_transfer_verdict(x, kind, message);
  x->failed_next = e->failed;
  e->failed = x;
}

static void remove_paused_locked(ob_engine *e, ob_transfer *x) {
  if (!x->in_paused) return;
  *(x->paused_prev != NULL ? &x->paused_prev->paused_next : &e->paused_first) = x->paused_next;
  *(x->paused_next != NULL ? &x->paused_next->paused_prev : &e->paused_last) = x->paused_prev;
  x->in_paused = false;
  for (int stage = 0; stage < GATES; stage++) {
    ob_gate *gate = gate_at(e, x, stage);
    if (gate != NULL) gate->paused--;
  }
}

static void command_locked(ob_transfer *x, int command) {
  ob_loop *loop = atomic_load_explicit(&x->loop, memory_order_relaxed);
  (void)ob_loop_post(loop, x, command); /* a loop that has ended has ended x, too */
}

/* Everyone inside is paused and someone waits outside: consumers may be waiting for those outside before they read
 * on. The streams paused longest give way, a quarter at a time so that a crowd is not served one by one; where none
 * can be resumed later, the oldest may run to its end in memory. */
static void relieve_locked(ob_engine *e, ob_gate *gate) {
  if (gate->first == NULL || gate->in_flight == 0 || gate->paused < gate->in_flight) return;
  int64_t wanted = gate->in_flight / 4 > 1 ? gate->in_flight / 4 : 1;
  if (wanted > gate->waiting) wanted = gate->waiting;
  ob_transfer *oldest = NULL, *next;
  for (ob_transfer *x = e->paused_first; x != NULL && wanted > 0; x = next) {
    next = x->paused_next;
    bool inside = false;
    for (int stage = 0; stage < GATES; stage++) inside = inside || gate_at(e, x, stage) == gate;
    if (!inside) continue;
    if (oldest == NULL) oldest = x;
    if (!x->parkable) continue;
    if (oldest == x) oldest = NULL;
    remove_paused_locked(e, x);
    command_locked(x, OB_CMD_PARK);
    wanted--;
  }
  if (gate->paused == gate->in_flight && oldest != NULL) {
    remove_paused_locked(e, oldest);
    command_locked(oldest, OB_CMD_UNBOUND);
  }
}

/* The first loop that is not busy, so that low load keeps one connection pool; then a new one; then the least busy. */
static int choose_loop_locked(ob_engine *e) {
  int best = -1;
  int free_slot = -1;
  int alive = 0;
  for (int i = 0; i < e->n_loops; i++) {
    if (ob_loop_closed(e->loops[i].loop)) {
      if (free_slot < 0) free_slot = i;
      continue;
    }
    alive++;
    if (e->loops[i].in_flight < LOOP_BUSY && e->loops[i].in_flight < e->loop_cap) return i;
    if (best < 0 || e->loops[i].in_flight < e->loops[best].in_flight) best = i;
  }
  if (alive >= e->threads && best >= 0) return best;
  if (free_slot < 0) free_slot = e->n_loops;
  ob_loop *loop = free_slot < LOOPS_MAX ? ob_loop_start(free_slot, (long)e->loop_cap) : NULL;
  if (loop == NULL) return best;
  e->loops[free_slot].loop = loop; /* a loop that died stays allocated: transfers may still point to it */
  e->loops[free_slot].in_flight = 0;
  if (free_slot == e->n_loops) e->n_loops++;
  return free_slot;
}

/* One nobody drives, the one last used first: its connection is the likeliest to be alive. NULL: none to be had. */
static ob_loop *claim_inline_locked(ob_engine *e) {
  if (e->n_idle > 0) {
    ob_loop *loop = e->idle[--e->n_idle];
    ob_loop_claim(loop);
    return loop;
  }
  if (e->n_inlines >= e->max_inlines) return NULL;
  ob_loop *loop = ob_loop_inline(INLINE_CONNECTIONS);
  if (loop != NULL) e->inlines[e->n_inlines++] = loop;
  return loop;
}

/* Only where no loop thread has anything to do: a thread that serves many spares them more than their hops cost. */
static bool assign_inline_locked(ob_engine *e, ob_transfer *x) {
  bool quiet = e->gate.in_flight - e->inline_in_flight <= 1; /* x counts already */
  ob_loop *loop = x->wants_inline && quiet && !e->shut ? claim_inline_locked(e) : NULL;
  if (loop == NULL) return false;
  x->loop_index = -1;
  atomic_store_explicit(&x->loop, loop, memory_order_release);
  (void)ob_loop_post(loop, x, OB_CMD_ATTACH); /* claimed, hence open */
  e->inline_in_flight++;
  return true;
}

void ob_engine_inline_idle(ob_loop *loop) {
  ob_engine *e = engine();
  ob_lock(&e->lock);
  e->idle[e->n_idle++] = loop;
  ob_unlock(&e->lock);
}

static void assign_locked(ob_engine *e, ob_transfer *x) {
  if (assign_inline_locked(e, x)) return;
  int i = e->shut ? -1 : choose_loop_locked(e);
  if (i >= 0) {
    ob_loop *loop = e->loops[i].loop;
    x->loop_index = i;
    atomic_store_explicit(&x->loop, loop, memory_order_release);
    if (ob_loop_post(loop, x, OB_CMD_ATTACH) == 0) {
      e->loops[i].in_flight++;
      return;
    }
    atomic_store_explicit(&x->loop, NULL, memory_order_relaxed);
  }
  fail_locked(e, x, OB_KIND_ENGINE, e->shut ? "the engine was shut down" : "no loop thread could be started");
}

/* As far as the gates let it. */
static void admit_locked(ob_engine *e, ob_transfer *x) {
  while (x->stage < GATES) {
    ob_gate *gate = gate_at(e, x, x->stage);
    if (gate != NULL) {
      ob_rate *rate = rate_of_gate(gate, x);
      bool memory = gate->first == NULL && !full(gate) && waits_for_memory(e, gate, x);
      if (gate->first != NULL || full(gate) || memory || !has_token_locked(rate)) {
        enqueue_locked(e, gate, x);
        plan_token_locked(e, gate, rate);
        x->wants_inline = false; /* whoever lets it in is not the one who waits for it */
        if (memory) atomic_store(&e->memory_waits, true);
        relieve_locked(e, gate);
        return;
      }
      if (rate != NULL) ob_rate_take_token(rate);
      gate->in_flight++;
    }
    x->stage++;
  }
  ob_endpoint *endpoint = x->client->endpoint;
  if (endpoint != NULL && endpoint->gate.in_flight > endpoint->peak) endpoint->peak = endpoint->gate.in_flight;
  assign_locked(e, x);
}

static void pump_locked(ob_engine *e, ob_gate *gate) {
  if (gate == NULL) return;
  while (gate->first != NULL && !full(gate)) {
    ob_transfer *x = gate->first;
    if (waits_for_memory(e, gate, x)) {
      atomic_store(&e->memory_waits, true);
      break;
    }
    ob_rate *rate = rate_of_gate(gate, x);
    if (!has_token_locked(rate)) {
      plan_token_locked(e, gate, rate);
      break;
    }
    if (rate != NULL) ob_rate_take_token(rate);
    dequeue_locked(e, x);
    gate->in_flight++;
    x->stage++;
    admit_locked(e, x);
  }
  relieve_locked(e, gate);
}

/* Gives back all places that x holds. Those further in first: who waits there has waited longer. */
static void release_locked(ob_engine *e, ob_transfer *x) {
  remove_paused_locked(e, x);
  int held = x->stage;
  x->stage = 0;
  if (atomic_load_explicit(&x->loop, memory_order_relaxed) == NULL) {
    /* was never given to a loop */
  } else if (x->loop_index < 0) {
    e->inline_in_flight--;
  } else {
    ob_loop *loop = e->loops[x->loop_index].loop;
    if (loop == atomic_load_explicit(&x->loop, memory_order_relaxed)) e->loops[x->loop_index].in_flight--;
  }
  for (int stage = 0; stage < held; stage++) {
    ob_gate *gate = gate_at(e, x, stage);
    if (gate != NULL) gate->in_flight--;
  }
  for (int stage = held - 1; stage >= 0; stage--) pump_locked(e, gate_at(e, x, stage));
}

/* ---- throttle ------------------------------------------------------------------------------------- */

static void note_answer_locked(ob_endpoint *endpoint, int status, int64_t sent_us, int64_t now_us) {
  if (endpoint == NULL) return;
  bool refused = status == 429 || status == 503;
  if (status > 0 && status < 500 && !refused) ob_rate_served(&endpoint->rate, sent_us, now_us);
  if (refused) {
    if (ob_rate_refused(&endpoint->rate, sent_us, now_us)) return;
    if (endpoint->cut_us != 0 && now_us - endpoint->cut_us < CUT_INTERVAL_US)
      return; /* answers to one and the same burst */
    double base = endpoint->allowed > 0 ? endpoint->allowed : (double)endpoint->gate.in_flight;
    endpoint->allowed = base / 2 > 1 ? base / 2 : 1;
    endpoint->cut_us = now_us;
  } else if (endpoint->allowed > 0 && status > 0 && status < 400) {
    endpoint->allowed += 1 / endpoint->allowed;
    if (endpoint->allowed > (double)endpoint->peak) endpoint->allowed = 0;
  }
  endpoint->gate.limit = (int64_t)endpoint->allowed;
}

int64_t ob_engine_endpoint_limit(const char *name) {
  ob_engine *e = engine();
  if (e == NULL) return 0;
  ob_lock(&e->lock);
  ob_endpoint *endpoint = find_endpoint_locked(e, name);
  int64_t limit = endpoint != NULL ? endpoint->gate.limit : 0;
  ob_unlock(&e->lock);
  return limit;
}

/* ---- the end of transfers ------------------------------------------------------------------------- */

/* Four buckets for each doubling: the two bits after the highest one say which. */
static int time_bucket(int64_t time_us) {
  int highest = 2;
  while (highest < 33 && time_us >> (highest + 1) != 0) highest++;
  int bucket = 4 * (highest - 2) + (int)(time_us >> (highest - 2) & 3);
  return bucket < OB_TIME_BUCKETS ? bucket : OB_TIME_BUCKETS - 1;
}

/* The shortest time that no longer falls into the bucket. */
static uint64_t bucket_end(int bucket) {
  int highest = bucket / 4 + 2;
  return ((uint64_t)1 << highest) + ((uint64_t)(bucket % 4 + 1) << (highest - 2));
}

static void count_both(ob_counter *all, ob_counter *own, int64_t n) {
  if (n == 0) return;
  ob_count(all, (uint64_t)n);
  ob_count(own, (uint64_t)n);
}

static void count_end(ob_engine *e, const ob_transfer *x) {
  const ob_outcome *outcome = &x->outcome;
  ob_tally *tally = tally_of(x->client);
  ob_counter *counter = &e->n_failed, *own = &tally->failed;
  if (outcome->kind == OB_KIND_CANCELLED) counter = &e->cancelled, own = &tally->cancelled;
  if (outcome->kind == OB_KIND_PARKED) counter = &e->parked, own = &tally->parked;
  if (outcome->kind == OB_KIND_OK && outcome->status < 400) counter = &e->succeeded, own = &tally->succeeded;
  ob_count(counter, 1);
  ob_count(own, 1);
  if (outcome->status == 429 || outcome->status == 503) ob_count(&e->throttled, 1), ob_count(&tally->throttled, 1);
  count_both(&e->bytes_in, &tally->bytes_in, outcome->received);
  count_both(&e->bytes_out, &tally->bytes_out, outcome->uploaded);
  count_both(&e->opened, &tally->opened, x->connects);
  if (outcome->timing.first_byte_us > 0) ob_count(&tally->first_byte[time_bucket(outcome->timing.first_byte_us)], 1);
}

/* The time that so many of a hundred transfers did not exceed. */
static uint64_t percentile(const uint64_t *counts, uint64_t all, uint64_t percent) {
  uint64_t seen = 0;
  for (int i = 0; i < OB_TIME_BUCKETS; i++) {
    seen += counts[i];
    if (seen > 0 && seen * 100 >= all * percent) return bucket_end(i);
  }
  return 0;
}

void ob_client_get_stats(ob_client *client, ob_client_stats *stats) {
  ob_tally *tally = tally_of(client);
  uint64_t counts[OB_TIME_BUCKETS], all = 0;
  for (int i = 0; i < OB_TIME_BUCKETS; i++) all += counts[i] = ob_counted(&tally->first_byte[i]);
  *stats = (ob_client_stats){
      .succeeded = ob_counted(&tally->succeeded),
      .failed = ob_counted(&tally->failed),
      .cancelled = ob_counted(&tally->cancelled),
      .parked = ob_counted(&tally->parked),
      .throttled = ob_counted(&tally->throttled),
      .bytes_in = ob_counted(&tally->bytes_in),
      .bytes_out = ob_counted(&tally->bytes_out),
      .connections_opened = ob_counted(&tally->opened),
      .first_byte_p50_us = percentile(counts, all, 50),
      .first_byte_p99_us = percentile(counts, all, 99),
  };
  stats->requests = ob_counted(&tally->requests); /* last: what has ended was begun */
  uint64_t ended = stats->succeeded + stats->failed + stats->cancelled + stats->parked;
  /* A fork copies the counts of transfers that end in the parent only. */
  bool ours = client->generation == ob_engine_generation();
  stats->in_flight = ours && stats->requests > ended ? stats->requests - ended : 0;
}

/* Unlocks, and finishes what failed at the gates. */
static void leave(ob_engine *e) {
  ob_transfer *ended = NULL;
  while (e->failed != NULL) {
    ob_transfer *x = e->failed;
    e->failed = x->failed_next;
    release_locked(e, x); /* may let others in, and fail them */
    x->failed_next = ended;
    ended = x;
  }
  ob_unlock(&e->lock);
  ob_wakes wakes = {.n = 0};
  while (ended != NULL) {
    ob_transfer *x = ended;
    ended = x->failed_next;
    if (x->outcome.kind == OB_KIND_CANCELLED) {
      ob_lock(&x->lock);
      ob_transfer_move_locked(x, OB_XFER_CANCELLING);
      ob_unlock(&x->lock);
    }
    ob_transfer_finish(x);
    count_end(e, x);
    ob_cq_publish(x, OB_EVENT_END, &wakes);
    ob_transfer_unref(x); /* the engine's reference */
  }
  ob_wakes_send(&wakes);
}

void ob_engine_released(ob_transfer *first) {
  ob_engine *e = engine();
  bool any = false;
  for (ob_transfer *x = first; x != NULL && !any; x = x->ready_next) any = (x->ready_events & OB_EVENT_END) != 0;
  if (!any) return;
  int64_t now_us = ob_now_us();
  ob_lock(&e->lock);
  for (ob_transfer *x = first; x != NULL; x = x->ready_next) {
    if ((x->ready_events & OB_EVENT_END) == 0) continue;
    count_end(e, x);
    if (x->outcome.kind == OB_KIND_OK) {
      note_answer_locked(x->client->endpoint, x->outcome.status, x->attached_us, now_us);
    }
    release_locked(e, x);
  }
  leave(e);
}

/* ---- pausing -------------------------------------------------------------------------------------- */

void ob_engine_paused(ob_transfer *x) {
  ob_engine *e = engine();
  int status = x->outcome.status;
  bool parkable =
      (status == 200 || status == 206) && x->expected >= 0 && ob_headers_find(&x->received, "etag", 4) != NULL;
  ob_lock(&e->lock);
  x->parkable = parkable;
  x->in_paused = true;
  x->paused_next = NULL;
  x->paused_prev = e->paused_last;
  *(e->paused_last != NULL ? &e->paused_last->paused_next : &e->paused_first) = x;
  e->paused_last = x;
  for (int stage = 0; stage < GATES; stage++) {
    ob_gate *gate = gate_at(e, x, stage);
    if (gate != NULL) gate->paused++;
  }
  if (atomic_load(&e->memory_waits)) pump_locked(e, &e->gate);
  for (int stage = 0; stage < GATES; stage++) {
    ob_gate *gate = gate_at(e, x, stage);
    if (gate != NULL) relieve_locked(e, gate);
  }
  leave(e);
}

void ob_engine_resumed(ob_transfer *x) {
  ob_engine *e = engine();
  ob_lock(&e->lock);
  remove_paused_locked(e, x);
  ob_unlock(&e->lock);
}

int64_t ob_engine_poll_tokens(int64_t now_us) {
  ob_engine *e = engine();
  int64_t due_us = atomic_load_explicit(&e->token_us, memory_order_relaxed);
  if (due_us > now_us) return due_us;
  ob_lock(&e->lock);
  atomic_store_explicit(&e->token_us, INT64_MAX, memory_order_relaxed);
  for (ob_endpoint *endpoint = e->endpoints; endpoint != NULL; endpoint = endpoint->next) {
    if (endpoint->gate.first != NULL) pump_locked(e, &endpoint->gate);
  }
  due_us = atomic_load_explicit(&e->token_us, memory_order_relaxed);
  leave(e);
  return due_us;
}

bool ob_engine_poll_memory(void) {
  ob_engine *e = engine();
  if (!atomic_load_explicit(&e->memory_waits, memory_order_relaxed)) return false;
  ob_lock(&e->lock);
  atomic_store(&e->memory_waits, false);
  pump_locked(e, &e->gate);
  bool waits = atomic_load(&e->memory_waits);
  leave(e);
  return waits;
}

/* ---- submit and cancel ---------------------------------------------------------------------------- */

int ob_engine_submit_inline(ob_transfer *x, ob_cq *cq, ob_loop **loop) {
  int version = x->client->options.http_version;
  x->wants_inline =
      (version == 0 || version == 11) && x->source_bytes <= INLINE_BODY_BYTES; /* others share a connection */
  int rc = ob_engine_submit(x, cq);
  bool claimed = rc == 0 && x->wants_inline && x->loop_index < 0; /* written before submit returned, if ever */
  *loop = claimed ? atomic_load_explicit(&x->loop, memory_order_relaxed) : NULL;
  return rc;
}

int ob_engine_submit(ob_transfer *x, ob_cq *cq) {
  if (!ob_curl_loaded()) return -2;
  ob_engine *e = engine_or_create();
  if (e == NULL) return -1;
  OB_ASSERT(atomic_load(&x->state) == OB_XFER_NEW);
  ob_lock(&e->lock);
  int rc = e->shut ? -2 : prepare_client_locked(e, x->client);
  if (rc != 0) {
    ob_unlock(&e->lock);
    return rc;
  }
  ob_transfer_ref(x); /* the engine's, until END */
  x->generation = ob_engine_generation();
  x->submitted_us = ob_now_us();
  ob_cq_adopt(x, cq);
  ob_lock(&x->lock);
  ob_transfer_move_locked(x, OB_XFER_QUEUED);
  ob_unlock(&x->lock);
  ob_count(&e->requests, 1);
  ob_count(&tally_of(x->client)->requests, 1);
  admit_locked(e, x);
  leave(e);
  return 0;
}

void ob_transfer_cancel(ob_transfer *x) {
  if (ob_transfer_stale(x)) return;
  atomic_store_explicit(&x->cancelled, true, memory_order_release);
  ob_xfer_state state = atomic_load_explicit(&x->state, memory_order_acquire);
  if (state == OB_XFER_NEW || state == OB_XFER_DONE) return;
  ob_transfer_let_go(x);
  ob_engine *e = engine();
  if (e == NULL) return;
  ob_lock(&e->lock);
  if (x->waiting_in != NULL) {
    dequeue_locked(e, x);
    fail_locked(e, x, OB_KIND_CANCELLED, "cancelled");
  } else if (atomic_load_explicit(&x->loop, memory_order_relaxed) != NULL) {
    command_locked(x, OB_CMD_CANCEL);
  }
  leave(e);
}

/* ---- limits and statistics ------------------------------------------------------------------------ */

void ob_engine_set_limits(const ob_limits *limits) {
  atomic_store(&asked_connections, limits->connections);
  atomic_store(&asked_threads, limits->threads);
  atomic_store(&asked_memory, limits->memory);
  ob_engine *e = engine();
  if (e == NULL) return;
  ob_lock(&e->lock);
  derive_limits_locked(e);
  pump_locked(e, &e->gate);
  leave(e);
}

void ob_engine_get_limits(ob_limits *limits) {
  ob_engine *e = engine();
  if (e == NULL) {
    ob_engine draft = {.n_loops = 0};
    derive_limits_locked(&draft);
    *limits = (ob_limits){.connections = draft.connections, .threads = draft.threads, .memory = draft.memory};
    return;
  }
  ob_lock(&e->lock);
  *limits = (ob_limits){.connections = e->connections, .threads = e->threads, .memory = e->memory};
  ob_unlock(&e->lock);
}

void ob_engine_stats(ob_stats *stats) {
  memset(stats, 0, sizeof *stats);
  stats->live_transfers = ob_counted(&ob_live_transfers);
  stats->live_clients = ob_counted(&ob_live_clients);
  stats->live_queues = ob_counted(&ob_live_queues);
  stats->live_easies = ob_counted(&ob_live_easies);
  stats->live_sockets = ob_counted(&ob_live_sockets);
  stats->block_bytes = ob_block_live_bytes();
  stats->kept_bytes = ob_block_kept_bytes();
  ob_engine *e = engine();
  if (e == NULL) return;
  stats->requests = ob_counted(&e->requests);
  stats->succeeded = ob_counted(&e->succeeded);
  stats->failed = ob_counted(&e->n_failed);
  stats->cancelled = ob_counted(&e->cancelled);
  stats->parked = ob_counted(&e->parked);
  stats->throttled = ob_counted(&e->throttled);
  stats->bytes_in = ob_counted(&e->bytes_in);
  stats->bytes_out = ob_counted(&e->bytes_out);
  stats->connections_opened = ob_counted(&e->opened);
  stats->cq_writes = ob_counted(&ob_cq_written) - e->cq_written_before;
  ob_lock(&e->lock);
  for (int i = 0; i < e->n_loops; i++) {
    stats->in_flight += (uint64_t)e->loops[i].in_flight;
    stats->wakeups += ob_loop_wakeups(e->loops[i].loop);
    stats->loops += !ob_loop_closed(e->loops[i].loop);
  }
  stats->in_flight += (uint64_t)e->inline_in_flight;
  stats->loops += (uint64_t)e->n_inlines;
  for (int i = 0; i < e->n_inlines; i++) stats->wakeups += ob_loop_wakeups(e->inlines[i]);
  for (ob_transfer *x = e->waiting; x != NULL; x = x->waiting_next) stats->queued++;
  ob_unlock(&e->lock);
}

/* ---- shutdown and fork ---------------------------------------------------------------------------- */

int ob_engine_shutdown(int timeout_ms) {
  ob_engine *e = engine();
  if (e == NULL) return 1;
  int64_t deadline_us = ob_now_us() + (int64_t)timeout_ms * 1000;
  ob_lock(&e->lock);
  e->shut = true;
  while (e->waiting != NULL) {
    ob_transfer *x = e->waiting;
    dequeue_locked(e, x);
    fail_locked(e, x, OB_KIND_ENGINE, "the engine was shut down");
  }
  int n_loops = e->n_loops;
  for (int i = 0; i < n_loops; i++) ob_loop_stop(e->loops[i].loop);
  int n_inlines = e->n_inlines;
  for (int i = 0; i < n_inlines; i++) ob_loop_stop(e->inlines[i]);
  leave(e);
  int all = 1;
  for (int i = 0; i < n_inlines; i++) all &= ob_loop_join(e->inlines[i], deadline_us);
  for (int i = 0; i < n_loops; i++) all &= ob_loop_join(e->loops[i].loop, deadline_us);
  return all;
}

void ob_engine_forked_child(void) {
  /* No lock of the parent is touched: the thread that held it does not exist here. What it guarded is left behind. */
  atomic_fetch_add(&generation, 1);
  atomic_store(&current, NULL);
  ob_mutex_init(&create_lock);
  ob_curl_forked_child();
  ob_block_forked_child();
  ob_transfer_forked_child();
  close_inherited_sockets();
  atomic_store(&ob_live_easies, 0);
}

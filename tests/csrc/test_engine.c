/* test_engine.c - many transfers: streams, queues, cancellation, gates, throttle, parking, fork, shutdown, torture. */
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>

#include "harness.h"
#include "ob_loop.h"

static ob_client *client;
static ob_cq *cq;
static server srv;

static void start(handler handle, const ob_client_options *options) {
  server_start(&srv, handle);
  client = client_for(options);
  cq = ob_cq_new();
  CHECK(cq != NULL);
}

static void stop(void) {
  finish(client, cq);
}

static ob_stats stats(void) {
  ob_stats now;
  ob_engine_stats(&now);
  return now;
}

static void begin_stream(call *c, const char *path, size_t window) {
  prepare(c, client, &srv, "GET", path);
  ob_transfer_sink_stream(c->x, window);
  submit(c, cq);
}

/* Checks and drops what is buffered; the number of bytes. */
static uint64_t drain(call *c, uint64_t min, uint64_t from) {
  uint64_t n = 0;
  ob_block *next;
  for (ob_block *block = ob_transfer_take(c->x, min); block != NULL; block = next) {
    next = block->next;
    CHECK(block->len > 0);
    CHECK(is_pattern(block->data, block->len, from + n));
    n += block->len;
    ob_block_unref(block);
  }
  return n;
}

static void await_paused(call *c, uint64_t at_least) {
  (void)at_least;
  uint64_t before = UINT64_MAX;
  for (int i = 0; i < 500 && (before != ob_transfer_buffered(c->x) || before < at_least); i++) {
    before = ob_transfer_buffered(c->x);
    nap_ms(30);
  }
}

/* ---- streams -------------------------------------------------------------------------------------- */

static void small_stream_is_one_delivery(void) {
  call one;
  start(serve_object, NULL);
  begin_stream(&one, "/o/65536", 1000);
  await_end(&one, cq);
  CHECK_EQ(one.entries, 1);
  CHECK_EQ(one.last_events, OB_EVENT_HEAD | OB_EVENT_END);
  ob_block *body = body_of(&one, 65536);
  CHECK(is_pattern(body->data, body->len, 0));
  ob_block_unref(body);
  release(&one);
  stop();
}

static void body_within_the_window_is_one_block(void) {
  call one;
  start(serve_object, NULL);
  begin_stream(&one, "/o/1000000", 0);
  await_head(&one, cq);
  CHECK_EQ(ob_transfer_status(one.x), 200);
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  ob_block *block = ob_transfer_take(one.x, 0);
  CHECK_EQ(block->len, 1000000);
  CHECK(block->next == NULL);
  CHECK(is_pattern(block->data, block->len, 0));
  ob_block_unref(block);
  release(&one);
  stop();
}

static void full_window_pauses_and_taking_resumes(void) {
  enum { WINDOW = 200000 };
  call one;
  uint64_t size = 5000000, got = 0;
  start(serve_object, NULL);
  begin_stream(&one, "/o/5000000", WINDOW);
  await_head(&one, cq);
  await_paused(&one, WINDOW);
  CHECK(ob_transfer_buffered(one.x) >= WINDOW);
  CHECK(ob_transfer_buffered(one.x) < WINDOW + 20000);
  CHECK_EQ(one.ends, 0);
  while (got < size) {
    if (!ob_transfer_want(one.x, 50000) && one.ends == 0) {
      CHECK(pump(cq, 5000));
    }
    CHECK(ob_transfer_buffered(one.x) < WINDOW + 20000);
    got += drain(&one, 30000, got);
  }
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  CHECK_EQ(got, size);
  CHECK_EQ(ob_transfer_buffered(one.x), 0);
  release(&one);
  stop();
}

static void wanted_bytes_widen_the_window(void) {
  call one;
  start(serve_object, NULL);
  begin_stream(&one, "/o/3000000", 100000);
  await_head(&one, cq);
  await_paused(&one, 100000);
  CHECK_EQ(ob_transfer_want(one.x, 50000), 1);
  CHECK_EQ(ob_transfer_want(one.x, 1000000), 0);
  await_data(&one, cq);
  CHECK(ob_transfer_buffered(one.x) >= 1000000);
  uint64_t got = drain(&one, 1000000, 0);
  CHECK(got >= 1000000);
  CHECK_EQ(ob_transfer_want(one.x, 4000000), 0); /* more than there is: END answers */
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  got += drain(&one, 0, got);
  CHECK_EQ(got, 3000000);
  release(&one);
  stop();
}

static void stream_fills_the_callers_memory(void) {
  enum { FIRST = 3000000, SECOND = 2000000 };
  call one;
  char *memory = malloc(FIRST + SECOND + 1);
  CHECK(memory != NULL);
  start(serve_object, NULL);
  begin_stream(&one, "/o/5000000", 100000);
  await_head(&one, cq);
  await_paused(&one, 100000);
  uint64_t ahead = ob_transfer_buffered(one.x);
  CHECK(ahead >= 100000);
  ob_transfer_fill(one.x, memory, 1000); /* a part of the first block: the rest of it comes next */
  CHECK_EQ(ob_transfer_want_full(one.x), 1);
  CHECK_EQ(ob_transfer_unfill(one.x), 1000);
  CHECK(ob_transfer_buffered(one.x) >= ahead - 1000);
  ob_transfer_fill(one.x, memory + 1000, FIRST - 1000);
  while (!ob_transfer_want_full(one.x)) CHECK(one.ends == 0 && pump(cq, 20000));
  CHECK_EQ(ob_transfer_unfill(one.x), FIRST - 1000);
  memory[FIRST + SECOND] = 'e';
  ob_transfer_fill(one.x, memory + FIRST, SECOND + 1); /* more than there is: END answers */
  while (one.ends == 0) {
    CHECK_EQ(ob_transfer_want_full(one.x), 0);
    CHECK_EQ(ob_block_live_bytes(), 0); /* what comes now passes through no block */
    CHECK(pump(cq, 20000));
  }
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  CHECK_EQ(ob_transfer_want_full(one.x), 0);
  CHECK_EQ(ob_transfer_unfill(one.x), SECOND);
  CHECK_EQ(ob_transfer_unfill(one.x), 0);
  CHECK(is_pattern(memory, FIRST + SECOND, 0));
  CHECK_EQ(memory[FIRST + SECOND], 'e');
  CHECK_EQ(ob_transfer_buffered(one.x), 0);
  release(&one);
  stop();
  free(memory);
}

static void ended_stream_fills_from_what_it_holds(void) {
  call one;
  char memory[60001];
  start(serve_object, NULL);
  begin_stream(&one, "/o/60000", 0);
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  ob_transfer_fill(one.x, memory, sizeof memory);
  CHECK_EQ(ob_transfer_want_full(one.x), 0);
  CHECK_EQ(ob_transfer_unfill(one.x), 60000);
  CHECK(is_pattern(memory, 60000, 0));
  ob_transfer_fill(one.x, memory, 1);
  CHECK_EQ(ob_transfer_unfill(one.x), 0);
  release(&one);
  stop();
}

enum { TRICKLED = 20000000 };

static bool trickle(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", TRICKLED);
  for (int sent = 0; sent < TRICKLED; sent += 100000) {
    send_pattern(r->fd, (uint64_t)sent, 100000);
    nap_ms(5);
  }
  return false;
}

/* Once cancelled, or once its memory was taken back, nothing is written there, however much is on its way. */
static void memory_taken_back_is_not_written_to(void) {
  enum { SIZE = TRICKLED };
  call one;
  char *memory = malloc(SIZE);
  CHECK(memory != NULL);
  start(trickle, NULL);
  for (int way = 0; way < 3; way++) {
    bool streams = way < 2;
    memset(memory, 0, SIZE);
    prepare(&one, client, &srv, "GET", "/");
    if (streams) ob_transfer_sink_stream(one.x, 1000);
    if (!streams) ob_transfer_sink_into(one.x, memory, SIZE);
    ob_transfer_want_head(one.x);
    submit(&one, cq);
    await_head(&one, cq);
    if (streams) {
      ob_transfer_fill(one.x, memory, SIZE);
      CHECK_EQ(ob_transfer_want_full(one.x), 0);
    }
    nap_ms(20);
    if (way == 0) {
      CHECK(ob_transfer_unfill(one.x) < SIZE);
    } else {
      ob_transfer_cancel(one.x);
    }
    memset(memory, 'n', SIZE);
    if (way == 0) {
      nap_ms(30);
      ob_transfer_cancel(one.x);
    }
    check_kind(await_end(&one, cq), OB_KIND_CANCELLED, 200);
    for (size_t i = 0; i < SIZE; i++) CHECK_EQ(memory[i], 'n');
    if (way == 1) {
      CHECK(ob_transfer_unfill(one.x) < SIZE);
      ob_transfer_fill(one.x, memory, SIZE);
      CHECK_EQ(ob_transfer_unfill(one.x), 0);
    }
    release(&one);
  }
  stop();
  free(memory);
}

static void body_is_scattered(void) {
  enum { SIZE = 300000 };
  static char first[100], second[300], long_one[200000], last[10], beyond[10];
  const ob_segment segments[] = {
      {.at = 10, .data = first, .len = sizeof first},
      {.at = 50, .data = second, .len = sizeof second}, /* overlaps the first */
      {.at = 99000, .data = long_one, .len = sizeof long_one},
      {.at = SIZE - 10, .data = last, .len = sizeof last},
      {.at = SIZE - 5, .data = beyond, .len = sizeof beyond}, /* half of it is there */
  };
  call one;
  memset(beyond, 'e', sizeof beyond);
  start(serve_object, NULL);
  prepare(&one, client, &srv, "GET", "/o/300000");
  CHECK_EQ(ob_transfer_sink_scatter(one.x, segments, 5, SIZE), 0);
  submit(&one, cq);
  const ob_outcome *outcome = await_end(&one, cq);
  check_kind(outcome, OB_KIND_OK, 200);
  CHECK_EQ(outcome->received, SIZE);
  for (int i = 0; i < 4; i++) CHECK(is_pattern(segments[i].data, segments[i].len, segments[i].at));
  CHECK(is_pattern(beyond, 5, SIZE - 5));
  CHECK_EQ(beyond[5], 'e');
  CHECK_EQ(ob_block_live_bytes(), 0);
  release(&one);
  prepare(&one, client, &srv, "GET", "/o/300000");
  CHECK_EQ(ob_transfer_sink_scatter(one.x, segments, 0, SIZE - 1), 0); /* wanted nowhere, but bounded all the same */
  submit(&one, cq);
  check_kind(await_end(&one, cq), OB_KIND_OVERFLOW, 200);
  release(&one);
  stop();
}

static void stream_becomes_collect(void) {
  call one;
  start(serve_object, NULL);
  for (int taken = 0; taken < 2; taken++) {
    uint64_t got = 0;
    begin_stream(&one, "/o/3000000", 100000);
    await_head(&one, cq);
    await_paused(&one, 100000);
    if (taken) got = drain(&one, 50000, 0);
    ob_transfer_collect(one.x);
    check_kind(await_end(&one, cq), OB_KIND_OK, 200);
    ob_block *body = body_of(&one, (size_t)(3000000 - got));
    CHECK(is_pattern(body->data, body->len, got));
    CHECK(body->cap < 3000000 + 8192); /* one allocation of its size */
    ob_block_unref(body);
    release(&one);
  }
  stop();
}

static bool serve_trickle(request *r) {
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
  for (int i = 0; i < 30; i++) {
    send_pattern(r->fd, (uint64_t)i * 10000, 10000);
    nap_ms(5);
  }
  return true;
}

static void parts_are_handed_out_as_they_come(void) {
  call one;
  uint64_t got = 0;
  int takes = 0;
  start(serve_trickle, NULL);
  begin_stream(&one, "/", 0);
  await_head(&one, cq);
  while (got < 300000) {
    if (!ob_transfer_want(one.x, 1) && one.ends == 0) CHECK(pump(cq, 5000));
    uint64_t n = drain(&one, 1, got);
    takes += n > 0;
    got += n;
  }
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  CHECK(takes > 5);
  release(&one);
  stop();
}

static void paused_stream_does_not_stall(void) {
  call one;
  ob_client_options options = {.read_timeout_ms = 200};
  start(serve_object, &options);
  begin_stream(&one, "/o/20000000", 100000);
  await_head(&one, cq);
  nap_ms(800);
  pump(cq, 0);
  CHECK_EQ(one.ends, 0);
  ob_transfer_collect(one.x);
  check_kind(await_end(&one, cq), OB_KIND_OK, 200);
  release(&one);
  stop();
}

/* ---- cancellation --------------------------------------------------------------------------------- */

static bool serve_slowly(request *r) {
  nap_ms(600);
  return serve_object(r);
}

static void cancel_in_every_state(void) {
  ob_client_options options = {.max_connections = 1};
  call active, queued, unsent, headed, done;
  start(serve_slowly, &options);
  prepare(&unsent, client, &srv, "GET", "/o/1");
  ob_transfer_cancel(unsent.x);
  submit(&unsent, cq);
  check_kind(await_end(&unsent, cq), OB_KIND_CANCELLED, 0);

  prepare(&active, client, &srv, "GET", "/o/1");
  submit(&active, cq);
  prepare(&queued, client, &srv, "GET", "/o/1");
  submit(&queued, cq);
  nap_ms(100);
  CHECK_EQ(stats().queued, 1);
  ob_transfer_cancel(queued.x);
  ob_transfer_cancel(queued.x);
  check_kind(await_end(&queued, cq), OB_KIND_CANCELLED, 0);
  CHECK_EQ(active.ends, 0);
  ob_transfer_cancel(active.x);
  check_kind(await_end(&active, cq), OB_KIND_CANCELLED, 0);

  begin_stream(&headed, "/o/50000000", 100000);
  await_head(&headed, cq);
  ob_transfer_cancel(headed.x);
  check_kind(await_end(&headed, cq), OB_KIND_CANCELLED, 200);

  prepare(&done, client, &srv, "GET", "/o/1");
  submit(&done, cq);
  check_kind(await_end(&done, cq), OB_KIND_OK, 200);
  ob_transfer_cancel(done.x);
  CHECK(!pump(cq, 100));

  CHECK_EQ(stats().cancelled, 4);
  release(&unsent);
  release(&active);
  release(&queued);
  release(&headed);
  release(&done);
  stop();
}

/* ---- queues --------------------------------------------------------------------------------------- */

static void events_follow_a_move(void) {
  call waiting, listed;
  start(serve_slowly, NULL);
  ob_cq *other = ob_cq_new();
  CHECK(other != NULL);
  prepare(&waiting, client, &srv, "GET", "/o/10");
  submit(&waiting, cq);
  ob_transfer_retarget(waiting.x, other); /* before its END */
  await_end(&waiting, other);
  prepare(&listed, client, &srv, "GET", "/o/10");
  submit(&listed, cq);
  CHECK_EQ(ob_cq_wait(cq, 5000), 1);
  ob_transfer_retarget(listed.x, other); /* END lies in the old queue */
  CHECK(ob_cq_take(cq) == NULL);
  await_end(&listed, other);
  release(&waiting);
  release(&listed);
  ob_cq_close(other);
  ob_cq_unref(other);
  stop();
}

static void closed_queue_cancels_and_leaves_orphans(void) {
  call pending, ended;
  start(serve_slowly, NULL);
  ob_cq *other = ob_cq_new();
  CHECK(other != NULL);
  prepare(&pending, client, &srv, "GET", "/o/10");
  prepare(&ended, client, &srv, "GET", "/o/10");
  submit(&ended, other);
  CHECK_EQ(ob_cq_wait(other, 5000), 1);
  submit(&pending, other);
  ob_cq_close(other);
  ob_cq_unref(other);
  for (int i = 0; i < 500 && pending.ends + ended.ends < 2; i++) {
    pump(ob_engine_orphans(), 0);
    nap_ms(10);
  }
  check_kind(ob_transfer_outcome(pending.x), OB_KIND_CANCELLED, 0);
  check_kind(ob_transfer_outcome(ended.x), OB_KIND_OK, 200);
  CHECK_EQ(pending.ends, 1);
  CHECK_EQ(ended.ends, 1);
  release(&pending);
  release(&ended);
  stop();
}

static atomic_bool hammering;
static call *hammered;
static ob_cq *targets[2];

static void *hammer_retarget(void *argument) {
  (void)argument;
  for (int i = 0; atomic_load(&hammering); i++) {
    for (int k = 0; k < 20; k++) ob_transfer_retarget(hammered[k].x, targets[i & 1]);
  }
  return NULL;
}

static void moves_race_with_events(void) {
  static call calls[20];
  pthread_t thread;
  start(serve_object, NULL);
  hammered = calls;
  targets[0] = cq;
  targets[1] = ob_cq_new();
  for (int k = 0; k < 20; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/300000");
    ob_transfer_sink_stream(calls[k].x, 50000);
    submit(&calls[k], cq);
  }
  atomic_store(&hammering, true);
  CHECK_EQ(pthread_create(&thread, NULL, hammer_retarget, NULL), 0);
  uint64_t got[20] = {0};
  int left = 20;
  for (int64_t until = ob_now_us() + 30000000; left > 0;) {
    CHECK(ob_now_us() < until);
    pump(targets[0], 1);
    pump(targets[1], 1);
    left = 0;
    for (int k = 0; k < 20; k++) {
      got[k] += drain(&calls[k], 0, got[k]);
      if (calls[k].ends == 0) ob_transfer_want(calls[k].x, 1);
      left += calls[k].ends == 0;
    }
  }
  atomic_store(&hammering, false);
  pthread_join(thread, NULL);
  for (int k = 0; k < 20; k++) {
    got[k] += drain(&calls[k], 0, got[k]);
    check_kind(ob_transfer_outcome(calls[k].x), OB_KIND_OK, 200);
    CHECK_EQ(got[k], 300000);
    release(&calls[k]);
  }
  ob_cq_close(targets[1]);
  ob_cq_unref(targets[1]);
  stop();
}

static void a_batch_is_one_wakeup(void) {
  static call calls[200];
  start(serve_object, NULL);
  for (int k = 0; k < 200; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/10");
    submit(&calls[k], cq);
  }
  nap_ms(500); /* nobody takes: the queue stays non-empty */
  CHECK_EQ(stats().cq_writes, 1);
  for (int k = 0; k < 200; k++) {
    await_end(&calls[k], cq);
    release(&calls[k]);
  }
  stop();
}

static void loop_threads_block_signals(void) {
  call one;
  start(serve_object, NULL);
  prepare(&one, client, &srv, "GET", "/o/10");
  submit(&one, cq);
  await_end(&one, cq);
  release(&one);
  int found = 0;
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks != NULL);
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    char path[300], line[256];
    unsigned long long blocked = 0;
    bool ours = false;
    snprintf(path, sizeof path, "/proc/self/task/%.20s/status", task->d_name);
    FILE *status = fopen(path, "r");
    if (status == NULL) continue;
    while (fgets(line, sizeof line, status) != NULL) {
      if (strncmp(line, "Name:\tobstore-", 14) == 0) ours = true;
      if (strncmp(line, "SigBlk:", 7) == 0) blocked = strtoull(line + 7, NULL, 16);
    }
    fclose(status);
    if (!ours) continue;
    found++;
    CHECK((blocked >> (SIGINT - 1)) & 1);
    CHECK((blocked >> (SIGPIPE - 1)) & 1);
    CHECK((blocked >> (SIGTERM - 1)) & 1);
  }
  closedir(tasks);
  CHECK_EQ(found, 1);
  stop();
}

/* ---- gates ---------------------------------------------------------------------------------------- */

static bool serve_after_a_while(request *r) {
  nap_ms(20);
  return serve_object(r);
}

static atomic_int turn; /* the request to be answered next; -1: none yet */

/* Answers /0, /1, /2 ... in this order. */
static bool serve_in_turn(request *r) {
  int number = atoi(r->path + 1);
  if (number > 2) CHECK(number <= atomic_load(&turn) + 2); /* all before it but two were answered */
  while (atomic_load(&turn) != number) nap_ms(1);
  atomic_fetch_add(&turn, 1); /* first: the answer makes room for another request, which asks */
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  return true;
}

static void client_limit_queues_in_order(void) {
  static call calls[30];
  ob_client_options options = {.max_connections = 3};
  atomic_store(&turn, -1);
  start(serve_in_turn, &options);
  for (int k = 0; k < 30; k++) {
    char path[16];
    snprintf(path, sizeof path, "/%d", k);
    prepare(&calls[k], client, &srv, "GET", path);
    submit(&calls[k], cq);
  }
  for (int i = 0; i < 10000 && stats().queued != 27; i++) nap_ms(1);
  CHECK_EQ(stats().queued, 27);
  atomic_store(&turn, 0);
  for (int k = 0; k < 30; k++) check_kind(await_end(&calls[k], cq), OB_KIND_OK, 200);
  CHECK(srv.busiest <= 3);
  CHECK(srv.connections <= 3);
  for (int k = 0; k < 30; k++) release(&calls[k]);
  stop();
}

static void engine_limit_can_be_changed(void) {
  static call calls[60];
  ob_limits limits = {.connections = 2};
  ob_engine_set_limits(&limits);
  start(serve_after_a_while, NULL);
  for (int k = 0; k < 60; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/10");
    submit(&calls[k], cq);
  }
  for (int k = 0; k < 10; k++) await_end(&calls[k], cq);
  CHECK(srv.busiest <= 2);
  limits.connections = 10;
  ob_engine_set_limits(&limits);
  ob_engine_get_limits(&limits);
  CHECK_EQ(limits.connections, 10);
  for (int k = 10; k < 60; k++) await_end(&calls[k], cq);
  CHECK(srv.busiest > 2 && srv.busiest <= 10);
  for (int k = 0; k < 60; k++) release(&calls[k]);
  stop();
}

static bool serve_slow_down(request *r) {
  nap_ms(30);
  if (strcmp(r->path, "/good") == 0) {
    send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  } else {
    send_text(r->fd, "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n");
  }
  return true;
}

static void throttle_halves_and_recovers(void) {
  static call calls[300];
  ob_client_options options = {.endpoint = "http://throttled"};
  start(serve_slow_down, &options);
  CHECK_EQ(ob_engine_endpoint_limit("http://throttled"), 0);
  for (int k = 0; k < 32; k++) {
    prepare(&calls[k], client, &srv, "GET", "/bad");
    submit(&calls[k], cq);
  }
  for (int k = 0; k < 32; k++) await_end(&calls[k], cq);
  CHECK_EQ(stats().throttled, 32);
  int64_t limit = ob_engine_endpoint_limit("http://throttled");
  CHECK(limit >= 2 && limit <= 16); /* one burst, one cut; more where the machine is slow */
  atomic_store(&srv.busiest, 0);
  for (int k = 32; k < 300; k++) {
    prepare(&calls[k], client, &srv, "GET", "/good");
    submit(&calls[k], cq);
  }
  await_end(&calls[40], cq);
  CHECK(srv.busiest < 32); /* of 268 that wait */
  int64_t before = limit;
  for (int k = 32; k < 300; k++) {
    await_end(&calls[k], cq);
    limit = ob_engine_endpoint_limit("http://throttled");
    CHECK(limit == 0 || limit >= before);
    before = limit == 0 ? 0 : limit;
  }
  for (int k = 0; k < 300; k++) release(&calls[k]);
  /* A second endpoint was never touched. */
  CHECK_EQ(ob_engine_endpoint_limit("http://other"), 0);
  stop();
}

static void throttle_never_stops_all(void) {
  static call calls[12];
  ob_client_options options = {.endpoint = "http://throttled"};
  start(serve_slow_down, &options);
  for (int round = 0; round < 12; round++) {
    prepare(&calls[round], client, &srv, "GET", "/bad");
    submit(&calls[round], cq);
    await_end(&calls[round], cq);
    nap_ms(110);
  }
  CHECK_EQ(ob_engine_endpoint_limit("http://throttled"), 1);
  for (int k = 0; k < 12; k++) release(&calls[k]);
  stop();
}

static void few_descriptors_suffice_for_many(void) {
  static call calls[600];
  /* The server needs its own descriptors: a process of its own, made before any thread. */
  int report[2];
  CHECK_EQ(pipe(report), 0);
  pid_t pid = fork();
  if (pid == 0) {
    server_start(&srv, serve_object);
    CHECK_EQ(write(report[1], &srv.port, sizeof srv.port), sizeof srv.port);
    for (;;) pause();
  }
  CHECK_EQ(read(report[0], &srv.port, sizeof srv.port), sizeof srv.port);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = 128;
  CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  client = client_for(NULL);
  cq = ob_cq_new();
  CHECK(cq != NULL);
  for (int k = 0; k < 600; k++) {
    prepare(&calls[k], client, &srv, "GET", k % 3 ? "/o/1000" : "/o/200000");
    submit(&calls[k], cq);
  }
  ob_limits limits;
  ob_engine_get_limits(&limits);
  CHECK_EQ(limits.connections, 48); /* three quarters of what is not spared */
  for (int k = 0; k < 600; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_OK, 200);
    release(&calls[k]);
  }
  CHECK(stats().live_sockets <= 64);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  stop();
}

static void busy_loops_get_company(void) {
  static call calls[150];
  ob_limits limits = {.threads = 2, .connections = 1000};
  ob_engine_set_limits(&limits);
  start(serve_slowly, NULL);
  for (int k = 0; k < 150; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/10");
    submit(&calls[k], cq);
    CHECK_EQ(stats().loops, k < 64 ? 1 : 2);
  }
  for (int k = 0; k < 150; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_OK, 200);
    release(&calls[k]);
  }
  stop();
}

/* ---- names ---------------------------------------------------------------------------------------- */

static atomic_int lookups;

/* Stands before the C library's, also for libcurl: "*.test" takes its time, then is this machine or unknown. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  size_t len = node != NULL ? strlen(node) : 0;
  if (len < 5 || strcmp(node + len - 5, ".test") != 0) return real(node, service, hints, found);
  /* Newer ones ask for each family apart, and go ahead without the answer for AAAA where that takes long: then their
   * cache learns nothing. */
  if (hints->ai_family == AF_INET6) return EAI_NONAME;
  atomic_fetch_add(&lookups, 1);
  nap_ms(100);
  if (strncmp(node, "unknown", 7) == 0) return EAI_NONAME;
  return real("127.0.0.1", service, hints, found);
}

static void prepare_named(call *c, const char *name) {
  char url[200];
  prepare(c, client, &srv, "GET", "/");
  int n = snprintf(url, sizeof url, "http://%s.test:%d/o/10", name, srv.port);
  CHECK_EQ(ob_transfer_set_url(c->x, url, (size_t)n), 0);
}

static void many_transfers_look_a_name_up_once(void) {
  static call calls[40];
  start(serve_object, NULL);
  for (int round = 0; round < 2; round++) { /* the second finds the name, or a connection */
    for (int k = 0; k < 40; k++) {
      prepare_named(&calls[k], "known");
      submit(&calls[k], cq);
    }
    for (int k = 0; k < 40; k++) {
      check_kind(await_end(&calls[k], cq), OB_KIND_OK, 200);
      release(&calls[k]);
    }
    CHECK_EQ(lookups, 1);
  }
  stop();
}

static void unknown_name_is_unknown_to_all(void) {
  static call calls[40];
  start(serve_object, NULL);
  for (int k = 0; k < 40; k++) {
    prepare_named(&calls[k], "unknown");
    submit(&calls[k], cq);
  }
  for (int k = 0; k < 40; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_DNS, 0);
    CHECK(ob_transfer_outcome(calls[k].x)->message[0] != '\0');
    release(&calls[k]);
  }
  CHECK_EQ(lookups, 1);
  stop();
}

static void cancelled_lookup_is_taken_over(void) {
  static call calls[10];
  start(serve_object, NULL);
  for (int k = 0; k < 10; k++) {
    prepare_named(&calls[k], "known");
    submit(&calls[k], cq);
  }
  nap_ms(30);
  ob_transfer_cancel(calls[0].x); /* the one that leads */
  ob_transfer_cancel(calls[5].x); /* one that waits */
  for (int k = 0; k < 10; k++) {
    check_kind(await_end(&calls[k], cq), k % 5 == 0 ? OB_KIND_CANCELLED : OB_KIND_OK, k % 5 == 0 ? 0 : 200);
    release(&calls[k]);
  }
  CHECK(lookups <= 2);
  stop();
}

static void shutdown_does_not_wait_for_a_lookup(void) {
  static call calls[5];
  start(serve_object, NULL);
  for (int k = 0; k < 5; k++) {
    prepare_named(&calls[k], "known");
    submit(&calls[k], cq);
  }
  nap_ms(20);
  CHECK(ob_engine_shutdown(5000));
  for (int k = 0; k < 5; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_ENGINE, 0);
    release(&calls[k]);
  }
  nap_ms(200); /* the abandoned lookup */
  stop();
}

/* ---- starvation ----------------------------------------------------------------------------------- */

/* Every stream is only read once all have their heads, and there are fewer places than streams. */
static void check_crowd(const char *path, int n, int places, bool parks) {
  enum { SIZE = 1000000 };
  call *calls = calloc((size_t)n, sizeof *calls);
  CHECK(calls != NULL);
  ob_client_options options = {.max_connections = places};
  start(serve_object, &options);
  for (int k = 0; k < n; k++) begin_stream(&calls[k], path, 100000);
  for (int k = 0; k < n; k++) await_head(&calls[k], cq);
  CHECK_EQ(stats().parked > 0, parks);
  for (int k = 0; k < n; k++) {
    uint64_t got = 0;
    if (calls[k].ends == 0) ob_transfer_collect(calls[k].x);
    const ob_outcome *outcome = await_end(&calls[k], cq);
    got += drain(&calls[k], 0, 0);
    if (outcome->kind == OB_KIND_PARKED) {
      CHECK(parks);
      CHECK(got > 0 && got < SIZE);
      call rest;
      char range[64];
      snprintf(range, sizeof range, "bytes=%llu-%d", (unsigned long long)got, SIZE - 1);
      prepare(&rest, client, &srv, "GET", path);
      header(&rest, "range", range);
      submit(&rest, cq);
      check_kind(await_end(&rest, cq), OB_KIND_OK, 206);
      ob_block *body = body_of(&rest, SIZE - got);
      CHECK(is_pattern(body->data, body->len, got));
      got += body->len;
      ob_block_unref(body);
      release(&rest);
    } else {
      check_kind(outcome, OB_KIND_OK, 200);
    }
    CHECK_EQ(got, SIZE);
    release(&calls[k]);
  }
  free(calls);
  stop();
}

static void crowd_of_streams_is_parked(void) {
  check_crowd("/o/1000000", 100, 8, true);
}

static void crowd_at_the_engines_gate(void) {
  ob_limits limits = {.connections = 5};
  ob_engine_set_limits(&limits);
  check_crowd("/o/1000000", 40, 0, true);
}

static void crowd_without_etags_runs_on_in_memory(void) {
  check_crowd("/plain/1000000", 12, 2, false);
}

static void longest_paused_is_parked(void) {
  call calls[3];
  ob_client_options options = {.max_connections = 2};
  start(serve_object, &options);
  for (int k = 0; k < 2; k++) {
    begin_stream(&calls[k], "/o/20000000", 100000);
    await_head(&calls[k], cq);
    await_paused(&calls[k], 100000);
  }
  prepare(&calls[2], client, &srv, "GET", "/o/10");
  submit(&calls[2], cq);
  check_kind(await_end(&calls[2], cq), OB_KIND_OK, 200);
  check_kind(await_end(&calls[0], cq), OB_KIND_PARKED, 200);
  CHECK_EQ(calls[1].ends, 0);
  CHECK(drain(&calls[0], 0, 0) >= 100000);
  ob_transfer_cancel(calls[1].x);
  await_end(&calls[1], cq);
  for (int k = 0; k < 3; k++) release(&calls[k]);
  CHECK_EQ(stats().parked, 1);
  stop();
}

static void memory_limit_makes_collects_wait(void) {
  static call calls[20];
  ob_limits limits = {.memory = 3000000};
  ob_engine_set_limits(&limits);
  start(serve_after_a_while, NULL);
  for (int k = 0; k < 20; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/2000000");
    submit(&calls[k], cq);
  }
  for (int k = 0; k < 20; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_OK, 200);
    /* The first wave was admitted while nothing was held yet; the others one by one. */
    release(&calls[k]);
  }
  call stream;
  ob_block *ballast = ob_block_new(4000000);
  begin_stream(&stream, "/o/10000000", 5000000);
  await_head(&stream, cq);
  nap_ms(200);
  CHECK(ob_transfer_buffered(stream.x) < 2000000); /* stopped growing before its window was full */
  ob_block_unref(ballast);
  uint64_t got = 0;
  while (got < 10000000) {
    if (!ob_transfer_want(stream.x, 1) && stream.ends == 0) CHECK(pump(cq, 5000));
    got += drain(&stream, 0, got);
  }
  await_end(&stream, cq);
  release(&stream);
  stop();
}

/* ---- process -------------------------------------------------------------------------------------- */

static void child_after_fork(call *active, call *ended) {
  /* What the parent had going is dead here; nothing blocks, nothing is written. */
  ob_engine_forked_child();
  CHECK(ob_cq_generation(cq) != ob_engine_generation());
  ob_transfer_cancel(active->x);
  CHECK_EQ(ob_transfer_want(active->x, 10), 0);
  CHECK(ob_transfer_take(active->x, 1) == NULL);
  ob_transfer_collect(active->x);
  CHECK_EQ(ob_transfer_buffered(active->x), 0);
  CHECK_EQ(ob_transfer_events(active->x, cq), 0);
  CHECK(ob_cq_take(cq) == NULL);
  CHECK_EQ(ob_cq_wait(cq, 10), 0);
  ob_cq_close(cq);
  release(active);
  ob_block_unref(body_of(ended, 10));
  release(ended);
  CHECK_EQ(stats().live_sockets, 0);
  CHECK_EQ(stats().in_flight, 0);
  CHECK_EQ(ob_engine_endpoint_limit("http://shared"), 0);
  /* The client goes on, with places and connections of its own. */
  ob_cq *own = ob_cq_new();
  CHECK(own != NULL);
  call calls[4];
  for (int k = 0; k < 4; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/1000");
    submit(&calls[k], own);
  }
  for (int k = 0; k < 4; k++) {
    check_kind(await_end(&calls[k], own), OB_KIND_OK, 200);
    release(&calls[k]);
  }
  ob_cq_close(own);
  ob_cq_unref(own);
  CHECK(ob_engine_shutdown(3000));
  _exit(0);
}

static atomic_bool churning;

/* Locks are held and released all the time while the process forks. */
static void *churn(void *argument) {
  ob_cq *own = ob_cq_new();
  (void)argument;
  while (atomic_load(&churning)) {
    call c;
    prepare(&c, client, &srv, "GET", "/o/2000000");
    ob_transfer_sink_stream(c.x, 0);
    submit(&c, own);
    ob_transfer_cancel(c.x);
    await_end(&c, own);
    release(&c);
  }
  ob_cq_close(own);
  ob_cq_unref(own);
  return NULL;
}

static void forked_child_starts_afresh(void) {
  call active, ended;
  pthread_t thread;
  ob_client_options options = {.endpoint = "http://shared", .max_connections = 3};
  start(serve_object, &options);
  prepare(&ended, client, &srv, "GET", "/o/10");
  submit(&ended, cq);
  await_end(&ended, cq);
  begin_stream(&active, "/o/20000000", 100000);
  await_head(&active, cq);
  atomic_store(&churning, true);
  CHECK_EQ(pthread_create(&thread, NULL, churn, NULL), 0);
  for (int i = 0; i < 10; i++) {
    nap_ms(5);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child_after_fork(&active, &ended);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
  }
  atomic_store(&churning, false);
  pthread_join(thread, NULL);
  ob_transfer_collect(active.x); /* the parent noticed nothing */
  check_kind(await_end(&active, cq), OB_KIND_OK, 200);
  ob_block *body = body_of(&active, 20000000);
  CHECK(is_pattern(body->data, body->len, 0));
  ob_block_unref(body);
  release(&active);
  release(&ended);
  stop();
}

static void shutdown_ends_everything(void) {
  ob_client_options options = {.max_connections = 2};
  call calls[6], late;
  start(serve_slowly, &options);
  for (int k = 0; k < 6; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/10");
    submit(&calls[k], cq);
  }
  nap_ms(50);
  CHECK_EQ(ob_engine_shutdown(5000), 1);
  for (int k = 0; k < 6; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_ENGINE, 0);
    release(&calls[k]);
  }
  prepare(&late, client, &srv, "GET", "/o/10");
  CHECK_EQ(ob_engine_submit(late.x, cq), -2);
  release(&late);
  stop();
}

static void many_queued_requests_stay_small(void) {
  enum { N = 10000 };
  call *calls = calloc(N, sizeof *calls);
  CHECK(calls != NULL);
  ob_limits limits = {.connections = 16};
  ob_engine_set_limits(&limits);
  start(serve_object, NULL);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int k = 0; k < N; k++) {
    prepare(&calls[k], client, &srv, "GET", "/o/1000");
    submit(&calls[k], cq);
  }
  for (int k = 0; k < N; k++) {
    check_kind(await_end(&calls[k], cq), OB_KIND_OK, 200);
    release(&calls[k]);
  }
  getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(after.ru_maxrss - before.ru_maxrss < 64 << 10); /* KiB: under 6.5 KiB each, answers included */
#endif
  free(calls);
  stop();
}

/* ---- memory that runs short ------------------------------------------------------------------------ */

#ifdef OB_TORTURE
/* The n-th allocation fails, for every n that a request meets: an error or an END, never a crash, a leak or a wait. */
/* What an owner does who waits for one transfer alone: drives it himself, where he got a loop. */
static void drive_to_end(call *c, ob_loop *loop) {
  while (c->ends == 0) {
    if (loop != NULL && (ob_loop_drive(loop, cq, 100) & OB_DRIVE_LEFT) != 0) loop = NULL;
    pump(cq, loop != NULL ? 0 : 100);
  }
  if (loop != NULL) ob_loop_leave(loop);
}

static void torture(ob_sink_kind sink, bool put, bool fills, bool alone) {
  static char memory[200000];
  ob_iovec part = {"hello", 5};
  for (long n = 0;; n++) {
    char value[1500];
    ob_segment segments[100];
    memset(value, 'v', sizeof value);
    /* Nothing may be left over that would hide an allocation. */
    client = client_for(NULL);
    cq = ob_cq_new();
    call c = {.x = NULL};
    char url[128];
    int url_len = snprintf(url, sizeof url, "http://127.0.0.1:%d/o/200000", srv.port);
    atomic_store(&ob_torture_countdown, n);
    c.x = ob_transfer_new(client, &c);
    bool built = c.x != NULL && ob_transfer_set_url(c.x, url, (size_t)url_len) == 0 &&
                 ob_transfer_add_header(c.x, "a", 1, value, sizeof value) == 0 &&
                 ob_transfer_set_method(c.x, put ? "PUT" : "GET", 3) == 0 &&
                 (!put || ob_transfer_set_source(c.x, &part, 1) == 0);
    if (built && sink == OB_SINK_STREAM) ob_transfer_sink_stream(c.x, 50000);
    for (int i = 0; i < 100; i++)
      segments[i] = (ob_segment){.at = 2000 * (uint64_t)i, .data = memory + 1000 * i, .len = 1000};
    if (built && sink == OB_SINK_INTO) built = ob_transfer_sink_scatter(c.x, segments, 100, 200000) == 0;
    ob_loop *loop = NULL;
    if (built && alone) ob_transfer_set_digest(c.x, OB_DIGEST_AUTO);
    int rc = !built ? -1 : alone ? ob_engine_submit_inline(c.x, cq, &loop) : ob_engine_submit(c.x, cq);
    if (rc == 0) {
      if (alone) drive_to_end(&c, loop);
      if (sink == OB_SINK_STREAM) {
        while (c.heads + c.ends == 0) pump(cq, 100);
        if (fills) {
          ob_transfer_fill(c.x, memory, sizeof memory);
        } else {
          ob_transfer_collect(c.x);
        }
      }
      const ob_outcome *outcome = await_end(&c, cq);
      CHECK(outcome->kind == OB_KIND_OK || outcome->kind == OB_KIND_MEMORY || outcome->kind == OB_KIND_ENGINE);
      ob_block *body = ob_transfer_body(c.x);
      if (outcome->kind == OB_KIND_OK && sink == OB_SINK_INTO) {
        for (int i = 0; i < 100; i++) CHECK(is_pattern(memory + 1000 * i, 1000, 2000 * (uint64_t)i));
      } else if (fills) {
        uint64_t landed = ob_transfer_unfill(c.x);
        CHECK(is_pattern(memory, landed, 0));
        CHECK(landed == sizeof memory || outcome->kind != OB_KIND_OK);
      } else if (outcome->kind == OB_KIND_OK && body != NULL) {
        CHECK_EQ(body->len, 200000);
        CHECK(is_pattern(body->data, body->len, 0));
      }
      ob_block_unref(body);
    } else {
      CHECK_EQ(rc, -1);
    }
    bool reached = atomic_exchange(&ob_torture_countdown, -1) < 0;
    ob_transfer_unref(c.x);
    ob_cq_close(cq);
    ob_cq_unref(cq);
    ob_client_unref(client);
    if (!reached) {
      CHECK_EQ(rc, 0);
      CHECK(n >= 4);
      break;
    }
  }
}

static void short_memory_never_breaks_anything(void) {
  server_start(&srv, serve_object);
  torture(OB_SINK_COLLECT, false, false, true); /* first: an inline loop, once made, stays */
  torture(OB_SINK_COLLECT, false, false, false);
  torture(OB_SINK_STREAM, false, false, false);
  torture(OB_SINK_STREAM, false, true, false);
  torture(OB_SINK_INTO, false, false, false);
  torture(OB_SINK_COLLECT, true, false, false);
  client = client_for(NULL);
  cq = ob_cq_new();
  stop();
}
#endif

#ifdef OB_DEBUG
void ob_transfer_move_locked(ob_transfer *x, ob_xfer_state to);

static void illegal_move_aborts(void) {
  int report[2];
  CHECK_EQ(pipe(report), 0);
  client = client_for(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(report[1], 2);
    signal(SIGABRT, SIG_DFL);
    ob_transfer *x = ob_transfer_new(client, NULL);
    ob_transfer_move_locked(x, OB_XFER_DONE);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(WTERMSIG(status), SIGABRT);
  char text[512] = "";
  CHECK(read(report[0], text, sizeof text - 1) > 0);
  CHECK(strstr(text, "illegal move from new to done") != NULL);
  ob_client_unref(client);
}
#endif

static const test tests[] = {
    {"small_stream_is_one_delivery", small_stream_is_one_delivery},
    {"body_within_the_window_is_one_block", body_within_the_window_is_one_block},
    {"full_window_pauses_and_taking_resumes", full_window_pauses_and_taking_resumes},
    {"wanted_bytes_widen_the_window", wanted_bytes_widen_the_window},
    {"stream_fills_the_callers_memory", stream_fills_the_callers_memory},
    {"ended_stream_fills_from_what_it_holds", ended_stream_fills_from_what_it_holds},
    {"memory_taken_back_is_not_written_to", memory_taken_back_is_not_written_to},
    {"body_is_scattered", body_is_scattered},
    {"stream_becomes_collect", stream_becomes_collect},
    {"parts_are_handed_out_as_they_come", parts_are_handed_out_as_they_come},
    {"paused_stream_does_not_stall", paused_stream_does_not_stall},
    {"cancel_in_every_state", cancel_in_every_state},
    {"events_follow_a_move", events_follow_a_move},
    {"closed_queue_cancels_and_leaves_orphans", closed_queue_cancels_and_leaves_orphans},
    {"moves_race_with_events", moves_race_with_events},
    {"a_batch_is_one_wakeup", a_batch_is_one_wakeup},
    {"loop_threads_block_signals", loop_threads_block_signals},
    {"client_limit_queues_in_order", client_limit_queues_in_order},
    {"engine_limit_can_be_changed", engine_limit_can_be_changed},
    {"throttle_halves_and_recovers", throttle_halves_and_recovers},
    {"throttle_never_stops_all", throttle_never_stops_all},
    {"few_descriptors_suffice_for_many", few_descriptors_suffice_for_many},
    {"busy_loops_get_company", busy_loops_get_company},
    {"many_transfers_look_a_name_up_once", many_transfers_look_a_name_up_once},
    {"unknown_name_is_unknown_to_all", unknown_name_is_unknown_to_all},
    {"cancelled_lookup_is_taken_over", cancelled_lookup_is_taken_over},
    {"shutdown_does_not_wait_for_a_lookup", shutdown_does_not_wait_for_a_lookup},
    {"crowd_of_streams_is_parked", crowd_of_streams_is_parked},
    {"crowd_at_the_engines_gate", crowd_at_the_engines_gate},
    {"crowd_without_etags_runs_on_in_memory", crowd_without_etags_runs_on_in_memory},
    {"longest_paused_is_parked", longest_paused_is_parked},
    {"memory_limit_makes_collects_wait", memory_limit_makes_collects_wait},
    {"forked_child_starts_afresh", forked_child_starts_afresh},
    {"shutdown_ends_everything", shutdown_ends_everything},
    {"many_queued_requests_stay_small", many_queued_requests_stay_small},
#ifdef OB_TORTURE
    {"short_memory_never_breaks_anything", short_memory_never_breaks_anything},
#endif
#ifdef OB_DEBUG
    {"illegal_move_aborts", illegal_move_aborts},
#endif
    {NULL, NULL},
};

int main(int argc, char **argv) {
  return run_test(argc, argv, tests);
}

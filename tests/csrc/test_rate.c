/* sources: ob_rate.c
 *
 * Callers that send as they are let, services that refuse by rules of their own, all in a time that only the test moves: what
 * is served and refused is the same in every run.
 */
#include "ob_rate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLERS 64
#define STEP 50 /* microseconds */
#define WAKES_LATE 150
#define SECOND 1000000

typedef struct service {
  double rate, burst; /* token bucket; 0: everything is served */
  double random;      /* share refused whatever the rate */
  double jitter;      /* share of requests that arrive some milliseconds late */
  int64_t down_from, down_to;
  double tokens;
  int64_t tokens_us;
} service;

typedef struct caller {
  int64_t sent_us, arrives_us, answered_us, asks_us; /* 0: not on the way */
  bool asking, arrived, served;
  int tries;
} caller;

typedef struct result {
  long served, refused;
} result;

static uint64_t random_state;

static double chance(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (double)(random_state >> 11) / 9007199254740992.0;
}

static bool serves(service *s, int64_t now_us) {
  if (now_us >= s->down_from && now_us < s->down_to) return false;
  if (s->random > 0 && chance() < s->random) return false;
  if (s->rate == 0) return true;
  s->tokens += s->rate * (double)(now_us - s->tokens_us) / SECOND;
  s->tokens_us = now_us;
  if (s->tokens > s->burst) s->tokens = s->burst;
  if (s->tokens < 1) return false;
  s->tokens -= 1;
  return true;
}

/* Runs from `from_us` to `to_us`; an answer takes about `rtt_us`. */
static result simulate(ob_rate *rate, service *s, caller *callers, int n, int64_t from_us, int64_t to_us,
                       int64_t rtt_us) {
  result counted = {0, 0};
  int64_t wake_us = from_us;
  int turn = 0;
  for (int64_t now = from_us; now < to_us; now += STEP) {
    bool event = now >= wake_us;
    for (int i = 0; i < n; i++) {
      caller *c = &callers[i];
      if (c->asks_us > 0 && now >= c->asks_us) {
        c->asks_us = 0;
        c->asking = event = true;
      }
      if (c->arrives_us > 0 && now >= c->arrives_us) {
        c->arrives_us = 0;
        c->served = serves(s, now);
        if (c->served) counted.served++;
        if (!c->served) counted.refused++;
        c->answered_us = now + rtt_us / 2 + (int64_t)(chance() * 100);
      }
      if (c->answered_us > 0 && now >= c->answered_us) {
        c->answered_us = 0;
        event = true;
        if (c->served) {
          ob_rate_served(rate, c->sent_us, now);
          c->tries = 0;
          c->asking = true;
        } else {
          (void)ob_rate_refused(rate, c->sent_us, now);
          int64_t most = 100000LL << (c->tries < 7 ? c->tries : 7); /* backoff with full jitter */
          c->tries++;
          c->asks_us = now + 1 + (int64_t)(chance() * (double)most);
        }
      }
    }
    if (!event) continue;
    for (int tried = 0; tried < n; tried++) {
      caller *c = &callers[(turn + tried) % n];
      if (!c->asking) continue;
      if (!ob_rate_has_token(rate, now)) {
        wake_us = ob_rate_due_us(rate) + (int64_t)(chance() * WAKES_LATE);
        turn = (turn + tried) % n;
        break;
      }
      ob_rate_take_token(rate);
      c->asking = false;
      c->sent_us = now;
      c->arrives_us = now + rtt_us / 2 + (int64_t)(chance() * 100);
      if (s->jitter > 0 && chance() < s->jitter) c->arrives_us += (int64_t)(chance() * 6000);
    }
  }
  return counted;
}

static int failures;
static bool verbose;

static void expect(bool right, const char *what, const char *name, double value) {
  if (right) return;
  fprintf(stderr, "%s: %s: %.3f\n", name, what, value);
  failures++;
}

static void start(ob_rate *rate, caller *callers) {
  random_state = 88172645463325252u;
  memset(rate, 0, sizeof *rate);
  memset(callers, 0, CALLERS * sizeof *callers);
  for (int i = 0; i < CALLERS; i++) callers[i].asking = true;
}

/* So much of what the service allows is served at least, and less than that refused, from two seconds on. */
static void limited(double allowed, double burst, int64_t rtt_us, double jitter, double enough, double too_many) {
  ob_rate rate;
  caller callers[CALLERS];
  service s = {.rate = allowed, .burst = burst, .tokens = burst, .jitter = jitter};
  char name[96];
  snprintf(name, sizeof name, "%.0f/s, bursts of %.0f, %.0f ms away, %.0f %% late", allowed, burst,
           (double)rtt_us / 1e3, 100 * jitter);
  start(&rate, callers);
  (void)simulate(&rate, &s, callers, CALLERS, SECOND, 3 * SECOND, rtt_us);
  result r = simulate(&rate, &s, callers, CALLERS, 3 * SECOND, 13 * SECOND, rtt_us);
  double share = (double)r.served / 10 / allowed, refused = (double)r.refused / (double)(r.served + r.refused);
  if (verbose) fprintf(stderr, "%s: %.3f served, %.3f refused\n", name, share, refused);
  expect(share >= enough, "served of what is allowed", name, share);
  expect(refused < too_many, "refused", name, refused);
}

static void limits(void) {
  static const double rates[] = {50, 100, 300, 1000};
  for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
    for (int64_t rtt_us = 1000; rtt_us <= 50000; rtt_us *= 50) {
      if (rates[i] * (double)rtt_us / SECOND > CALLERS / 2) continue; /* they could not send much more */
      limited(rates[i], rates[i] / 10, rtt_us, 0, 0.9, 0.05);
      limited(rates[i], rates[i], rtt_us, 0, 0.9, 0.07); /* a whole second at once: that takes a while to notice */
      limited(rates[i], rates[i] / 10, rtt_us, 0.05, 0.9, 0.06);
      /* No bursts at all: the second of two that are a little too close is refused, and timers are not exact to the microsecond. */
      limited(rates[i], 1, rtt_us, 0, rates[i] < 300 ? 0.9 : 0.8, 0.05);
      limited(rates[i], 1, rtt_us, 0.05, rates[i] < 300 ? 0.7 : 0.3, 0.1);
    }
  }
  limited(20, 2, 1000, 0, 0.9, 0.07); /* a second is a short time to learn a rate in */
  limited(20, 1, 1000, 0, 0.85, 0.07);
}

/* What is refused whatever the rate is no reason to send less. */
static void random_refusals(double share) {
  ob_rate rate;
  caller callers[CALLERS];
  service s = {.random = share};
  char name[64];
  snprintf(name, sizeof name, "%.0f %% refused at random", 100 * share);
  start(&rate, callers);
  (void)simulate(&rate, &s, callers, CALLERS, SECOND, 5 * SECOND, 10000);
  result limited = simulate(&rate, &s, callers, CALLERS, 5 * SECOND, 10 * SECOND, 10000);
  start(&rate, callers);
  long unlimited = 0;
  for (int64_t at = SECOND; at < 6 * SECOND; at += 50000) { /* forgotten again and again before it can begin */
    memset(&rate, 0, sizeof rate);
    unlimited += simulate(&rate, &s, callers, CALLERS, at, at + 50000, 10000).served;
  }
  double of = (double)limited.served / (double)unlimited;
  if (verbose) fprintf(stderr, "%s: %ld served, %.3f\n", name, limited.served, of);
  expect(of > 0.6, "served of what is served without a limit", name, of);
}

/* After an outage the rate is what it was before, not what was left of it. */
static void outage(void) {
  ob_rate rate;
  caller callers[CALLERS];
  service s = {.rate = 100, .burst = 10, .down_from = 6 * SECOND, .down_to = 9 * SECOND};
  start(&rate, callers);
  (void)simulate(&rate, &s, callers, CALLERS, SECOND, 6 * SECOND, 1000);
  result down = simulate(&rate, &s, callers, CALLERS, 6 * SECOND, 9 * SECOND, 1000);
  (void)simulate(&rate, &s, callers, CALLERS, 9 * SECOND, 11 * SECOND, 1000);
  result r = simulate(&rate, &s, callers, CALLERS, 11 * SECOND, 14 * SECOND, 1000);
  if (verbose) fprintf(stderr, "outage: %ld refused, then %ld served\n", down.refused, r.served);
  expect(down.refused < 4 * 100, "requests while nothing is served", "outage", (double)down.refused);
  expect(r.served > 0.85 * 3 * 100, "served afterwards", "outage", (double)r.served);
}

/* A limit that becomes another one, or none. */
static void changes(void) {
  ob_rate rate;
  caller callers[CALLERS];
  service s = {.rate = 100, .burst = 10};
  start(&rate, callers);
  (void)simulate(&rate, &s, callers, CALLERS, SECOND, 6 * SECOND, 1000);
  s.rate = 300;
  (void)simulate(&rate, &s, callers, CALLERS, 6 * SECOND, 14 * SECOND, 1000);
  result more = simulate(&rate, &s, callers, CALLERS, 14 * SECOND, 19 * SECOND, 1000);
  if (verbose) fprintf(stderr, "more: %ld of 1500\n", more.served);
  expect(more.served > 0.9 * 1500, "served of 300/s that were 100/s", "changes", (double)more.served);
  s.rate = 50;
  (void)simulate(&rate, &s, callers, CALLERS, 19 * SECOND, 22 * SECOND, 1000);
  result less = simulate(&rate, &s, callers, CALLERS, 22 * SECOND, 32 * SECOND, 1000);
  if (verbose) fprintf(stderr, "less: %ld of 500, %ld refused\n", less.served, less.refused);
  expect(less.served > 0.9 * 500, "served of 50/s that were 300/s", "changes", (double)less.served);
  expect(less.refused < 0.06 * 500, "refused of 50/s that were 300/s", "changes", (double)less.refused);
  s.rate = 0;
  (void)simulate(&rate, &s, callers, CALLERS, 32 * SECOND, 47 * SECOND, 1000);
  expect(rate.rate == 0, "the rate when nothing is refused any more", "changes", rate.rate);
}

/* Requests sent before the rate was changed say nothing about the new one. */
static void late_answers(void) {
  ob_rate rate = {0};
  int64_t now = SECOND;
  for (int i = 0; i < 20; i++) ob_rate_served(&rate, now, now + i * 10000);
  now += 200000;
  for (int i = 0; i < 4; i++) (void)ob_rate_refused(&rate, now, now);
  double learnt = rate.rate;
  expect(learnt > 50 && learnt < 400, "the first rate", "late answers", learnt);
  for (int i = 0; i < 1000; i++) (void)ob_rate_refused(&rate, now - 1, now + i);
  expect(rate.rate == learnt, "the rate after late refusals", "late answers", rate.rate);
}

/* What the program asks for holds, whatever the service would let through, and what is learnt below it. */
static void ceiling(void) {
  ob_rate rate;
  caller callers[CALLERS];
  service s = {0};
  start(&rate, callers);
  ob_rate_begin(&rate, 40, SECOND);
  result r = simulate(&rate, &s, callers, CALLERS, SECOND, 11 * SECOND, 1000);
  expect(r.served > 380 && r.served <= 402, "served of 400 that were asked for", "ceiling", (double)r.served);
  s = (service){.rate = 20, .burst = 5, .tokens_us = 11 * SECOND};
  (void)simulate(&rate, &s, callers, CALLERS, 11 * SECOND, 15 * SECOND, 1000);
  r = simulate(&rate, &s, callers, CALLERS, 15 * SECOND, 25 * SECOND, 1000);
  expect(r.served > 180 && r.refused < 20, "refused of 20/s below a ceiling", "ceiling", (double)r.refused);
  s.rate = 0;
  (void)simulate(&rate, &s, callers, CALLERS, 25 * SECOND, 40 * SECOND, 1000);
  r = simulate(&rate, &s, callers, CALLERS, 40 * SECOND, 50 * SECOND, 1000);
  expect(r.served > 380 && r.served <= 402, "served of 400 when nothing is refused any more", "ceiling",
         (double)r.served);
}

int main(void) {
  verbose = getenv("RATE_VERBOSE") != NULL;
  limits();
  for (double share = 0.02; share < 0.5; share *= 2) random_refusals(share);
  outage();
  changes();
  late_answers();
  ceiling();
  return failures > 0 ? 1 : 0;
}

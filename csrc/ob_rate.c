/* ob_rate.c - the rate of an endpoint.
 *
 * Not limited until something is refused while something else is served. Then the rate is searched for: after refusals, what was
 * served; after none, a quarter more or half the way to what was refused. Once the two are close, the rate is held, and a
 * little more tried now and then. Refusals that do not become fewer with the rate have other reasons, and end the limit.
 */
#include "ob_rate.h"

#define SECOND_US 1000000
#define RATE_MIN 10.0     /* at fewer a second nothing is learnt in a reasonable time: what backs off does for those */
#define STEP_US 100000    /* between two steps of the search */
#define STEP_ANSWERS 5    /* and so many answers */
#define BURST_US 5000     /* what is missed by waking up late is made up for, as far as it is of so long */
#define FORGET_US 5000000 /* without a refusal, or without anyone who waits */
#define FIRST_SPAN_US 3000000 /* a rate is learnt from what was served in so long */
#define SPARE_SEARCHING 3     /* refusals that may be chance, */
#define SPARE_SETTLED 2       /* the same where the rate is well known; */
#define ONE_IN 33             /* beyond these more than that of all answers make a lesson */
#define FIRST_ANSWERS 30      /* what later lessons are compared with is not of fewer */
#define NONE_SERVED 10        /* so many, where nothing is served */
#define BELOW 0.97            /* of what was served: a burst that the service saves up fills again */
#define SETTLING_SHARE 0.25
#define FEW 20          /* of fewer answers the share that was refused is not exact: */
#define FALL_OF_FEW 0.6 /* not further down than that at once */
#define BEST_WORSE 0.8  /* what was good before and is not any more */
#define BEST_FALL 0.6
#define CLOSE 1.04            /* a rate refused and a rate served so close end the search */
#define MORE 1.03             /* what is tried then */
#define HOLD_MIN_US SECOND_US /* for how long what is settled is held, at least and at most */
#define HOLD_MAX_US 4000000
#define HOLD_ANSWERS 60 /* and for so many answers */
#define LOW 0.35        /* of the rate at which something was refused: much less should be refused than there, */
#define LOW_ENOUGH 0.25 /* and not further down before that is known, */
#define LOW_SHARE 0.3   /* at least not so much of that share, */
#define HIGH_MOST 0.85  /* where more is refused than that, too little else is to be seen */
#define LOW_SERVED 1.5  /* and not so much more served than there, */
#define LOW_REFUSED 20  /* as so many refusals tell: else the rate is not the reason */
#define CLEAN 5         /* where so many refusals were to be expected and none came, the rate is the reason */
#define NOISE_MORE 0.15 /* refused beyond what is refused at any rate: that has a reason again */
#define NOISE_US 30000000
#define NOISE_ANSWERS 20

static void begin_count(ob_rate *r, int64_t now_us) {
  if (r->rate > 0 && r->rate < r->high * LOW) {
    r->low_answers += r->served + r->refused;
    r->low_refused += r->refused;
  }
  r->since_us = now_us;
  r->served = r->refused = r->before = r->before_us = 0;
}

static void forget_shares(ob_rate *r) {
  r->high = 0;
  r->high_answers = r->high_refused = r->low_answers = r->low_refused = 0;
}

static void set_rate(ob_rate *r, double rate, int64_t now_us) {
  begin_count(r, now_us);
  r->rate = rate > RATE_MIN ? rate : RATE_MIN;
  if (r->tokens > 1) r->tokens = 1;
}

static void end_limit(ob_rate *r, int64_t now_us) {
  r->rate = r->good = r->bad = 0;
  r->settled = r->out_of_order = r->gave_way = false;
  r->lessons = 0;
  r->best = 0;
  begin_count(r, now_us);
  forget_shares(r);
}

/* ---- tokens ----------------------------------------------------------------------------------------- */

/* They come evenly. A service that knows no bursts refuses the second of two that come close together, so few are saved up as long
 * as a timer is exact enough for the distance of two; from about a thousand a second on, it is not. */
static void give_tokens(ob_rate *r, int64_t now_us) {
  double rate = ob_rate_allowed(r);
  double even = rate * rate * rate / 1e9, most = rate * BURST_US / 1e6;
  most = 1 + (even < most ? even : most);
  r->tokens += rate * (double)(now_us - r->tokens_us) / 1e6;
  r->tokens_us = now_us;
  if (r->tokens > most) r->tokens = most;
}

void ob_rate_begin(ob_rate *r, double ceiling, int64_t now_us) {
  *r = (ob_rate){.ceiling = ceiling > 0 ? ceiling : 0, .tokens = 1, .tokens_us = now_us};
}

bool ob_rate_has_token(ob_rate *r, int64_t now_us) {
  if (!ob_rate_limits(r)) return true;
  give_tokens(r, now_us);
  if (r->tokens >= 1) return true;
  r->waited_us = now_us;
  return false;
}

void ob_rate_take_token(ob_rate *r) {
  if (ob_rate_limits(r)) r->tokens -= 1;
}

int64_t ob_rate_due_us(const ob_rate *r) {
  return r->tokens_us + (int64_t)((1 - r->tokens) / ob_rate_allowed(r) * 1e6) + 1;
}

/* ---- refusals --------------------------------------------------------------------------------------- */

static double share_refused(const ob_rate *r) {
  return (double)r->refused / (double)(r->served + r->refused);
}

/* True: what is refused is refused whatever the rate. */
static bool is_noise(const ob_rate *r) {
  return r->noise > 0 && share_refused(r) < r->noise + NOISE_MORE;
}

static void begin_limit(ob_rate *r, int64_t now_us, int64_t span_us) {
  r->known = (double)(r->served + r->before) / (double)span_us * SECOND_US;
  r->lessons = 1;
  r->tokens = 0;
  r->tokens_us = now_us;
  /* Of few answers, perhaps of a burst that was let through: too high a rate is corrected soonest. */
  set_rate(r, 2 * r->known, now_us);
}

/* Well below the rate of the first lesson as much is refused as there, and no larger share is served: a limit would serve as many a
 * second as before, of fewer. */
static bool has_other_reasons(const ob_rate *r) {
  if (r->low_refused < LOW_REFUSED || r->high_answers < FIRST_ANSWERS) return false;
  double high = (double)r->high_refused / (double)r->high_answers;
  double low = (double)r->low_refused / (double)r->low_answers;
  return high < HIGH_MOST && low > LOW_SHARE * high && 1 - low < LOW_SERVED * (1 - high);
}

static bool is_lesson(const ob_rate *r, int64_t now_us) {
  if (r->served == 0 && r->refused < NONE_SERVED && now_us - r->since_us < SECOND_US) return false;
  if (r->lessons == 1 && r->served + r->refused < FIRST_ANSWERS && now_us - r->since_us < SECOND_US) return false;
  int64_t spare = r->settled ? SPARE_SETTLED : SPARE_SEARCHING;
  return (r->refused - spare) * ONE_IN > r->served + r->refused;
}

static void learn(ob_rate *r, int64_t now_us) {
  double share = share_refused(r), rate = ob_rate_allowed(r);
  int64_t answers = r->served + r->refused;
  double sent = (double)answers / (double)(now_us - r->since_us + 1) * SECOND_US;
  if (r->waited_us < r->since_us && sent < rate) rate = sent; /* there was less to send than allowed */
  r->lessons++;
  if (r->served == 0 && now_us - r->since_us > SECOND_US) { /* it serves nobody: out of order, not out of breath */
    r->out_of_order = true;
    r->refused = 0; /* which tells nothing about rates */
    set_rate(r, rate / 2 > r->known / 8 ? rate / 2 : r->known / 8, now_us);
    return;
  }
  if (r->high == 0) r->high = 2 * sent < rate ? 2 * sent : rate; /* some of it is still on the way */
  if (rate >= r->high * LOW) {
    r->high_answers += answers;
    r->high_refused += r->refused;
  }
  begin_count(r, now_us);
  if (has_other_reasons(r) || r->rate <= RATE_MIN) {
    r->noise = share;
    r->noise_us = now_us;
    end_limit(r, now_us);
    return;
  }
  r->bad = rate;
  r->tried = 0;
  if (rate > r->best * BEST_WORSE) r->best *= BEST_FALL;
  if (r->settled && !r->gave_way) { /* a little too much was tried, or a little has changed */
    r->gave_way = true;
    r->hold_us = 2 * r->hold_us < HOLD_MAX_US ? 2 * r->hold_us : HOLD_MAX_US;
    set_rate(r, r->good * BELOW, now_us);
    r->good = r->rate;
    return;
  }
  /* Where not much was refused, the rate is known well enough. */
  r->settled = share < SETTLING_SHARE;
  r->gave_way = false;
  r->hold_us = HOLD_MIN_US;
  double served = answers < FEW && share > 1 - FALL_OF_FEW ? FALL_OF_FEW : 1 - share;
  r->known = rate * served;
  double next = r->known * BELOW;
  bool undecided = r->low_refused < LOW_REFUSED && next < r->high * LOW_ENOUGH;
  set_rate(r, undecided ? r->high * LOW_ENOUGH : next, now_us);
  r->good = r->settled ? r->rate : 0;
}

bool ob_rate_refused(ob_rate *r, int64_t sent_us, int64_t now_us) {
  r->refused_us = now_us;
  r->in_a_row++;
  if (r->rate == 0) {
    if (r->since_us == 0) begin_count(r, now_us);
    r->refused++;
    if (r->noise > 0 && now_us - r->noise_us > NOISE_US) r->noise = 0;
    if (r->noise > 0 && (r->served + r->refused < NOISE_ANSWERS || is_noise(r))) return r->in_a_row < NONE_SERVED;
    int64_t span_us = now_us - r->since_us + r->before_us;
    bool tells = r->served + r->before > 0 && span_us >= STEP_US && span_us <= FIRST_SPAN_US;
    if (tells && r->refused > SPARE_SEARCHING) begin_limit(r, now_us, span_us);
    return r->in_a_row < NONE_SERVED && r->served + r->before > 0;
  }
  if (sent_us < r->since_us) return r->lessons > 1; /* at another rate */
  r->refused++;
  if (is_lesson(r, now_us)) learn(r, now_us);
  return r->lessons > 1;
}

/* ---- successes -------------------------------------------------------------------------------------- */

/* The rate did well for a while: more, or enough. */
static void advance(ob_rate *r, int64_t now_us) {
  double rate = r->rate, half_way = (rate + r->bad) / 2;
  r->good = rate;
  if (r->refused == 0 && r->served * r->high_refused > CLEAN * r->high_answers) forget_shares(r);
  if (r->settled) {
    r->gave_way = false;
    if (++r->tried > 3) { /* what held it back is gone */
      r->settled = false;
      r->bad = 0;
    }
    if (rate > r->best) r->best = rate;
    set_rate(r, rate * MORE, now_us);
  } else if (rate < r->best * BEST_WORSE) {
    r->bad = 0;
    set_rate(r, r->best * BELOW, now_us);
  } else if (r->bad == 0) {
    set_rate(r, rate * (r->lessons == 1 ? 2 : 1.25), now_us);
  } else if (r->bad < rate * CLOSE) {
    r->settled = true;
    r->gave_way = false;
    r->hold_us = HOLD_MIN_US;
    begin_count(r, now_us);
  } else {
    set_rate(r, half_way < rate * 1.25 ? half_way : rate * 1.25, now_us);
  }
}

void ob_rate_served(ob_rate *r, int64_t sent_us, int64_t now_us) {
  r->in_a_row = 0;
  if (r->rate == 0) {
    /* A count holds a second, and the one before it is kept, unless that was long ago. */
    if (r->since_us == 0) begin_count(r, now_us);
    int64_t span_us = now_us - r->since_us;
    r->served++;
    if (span_us > SECOND_US) {
      int64_t served = r->served;
      begin_count(r, now_us);
      if (span_us < 2 * SECOND_US) {
        r->before = served;
        r->before_us = span_us;
      }
    }
    return;
  }
  if (now_us - r->waited_us > FORGET_US && now_us - r->refused_us > FORGET_US) {
    end_limit(r, now_us);
    return;
  }
  if (r->out_of_order) {
    r->out_of_order = r->settled = false;
    r->good = r->bad = 0;
    set_rate(r, r->known * BELOW, now_us);
    return;
  }
  if (sent_us < r->since_us) return;
  r->served++;
  int64_t span_us = now_us - r->since_us;
  bool paced = now_us - r->waited_us < STEP_US; /* else there is too little to do to tell anything */
  if (!paced || r->rate > ob_rate_allowed(r)) return;
  if (r->refused * ONE_IN > r->served && span_us < SECOND_US) return;
  if (r->settled) {
    /* More was tried and goes well: the next step need not wait for as long. */
    int64_t hold_us = r->tried > 0 ? HOLD_MIN_US / 2 : r->hold_us;
    int answers = r->tried > 0 ? HOLD_ANSWERS / 2 : HOLD_ANSWERS;
    if (span_us > hold_us && r->served >= answers) advance(r, now_us);
  } else if (span_us > STEP_US && r->served >= STEP_ANSWERS) {
    if (r->rate > 8 * r->known && now_us - r->refused_us > FORGET_US) {
      end_limit(r, now_us);
    } else {
      advance(r, now_us);
    }
  }
}

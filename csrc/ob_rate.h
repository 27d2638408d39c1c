/* ob_rate.h - how many requests a second an endpoint that refuses some (429, 503) is sent: learnt from its answers.
 *
 * Plain arithmetic over times that the caller passes in, so that it can be tested without a clock. No lock of its own.
 */
#ifndef OB_RATE_H
#define OB_RATE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ob_rate {
  double ceiling; /* what the clients themselves ask for, requests a second; 0: none */
  double rate;    /* learnt, requests a second; 0: not limited */
  double tokens;
  int64_t tokens_us; /* up to when tokens were given */
  int64_t waited_us; /* when somebody last had to wait for a token */

  int64_t since_us;        /* what is counted was sent since then, at this very rate */
  int64_t served, refused; /* answers */
  int64_t before_us;       /* not limited: the count before this one, so that there are always some */
  int64_t before;
  int64_t refused_us; /* last refusal */
  int in_a_row;       /* refusals without a success in between */
  int lessons;        /* that the rate rests on */

  double good;       /* a rate at which next to nothing was refused; 0: none found yet */
  double bad;        /* one at which some were; 0: none */
  double best;       /* the highest good one of late: refusals by chance are made up for soon */
  double known;      /* what was served when that was last measured */
  bool settled;      /* between good and bad there is nothing left to find */
  bool out_of_order; /* nothing was served since the last lesson */
  int64_t hold_us;   /* settled: until more is tried */
  int tried;         /* settled: how often more was tried in a row without a refusal */

  bool gave_way; /* settled: a little less was tried after a refusal */
  /* Whether refusals have to do with the rate: what was answered in lessons at about the rate of the first, and at all well below it. */
  double high;
  int64_t high_answers, high_refused, low_answers, low_refused;
  double noise;     /* the share that is refused whatever the rate; 0: none known */
  int64_t noise_us; /* when that was found out */
} ob_rate;

static inline bool ob_rate_limits(const ob_rate *rate) {
  return rate->rate > 0 || rate->ceiling > 0;
}

/* What holds: the lower one of both. 0: neither. */
static inline double ob_rate_allowed(const ob_rate *rate) {
  return rate->ceiling > 0 && (rate->rate == 0 || rate->rate > rate->ceiling) ? rate->ceiling : rate->rate;
}

/* `ceiling`: 0 or less for none. */
void ob_rate_begin(ob_rate *rate, double ceiling, int64_t now_us);
/* Whether a request may be sent now. If not, somebody waits from now on. */
bool ob_rate_has_token(ob_rate *rate, int64_t now_us);
void ob_rate_take_token(ob_rate *rate);
/* When the next token is due. */
int64_t ob_rate_due_us(const ob_rate *rate);

/* An answer to a request that was sent at `sent_us`. */
void ob_rate_served(ob_rate *rate, int64_t sent_us, int64_t now_us);
/* False: it is not a matter of the rate alone, or that is little more than a guess yet: fewer at a time are needed as well. */
bool ob_rate_refused(ob_rate *rate, int64_t sent_us, int64_t now_us);

#endif

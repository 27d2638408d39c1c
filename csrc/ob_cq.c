/* ob_cq.c - completion queues.
 *
 * A queue lists its entries (transfers with events that no one has taken) and its members (transfers in flight that
 * report here). The lists belong to the queue's lock; which queue a transfer reports to belongs to the transfer's lock,
 * which is always taken first. So an event and a move to another queue cannot miss each other.
 */
#include <poll.h>

#include "ob_xfer.h"

struct ob_cq {
  ob_refs refs;
  uint32_t generation;
  bool silent;  /* has no descriptor */
  bool drained; /* consumer: the descriptor was looked at, and is not readable */
  ob_wakeup wakeup;

  ob_mutex lock;
  bool closed;
  ob_transfer *first, *last; /* each entry holds a reference on its transfer */
  ob_transfer *members;      /* alive: the engine holds a reference until END is published */
};

ob_counter ob_cq_written;

static ob_cq *create(bool silent) {
  ob_cq *cq = ob_calloc(sizeof *cq);
  if (cq == NULL) return NULL;
  cq->silent = silent;
  if (!silent && ob_wakeup_open(&cq->wakeup) != 0) {
    ob_free(cq);
    return NULL;
  }
  atomic_init(&cq->refs, 1);
  cq->generation = ob_engine_generation();
  ob_mutex_init(&cq->lock);
  ob_count(&ob_live_queues, 1);
  return cq;
}

ob_cq *ob_cq_new(void) {
  return create(false);
}

ob_cq *ob_cq_new_silent(void) {
  return create(true);
}

ob_cq *ob_cq_ref(ob_cq *cq) {
  ob_refs_take(&cq->refs);
  return cq;
}

static bool stale(const ob_cq *cq) {
  return cq->generation != ob_engine_generation();
}

void ob_cq_unref(ob_cq *cq) {
  if (cq == NULL || !ob_refs_drop(&cq->refs)) return;
  OB_ASSERT(stale(cq) || (cq->first == NULL && cq->members == NULL));
  /* An inherited descriptor is the child's to close or to leave open: its number may be someone else's by now. */
  if (!cq->silent && !stale(cq)) ob_wakeup_close(&cq->wakeup);
  ob_free(cq);
  ob_uncount(&ob_live_queues, 1);
}

int ob_cq_fd(const ob_cq *cq) {
  return cq->silent ? -1 : cq->wakeup.read_fd;
}

uint32_t ob_cq_generation(const ob_cq *cq) {
  return cq->generation;
}

/* ---- lists ---------------------------------------------------------------------------------------- */

/* True: the queue was empty. */
static bool append_entry_locked(ob_cq *cq, ob_transfer *x) {
  bool was_empty = cq->first == NULL;
  x->place = OB_PLACE_LISTED;
  x->cq_next = NULL;
  x->cq_prev = cq->last;
  if (was_empty) {
    cq->first = x;
  } else {
    cq->last->cq_next = x;
  }
  cq->last = x;
  return was_empty;
}

static void remove_entry_locked(ob_cq *cq, ob_transfer *x) {
  *(x->cq_prev != NULL ? &x->cq_prev->cq_next : &cq->first) = x->cq_next;
  *(x->cq_next != NULL ? &x->cq_next->cq_prev : &cq->last) = x->cq_prev;
  x->cq_prev = x->cq_next = NULL;
}

static void add_member_locked(ob_cq *cq, ob_transfer *x) {
  x->is_member = true;
  x->member_prev = NULL;
  x->member_next = cq->members;
  if (cq->members != NULL) cq->members->member_prev = x;
  cq->members = x;
}

static void remove_member_locked(ob_cq *cq, ob_transfer *x) {
  *(x->member_prev != NULL ? &x->member_prev->member_next : &cq->members) = x->member_next;
  if (x->member_next != NULL) x->member_next->member_prev = x->member_prev;
  x->member_prev = x->member_next = NULL;
  x->is_member = false;
}

/* ---- wakeups -------------------------------------------------------------------------------------- */

static void signal_now(ob_cq *cq) {
  if (cq->silent) return;
  ob_count(&ob_cq_written, 1);
  ob_wakeup_signal(&cq->wakeup);
}

void ob_wakes_send(ob_wakes *wakes) {
  for (size_t i = 0; i < wakes->n; i++) {
    if (wakes->queues[i] != wakes->own) signal_now(wakes->queues[i]);
    ob_cq_unref(wakes->queues[i]);
  }
  wakes->n = 0;
}

/* Takes over one reference on cq. */
static void add_wake(ob_wakes *wakes, ob_cq *cq) {
  for (size_t i = 0; i < wakes->n; i++) {
    if (wakes->queues[i] == cq) {
      ob_cq_unref(cq);
      return;
    }
  }
  if (wakes->n == OB_WAKES) ob_wakes_send(wakes);
  wakes->queues[wakes->n++] = cq;
}

/* ---- producers ------------------------------------------------------------------------------------ */

void ob_cq_publish(ob_transfer *x, int events, ob_wakes *wakes) {
  bool was_empty = false;
  ob_lock(&x->lock);
  ob_cq *cq = x->cq;
  ob_lock(&cq->lock);
  x->events |= events;
  if ((events & OB_EVENT_END) != 0 && x->is_member) remove_member_locked(cq, x);
  if (x->place == OB_PLACE_NONE) {
    ob_transfer_ref(x);
    was_empty = append_entry_locked(cq, x);
    if (was_empty) ob_cq_ref(cq);
  }
  ob_unlock(&cq->lock);
  ob_unlock(&x->lock);
  if (was_empty) add_wake(wakes, cq);
}

/* Makes x report to `cq`, or to the orphans if that one is closed. x's lock held; returns a queue to wake, with a
 * reference, or NULL. */
static ob_cq *attach_locked(ob_transfer *x, ob_cq *cq, bool member, bool listed) {
  bool was_empty = false;
  ob_lock(&cq->lock);
  if (cq->closed) {
    ob_unlock(&cq->lock);
    cq = ob_engine_orphans();
    ob_lock(&cq->lock);
  }
  x->cq = ob_cq_ref(cq);
  if (member) add_member_locked(cq, x);
  if (listed) was_empty = append_entry_locked(cq, x);
  ob_unlock(&cq->lock);
  return was_empty ? ob_cq_ref(cq) : NULL;
}

void ob_cq_adopt(ob_transfer *x, ob_cq *cq) {
  ob_lock(&x->lock);
  OB_ASSERT(x->cq == NULL);
  attach_locked(x, cq, true, false);
  ob_unlock(&x->lock);
}

void ob_transfer_retarget(ob_transfer *x, ob_cq *cq) {
  if (ob_transfer_stale(x) || stale(cq)) return;
  ob_lock(&x->lock);
  ob_cq *old = x->cq;
  if (old == NULL || old == cq) {
    ob_unlock(&x->lock);
    return;
  }
  ob_lock(&old->lock);
  bool member = x->is_member;
  bool listed = x->place == OB_PLACE_LISTED;
  if (member) remove_member_locked(old, x);
  if (listed) remove_entry_locked(old, x);
  ob_unlock(&old->lock);
  ob_cq *wake = attach_locked(x, cq, member, listed);
  ob_unlock(&x->lock);
  ob_cq_unref(old);
  if (wake != NULL) {
    signal_now(wake);
    ob_cq_unref(wake);
  }
}

void ob_cq_close(ob_cq *cq) {
  ob_cq *orphans = ob_engine_orphans();
  if (stale(cq) || cq == orphans) return;
  ob_lock(&cq->lock);
  cq->closed = true;
  while (cq->members != NULL || cq->first != NULL) {
    bool in_flight = cq->members != NULL;
    ob_transfer *x = ob_transfer_ref(in_flight ? cq->members : cq->first);
    ob_unlock(&cq->lock);
    ob_transfer_retarget(x, orphans);
    if (in_flight) ob_transfer_cancel(x);
    ob_transfer_unref(x);
    ob_lock(&cq->lock);
  }
  ob_unlock(&cq->lock);
}

/* ---- consumer ------------------------------------------------------------------------------------- */

bool ob_cq_ready(ob_cq *cq) {
  ob_lock(&cq->lock);
  bool ready = cq->first != NULL;
  ob_unlock(&cq->lock);
  return ready;
}

void ob_cq_seen(ob_cq *cq, bool readable) {
  cq->drained = !readable;
}

int ob_cq_wait(ob_cq *cq, int timeout_ms) {
  if (stale(cq) || cq->silent) return 0;
  if (ob_cq_ready(cq)) return 1;
  struct pollfd wait = {.fd = cq->wakeup.read_fd, .events = POLLIN};
  int rc = poll(&wait, 1, timeout_ms);
  return rc < 0 ? -1 : rc > 0;
}

ob_transfer *ob_cq_take(ob_cq *cq) {
  if (stale(cq)) return NULL;
  if (!cq->silent) { /* a silent queue may have many consumers */
    /* Drained before the list is detached: an entry that comes later writes again. */
    if (!cq->drained) ob_wakeup_drain(&cq->wakeup);
    cq->drained = false;
  }
  ob_lock(&cq->lock);
  ob_transfer *first = cq->first;
  for (ob_transfer *x = first; x != NULL; x = x->taken_next) {
    x->place = OB_PLACE_TAKEN;
    x->taken_next = x->cq_next;
    x->cq_prev = x->cq_next = NULL;
  }
  cq->first = cq->last = NULL;
  ob_unlock(&cq->lock);
  return first;
}

ob_transfer *ob_transfer_next_taken(ob_transfer *x) {
  return x->taken_next;
}

int ob_transfer_events(ob_transfer *x, const ob_cq *from) {
  if (ob_transfer_stale(x)) return 0;
  ob_cq *wake = NULL;
  ob_lock(&x->lock);
  ob_cq *cq = x->cq;
  int events = x->events;
  ob_lock(&cq->lock);
  if (x->place == OB_PLACE_TAKEN) {
    if (cq == from || cq->closed || events == 0) {
      x->place = OB_PLACE_NONE;
      x->events = 0;
    } else { /* moved since it was taken: who waits there now must not miss what has happened */
      events = 0;
      ob_transfer_ref(x);
      if (append_entry_locked(cq, x)) wake = ob_cq_ref(cq);
    }
  } else { /* asked for before */
    events = 0;
  }
  ob_unlock(&cq->lock);
  ob_unlock(&x->lock);
  if (wake != NULL) {
    signal_now(wake);
    ob_cq_unref(wake);
  }
  return events;
}

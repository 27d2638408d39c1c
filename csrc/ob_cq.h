/* ob_cq.h - completion queue: how transfers tell their owner that something happened.
 *
 * Loop threads publish, one consumer takes. The wakeup descriptor becomes readable when the queue goes
 * from empty to non-empty, and is written only then.
 */
#ifndef OB_CQ_H
#define OB_CQ_H

#include <stdint.h>

struct ob_transfer;
typedef struct ob_cq ob_cq;

/* Any thread. A queue with one reference, owned by the caller; NULL when memory or descriptors are short. */
ob_cq *ob_cq_new(void);
/* Any thread. */
ob_cq *ob_cq_ref(ob_cq *cq);
/* Any thread. The last reference closes the descriptor. Transfers hold references of their own. */
void ob_cq_unref(ob_cq *cq);
/* Any thread. The descriptor to poll for reading. */
int ob_cq_fd(const ob_cq *cq);
/* Consumer thread, without the GIL. Blocks until an entry is there (1), the time is over (0) or a signal
 * came (-1, EINTR). timeout_ms < 0: no limit. Spurious 1 is allowed. */
int ob_cq_wait(ob_cq *cq, int timeout_ms);
/* Consumer. Detaches all entries and drains the descriptor. Walk with ob_transfer_next_taken; each
 * entry carries one reference that now belongs to the caller. */
struct ob_transfer *ob_cq_take(ob_cq *cq);
/* Any thread. No one will take from here again: cancels every transfer that still points here, and routes their
 * END, and what is queued now, to the engine's orphan queue (ob_engine_orphans). */
void ob_cq_close(ob_cq *cq);
/* The process generation the queue was made in: after fork the child must not touch it. */
uint32_t ob_cq_generation(const ob_cq *cq);

#endif

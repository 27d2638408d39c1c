/* ob_loop.h - one CURLM on one thread: inbox, perform, reap, publish, poll.
 *
 * An inline loop has no thread of its own: whoever waits for its transfer drives it, without a hop between threads. What
 * is left when its driver leaves is driven on by a thread, until nothing is.
 */
#ifndef OB_LOOP_H
#define OB_LOOP_H

#include "ob_port.h"
#include "ob_transfer.h"

typedef struct ob_loop ob_loop;

#define OB_LOOP_TRANSFERS 256 /* attached at most: beyond, the poll of one multi costs more than another thread */

/* Engine's lock. A running thread, or NULL when memory, descriptors or threads are short. Never freed: posting to a loop
 * that has ended is allowed at any time. */
ob_loop *ob_loop_start(int index, long connections);
/* Any thread, engine's or no lock held. 0; -1: the loop has ended, nothing was posted. */
int ob_loop_post(ob_loop *loop, ob_transfer *x, int command);
/* Any thread, engine's or no lock held. It looks at deadlines, the engine's too, before it sleeps on. */
void ob_loop_wake(ob_loop *loop);
/* Any thread. From now on the multi may keep so many connections. */
void ob_loop_set_connections(ob_loop *loop, long connections);
/* Any thread. Ends all that is attached with OB_KIND_ENGINE, then the thread. */
void ob_loop_stop(ob_loop *loop);
/* Engine's lock. An inline loop, claimed by the caller; NULL when memory is short. */
ob_loop *ob_loop_inline(long connections);
/* Engine's lock. Claims one that was given back. */
void ob_loop_claim(ob_loop *loop);
/* Whoever claimed it, without the GIL. Drives the loop until the queue has entries, the time is over, or something woke it that
 * the caller may have to look at. */
enum { OB_DRIVE_READY = 1, OB_DRIVE_LEFT = 2 }; /* or-ed; LEFT: the claim has ended, nothing is attached */
int ob_loop_drive(ob_loop *loop, ob_cq *cq, int timeout_ms);
/* Whoever claimed it: ends the claim. What is attached goes on by itself. */
void ob_loop_leave(ob_loop *loop);
/* Any thread, one. True: the thread has ended within the time and is joined; of an inline loop: nobody drives it any more. */
bool ob_loop_join(ob_loop *loop, int64_t deadline_us);
/* Any thread. The thread is ending or has ended. */
bool ob_loop_closed(ob_loop *loop);
/* Any thread. */
uint64_t ob_loop_wakeups(ob_loop *loop);
/* Loop thread: publish these events of x after the current perform. */
void ob_loop_ready_onloop(ob_loop *loop, ob_transfer *x, int events);
/* Loop thread: the head of x is held back for its body; see OB_COALESCE_US. */
void ob_loop_head_held_onloop(ob_loop *loop, ob_transfer *x);
/* Loop thread: x is about to connect, or found a connection: the name is known to the multi's cache by now. */
void ob_loop_resolved_onloop(ob_loop *loop, ob_transfer *x);

#endif

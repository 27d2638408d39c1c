/* ob_loop.h - one CURLM on one thread: inbox, perform, reap, publish, poll. */
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
/* Any thread. From now on the multi may keep so many connections. */
void ob_loop_set_connections(ob_loop *loop, long connections);
/* Any thread. Ends all that is attached with OB_KIND_ENGINE, then the thread. */
void ob_loop_stop(ob_loop *loop);
/* Any thread, one. True: the thread has ended within the time and is joined. */
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

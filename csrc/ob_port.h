/* ob_port.h - what differs between systems, and the debug hooks: clock, locks, threads, wakeup, memory.
 *
 * Internal to csrc. POSIX; Linux gets eventfd, elsewhere a pipe stands in.
 */
#ifndef OB_PORT_H
#define OB_PORT_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

/* ---- checks -------------------------------------------------------------------------------------- */

#ifdef OB_DEBUG
#define OB_ASSERT(cond)                                                                                                \
  do {                                                                                                                 \
    if (!(cond)) {                                                                                                     \
      fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #cond);                                     \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)
#else
#define OB_ASSERT(cond) ((void)sizeof(cond))
#endif

/* ---- memory -------------------------------------------------------------------------------------- */

/* The torture tests count allocations down and fail the n-th one; elsewhere these are malloc itself. */
#ifdef OB_TORTURE
extern _Atomic long ob_torture_countdown; /* < 0: never fail */
static inline bool ob_torture_fails(void) {
  if (atomic_load(&ob_torture_countdown) < 0) {
    return false;
  }
  return atomic_fetch_sub(&ob_torture_countdown, 1) == 0;
}
#else
static inline bool ob_torture_fails(void) {
  return false;
}
#endif

static inline void *ob_malloc(size_t size) {
  return ob_torture_fails() ? NULL : malloc(size);
}

static inline void *ob_calloc(size_t size) {
  return ob_torture_fails() ? NULL : calloc(1, size);
}

static inline void *ob_realloc(void *memory, size_t size) {
  return ob_torture_fails() ? NULL : realloc(memory, size);
}

static inline void ob_free(void *memory) {
  free(memory);
}

/* ---- reference counts ---------------------------------------------------------------------------- */

typedef _Atomic uint32_t ob_refs;

static inline void ob_refs_take(ob_refs *refs) {
  uint32_t before = atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
  OB_ASSERT(before > 0);
  (void)before;
}

/* True for the last one: all that others did with the object has happened before. */
static inline bool ob_refs_drop(ob_refs *refs) {
  uint32_t before = atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel);
  OB_ASSERT(before > 0);
  return before == 1;
}

/* ---- counters: statistics, ordered with nothing --------------------------------------------------- */

typedef _Atomic uint64_t ob_counter;

static inline void ob_count(ob_counter *counter, uint64_t n) {
  atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline void ob_uncount(ob_counter *counter, uint64_t n) {
  atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t ob_counted(ob_counter *counter) {
  return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- clock --------------------------------------------------------------------------------------- */

static inline int64_t ob_now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- locks --------------------------------------------------------------------------------------- */

typedef pthread_mutex_t ob_mutex;
#define OB_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER

static inline void ob_mutex_init(ob_mutex *mutex) {
  *mutex = (ob_mutex)OB_MUTEX_INIT;
}

static inline void ob_lock(ob_mutex *mutex) {
  int rc = pthread_mutex_lock(mutex);
  OB_ASSERT(rc == 0);
  (void)rc;
}

static inline void ob_unlock(ob_mutex *mutex) {
  int rc = pthread_mutex_unlock(mutex);
  OB_ASSERT(rc == 0);
  (void)rc;
}

/* ---- threads ------------------------------------------------------------------------------------- */

/* The new thread takes no signal: they belong to the program's own threads. 0 or an errno. */
static inline int ob_thread_start(pthread_t *thread, void *(*run)(void *), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = pthread_create(thread, NULL, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return rc;
}

static inline void ob_thread_name(const char *name) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), name);
#elif defined(__APPLE__)
  pthread_setname_np(name);
#else
  (void)name;
#endif
}

/* ---- wakeup handle -------------------------------------------------------------------------------- */

typedef struct ob_wakeup {
  int read_fd;
  int write_fd; /* the same one where it is an eventfd */
} ob_wakeup;

static inline int ob_wakeup_open(ob_wakeup *wakeup) {
#ifdef __linux__
  wakeup->read_fd = wakeup->write_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return wakeup->read_fd < 0 ? -1 : 0;
#else
  int fds[2];
  if (pipe(fds) != 0) {
    return -1;
  }
  for (int i = 0; i < 2; i++) {
    fcntl(fds[i], F_SETFL, O_NONBLOCK);
    fcntl(fds[i], F_SETFD, FD_CLOEXEC);
  }
  wakeup->read_fd = fds[0];
  wakeup->write_fd = fds[1];
  return 0;
#endif
}

static inline void ob_wakeup_close(ob_wakeup *wakeup) {
  close(wakeup->read_fd);
  if (wakeup->write_fd != wakeup->read_fd) {
    close(wakeup->write_fd);
  }
}

/* A full pipe or counter is readable already, so a failed write loses nothing. */
static inline void ob_wakeup_signal(ob_wakeup *wakeup) {
  uint64_t one = 1;
  ssize_t rc;
  do {
    rc = write(wakeup->write_fd, &one, sizeof one);
  } while (rc < 0 && errno == EINTR);
}

static inline void ob_wakeup_drain(ob_wakeup *wakeup) {
  char junk[256];
  ssize_t rc;
  do {
    rc = read(wakeup->read_fd, junk, sizeof junk);
  } while ((rc < 0 && errno == EINTR) || rc == (ssize_t)sizeof junk);
}

#endif

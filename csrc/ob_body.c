/* ob_body.c - blocks: small ones from malloc, large ones mapped and kept for reuse. */
#include "ob_body.h"

#include <sys/mman.h>

#include "ob_port.h"

#define KEPT_BYTES_MAX (64ull << 20) /* bound of the kept blocks together */
#define KEPT_BLOCKS_MAX 64
#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE ((size_t)4096)

_Static_assert(sizeof(ob_refs) == sizeof(uint32_t), "ob_block.refs is atomic behind a plain declaration");

static ob_counter live_bytes;
static ob_mutex kept_lock = OB_MUTEX_INIT;
static ob_block *kept; /* newest first: its pages are the likeliest to be in cache */
static ob_counter kept_bytes;

static ob_refs *refs_of(ob_block *block) {
  return (ob_refs *)&block->refs;
}

/* Huge-page aligned, so that the kernel can back the body with huge pages from its first fault on. */
static char *map(size_t size) {
  size_t slack = size >= 2 * HUGE_PAGE ? HUGE_PAGE : 0;
  if (ob_torture_fails()) return NULL;
  char *base = mmap(NULL, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return NULL;
  if (slack > 0) {
    char *aligned = (char *)(((uintptr_t)base + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    size_t before = (size_t)(aligned - base);
    if (before > 0) munmap(base, before);
    if (slack - before > 0) munmap(aligned + size, slack - before);
    base = aligned;
#ifdef MADV_HUGEPAGE
    (void)madvise(base, size, MADV_HUGEPAGE); /* a hint: without it only slower */
#endif
  }
  return base;
}

/* A kept block that fits without wasting more than half of itself. */
static ob_block *reuse(size_t cap) {
  ob_block *found = NULL;
  ob_lock(&kept_lock);
  for (ob_block **at = &kept; *at != NULL; at = &(*at)->next) {
    if ((*at)->cap >= cap && (*at)->cap / 2 <= cap) {
      found = *at;
      *at = found->next;
      ob_uncount(&kept_bytes, found->cap);
      break;
    }
  }
  ob_unlock(&kept_lock);
  return found;
}

/* Keeps the block, and lets go of the oldest beyond the bound. Returns what is to be freed. */
static ob_block *keep(ob_block *block) {
  if (block->cap > KEPT_BYTES_MAX) {
    block->next = NULL;
    return block;
  }
  ob_lock(&kept_lock);
  block->next = kept;
  kept = block;
  size_t n = 0;
  uint64_t bytes = 0;
  ob_block **at = &kept;
  for (; *at != NULL && n < KEPT_BLOCKS_MAX && bytes + (*at)->cap <= KEPT_BYTES_MAX; at = &(*at)->next) {
    n++;
    bytes += (*at)->cap;
  }
  ob_block *oldest = *at;
  *at = NULL;
  atomic_store_explicit(&kept_bytes, bytes, memory_order_relaxed);
  ob_unlock(&kept_lock);
  return oldest;
}

ob_block *ob_block_new(size_t cap) {
  ob_block *block;
  if (cap > SIZE_MAX / 4) return NULL;
  if (cap < OB_LARGE_BYTES) {
    block = ob_malloc(sizeof *block + cap);
    if (block == NULL) return NULL;
    block->data = (char *)(block + 1);
    block->cap = cap;
    block->mapped = 0;
  } else if ((block = reuse(cap)) == NULL) {
    block = ob_malloc(sizeof *block);
    if (block == NULL) return NULL;
    block->cap = (cap + PAGE - 1) & ~(PAGE - 1);
    block->data = map(block->cap);
    block->mapped = 1;
    if (block->data == NULL) {
      ob_free(block);
      return NULL;
    }
  }
  block->len = 0;
  block->next = NULL;
  atomic_store_explicit(refs_of(block), 1, memory_order_relaxed);
  ob_count(&live_bytes, block->cap);
  return block;
}

ob_block *ob_block_ref(ob_block *block) {
  ob_refs_take(refs_of(block));
  return block;
}

static void destroy(ob_block *block) {
  if (block->mapped) munmap(block->data, block->cap);
  ob_free(block);
}

static void destroy_all(ob_block *list) {
  while (list != NULL) {
    ob_block *next = list->next;
    destroy(list);
    list = next;
  }
}

void ob_block_unref(ob_block *block) {
  if (block == NULL || !ob_refs_drop(refs_of(block))) return;
  ob_uncount(&live_bytes, block->cap);
  if (block->mapped) {
    destroy_all(keep(block));
  } else {
    destroy(block);
  }
}

uint64_t ob_block_live_bytes(void) {
  return ob_counted(&live_bytes);
}

uint64_t ob_block_kept_bytes(void) {
  return ob_counted(&kept_bytes);
}

void ob_block_trim(void) {
  ob_lock(&kept_lock);
  ob_block *list = kept;
  kept = NULL;
  atomic_store_explicit(&kept_bytes, 0, memory_order_relaxed);
  ob_unlock(&kept_lock);
  destroy_all(list);
}

void ob_block_forked_child(void) {
  /* The list may have been cut in half by the fork: leave it be, its pages are shared with the parent anyway. */
  ob_mutex_init(&kept_lock);
  kept = NULL;
  atomic_store_explicit(&kept_bytes, 0, memory_order_relaxed);
}

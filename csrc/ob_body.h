/* ob_body.h - memory that bodies land in.
 *
 * A block is one run of bytes with a reference count. Blocks of OB_LARGE_BYTES and more are mapped, of huge pages where they
 * are long enough, and the newest are kept for reuse up to a bound (page faults, not copies, dominate large bodies); smaller
 * ones come from malloc.
 */
#ifndef OB_BODY_H
#define OB_BODY_H

#include <stddef.h>
#include <stdint.h>

#define OB_LARGE_BYTES (1u << 17) /* malloc maps such blocks, too, and gives each back when it is freed */

typedef struct ob_block {
  char *data;
  size_t len; /* bytes in use */
  size_t cap; /* bytes there are */
  struct ob_block *next;
  uint32_t refs;   /* atomic */
  uint32_t mapped; /* 1: data was mapped (or comes from the kept ones) */
} ob_block;

/* Any thread. A block with one reference, owned by the caller; NULL when memory is short. */
ob_block *ob_block_new(size_t cap);
/* Any thread. One more reference. */
ob_block *ob_block_ref(ob_block *block);
/* Any thread. One reference fewer; the last one frees. NULL is allowed. */
void ob_block_unref(ob_block *block);
/* Any thread. Bytes in live blocks, and bytes kept for reuse. */
uint64_t ob_block_live_bytes(void);
uint64_t ob_block_kept_bytes(void);
/* Any thread. Give the kept blocks back to the system. */
void ob_block_trim(void);
/* Child after fork, single-threaded: forget locks and kept blocks of the parent. */
void ob_block_forked_child(void);

typedef struct ob_iovec {
  const char *data;
  size_t len;
} ob_iovec;

/* Memory for the bytes of a body from `at` on. */
typedef struct ob_segment {
  uint64_t at;
  char *data;
  size_t len;
} ob_segment;

#endif

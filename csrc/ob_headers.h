/* ob_headers.h - received header lines in an arena of their own, with an index.
 *
 * Loop thread while the block arrives, read-only for everyone after HEAD: no lock.
 */
#ifndef OB_HEADERS_H
#define OB_HEADERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct ob_header {
  uint32_t name_off, name_len;   /* both texts are NUL-terminated as well */
  uint32_t value_off, value_len; /* without the blanks around it */
} ob_header;

typedef struct ob_headers {
  char *text;
  uint32_t len, cap;
  uint32_t n, n_cap;
  ob_header *index;
} ob_headers;

/* Forget the lines, keep the memory: a new status line began. */
void ob_headers_clear(ob_headers *headers);
void ob_headers_free(ob_headers *headers);
/* One raw line, line end included. Lines without a colon are ignored. 0, or -1 when memory is short. */
int ob_headers_add(ob_headers *headers, const char *line, size_t len);
/* The last one of that name, or NULL. */
const ob_header *ob_headers_find(const ob_headers *headers, const char *name, size_t name_len);

#endif

/* ob_columns.h - rows of listings as Arrow columns, and their way out through the Arrow C data and stream interfaces
 * (https://arrow.apache.org/docs/format/CDataInterface.html).
 *
 * Five columns: path (utf8), last_modified (timestamp[us, UTC]), size (int64), e_tag and version (utf8, nullable). Text that is
 * not UTF-8 has each of its bad bytes replaced by U+FFFD: readers of Arrow take utf8 to be valid without looking.
 *
 * A builder until it is exported for the first time, constant from then on: what was exported shares its memory, each column with
 * a reference of its own. One thread at a time while it is built, any number of them afterwards.
 */
#ifndef OB_COLUMNS_H
#define OB_COLUMNS_H

#include <stddef.h>
#include <stdint.h>

#include "ob_listxml.h"

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE

#define ARROW_FLAG_NULLABLE 2

struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};

#endif

#ifndef ARROW_C_STREAM_INTERFACE
#define ARROW_C_STREAM_INTERFACE

struct ArrowArrayStream {
  int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *out);
  int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *out);
  const char *(*get_last_error)(struct ArrowArrayStream *);
  void (*release)(struct ArrowArrayStream *);
  void *private_data;
};

#endif

typedef struct ob_columns ob_columns;

typedef struct ob_row {
  const char *path;
  size_t path_len;
  const char *e_tag; /* NULL: none */
  size_t e_tag_len;
  const char *version; /* NULL: none */
  size_t version_len;
  int64_t size;
  int64_t modified_us; /* microseconds since 1970 UTC */
} ob_row;

/* Every function that returns int: 0; -1 memory is short; -2 a column would hold more than 2 GiB of text. After a failure the
 * columns hold the rows that they held before. */

/* One reference, owned by the caller; NULL when memory is short. rows: how many to make room for. */
ob_columns *ob_columns_new(size_t rows);
ob_columns *ob_columns_ref(ob_columns *columns);
void ob_columns_unref(ob_columns *columns); /* NULL is allowed */
size_t ob_columns_rows(const ob_columns *columns);
/* Bytes that the columns occupy. */
size_t ob_columns_bytes(const ob_columns *columns);
/* Whether it was exported, and is constant. */
int ob_columns_is_shared(const ob_columns *columns);

int ob_columns_add(ob_columns *columns, const ob_row *row);
/* The objects of a page; `strip` is taken off the front of keys that begin with it. What a page does not say of an object is size
 * 0 and 1970. */
int ob_columns_add_page(ob_columns *columns, const ob_list_page *page, const char *strip, size_t strip_len);
/* Rows start (inclusive) to stop (exclusive) of other columns. */
int ob_columns_append(ob_columns *columns, const ob_columns *from, size_t start, size_t stop);

/* Fill the caller's structure; its release callback gives back what it holds. */
int ob_columns_schema(struct ArrowSchema *out);
int ob_columns_export(ob_columns *columns, struct ArrowArray *out);
/* The batches one after the other; the array is copied, each batch referenced. */
int ob_columns_stream(ob_columns *const *batches, size_t n, struct ArrowArrayStream *out);

#endif

/* ob_columns.c - rows of listings as Arrow columns. */
#include "ob_columns.h"

#include "ob_port.h"

#define N_COLUMNS 5
#define NONE UINT32_MAX

/* A utf8 column: row i is data[offsets[i] .. offsets[i + 1]). */
typedef struct texts {
  int32_t *offsets; /* cap + 1 of the columns */
  uint8_t *valid;   /* a bit for each row; NULL while no row is null */
  char *data;
  size_t len;
  size_t cap;
  size_t nulls;
} texts;

struct ob_columns {
  ob_refs refs;
  atomic_bool shared;
  size_t rows;
  size_t cap;
  int64_t *modified_us;
  int64_t *sizes;
  texts paths, e_tags, versions;
};

/* ---- life ------------------------------------------------------------------------------------------- */

static void free_texts(texts *t) {
  ob_free(t->offsets);
  ob_free(t->valid);
  ob_free(t->data);
}

void ob_columns_unref(ob_columns *c) {
  if (c == NULL || !ob_refs_drop(&c->refs)) return;
  ob_free(c->modified_us);
  ob_free(c->sizes);
  free_texts(&c->paths);
  free_texts(&c->e_tags);
  free_texts(&c->versions);
  ob_free(c);
}

ob_columns *ob_columns_ref(ob_columns *c) {
  ob_refs_take(&c->refs);
  return c;
}

size_t ob_columns_rows(const ob_columns *c) {
  return c->rows;
}

static size_t bitmap_bytes(size_t rows) {
  return (rows + 7) / 8;
}

static size_t texts_bytes(const texts *t, size_t cap) {
  return (cap + 1) * sizeof *t->offsets + t->cap + (t->valid != NULL ? bitmap_bytes(cap) : 0);
}

size_t ob_columns_bytes(const ob_columns *c) {
  return sizeof *c + c->cap * (sizeof *c->modified_us + sizeof *c->sizes) + texts_bytes(&c->paths, c->cap) +
         texts_bytes(&c->e_tags, c->cap) + texts_bytes(&c->versions, c->cap);
}

int ob_columns_is_shared(const ob_columns *c) {
  return atomic_load(&c->shared);
}

/* ---- room ------------------------------------------------------------------------------------------- */

static int grow(void **memory, size_t bytes) {
  void *larger = ob_realloc(*memory, bytes);
  if (larger == NULL) return -1;
  *memory = larger;
  return 0;
}

static int reserve_texts_rows(texts *t, size_t cap, size_t old_cap) {
  if (grow((void **)&t->offsets, (cap + 1) * sizeof *t->offsets) != 0) return -1;
  if (old_cap == 0) t->offsets[0] = 0;
  return t->valid == NULL ? 0 : grow((void **)&t->valid, bitmap_bytes(cap));
}

/* Room for `more` rows. A failure midway leaves some arrays larger than `cap` says, which does no harm. */
static int reserve_rows(ob_columns *c, size_t more) {
  if (more <= c->cap - c->rows) return 0;
  size_t cap = c->rows + more;
  if (cap < 2 * c->cap) cap = 2 * c->cap;
  if (cap > (SIZE_MAX >> 4)) return -1;
  if (grow((void **)&c->modified_us, cap * sizeof *c->modified_us) != 0) return -1;
  if (grow((void **)&c->sizes, cap * sizeof *c->sizes) != 0) return -1;
  if (reserve_texts_rows(&c->paths, cap, c->cap) != 0) return -1;
  if (reserve_texts_rows(&c->e_tags, cap, c->cap) != 0) return -1;
  if (reserve_texts_rows(&c->versions, cap, c->cap) != 0) return -1;
  c->cap = cap;
  return 0;
}

static int reserve_text(texts *t, size_t more) {
  if (more <= t->cap - t->len) return 0;
  if (more > INT32_MAX - t->len) return -2;
  size_t cap = t->len + more;
  if (cap < 2 * t->cap) cap = 2 * t->cap;
  if (grow((void **)&t->data, cap) != 0) return -1;
  t->cap = cap;
  return 0;
}

/* The bitmap comes with the first null: all rows before it are valid. */
static int need_bitmap(texts *t, size_t rows, size_t cap) {
  if (t->valid != NULL) return 0;
  uint8_t *valid = ob_malloc(bitmap_bytes(cap));
  if (valid == NULL) return -1;
  memset(valid, 0xff, bitmap_bytes(rows));
  t->valid = valid;
  return 0;
}

static inline void set_valid(texts *t, size_t row, bool is_valid) {
  if (t->valid == NULL) return;
  uint8_t bit = (uint8_t)(1u << (row & 7));
  if ((row & 7) == 0) t->valid[row / 8] = 0; /* the byte is fresh */
  t->valid[row / 8] = is_valid ? t->valid[row / 8] | bit : (uint8_t)(t->valid[row / 8] & ~bit);
}

ob_columns *ob_columns_new(size_t rows) {
  ob_columns *c = ob_calloc(sizeof *c);
  if (c == NULL) return NULL;
  atomic_store_explicit(&c->refs, 1, memory_order_relaxed);
  /* Never without arrays: readers want buffers that are not NULL. */
  if (reserve_rows(c, rows > 0 ? rows : 1) != 0 || reserve_text(&c->paths, rows > 0 ? 32 * rows : 1) != 0 ||
      reserve_text(&c->e_tags, 1) != 0 || reserve_text(&c->versions, 1) != 0) {
    ob_columns_unref(c);
    return NULL;
  }
  return c;
}

/* ---- text ------------------------------------------------------------------------------------------- */

static bool is_ascii(const char *text, size_t len) {
  uint64_t seen = 0;
  size_t i = 0;
  for (; i + 8 <= len; i += 8) {
    uint64_t word;
    memcpy(&word, text + i, 8);
    seen |= word;
  }
  for (; i < len; i++) seen |= (unsigned char)text[i];
  return (seen & 0x8080808080808080u) == 0;
}

/* Length of the well-formed UTF-8 character at text (RFC 3629: no surrogates, nothing overlong); 0: there is none. */
static size_t character(const unsigned char *text, size_t len) {
  unsigned char first = text[0];
  if (first < 0x80) return 1;
  size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || n > len) return 0;
  unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (text[1] < low || text[1] > high) return 0;
  for (size_t i = 2; i < n; i++) {
    if ((text[i] & 0xc0) != 0x80) return 0;
  }
  return n;
}

static int add_mended(texts *t, const unsigned char *text, size_t len) {
  if (len > INT32_MAX / 3) return -2;
  int rc = reserve_text(t, 3 * len); /* each bad byte becomes three */
  if (rc != 0) return rc;
  for (size_t i = 0; i < len;) {
    size_t n = character(text + i, len - i);
    memcpy(t->data + t->len, n > 0 ? (const char *)text + i : "\xef\xbf\xbd", n > 0 ? n : 3);
    t->len += n > 0 ? n : 3;
    i += n > 0 ? n : 1;
  }
  return 0;
}

/* As the value of row `row`, for which there is room. text NULL: null. */
static int add_text(texts *t, size_t row, size_t cap, const char *text, size_t len) {
  if (text == NULL) {
    if (need_bitmap(t, row, cap) != 0) return -1;
  } else if (is_ascii(text, len)) {
    int rc = reserve_text(t, len);
    if (rc != 0) return rc;
    memcpy(t->data + t->len, text, len);
    t->len += len;
  } else {
    int rc = add_mended(t, (const unsigned char *)text, len);
    if (rc != 0) return rc;
  }
  set_valid(t, row, text != NULL);
  t->nulls += text == NULL;
  t->offsets[row + 1] = (int32_t)t->len;
  return 0;
}

/* Forget all rows from `rows` on. */
static void cut_texts(texts *t, size_t rows, size_t nulls) {
  t->len = (size_t)t->offsets[rows];
  t->nulls = nulls;
}

typedef struct mark {
  size_t rows;
  size_t nulls[3];
} mark;

static mark mark_of(const ob_columns *c) {
  return (mark){c->rows, {c->paths.nulls, c->e_tags.nulls, c->versions.nulls}};
}

static int back_to(ob_columns *c, const mark *m, int rc) {
  c->rows = m->rows;
  cut_texts(&c->paths, m->rows, m->nulls[0]);
  cut_texts(&c->e_tags, m->rows, m->nulls[1]);
  cut_texts(&c->versions, m->rows, m->nulls[2]);
  return rc;
}

/* There is room for the row; its texts' room is made here. */
static inline int add_row(ob_columns *c, const ob_row *row) {
  int rc = add_text(&c->paths, c->rows, c->cap, row->path, row->path_len);
  if (rc == 0) rc = add_text(&c->e_tags, c->rows, c->cap, row->e_tag, row->e_tag_len);
  if (rc == 0) rc = add_text(&c->versions, c->rows, c->cap, row->version, row->version_len);
  if (rc != 0) return rc;
  c->modified_us[c->rows] = row->modified_us;
  c->sizes[c->rows] = row->size;
  c->rows++;
  return 0;
}

int ob_columns_add(ob_columns *c, const ob_row *row) {
  OB_ASSERT(!c->shared);
  mark before = mark_of(c);
  if (reserve_rows(c, 1) != 0) return -1;
  int rc = add_row(c, row);
  return rc == 0 ? 0 : back_to(c, &before, rc);
}

int ob_columns_add_page(ob_columns *c, const ob_list_page *page, const char *strip, size_t strip_len) {
  OB_ASSERT(!c->shared);
  mark before = mark_of(c);
  if (reserve_rows(c, page->n_entries) != 0) return -1;
  for (size_t i = 0; i < page->n_entries; i++) {
    const ob_list_entry *entry = &page->entries[i];
    const char *key = page->text + entry->key_off;
    size_t cut = entry->key_len >= strip_len && memcmp(key, strip, strip_len) == 0 ? strip_len : 0;
    ob_row row = {
        .path = key + cut,
        .path_len = entry->key_len - cut,
        .e_tag = entry->etag_len == NONE ? NULL : page->text + entry->etag_off,
        .e_tag_len = entry->etag_len,
        .version = entry->version_len == NONE ? NULL : page->text + entry->version_off,
        .version_len = entry->version_len,
        .size = entry->size >= 0 ? entry->size : 0,
        .modified_us = entry->modified_us == INT64_MIN ? 0 : entry->modified_us,
    };
    int rc = add_row(c, &row);
    if (rc != 0) return back_to(c, &before, rc);
  }
  return 0;
}

static const char *text_at(const texts *t, size_t row, size_t *len) {
  if (t->valid != NULL && (t->valid[row / 8] >> (row & 7) & 1) == 0) return NULL;
  *len = (size_t)(t->offsets[row + 1] - t->offsets[row]);
  return t->data + t->offsets[row];
}

int ob_columns_append(ob_columns *c, const ob_columns *from, size_t start, size_t stop) {
  OB_ASSERT(!c->shared && start <= stop && stop <= from->rows);
  mark before = mark_of(c);
  if (reserve_rows(c, stop - start) != 0) return -1;
  for (size_t i = start; i < stop; i++) {
    ob_row row = {.size = from->sizes[i], .modified_us = from->modified_us[i]};
    row.path = text_at(&from->paths, i, &row.path_len);
    row.e_tag = text_at(&from->e_tags, i, &row.e_tag_len);
    row.version = text_at(&from->versions, i, &row.version_len);
    int rc = add_row(c, &row);
    if (rc != 0) return back_to(c, &before, rc);
  }
  return 0;
}

/* ---- the schema ------------------------------------------------------------------------------------- */

/* A parent and its children in one block. A child can be moved out of it and outlive it, so each holds a reference. */
typedef struct schema_block {
  ob_refs refs;
  struct ArrowSchema children[N_COLUMNS];
  struct ArrowSchema *pointers[N_COLUMNS];
} schema_block;

static void release_schema_child(struct ArrowSchema *schema) {
  schema_block *block = schema->private_data;
  schema->release = NULL;
  if (ob_refs_drop(&block->refs)) ob_free(block);
}

static void release_schema(struct ArrowSchema *schema) {
  for (int64_t i = 0; i < schema->n_children; i++) {
    if (schema->children[i]->release != NULL) schema->children[i]->release(schema->children[i]);
  }
  release_schema_child(schema);
}

int ob_columns_schema(struct ArrowSchema *out) {
  static const struct {
    const char *name;
    const char *format;
    int64_t flags;
  } fields[N_COLUMNS] = {
      {"path", "u", 0},
      {"last_modified", "tsu:UTC", 0},
      {"size", "l", 0},
      {"e_tag", "u", ARROW_FLAG_NULLABLE},
      {"version", "u", ARROW_FLAG_NULLABLE},
  };
  schema_block *block = ob_calloc(sizeof *block);
  if (block == NULL) return -1;
  atomic_store_explicit(&block->refs, N_COLUMNS + 1, memory_order_relaxed);
  for (size_t i = 0; i < N_COLUMNS; i++) {
    block->children[i] = (struct ArrowSchema){
        .format = fields[i].format,
        .name = fields[i].name,
        .flags = fields[i].flags,
        .release = release_schema_child,
        .private_data = block,
    };
    block->pointers[i] = &block->children[i];
  }
  *out = (struct ArrowSchema){
      .format = "+s",
      .name = "",
      .n_children = N_COLUMNS,
      .children = block->pointers,
      .release = release_schema,
      .private_data = block,
  };
  return 0;
}

/* ---- a batch ---------------------------------------------------------------------------------------- */

typedef struct array_block {
  ob_refs refs;
  ob_columns *columns;
  struct ArrowArray children[N_COLUMNS];
  struct ArrowArray *pointers[N_COLUMNS];
  const void *buffers[N_COLUMNS][3];
  const void *no_validity[1];
} array_block;

static void release_array_child(struct ArrowArray *array) {
  array_block *block = array->private_data;
  array->release = NULL;
  if (!ob_refs_drop(&block->refs)) return;
  ob_columns_unref(block->columns);
  ob_free(block);
}

static void release_array(struct ArrowArray *array) {
  for (int64_t i = 0; i < array->n_children; i++) {
    if (array->children[i]->release != NULL) array->children[i]->release(array->children[i]);
  }
  release_array_child(array);
}

static void set_child(array_block *block, size_t i, const void *validity, size_t nulls, const void *first,
                      const void *second) {
  block->buffers[i][0] = nulls > 0 ? validity : NULL;
  block->buffers[i][1] = first;
  block->buffers[i][2] = second;
  block->children[i] = (struct ArrowArray){
      .length = (int64_t)block->columns->rows,
      .null_count = (int64_t)nulls,
      .n_buffers = second != NULL ? 3 : 2,
      .buffers = block->buffers[i],
      .release = release_array_child,
      .private_data = block,
  };
  block->pointers[i] = &block->children[i];
}

static void set_texts(array_block *block, size_t i, const texts *t) {
  set_child(block, i, t->valid, t->nulls, t->offsets, t->data);
}

int ob_columns_export(ob_columns *c, struct ArrowArray *out) {
  array_block *block = ob_calloc(sizeof *block);
  if (block == NULL) return -1;
  atomic_store(&c->shared, true);
  atomic_store_explicit(&block->refs, N_COLUMNS + 1, memory_order_relaxed);
  block->columns = ob_columns_ref(c);
  set_texts(block, 0, &c->paths);
  set_child(block, 1, NULL, 0, c->modified_us, NULL);
  set_child(block, 2, NULL, 0, c->sizes, NULL);
  set_texts(block, 3, &c->e_tags);
  set_texts(block, 4, &c->versions);
  *out = (struct ArrowArray){
      .length = (int64_t)c->rows,
      .n_buffers = 1,
      .n_children = N_COLUMNS,
      .buffers = block->no_validity,
      .children = block->pointers,
      .release = release_array,
      .private_data = block,
  };
  return 0;
}

/* ---- a stream --------------------------------------------------------------------------------------- */

typedef struct batches {
  size_t n;
  size_t at;
  ob_columns *items[];
} batches;

static int stream_schema(struct ArrowArrayStream *stream, struct ArrowSchema *out) {
  (void)stream;
  return ob_columns_schema(out) == 0 ? 0 : ENOMEM;
}

static int stream_next(struct ArrowArrayStream *stream, struct ArrowArray *out) {
  batches *b = stream->private_data;
  if (b->at == b->n) {
    memset(out, 0, sizeof *out); /* released: the end */
    return 0;
  }
  if (ob_columns_export(b->items[b->at], out) != 0) return ENOMEM;
  ob_columns_unref(b->items[b->at]); /* the reader may let go of a batch before it asks for the next */
  b->items[b->at++] = NULL;
  return 0;
}

static const char *stream_error(struct ArrowArrayStream *stream) {
  (void)stream;
  return "out of memory"; /* nothing else can fail: everything was fetched before */
}

static void release_stream(struct ArrowArrayStream *stream) {
  batches *b = stream->private_data;
  for (size_t i = b->at; i < b->n; i++) ob_columns_unref(b->items[i]);
  ob_free(b);
  stream->release = NULL;
}

int ob_columns_stream(ob_columns *const *items, size_t n, struct ArrowArrayStream *out) {
  if (n > SIZE_MAX / sizeof *items - 16) return -1;
  batches *b = ob_malloc(sizeof *b + n * sizeof *items);
  if (b == NULL) return -1;
  b->n = n;
  b->at = 0;
  for (size_t i = 0; i < n; i++) {
    /* Constant from now on, as the reader will come on threads and at times of its own. */
    atomic_store(&items[i]->shared, true);
    b->items[i] = ob_columns_ref(items[i]);
  }
  *out = (struct ArrowArrayStream){
      .get_schema = stream_schema,
      .get_next = stream_next,
      .get_last_error = stream_error,
      .release = release_stream,
      .private_data = b,
  };
  return 0;
}

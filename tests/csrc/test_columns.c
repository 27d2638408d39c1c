/* sources: ob_columns.c ob_listxml.c ob_listjson.c
 *
 * Rows as Arrow columns: what goes in comes out, whoever is let go of first; text that is not UTF-8; memory that runs short.
 */
#include "ob_columns.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

#ifdef OB_TORTURE
_Atomic long ob_torture_countdown = -1;
#endif

static ob_row row_of(const char *path, const char *e_tag, int64_t size) {
  return (ob_row){.path = path,
                  .path_len = strlen(path),
                  .e_tag = e_tag,
                  .e_tag_len = e_tag != NULL ? strlen(e_tag) : 0,
                  .size = size,
                  .modified_us = 7 * size};
}

/* Value i of a utf8 column; false: null. */
static int text_is(const struct ArrowArray *column, int64_t i, const char *want) {
  const uint8_t *valid = column->buffers[0];
  const int32_t *offsets = column->buffers[1];
  const char *data = column->buffers[2];
  int is_null = valid != NULL && (valid[i / 8] >> (i % 8) & 1) == 0;
  if (want == NULL) return is_null;
  size_t len = (size_t)(offsets[i + 1] - offsets[i]);
  return !is_null && len == strlen(want) && memcmp(data + offsets[i], want, len) == 0;
}

static void fill(ob_columns *c, int rows) {
  for (int i = 0; i < rows; i++) {
    char path[32];
    snprintf(path, sizeof path, "key/%d", i);
    ob_row row = row_of(path, i % 3 == 2 ? NULL : "\"tag\"", i);
    CHECK(ob_columns_add(c, &row) == 0);
  }
}

static void check_filled(const struct ArrowArray *array, int64_t from, int64_t rows) {
  CHECK(array->length == rows && array->n_children == 5 && array->null_count == 0);
  int64_t nulls = 0;
  for (int64_t i = 0; i < rows; i++) {
    char path[32];
    int64_t n = from + i;
    snprintf(path, sizeof path, "key/%d", (int)n);
    CHECK(text_is(array->children[0], i, path));
    CHECK(((const int64_t *)array->children[1]->buffers[1])[i] == 7 * n);
    CHECK(((const int64_t *)array->children[2]->buffers[1])[i] == n);
    CHECK(text_is(array->children[3], i, n % 3 == 2 ? NULL : "\"tag\""));
    CHECK(text_is(array->children[4], i, NULL));
    nulls += n % 3 == 2;
  }
  CHECK(array->children[3]->null_count == nulls && array->children[4]->null_count == rows);
}

static void rows_come_out_as_they_went_in(void) {
  static const int sizes[] = {0, 1, 7, 8, 9, 100, 1000};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    ob_columns *c = ob_columns_new(s % 2 ? (size_t)sizes[s] : 0);
    CHECK(c != NULL);
    fill(c, sizes[s]);
    CHECK(ob_columns_rows(c) == (size_t)sizes[s] && ob_columns_bytes(c) > 0 && !ob_columns_is_shared(c));
    struct ArrowArray array;
    CHECK(ob_columns_export(c, &array) == 0);
    CHECK(ob_columns_is_shared(c));
    ob_columns_unref(c); /* the array has a reference of its own */
    check_filled(&array, 0, sizes[s]);
    array.release(&array);
    CHECK(array.release == NULL);
  }
}

/* A consumer may move children out and let go of the parent first. */
static void columns_outlive_their_batch(void) {
  ob_columns *c = ob_columns_new(10);
  CHECK(c != NULL);
  fill(c, 10);
  struct ArrowArray array, moved;
  CHECK(ob_columns_export(c, &array) == 0);
  ob_columns_unref(c);
  moved = *array.children[0];
  array.children[0]->release = NULL;
  array.release(&array);
  CHECK(text_is(&moved, 9, "key/9"));
  moved.release(&moved);

  struct ArrowSchema schema, field;
  CHECK(ob_columns_schema(&schema) == 0);
  CHECK(schema.n_children == 5 && strcmp(schema.format, "+s") == 0);
  field = *schema.children[3];
  schema.children[3]->release = NULL;
  schema.release(&schema);
  CHECK(strcmp(field.name, "e_tag") == 0 && field.flags == ARROW_FLAG_NULLABLE);
  field.release(&field);
}

static void parts_are_appended(void) {
  ob_columns *whole = ob_columns_new(0), *part = ob_columns_new(50);
  CHECK(whole != NULL && part != NULL);
  fill(part, 50);
  CHECK(ob_columns_append(whole, part, 0, 0) == 0);
  CHECK(ob_columns_append(whole, part, 5, 17) == 0);
  CHECK(ob_columns_append(whole, part, 17, 50) == 0);
  ob_columns_unref(part);
  struct ArrowArray array;
  CHECK(ob_columns_export(whole, &array) == 0);
  ob_columns_unref(whole);
  check_filled(&array, 5, 45);
  array.release(&array);
}

static void streams_give_batches_in_order(void) {
  ob_columns *batches[3];
  for (int i = 0; i < 3; i++) {
    batches[i] = ob_columns_new(0);
    CHECK(batches[i] != NULL);
    fill(batches[i], i + 1);
  }
  for (int read = 0; read <= 4; read++) { /* let go of at every place */
    struct ArrowArrayStream stream;
    CHECK(ob_columns_stream(batches, 3, &stream) == 0);
    struct ArrowSchema schema;
    CHECK(stream.get_schema(&stream, &schema) == 0);
    schema.release(&schema);
    for (int i = 0; i < read; i++) {
      struct ArrowArray array;
      CHECK(stream.get_next(&stream, &array) == 0);
      CHECK((array.release == NULL) == (i >= 3));
      if (i >= 3) continue;
      check_filled(&array, 0, i + 1);
      array.release(&array);
    }
    stream.release(&stream);
    CHECK(stream.release == NULL);
  }
  for (int i = 0; i < 3; i++) ob_columns_unref(batches[i]);
}

static void text_is_made_utf8(void) {
  static const struct {
    const char *raw, *mended;
  } texts[] = {
      {"plain ascii, longer than eight", "plain ascii, longer than eight"},
      {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
      {"a\xff"
       "b",
       "a\xef\xbf\xbd"
       "b"},
      {"\xc3", "\xef\xbf\xbd"},
      {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
      {"", ""},
  };
  ob_columns *c = ob_columns_new(1);
  CHECK(c != NULL);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    ob_row row = row_of(texts[i].raw, NULL, 0);
    CHECK(ob_columns_add(c, &row) == 0);
  }
  struct ArrowArray array;
  CHECK(ob_columns_export(c, &array) == 0);
  ob_columns_unref(c);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    CHECK(text_is(array.children[0], (int64_t)i, texts[i].mended));
  array.release(&array);
}

static void pages_lose_what_is_stripped(void) {
  static const char document[] = "<ListBucketResult><Contents><Key>p/a</Key><Size>3</Size><ETag>\"e\"</ETag></Contents>"
                                 "<Contents><Key>other</Key><VersionId>v</VersionId></Contents></ListBucketResult>";
  ob_listxml *parser = ob_listxml_new();
  ob_list_page page;
  CHECK(parser != NULL && ob_listxml_feed(parser, document, sizeof document - 1) == 0);
  CHECK(ob_listxml_finish(parser, &page) == 0);
  ob_columns *c = ob_columns_new(0);
  CHECK(c != NULL && ob_columns_add_page(c, &page, "p/", 2) == 0);
  ob_listxml_free(parser);
  struct ArrowArray array;
  CHECK(ob_columns_export(c, &array) == 0);
  ob_columns_unref(c);
  CHECK(array.length == 2);
  CHECK(text_is(array.children[0], 0, "a") && text_is(array.children[0], 1, "other"));
  CHECK(((const int64_t *)array.children[2]->buffers[1])[0] == 3);
  CHECK(((const int64_t *)array.children[2]->buffers[1])[1] == 0);
  CHECK(text_is(array.children[3], 0, "\"e\"") && text_is(array.children[3], 1, NULL));
  CHECK(text_is(array.children[4], 0, NULL) && text_is(array.children[4], 1, "v"));
  array.release(&array);
}

/* Each allocation fails in turn: an error, the rows that were there before, and nothing is lost. */
static void memory_may_run_short(void) {
#ifdef OB_TORTURE
  for (long nth = 0;; nth++) {
    ob_torture_countdown = nth;
    ob_columns *c = ob_columns_new(2);
    size_t added = 0;
    int failed = c == NULL;
    for (int i = 0; i < 40 && !failed; i++) {
      ob_row row = row_of("a key that is not short\xff", i % 2 ? NULL : "tag", i);
      failed = ob_columns_add(c, &row) != 0;
      added += !failed;
    }
    struct ArrowArray array = {0};
    struct ArrowSchema schema = {0};
    struct ArrowArrayStream stream = {0};
    if (!failed) failed = ob_columns_schema(&schema) != 0;
    if (!failed) failed = ob_columns_stream(&c, 1, &stream) != 0;
    if (!failed) failed = ob_columns_export(c, &array) != 0;
    ob_torture_countdown = -1;
    if (c != NULL) CHECK(ob_columns_rows(c) == added);
    if (array.release != NULL) array.release(&array);
    if (schema.release != NULL) schema.release(&schema);
    if (stream.release != NULL) stream.release(&stream);
    ob_columns_unref(c);
    if (!failed) return;
  }
#endif
}

int main(void) {
  rows_come_out_as_they_went_in();
  columns_outlive_their_batch();
  parts_are_appended();
  streams_give_batches_in_order();
  text_is_made_utf8();
  pages_lose_what_is_stripped();
  memory_may_run_short();
  return 0;
}

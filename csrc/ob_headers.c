/* ob_headers.c - received header lines. */
#include "ob_headers.h"

#include "ob_port.h"

#define TEXT_FIRST 1024
#define INDEX_FIRST 24
#define TEXT_MAX (1u << 20) /* libcurl itself stops at 300 KiB */

void ob_headers_clear(ob_headers *headers) {
  headers->len = 0;
  headers->n = 0;
}

void ob_headers_free(ob_headers *headers) {
  ob_free(headers->text);
  ob_free(headers->index);
  memset(headers, 0, sizeof *headers);
}

static int reserve_text(ob_headers *headers, size_t more) {
  size_t need = headers->len + more;
  if (need <= headers->cap) return 0;
  if (need > TEXT_MAX) return -1;
  size_t cap = headers->cap > 0 ? headers->cap : TEXT_FIRST;
  while (cap < need) cap *= 2;
  char *text = ob_realloc(headers->text, cap);
  if (text == NULL) return -1;
  headers->text = text;
  headers->cap = (uint32_t)cap;
  return 0;
}

static int reserve_index(ob_headers *headers) {
  if (headers->n < headers->n_cap) return 0;
  size_t cap = headers->n_cap > 0 ? 2 * (size_t)headers->n_cap : INDEX_FIRST;
  ob_header *index = ob_realloc(headers->index, cap * sizeof *index);
  if (index == NULL) return -1;
  headers->index = index;
  headers->n_cap = (uint32_t)cap;
  return 0;
}

static uint32_t store(ob_headers *headers, const char *text, size_t len) {
  uint32_t at = headers->len;
  memcpy(headers->text + at, text, len);
  headers->text[at + len] = '\0';
  headers->len += (uint32_t)len + 1;
  return at;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int ob_headers_add(ob_headers *headers, const char *line, size_t len) {
  const char *colon = memchr(line, ':', len);
  if (colon == NULL || colon == line) return 0;
  size_t name_len = (size_t)(colon - line);
  const char *value = colon + 1;
  const char *end = line + len;
  while (value < end && is_blank(*value)) value++;
  while (end > value && is_blank(end[-1])) end--;
  size_t value_len = (size_t)(end - value);
  if (reserve_text(headers, name_len + value_len + 2) != 0 || reserve_index(headers) != 0) return -1;
  ob_header *header = &headers->index[headers->n++];
  header->name_len = (uint32_t)name_len;
  header->value_len = (uint32_t)value_len;
  header->name_off = store(headers, line, name_len);
  header->value_off = store(headers, value, value_len);
  return 0;
}

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

const ob_header *ob_headers_find(const ob_headers *headers, const char *name, size_t name_len) {
  for (uint32_t i = headers->n; i-- > 0;) {
    const ob_header *header = &headers->index[i];
    if (header->name_len != name_len) continue;
    const char *have = headers->text + header->name_off;
    size_t at = 0;
    while (at < name_len && lower(have[at]) == lower(name[at])) at++;
    if (at == name_len) return header;
  }
  return NULL;
}

/* ob_listjson.c - push parser for list pages of Google's JSON API.
 *
 * One state for each place in the grammar; every state can be left and entered between any two bytes. A value is known by the
 * name it has and the container it is in; strings (and numbers, as some emulators write sizes) that are known go to the arena as
 * they arrive, everything else is only followed to its end.
 */
#include "ob_listjson.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "ob_listread.h"
#include "ob_port.h"

#define MAX_DEPTH 64
#define MAX_VALUE (1u << 20) /* bytes in one value */
#define MAX_ARENA (UINT32_MAX - 1)
#define MAX_NAME 16 /* names longer than this are none of ours */
#define NONE UINT32_MAX

static const char OUT_OF_MEMORY[] = "out of memory";

typedef enum {
  AT_VALUE,       /* a value must follow */
  AT_FIRST_VALUE, /* after [: a value or ] */
  AT_FIRST_NAME,  /* after {: a name or } */
  AT_NAME_QUOTE,  /* after a comma in an object: a name */
  AT_COLON,       /* after a name */
  AT_AFTER,       /* after a value: a comma or the container's end */
  AT_STRING,      /* in a string, a name or a value */
  AT_ESCAPE,      /* after \ */
  AT_HEX,         /* in the digits of \uXXXX */
  AT_LITERAL,     /* in a number, true, false or null */
  AT_END          /* after the document */
} state;

/* What a container is to us. */
typedef enum { C_TOP, C_ITEMS, C_ITEM, C_PREFIXES, C_OTHER } container;

/* What a value is to us. */
typedef enum { F_OTHER, F_ITEMS, F_PREFIXES, F_TOKEN, F_ERROR, F_NAME, F_SIZE, F_UPDATED, F_ETAG, F_GENERATION } field;

typedef struct entries {
  ob_list_entry *items;
  size_t n;
  size_t cap;
} entries;

struct ob_listjson {
  const char *error; /* static; "" while there is none */
  state at;
  bool in_name; /* the string is a name */
  bool kept;    /* the value goes to the arena */
  bool failed;  /* the document is an error */
  uint8_t hex_digits;
  uint16_t hex;
  uint16_t high; /* first half of a surrogate pair, or 0 */
  field current;

  uint32_t depth;
  container open[MAX_DEPTH];
  bool is_array[MAX_DEPTH];

  char name[MAX_NAME];
  uint8_t name_len; /* MAX_NAME + 1: too long to be ours */

  char *text;
  size_t text_len;
  size_t text_cap;
  size_t value_at;
  ob_list_entry entry; /* of the open item */
  entries objects;
  entries prefixes;
  uint32_t token_off, token_len;
};

static const ob_list_entry NO_ENTRY = {0, NONE, 0, NONE, 0, NONE, -1, INT64_MIN};

ob_listjson *ob_listjson_new(void) {
  ob_listjson *p = ob_malloc(sizeof *p);
  if (p == NULL) return NULL;
  memset(p, 0, sizeof *p);
  p->error = "";
  p->at = AT_VALUE;
  p->entry = NO_ENTRY;
  p->token_len = NONE;
  return p;
}

void ob_listjson_free(ob_listjson *p) {
  if (p == NULL) return;
  ob_free(p->text);
  ob_free(p->objects.items);
  ob_free(p->prefixes.items);
  ob_free(p);
}

const char *ob_listjson_error(const ob_listjson *p) {
  return p->error;
}

static const char *fail(ob_listjson *p, const char *why) {
  p->error = why;
  return NULL;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

/* Add to the current value. 0, or -1 with the error set. */
static int add_text(ob_listjson *p, const char *data, size_t n) {
  if (n > MAX_VALUE || p->text_len - p->value_at + n > MAX_VALUE) return fail(p, "a value is too long"), -1;
  if (n > p->text_cap - p->text_len) {
    if (p->text_len + n > MAX_ARENA) return fail(p, "the page is too large"), -1;
    size_t cap = p->text_cap != 0 ? p->text_cap : 65536;
    while (cap < p->text_len + n) cap *= 2;
    char *text = ob_realloc(p->text, cap);
    if (text == NULL) return fail(p, OUT_OF_MEMORY), -1;
    p->text = text;
    p->text_cap = cap;
  }
  memcpy(p->text + p->text_len, data, n);
  p->text_len += n;
  return 0;
}

static int add_entry(ob_listjson *p, entries *list, const ob_list_entry *entry) {
  if (list->n == list->cap) {
    size_t cap = list->cap != 0 ? 2 * list->cap : 1000; /* Google's page holds 1,000 */
    ob_list_entry *items = cap <= SIZE_MAX / sizeof *items ? ob_realloc(list->items, cap * sizeof *items) : NULL;
    if (items == NULL) return fail(p, OUT_OF_MEMORY), -1;
    list->items = items;
    list->cap = cap;
  }
  list->items[list->n++] = *entry;
  return 0;
}

/* ---- what names mean --------------------------------------------------------------------------------- */

static container inside(const ob_listjson *p) {
  return p->open[p->depth - 1];
}

static field identify(const ob_listjson *p) {
  static const struct {
    container parent;
    field field;
    const char *name;
  } known[] = {
      {C_ITEM, F_NAME, "name"},
      {C_ITEM, F_SIZE, "size"},
      {C_ITEM, F_UPDATED, "updated"},
      {C_ITEM, F_ETAG, "etag"},
      {C_ITEM, F_GENERATION, "generation"},
      {C_TOP, F_ITEMS, "items"},
      {C_TOP, F_PREFIXES, "prefixes"},
      {C_TOP, F_TOKEN, "nextPageToken"},
      {C_TOP, F_ERROR, "error"},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (known[i].parent == inside(p) && strlen(known[i].name) == p->name_len &&
        memcmp(known[i].name, p->name, p->name_len) == 0)
      return known[i].field;
  }
  return F_OTHER;
}

/* Whether the value that begins is one whose text is kept. */
static bool is_kept(const ob_listjson *p) {
  if (p->depth == 0) return false;
  if (p->is_array[p->depth - 1]) return inside(p) == C_PREFIXES;
  return p->current == F_TOKEN || p->current >= F_NAME;
}

/* The kept value is complete. 0, or -1 with the error set. */
static int take_value(ob_listjson *p) {
  uint32_t off = (uint32_t)p->value_at, len = (uint32_t)(p->text_len - p->value_at);
  const char *text = p->text != NULL ? p->text + p->value_at : ""; /* nothing was kept so far */
  if (inside(p) == C_PREFIXES) {
    ob_list_entry prefix = NO_ENTRY;
    prefix.key_off = off;
    prefix.key_len = len;
    return add_entry(p, &p->prefixes, &prefix);
  }
  switch (p->current) {
  case F_TOKEN:
    p->token_off = off;
    p->token_len = len != 0 ? len : NONE;
    break;
  case F_NAME:
    p->entry.key_off = off;
    p->entry.key_len = len;
    break;
  case F_SIZE:
    if (ob_list_read_size(text, len, &p->entry.size) != 0) return fail(p, "a size is no number"), -1;
    break;
  case F_UPDATED:
    if (ob_list_read_time(text, len, &p->entry.modified_us) != 0) return fail(p, "a time is not RFC 3339"), -1;
    break;
  case F_ETAG:
    p->entry.etag_off = off;
    p->entry.etag_len = len != 0 ? len : NONE;
    break;
  case F_GENERATION:
    p->entry.version_off = off;
    p->entry.version_len = len != 0 ? len : NONE;
    break;
  default:
    break;
  }
  return 0;
}

static int open_container(ob_listjson *p, bool array) {
  if (p->depth == MAX_DEPTH) return fail(p, "the document is nested too deeply"), -1;
  container is = C_OTHER;
  if (p->depth == 0) {
    if (array) return fail(p, "the document is not a list"), -1;
    is = C_TOP;
  } else if (array) {
    if (inside(p) == C_TOP && p->current == F_ITEMS) is = C_ITEMS;
    if (inside(p) == C_TOP && p->current == F_PREFIXES) is = C_PREFIXES;
  } else if (inside(p) == C_ITEMS) {
    is = C_ITEM;
    p->entry = NO_ENTRY;
  } else if (inside(p) == C_TOP && p->current == F_ERROR) {
    p->failed = true;
  }
  p->open[p->depth] = is;
  p->is_array[p->depth] = array;
  p->depth++;
  p->at = array ? AT_FIRST_VALUE : AT_FIRST_NAME;
  return 0;
}

static int close_container(ob_listjson *p) {
  if (inside(p) == C_ITEM) {
    if (p->entry.key_len == NONE) return fail(p, "an object has no name"), -1;
    if (add_entry(p, &p->objects, &p->entry) != 0) return -1;
  }
  p->depth--;
  p->at = p->depth == 0 ? AT_END : AT_AFTER;
  return 0;
}

/* ---- states: each consumes from [at, end) and returns where it stopped, or NULL with the error set ------ */

static bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static const char *begin_string(ob_listjson *p, const char *next, bool name) {
  p->in_name = name;
  p->kept = !name && is_kept(p);
  p->name_len = name ? 0 : p->name_len;
  p->value_at = p->text_len;
  p->high = 0;
  p->at = AT_STRING;
  return next;
}

static const char *feed_value(ob_listjson *p, const char *at) {
  char c = *at;
  if (c == '{' || c == '[') return open_container(p, c == '[') == 0 ? at + 1 : NULL;
  if (p->depth == 0) return fail(p, "the document is not a list");
  if (c == '"') return begin_string(p, at + 1, false);
  if (c == '-' || (c >= '0' && c <= '9') || c == 't' || c == 'f' || c == 'n') {
    /* Only a number can be one of our values: null means that there is none. */
    p->kept = (c >= '0' && c <= '9') && is_kept(p) && !p->is_array[p->depth - 1];
    p->value_at = p->text_len;
    p->at = AT_LITERAL;
    return at;
  }
  return fail(p, "the document is malformed");
}

static const char *feed_literal(ob_listjson *p, const char *at, const char *end) {
  const char *stop = at;
  while (stop < end && ((*stop >= '0' && *stop <= '9') || (*stop >= 'a' && *stop <= 'z') || *stop == '.' ||
                        *stop == '-' || *stop == '+' || *stop == 'E'))
    stop++;
  if (p->kept && add_text(p, at, (size_t)(stop - at)) != 0) return NULL;
  if (stop == end) return stop;
  if (p->kept && take_value(p) != 0) return NULL;
  p->at = AT_AFTER;
  return stop;
}

/* Add characters of a string to what it is part of. 0, or -1 with the error set. */
static int add_characters(ob_listjson *p, const char *data, size_t n) {
  if (p->kept) return add_text(p, data, n);
  if (!p->in_name || n == 0) return 0;
  if (p->name_len + n > MAX_NAME) {
    p->name_len = MAX_NAME + 1;
  } else {
    memcpy(p->name + p->name_len, data, n);
    p->name_len = (uint8_t)(p->name_len + n);
  }
  return 0;
}

/* A code point as UTF-8. */
static int add_code_point(ob_listjson *p, uint32_t c) {
  char utf8[4];
  size_t n = 0;
  if (c < 0x80) {
    utf8[n++] = (char)c;
  } else if (c < 0x800) {
    utf8[n++] = (char)(0xC0 | c >> 6);
    utf8[n++] = (char)(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    utf8[n++] = (char)(0xE0 | c >> 12);
    utf8[n++] = (char)(0x80 | (c >> 6 & 0x3F));
    utf8[n++] = (char)(0x80 | (c & 0x3F));
  } else {
    utf8[n++] = (char)(0xF0 | c >> 18);
    utf8[n++] = (char)(0x80 | (c >> 12 & 0x3F));
    utf8[n++] = (char)(0x80 | (c >> 6 & 0x3F));
    utf8[n++] = (char)(0x80 | (c & 0x3F));
  }
  return add_characters(p, utf8, n);
}

#define REPLACEMENT 0xFFFD /* for half of a surrogate pair, which is no character */

static const char *feed_string(ob_listjson *p, const char *at, const char *end) {
  const char *stop = at;
  while (stop < end && *stop != '"' && *stop != '\\') stop++;
  if (stop > at) {
    if (p->high != 0 && add_code_point(p, REPLACEMENT) != 0) return NULL;
    p->high = 0;
    if (add_characters(p, at, (size_t)(stop - at)) != 0) return NULL;
  }
  if (stop == end) return stop;
  if (*stop == '\\') {
    p->at = AT_ESCAPE;
    return stop + 1;
  }
  if (p->high != 0 && add_code_point(p, REPLACEMENT) != 0) return NULL;
  p->high = 0;
  if (p->in_name) {
    p->current = identify(p);
    p->at = AT_COLON;
  } else {
    if (p->kept && take_value(p) != 0) return NULL;
    p->at = AT_AFTER;
  }
  return stop + 1;
}

static const char *feed_escape(ob_listjson *p, const char *at) {
  static const char letters[] = "\"\\/bfnrt";
  static const char meanings[] = "\"\\/\b\f\n\r\t";
  if (*at == 'u') {
    p->hex = 0;
    p->hex_digits = 0;
    p->at = AT_HEX;
    return at + 1;
  }
  const char *found = *at != '\0' ? strchr(letters, *at) : NULL;
  if (found == NULL) return fail(p, "the document is malformed");
  if (p->high != 0 && add_code_point(p, REPLACEMENT) != 0) return NULL;
  p->high = 0;
  if (add_characters(p, &meanings[found - letters], 1) != 0) return NULL;
  p->at = AT_STRING;
  return at + 1;
}

static const char *feed_hex(ob_listjson *p, const char *at) {
  int digit = ob_list_hex_digit(*at);
  if (digit < 0) return fail(p, "the document is malformed");
  p->hex = (uint16_t)(p->hex << 4 | digit);
  if (++p->hex_digits < 4) return at + 1;
  p->at = AT_STRING;
  uint32_t c = p->hex;
  bool low = c >= 0xDC00 && c < 0xE000;
  if (p->high != 0 && low) {
    c = 0x10000 + ((uint32_t)(p->high - 0xD800) << 10) + (c - 0xDC00);
    p->high = 0;
  } else {
    if (p->high != 0 && add_code_point(p, REPLACEMENT) != 0) return NULL;
    p->high = 0;
    if (c >= 0xD800 && c < 0xDC00) {
      p->high = (uint16_t)c;
      return at + 1;
    }
    if (low) c = REPLACEMENT;
  }
  return add_code_point(p, c) == 0 ? at + 1 : NULL;
}

static const char *feed_after(ob_listjson *p, const char *at) {
  bool array = p->is_array[p->depth - 1];
  if (*at == ',') {
    p->at = array ? AT_VALUE : AT_NAME_QUOTE;
    return at + 1;
  }
  if (*at != (array ? ']' : '}')) return fail(p, "the document is malformed");
  return close_container(p) == 0 ? at + 1 : NULL;
}

static const char *feed_grammar(ob_listjson *p, const char *at) {
  if (is_space(*at)) return at + 1;
  switch (p->at) {
  case AT_FIRST_VALUE:
    if (*at == ']') return close_container(p) == 0 ? at + 1 : NULL;
    return feed_value(p, at);
  case AT_VALUE:
    return feed_value(p, at);
  case AT_FIRST_NAME:
    if (*at == '}') return close_container(p) == 0 ? at + 1 : NULL;
    /* fall through */
  case AT_NAME_QUOTE:
    if (*at == '"') return begin_string(p, at + 1, true);
    break;
  case AT_COLON:
    if (*at == ':') {
      p->at = AT_VALUE;
      return at + 1;
    }
    break;
  case AT_AFTER:
    return feed_after(p, at);
  default:
    break;
  }
  return fail(p, "the document is malformed");
}

int ob_listjson_feed(ob_listjson *p, const char *data, size_t len) {
  if (p->error[0] != '\0') return -1;
  const char *at = data;
  const char *end = data + len;
  while (at < end) {
    switch (p->at) {
    case AT_STRING:
      at = feed_string(p, at, end);
      break;
    case AT_ESCAPE:
      at = feed_escape(p, at);
      break;
    case AT_HEX:
      at = feed_hex(p, at);
      break;
    case AT_LITERAL:
      at = feed_literal(p, at, end);
      break;
    default:
      at = feed_grammar(p, at);
      break;
    }
    if (at == NULL) return -1;
  }
  return 0;
}

int ob_listjson_finish(ob_listjson *p, ob_list_page *page) {
  if (p->error[0] == '\0') {
    if (p->at != AT_END) {
      fail(p, "the document is cut short");
    } else if (p->failed) {
      fail(p, "the document is an error");
    }
  }
  if (p->error[0] != '\0') return -1;
  *page = (ob_list_page){
      .text = p->text != NULL ? p->text : "",
      .entries = p->objects.items,
      .n_entries = p->objects.n,
      .prefixes = p->prefixes.items,
      .n_prefixes = p->prefixes.n,
      .truncated = p->token_len != NONE,
      .token_off = p->token_off,
      .token_len = p->token_len,
      .marker_len = NONE,
  };
  return 0;
}

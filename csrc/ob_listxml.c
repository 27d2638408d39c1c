/* ob_listxml.c - push parser for the list pages of S3 and Azure, and for WebDAV's answers to PROPFIND.
 *
 * The document passes through a machine with one state for each kind of markup. Every state can be left and entered between
 * any two bytes, so nothing of the input is kept but what a list page consists of: values go to the arena as they arrive,
 * names of open elements to a fixed stack. An element is known by its name and its parent; children of unknown elements
 * are unknown too.
 *
 * Text is taken to be UTF-8 and passes unchanged where XML would refuse or change it (control characters, CR LF, references
 * such as &#1;): servers write keys as they are, and one odd key must not hide its neighbours.
 */
#include "ob_listxml.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "ob_listjson.h"
#include "ob_listread.h"
#include "ob_port.h"

#define MAX_DEPTH 64
#define MAX_NAMES 16384      /* bytes in the names of all open elements */
#define MAX_VALUE (1u << 20) /* bytes in one value */
#define MAX_ARENA (UINT32_MAX - 1)
#define MAX_REFERENCE 10 /* bytes between & and ; */
#define NONE UINT32_MAX

static const char OUT_OF_MEMORY[] = "out of memory";

typedef enum {
  AT_START,     /* before the first byte, perhaps inside a byte order mark */
  AT_TEXT,      /* character data */
  AT_REFERENCE, /* after & */
  AT_MARKUP,    /* after < */
  AT_NAME,      /* in the name of a start tag */
  AT_ATTRIBUTES,
  AT_END_NAME, /* after </ */
  AT_END_TAIL, /* after the name of an end tag */
  AT_BANG,     /* after <! */
  AT_COMMENT,
  AT_INSTRUCTION, /* after <? */
  AT_CDATA
} state;

/* From E_KEY on: elements whose text is kept. */
typedef enum {
  E_DOCUMENT,
  E_UNKNOWN,
  E_LIST,
  E_CONTENTS,
  E_COMMON_PREFIXES,
  E_ENUMERATION,
  E_BLOBS,
  E_BLOB,
  E_PROPERTIES,
  E_BLOB_PREFIX,
  E_MULTISTATUS,
  E_RESPONSE,
  E_PROPSTAT,
  E_PROP,
  E_RESOURCE_TYPE,
  E_COLLECTION,
  E_KEY,
  E_SIZE,
  E_MODIFIED,
  E_ETAG,
  E_VERSION,
  E_PREFIX,
  E_TRUNCATED,
  E_TOKEN,
  E_MARKER,
  E_ENCODING,
  E_BLOB_MODIFIED,
  E_BLOB_ETAG,
  E_BLOB_KIND,
  E_HREF,
  E_STATUS,          /* of a response as a whole */
  E_PROPSTAT_STATUS, /* of the properties beside it */
  E_DAV_LENGTH,
  E_DAV_MODIFIED,
  E_DAV_ETAG
} element;

typedef struct entries {
  ob_list_entry *items;
  size_t n;
  size_t cap;
} entries;

struct ob_listxml {
  ob_listjson *json; /* has taken over, the document being JSON; else NULL */
  const char *error; /* static; "" while there is none */
  state at;
  uint8_t matched; /* bytes seen of what may end or begin this state's markup */
  char quote;      /* in AT_ATTRIBUTES: the open quote, or 0 */
  bool slash;      /* in AT_ATTRIBUTES: the last byte was / */
  bool root_seen;
  bool url_encoded;
  bool truncated;
  bool finished;
  uint8_t reference_len;
  char reference[MAX_REFERENCE];

  uint32_t depth;                  /* open elements */
  element open[MAX_DEPTH + 1];     /* open[0] is the document */
  uint32_t name_at[MAX_DEPTH + 2]; /* name of open[i] is names[name_at[i] .. name_at[i + 1]) */
  uint32_t names_len;

  char *text;
  size_t text_len;
  size_t text_cap;
  size_t value_at;     /* where in text the current value begins */
  ob_list_entry entry; /* of the open Contents, Blob or response */
  bool name_encoded;   /* Azure: the open Name says that it is percent-encoded */
  /* WebDAV: what the open propstat holds, which counts only if its status says so. */
  ob_list_entry properties;
  bool is_collection, may_be_collection, refused;
  entries objects;
  entries prefixes;
  uint32_t token_off, token_len;
  uint32_t marker_off, marker_len;
  char day[11]; /* of the last time that was read, "2026-01-01T", and when it began; neighbours often share it */
  int64_t day_us;

  char root[64];
  char names[MAX_NAMES];
};

static const ob_list_entry NO_ENTRY = {0, NONE, 0, NONE, 0, NONE, -1, INT64_MIN};

ob_listxml *ob_listxml_new(void) {
  ob_listxml *p = ob_malloc(sizeof *p);
  if (p == NULL) return NULL;
  memset(p, 0, offsetof(ob_listxml, names));
  p->error = "";
  p->at = AT_START;
  p->open[0] = E_DOCUMENT;
  p->entry = NO_ENTRY;
  p->token_len = p->marker_len = NONE;
  p->day_us = INT64_MIN; /* none was read */
  return p;
}

void ob_listxml_free(ob_listxml *p) {
  if (p == NULL) return;
  ob_listjson_free(p->json);
  ob_free(p->text);
  ob_free(p->objects.items);
  ob_free(p->prefixes.items);
  ob_free(p);
}

const char *ob_listxml_error(const ob_listxml *p) {
  return p->json != NULL && p->error[0] == '\0' ? ob_listjson_error(p->json) : p->error;
}

const char *ob_listxml_root(const ob_listxml *p) {
  return p->root;
}

int ob_text_has_control(const char *text, size_t len) {
  const uint64_t ones = 0x0101010101010101u;
  uint64_t found = 0;
  size_t i = 0;
  for (; i + 8 <= len; i += 8) {
    uint64_t word;
    memcpy(&word, text + i, 8);
    uint64_t deleted = word ^ (ones * 127);
    /* The high bit of each byte that is below 32, and of each that is 127; borrows reach only beyond a byte that is one. */
    found |= ((word - ones * 32) & ~word) | ((deleted - ones) & ~deleted);
  }
  found &= ones * 128;
  for (; i < len; i++) found |= (unsigned char)text[i] < 32 || text[i] == 127;
  return found != 0;
}

static const char *fail(ob_listxml *p, const char *why) {
  p->error = why;
  return NULL;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

/* Make room for n more bytes of text. 0, or -1 with the error set. */
static int reserve_text(ob_listxml *p, size_t n) {
  if (n > MAX_VALUE || p->text_len - p->value_at + n > MAX_VALUE) return fail(p, "a value is too long"), -1;
  if (p->text_len + n > MAX_ARENA) return fail(p, "the page is too large"), -1;
  size_t cap = p->text_cap != 0 ? p->text_cap : 65536;
  while (cap < p->text_len + n) cap *= 2;
  char *text = ob_realloc(p->text, cap);
  if (text == NULL) return fail(p, OUT_OF_MEMORY), -1;
  p->text = text;
  p->text_cap = cap;
  return 0;
}

/* Add to the current value. 0, or -1 with the error set. */
static inline int add_text(ob_listxml *p, const char *data, size_t n) {
  /* The second test keeps the limit of a value exact where there happens to be room. */
  if ((n > p->text_cap - p->text_len || p->text_len - p->value_at + n > MAX_VALUE) && reserve_text(p, n) != 0)
    return -1;
  if (n != 0) memcpy(p->text + p->text_len, data, n);
  p->text_len += n;
  return 0;
}

static int add_entry(ob_listxml *p, entries *list, const ob_list_entry *entry) {
  if (list->n == list->cap) {
    size_t cap = list->cap != 0 ? 2 * list->cap : 1000; /* S3's page holds 1,000 */
    ob_list_entry *items = cap <= SIZE_MAX / sizeof *items ? ob_realloc(list->items, cap * sizeof *items) : NULL;
    if (items == NULL) return fail(p, OUT_OF_MEMORY), -1;
    list->items = items;
    list->cap = cap;
  }
  list->items[list->n++] = *entry;
  return 0;
}

/* ---- values ----------------------------------------------------------------------------------------- */

static inline bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

static bool equals(const char *text, size_t len, const char *word) {
  return len == strlen(word) && memcmp(text, word, len) == 0;
}

/* ASCII letters of either case; word is in lower case. */
static bool equals_folded(const char *text, size_t len, const char *word) {
  if (len != strlen(word)) return false;
  for (size_t i = 0; i < len; i++) {
    if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i]) != word[i]) return false;
  }
  return true;
}

int ob_list_read_size(const char *text, size_t len, int64_t *size) {
  uint64_t value = 0;
  if (len == 0 || len > 19) return -1;
  for (size_t i = 0; i < len; i++) {
    if (!is_digit(text[i])) return -1;
    value = value * 10 + (uint64_t)(text[i] - '0');
  }
  if (value > INT64_MAX) return -1;
  *size = (int64_t)value;
  return 0;
}

/* n digits at text, which must be there; or -1. */
static int read_digits(const char *text, int n) {
  int value = 0;
  for (int i = 0; i < n; i++) {
    if (!is_digit(text[i])) return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

/* Days from 1970-01-01 to a day of the Gregorian calendar. Years are counted from March, so that the leap day is the last. */
static int64_t days_since_epoch(int year, int month, int day) {
  int64_t y = month > 2 ? year : year - 1;
  int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  return 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

static int days_in_month(int year, int month) {
  static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return month == 2 && leap ? 29 : days[month - 1];
}

int ob_list_read_time(const char *text, size_t len, int64_t *time_us) {
  if (len < 19 || text[4] != '-' || text[7] != '-' || text[13] != ':' || text[16] != ':') return -1;
  if (text[10] != 'T' && text[10] != 't' && text[10] != ' ') return -1;
  int year = read_digits(text, 4), month = read_digits(text + 5, 2), day = read_digits(text + 8, 2);
  int hour = read_digits(text + 11, 2), minute = read_digits(text + 14, 2), second = read_digits(text + 17, 2);
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month)) return -1;
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return -1; /* 60: leap second */

  size_t i = 19;
  int64_t micros = 0;
  if (i < len && text[i] == '.') {
    int64_t unit = 100000;
    size_t first = ++i;
    for (; i < len && is_digit(text[i]); i++, unit /= 10) micros += unit * (text[i] - '0');
    if (i == first) return -1;
  }

  int64_t offset_s = 0;
  if (i < len && (text[i] == 'Z' || text[i] == 'z')) {
    i++;
  } else if (i < len && (text[i] == '+' || text[i] == '-')) {
    if (len - i != 6 || text[i + 3] != ':') return -1;
    int hours = read_digits(text + i + 1, 2), minutes = read_digits(text + i + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return -1;
    offset_s = (hours * 60 + minutes) * (text[i] == '-' ? -60 : 60);
    i += 6;
  }
  if (i != len) return -1;

  int64_t seconds = days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s;
  *time_us = seconds * 1000000 + micros;
  return 0;
}

int ob_list_hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/* Percent-decode in place, + being what `plus` says; what is no escape stays. The new length. */
static uint32_t decode_percent(char *text, uint32_t len, char plus) {
  uint32_t out = 0;
  for (uint32_t i = 0; i < len; i++) {
    int high = -1, low = -1;
    if (text[i] == '%' && len - i > 2) {
      high = ob_list_hex_digit(text[i + 1]);
      low = ob_list_hex_digit(text[i + 2]);
    }
    if (high >= 0 && low >= 0) {
      text[out++] = (char)(high * 16 + low);
      i += 2;
    } else {
      text[out++] = text[i] == '+' ? plus : text[i];
    }
  }
  return out;
}

/* ---- elements --------------------------------------------------------------------------------------- */

static element identify(element parent, const char *name, size_t len) {
  switch (parent) {
  case E_CONTENTS:
    switch (len) {
    case 3:
      return memcmp(name, "Key", 3) == 0 ? E_KEY : E_UNKNOWN;
    case 4:
      return memcmp(name, "Size", 4) == 0 ? E_SIZE : memcmp(name, "ETag", 4) == 0 ? E_ETAG : E_UNKNOWN;
    case 9:
      return memcmp(name, "VersionId", 9) == 0 ? E_VERSION : E_UNKNOWN;
    case 12:
      return memcmp(name, "LastModified", 12) == 0 ? E_MODIFIED : E_UNKNOWN;
    default:
      return E_UNKNOWN;
    }
  case E_PROPERTIES:
    if (equals(name, len, "Content-Length")) return E_SIZE;
    if (equals(name, len, "Last-Modified")) return E_BLOB_MODIFIED;
    if (equals(name, len, "Etag")) return E_BLOB_ETAG;
    return equals(name, len, "ResourceType") ? E_BLOB_KIND : E_UNKNOWN;
  case E_BLOB:
    if (equals(name, len, "Name")) return E_KEY;
    if (equals(name, len, "Properties")) return E_PROPERTIES;
    return equals(name, len, "VersionId") ? E_VERSION : E_UNKNOWN;
  case E_BLOB_PREFIX:
    return equals(name, len, "Name") ? E_PREFIX : E_UNKNOWN;
  case E_BLOBS:
    if (equals(name, len, "Blob")) return E_BLOB;
    return equals(name, len, "BlobPrefix") ? E_BLOB_PREFIX : E_UNKNOWN;
  case E_ENUMERATION:
    if (equals(name, len, "Blobs")) return E_BLOBS;
    return equals(name, len, "NextMarker") ? E_TOKEN : E_UNKNOWN;
  case E_PROP:
    if (equals(name, len, "getcontentlength")) return E_DAV_LENGTH;
    if (equals(name, len, "getlastmodified")) return E_DAV_MODIFIED;
    if (equals(name, len, "getetag")) return E_DAV_ETAG;
    return equals(name, len, "resourcetype") ? E_RESOURCE_TYPE : E_UNKNOWN;
  case E_RESOURCE_TYPE:
    return equals(name, len, "collection") ? E_COLLECTION : E_UNKNOWN;
  case E_PROPSTAT:
    if (equals(name, len, "prop")) return E_PROP;
    return equals(name, len, "status") ? E_PROPSTAT_STATUS : E_UNKNOWN;
  case E_RESPONSE:
    if (equals(name, len, "href")) return E_HREF;
    if (equals(name, len, "propstat")) return E_PROPSTAT;
    return equals(name, len, "status") ? E_STATUS : E_UNKNOWN;
  case E_MULTISTATUS:
    return equals(name, len, "response") ? E_RESPONSE : E_UNKNOWN;
  case E_COMMON_PREFIXES:
    return equals(name, len, "Prefix") ? E_PREFIX : E_UNKNOWN;
  case E_LIST:
    if (equals(name, len, "Contents")) return E_CONTENTS;
    if (equals(name, len, "CommonPrefixes")) return E_COMMON_PREFIXES;
    if (equals(name, len, "IsTruncated")) return E_TRUNCATED;
    if (equals(name, len, "NextContinuationToken")) return E_TOKEN;
    if (equals(name, len, "NextMarker")) return E_MARKER;
    if (equals(name, len, "EncodingType")) return E_ENCODING;
    return E_UNKNOWN;
  case E_DOCUMENT:
    if (equals(name, len, "multistatus")) return E_MULTISTATUS;
    if (equals(name, len, "EnumerationResults")) return E_ENUMERATION;
    return equals(name, len, "ListBucketResult") ? E_LIST : E_UNKNOWN;
  default:
    return E_UNKNOWN;
  }
}

/* The name of a start tag is complete on top of the stack of names. 0, or -1 with the error set. */
static int start_element(ob_listxml *p) {
  const char *name = p->names + p->name_at[p->depth + 1];
  size_t len = p->names_len - p->name_at[p->depth + 1];
  if (len == 0) return fail(p, "a tag has no name"), -1;
  for (size_t i = len; i > 0; i--) {
    if (name[i - 1] == ':') {
      name += i;
      len -= i;
      break;
    }
  }

  element parent = p->open[p->depth];
  if (parent == E_DOCUMENT) {
    if (p->root_seen) return fail(p, "there is more than one root element"), -1;
    p->root_seen = true;
    size_t kept = len < sizeof p->root ? len : sizeof p->root - 1;
    memcpy(p->root, name, kept);
  }
  if (parent >= E_KEY) return fail(p, "an element where text was expected"), -1;

  element child = identify(parent, name, len);
  /* From here on text is not NULL. */
  if ((child == E_LIST || child == E_ENUMERATION || child == E_MULTISTATUS) && reserve_text(p, 0) != 0) return -1;
  p->name_encoded = false;
  if (child == E_CONTENTS || child == E_BLOB || child == E_RESPONSE) {
    p->entry = NO_ENTRY;
    p->is_collection = false;
  } else if (child == E_PROPSTAT) {
    p->properties = NO_ENTRY;
    p->may_be_collection = p->refused = false;
  } else if (child == E_COLLECTION) {
    p->may_be_collection = true;
  }
  p->value_at = p->text_len;
  p->depth++;
  p->open[p->depth] = child;
  return 0;
}

/* The value in text[value_at .. text_len): its place; an empty one counts as none. */
static void keep_value(const ob_listxml *p, uint32_t *off, uint32_t *len) {
  *off = (uint32_t)p->value_at;
  *len = p->text_len > p->value_at ? (uint32_t)(p->text_len - p->value_at) : NONE;
}

/* ---- WebDAV (RFC 4918, section 14) ------------------------------------------------------------------ */

/* The path of a URL, which may come with its origin, in text[value_at .. text_len): decoded, as the entry's key. */
static int keep_href(ob_listxml *p) {
  if (p->entry.key_len != NONE) { /* a response without properties may name several */
    p->text_len = p->value_at;
    return 0;
  }
  char *text = p->text;
  size_t at = p->value_at, end = p->text_len;
  while (at < end && is_space(text[at])) at++;
  while (end > at && is_space(text[end - 1])) end--;
  size_t path = at;
  while (path < end && text[path] != '/') path++;
  if (path > at && path + 1 < end && text[path - 1] == ':' && text[path + 1] == '/') {
    path += 2;
    while (path < end && text[path] != '/') path++;
  } else {
    path = at;
  }
  if (path == end) return fail(p, "an entry has no href"), -1;
  p->entry.key_off = (uint32_t)path;
  p->entry.key_len = decode_percent(text + path, (uint32_t)(end - path), '+');
  return 0;
}

/* An ETag; some servers leave its quotes out here although their headers have them. */
static int keep_etag(ob_listxml *p, ob_list_entry *entry) {
  while (p->text_len > p->value_at && is_space(p->text[p->text_len - 1])) p->text_len--;
  while (p->value_at < p->text_len && is_space(p->text[p->value_at])) p->value_at++;
  size_t len = p->text_len - p->value_at;
  const char *text = p->text != NULL ? p->text + p->value_at : ""; /* nothing was kept so far */
  bool quoted = len > 1 && text[len - 1] == '"' && (text[0] == '"' || (len > 3 && memcmp(text, "W/\"", 3) == 0));
  if (len > 0 && !quoted) {
    if (add_text(p, "\"\"", 2) != 0) return -1;
    memmove(p->text + p->value_at + 1, p->text + p->value_at, len);
    p->text[p->value_at] = '"';
  }
  keep_value(p, &entry->etag_off, &entry->etag_len);
  return 0;
}

/* "HTTP/1.1 200 OK": whether it is a success. Nothing at all is taken for one. */
static bool is_success(const char *text, size_t len) {
  const char *space = len > 0 ? memchr(text, ' ', len) : NULL;
  return len == 0 || (space != NULL && text + len - space > 3 && space[1] == '2');
}

/* IMF-fixdate of RFC 9110, "Sun, 06 Nov 1994 08:49:37 GMT". 0, or -1. */
static int read_http_date(const char *text, size_t len, int64_t *time_us) {
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (len != 29 || memcmp(text + 3, ", ", 2) != 0 || memcmp(text + 25, " GMT", 4) != 0) return -1;
  int month = 1;
  while (month <= 12 && memcmp(months + 3 * (month - 1), text + 8, 3) != 0) month++;
  int day = read_digits(text + 5, 2), year = read_digits(text + 12, 4);
  int hour = read_digits(text + 17, 2), minute = read_digits(text + 20, 2), second = read_digits(text + 23, 2);
  if (year < 0 || month > 12 || day < 1 || day > days_in_month(year, month)) return -1;
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) return -1;
  *time_us = (days_since_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) * 1000000;
  return 0;
}

static void end_propstat(ob_listxml *p) {
  if (p->refused) return;
  if (p->properties.size >= 0) p->entry.size = p->properties.size;
  if (p->properties.modified_us != INT64_MIN) p->entry.modified_us = p->properties.modified_us;
  if (p->properties.etag_len != NONE) {
    p->entry.etag_off = p->properties.etag_off;
    p->entry.etag_len = p->properties.etag_len;
  }
  p->is_collection = p->is_collection || p->may_be_collection;
}

static int end_response(ob_listxml *p) {
  if (p->entry.key_len == NONE) return fail(p, "an entry has no href"), -1;
  if (p->is_collection) return add_entry(p, &p->prefixes, &p->entry);
  if (p->entry.size < 0) return fail(p, "an entry has no getcontentlength"), -1;
  return add_entry(p, &p->objects, &p->entry);
}

/* ---- Azure (List Blobs) ------------------------------------------------------------------------------ */

/* Bytes of a start tag, one by one: whether it has the attribute Encoded="true", as names have that XML cannot hold. */
static void match_encoded(ob_listxml *p, char c) {
  static const char word[] = " Encoded=\"true\"";
  if (is_space(c)) c = ' ';
  if (c == '\'') c = '"';
  p->matched = c == word[p->matched] ? (uint8_t)(p->matched + 1) : c == ' ';
  if (word[p->matched] == '\0') {
    p->name_encoded = true;
    p->matched = 0;
  }
}

/* ---- the end of any element -------------------------------------------------------------------------- */

/* The key or prefix in text[value_at .. text_len). */
static void keep_name(ob_listxml *p, ob_list_entry *entry) {
  entry->key_off = (uint32_t)p->value_at;
  entry->key_len = (uint32_t)(p->text_len - p->value_at);
  if (p->name_encoded) entry->key_len = decode_percent(p->text + p->value_at, entry->key_len, '+');
}

/* 0, or -1 with the error set. */
static int end_element(ob_listxml *p) {
  element ending = p->open[p->depth];
  p->names_len = p->name_at[p->depth];
  p->depth--;
  if (ending == E_RESPONSE) return end_response(p);
  if (ending == E_PROPSTAT) end_propstat(p);
  if (ending < E_KEY && ending != E_CONTENTS && ending != E_BLOB) return 0;

  if (ending == E_CONTENTS || ending == E_BLOB) {
    if (p->entry.key_len == NONE) return fail(p, ending == E_BLOB ? "an entry has no Name" : "an entry has no Key"), -1;
    if (p->is_collection) return 0; /* Azure: a directory of a hierarchical namespace is no object */
    return add_entry(p, &p->objects, &p->entry);
  }
  if (ending == E_PREFIX) {
    ob_list_entry prefix = NO_ENTRY;
    keep_name(p, &prefix);
    return add_entry(p, &p->prefixes, &prefix);
  }

  switch (ending) {
  case E_KEY:
    keep_name(p, &p->entry);
    return 0;
  case E_ETAG:
    keep_value(p, &p->entry.etag_off, &p->entry.etag_len);
    return 0;
  case E_VERSION:
    keep_value(p, &p->entry.version_off, &p->entry.version_len);
    return 0;
  case E_TOKEN:
    keep_value(p, &p->token_off, &p->token_len);
    return 0;
  case E_MARKER:
    keep_value(p, &p->marker_off, &p->marker_len);
    return 0;
  case E_BLOB_ETAG:
    return keep_etag(p, &p->entry);
  case E_HREF:
    return keep_href(p);
  case E_DAV_ETAG:
    return keep_etag(p, &p->properties);
  default:
    break;
  }

  /* What remains is read now and leaves the arena. */
  const char *text = p->text != NULL ? p->text + p->value_at : "";
  size_t len = p->text_len - p->value_at;
  p->text_len = p->value_at;
  while (len > 0 && is_space(text[0])) text++, len--;
  while (len > 0 && is_space(text[len - 1])) len--;
  if (len == 0) return 0;
  switch (ending) {
  case E_SIZE:
    if (ob_list_read_size(text, len, &p->entry.size) != 0) return fail(p, "a Size is not a number of bytes"), -1;
    break;
  case E_MODIFIED:
    if (ob_list_read_time(text, len, &p->entry.modified_us) != 0)
      return fail(p, "a LastModified is not an RFC 3339 time"), -1;
    break;
  case E_TRUNCATED:
    p->truncated = equals_folded(text, len, "true");
    break;
  case E_ENCODING:
    p->url_encoded = equals_folded(text, len, "url");
    break;
  case E_BLOB_MODIFIED:
    if (read_http_date(text, len, &p->entry.modified_us) != 0)
      return fail(p, "a Last-Modified is not an HTTP date"), -1;
    break;
  case E_BLOB_KIND:
    p->is_collection = equals(text, len, "directory");
    break;
  case E_DAV_LENGTH:
    if (ob_list_read_size(text, len, &p->properties.size) != 0)
      return fail(p, "a getcontentlength is no number of bytes"), -1;
    break;
  case E_DAV_MODIFIED: /* one that cannot be read counts as none: servers vary here, and the entry is good all the same */
    (void)read_http_date(text, len, &p->properties.modified_us);
    break;
  case E_STATUS:
    if (!is_success(text, len)) return fail(p, "the server could not tell of all entries"), -1;
    break;
  case E_PROPSTAT_STATUS:
    p->refused = !is_success(text, len);
    break;
  default:
    break;
  }
  return 0;
}

/* ---- states: each consumes from [at, end) and returns where it stopped, or NULL with the error set ------ */

static const char *feed_start(ob_listxml *p, const char *at) {
  static const char mark[] = "\xef\xbb\xbf";
  if (*at == mark[p->matched]) {
    if (++p->matched == 3) {
      p->matched = 0;
      p->at = AT_TEXT;
    }
    return at + 1;
  }
  if (p->matched != 0) return fail(p, "the document is not XML");
  if (is_space(*at)) return at + 1;
  p->at = AT_TEXT;
  if (*at == '{' && (p->json = ob_listjson_new()) == NULL) return fail(p, OUT_OF_MEMORY);
  return at;
}

static const char *feed_text(ob_listxml *p, const char *at, const char *end) {
  if (p->depth == 0) {
    while (at < end && is_space(*at)) at++;
    if (at == end) return at;
    if (*at != '<') return fail(p, p->root_seen ? "text after the root element" : "the document is not XML");
    p->at = AT_MARKUP;
    return at + 1;
  }

  bool kept = p->open[p->depth] >= E_KEY;
  /* A value is searched in short runs: were each reference to look for < in all the rest, time would grow with its square. */
  if (kept && end - at > 256) end = at + 256;
  const char *stop = *at == '<' ? at : memchr(at, '<', (size_t)(end - at));
  const char *run_end = stop != NULL ? stop : end;
  if (kept && run_end > at) {
    const char *reference = memchr(at, '&', (size_t)(run_end - at));
    if (add_text(p, at, (size_t)((reference != NULL ? reference : run_end) - at)) != 0) return NULL;
    if (reference != NULL) {
      p->at = AT_REFERENCE;
      p->reference_len = 0;
      return reference + 1;
    }
  }
  if (stop == NULL) return end;
  p->at = AT_MARKUP;
  return stop + 1;
}

/* A character reference's number, or -1: "#65", "#x41". */
static int64_t reference_number(const char *text, size_t len) {
  int64_t value = 0;
  int hex = len > 1 && text[1] == 'x';
  size_t i = hex ? 2 : 1;
  if (i == len) return -1;
  for (; i < len; i++) {
    int digit = ob_list_hex_digit(text[i]);
    if (digit < 0 || (!hex && digit > 9)) return -1;
    value = value * (hex ? 16 : 10) + digit; /* MAX_REFERENCE digits at most: cannot overflow */
  }
  return value <= 0x10ffff && (value < 0xd800 || value > 0xdfff) ? value : -1;
}

static int add_character(ob_listxml *p, uint32_t c) {
  char utf8[4];
  size_t n;
  if (c < 0x80) {
    utf8[0] = (char)c;
    n = 1;
  } else if (c < 0x800) {
    utf8[0] = (char)(0xc0 | c >> 6);
    utf8[1] = (char)(0x80 | (c & 0x3f));
    n = 2;
  } else if (c < 0x10000) {
    utf8[0] = (char)(0xe0 | c >> 12);
    utf8[1] = (char)(0x80 | (c >> 6 & 0x3f));
    utf8[2] = (char)(0x80 | (c & 0x3f));
    n = 3;
  } else {
    utf8[0] = (char)(0xf0 | c >> 18);
    utf8[1] = (char)(0x80 | (c >> 12 & 0x3f));
    utf8[2] = (char)(0x80 | (c >> 6 & 0x3f));
    utf8[3] = (char)(0x80 | (c & 0x3f));
    n = 4;
  }
  return add_text(p, utf8, n);
}

static const char *feed_reference(ob_listxml *p, const char *at, const char *end) {
  while (at < end && *at != ';') {
    if (p->reference_len == MAX_REFERENCE) return fail(p, "a reference is malformed");
    p->reference[p->reference_len++] = *at++;
  }
  if (at == end) return at;

  static const struct {
    const char *name;
    char c;
  } entities[] = {{"quot", '"'}, {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"apos", '\''}};
  int64_t c = -1;
  if (p->reference_len > 0 && p->reference[0] == '#') {
    c = reference_number(p->reference, p->reference_len);
  } else {
    for (size_t i = 0; i < sizeof entities / sizeof *entities && c < 0; i++) {
      if (equals(p->reference, p->reference_len, entities[i].name)) c = entities[i].c;
    }
  }
  if (c < 0) return fail(p, "a reference is malformed");
  if (add_character(p, (uint32_t)c) != 0) return NULL;
  p->at = AT_TEXT;
  return at + 1;
}

static const char *feed_markup(ob_listxml *p, const char *at) {
  p->matched = 0;
  switch (*at) {
  case '!':
    p->at = AT_BANG;
    return at + 1;
  case '?':
    p->at = AT_INSTRUCTION;
    return at + 1;
  case '/':
    if (p->depth == 0) return fail(p, "an end tag without its start");
    p->at = AT_END_NAME;
    p->name_at[p->depth + 1] = p->names_len;
    p->names_len = p->name_at[p->depth]; /* counts up again as the name is compared */
    return at + 1;
  default:
    if (p->depth == MAX_DEPTH) return fail(p, "elements are nested too deeply");
    p->at = AT_NAME;
    p->name_at[p->depth + 1] = p->names_len;
    return at;
  }
}

/* Bytes that end a name: white space, / and >; or cannot be part of one: < = " ' & and control characters. */
static inline bool ends_name(char c) {
  const uint64_t ends = 0x00000000ffffffffu | 1ull << ' ' | 1ull << '"' | 1ull << '&' | 1ull << '\'' | 1ull << '/' |
                        1ull << '<' | 1ull << '=' | 1ull << '>';
  return (unsigned char)c < 64 && (ends >> c & 1) != 0;
}

static const char *end_tag_done(ob_listxml *p, const char *next) {
  p->at = AT_TEXT;
  return end_element(p) == 0 ? next : NULL;
}

static const char *feed_name(ob_listxml *p, const char *at, const char *end) {
  uint32_t len = p->names_len;
  while (at < end && !ends_name(*at)) {
    if (len == MAX_NAMES) return fail(p, "names of elements are too long");
    p->names[len++] = *at++;
  }
  p->names_len = len;
  if (at == end) return at;
  if (!is_space(*at) && *at != '/' && *at != '>') return fail(p, "a tag is malformed");
  if (start_element(p) != 0) return NULL;
  if (*at == '>') {
    p->at = AT_TEXT;
    return at + 1;
  }
  p->at = AT_ATTRIBUTES;
  p->matched = 0;
  p->quote = 0;
  p->slash = false;
  return at;
}

static const char *feed_attributes(ob_listxml *p, const char *at, const char *end) {
  /* Azure's alone: names of S3 and WebDAV have no attributes. */
  bool named = p->open[p->depth] == E_KEY || p->open[p->depth] == E_PREFIX;
  for (; at < end; at++) {
    if (named) match_encoded(p, *at);
    if (p->quote != 0) {
      if (!named) {
        at = memchr(at, p->quote, (size_t)(end - at));
        if (at == NULL) return end;
      }
      if (*at == p->quote) p->quote = 0;
    } else if (*at == '>') {
      if (p->slash) return end_tag_done(p, at + 1);
      p->at = AT_TEXT;
      return at + 1;
    } else if (*at == '<' || p->slash) {
      return fail(p, "a tag is malformed"); /* only > may follow the slash */
    } else if (*at == '"' || *at == '\'') {
      p->quote = *at;
    } else {
      p->slash = *at == '/';
    }
  }
  return at;
}

static const char *feed_end_name(ob_listxml *p, const char *at, const char *end) {
  /* names_len runs from the start of the expected name to its end, which is where the next name would begin. */
  uint32_t len = p->names_len, expected = p->name_at[p->depth + 1];
  while (at < end && len < expected && *at == p->names[len]) at++, len++;
  p->names_len = len;
  if (at == end) return at;
  if (len < expected || !ends_name(*at)) return fail(p, "an end tag does not match its start");
  if (*at == '>') return end_tag_done(p, at + 1);
  p->at = AT_END_TAIL;
  return at;
}

static const char *feed_end_tail(ob_listxml *p, const char *at, const char *end) {
  while (at < end && is_space(*at)) at++;
  if (at == end) return at;
  if (*at != '>') return fail(p, "a tag is malformed");
  return end_tag_done(p, at + 1);
}

static const char *feed_bang(ob_listxml *p, const char *at) {
  static const char comment[] = "--", cdata[] = "[CDATA[";
  /* The first byte says which of the two it must become; the whole of it is compared byte by byte. */
  const char *word = p->matched > 0 ? (p->reference[0] == '-' ? comment : cdata) : (*at == '-' ? comment : cdata);
  if (*at != word[p->matched]) {
    return fail(p, p->matched == 0 && *at == 'D' ? "a document type is not allowed" : "a tag is malformed");
  }
  p->reference[0] = word[0];
  p->matched++;
  if (word[p->matched] == '\0') {
    if (word == cdata && p->depth == 0) return fail(p, "text outside the root element");
    p->matched = 0;
    p->at = word == comment ? AT_COMMENT : AT_CDATA;
  }
  return at + 1;
}

/* Up to the end of a comment, CDATA section or instruction: `count` times `mark`, then >. Its text is added to the value
 * where it is kept. */
static const char *feed_until(ob_listxml *p, const char *at, const char *end, char mark, uint8_t count, bool kept) {
  static const char marks[] = "]]";
  for (; at < end; at++) {
    if (*at == mark) {
      if (p->matched < count) {
        p->matched++;
      } else if (kept && add_text(p, at, 1) != 0) {
        return NULL;
      }
    } else if (*at == '>' && p->matched == count) {
      p->at = AT_TEXT;
      return at + 1;
    } else {
      const char *next = memchr(at, mark, (size_t)(end - at));
      if (next == NULL) next = end;
      if (kept && (add_text(p, marks, p->matched) != 0 || add_text(p, at, (size_t)(next - at)) != 0)) return NULL;
      p->matched = 0;
      at = next - 1;
    }
  }
  return at;
}

/* One of the two references that ETags and keys are full of. Its length and what it stands for; 0: another one. */
static size_t common_reference(const char *at, const char *end, char *c) {
  if (end - at >= 6 && memcmp(at, "&quot;", 6) == 0) {
    *c = '"';
    return 6;
  }
  if (end - at >= 5 && memcmp(at, "&amp;", 5) == 0) {
    *c = '&';
    return 5;
  }
  return 0;
}

/* ---- the quick way through what most of a page is: it says nothing that the states do not ------------- */

/* Add a whole value, in which at most the common references are. 1; 0: something is odd, nothing was added; -1 with the error set. */
static int add_value(ob_listxml *p, const char *value, const char *stop) {
  size_t n = (size_t)(stop - value);
  if (n > MAX_VALUE) return 0;
  /* Decoded it is no longer than it was. */
  if (n > p->text_cap - p->text_len && reserve_text(p, n) != 0) return -1;
  char *out = p->text + p->text_len;
  for (;;) {
    const char *reference = memchr(value, '&', (size_t)(stop - value));
    size_t run = (size_t)((reference != NULL ? reference : stop) - value);
    memcpy(out, value, run);
    out += run;
    if (reference == NULL) break;
    size_t taken = common_reference(reference, stop, out);
    if (taken == 0) return 0;
    out++;
    value = reference + taken;
  }
  p->text_len = (size_t)(out - p->text);
  return 1;
}

/* Two digits, or more than 99. */
static inline unsigned two_digits(const char *text) {
  unsigned tens = (unsigned char)text[0] - (unsigned)'0', ones = (unsigned char)text[1] - (unsigned)'0';
  return tens <= 9 && ones <= 9 ? 10 * tens + ones : 100;
}

/* A time as S3 writes it, "2026-01-01T12:34:56.000Z". 0; -1: it is written in another way, or wrong. */
static int read_usual_time(ob_listxml *p, const char *text, size_t len, int64_t *time_us) {
  if (len != 24 || text[13] != ':' || text[16] != ':' || text[19] != '.' || text[23] != 'Z') return -1;
  if (p->day_us == INT64_MIN || memcmp(text, p->day, sizeof p->day) != 0) {
    char midnight[] = "2026-01-01T00:00:00Z";
    memcpy(midnight, text, sizeof p->day);
    int64_t day_us;
    if (ob_list_read_time(midnight, sizeof midnight - 1, &day_us) != 0) return -1;
    p->day_us = day_us;
    memcpy(p->day, text, sizeof p->day);
  }
  unsigned hour = two_digits(text + 11), minute = two_digits(text + 14), second = two_digits(text + 17);
  unsigned centis = two_digits(text + 20), millis = (unsigned char)text[22] - (unsigned)'0';
  if (hour > 23 || minute > 59 || second > 60 || centis > 99 || millis > 9) return -1; /* 60: leap second */
  *time_us =
      p->day_us + (int64_t)((hour * 60 + minute) * 60 + second) * 1000000 + (int64_t)(centis * 10 + millis) * 1000;
  return 0;
}

/* The element `child` of the open one, without attributes and children, with the text [value, stop). 1; 0: something is odd,
 * and nothing has happened; -1 with the error set. */
static int take_leaf(ob_listxml *p, element child, const char *value, const char *stop) {
  if (child == E_UNKNOWN) return 1;
  size_t len = (size_t)(stop - value);
  if (child == E_SIZE) return ob_list_read_size(value, len, &p->entry.size) == 0;
  if (child == E_MODIFIED && read_usual_time(p, value, len, &p->entry.modified_us) == 0) return 1;
  size_t value_at = p->text_len;
  p->value_at = value_at;
  int rc = add_value(p, value, stop);
  if (rc != 1) return rc;
  p->name_encoded = false;
  p->depth++;
  p->open[p->depth] = child;
  p->name_at[p->depth] = p->names_len;
  return end_element(p) == 0 ? 1 : -1;
}

/* After a <: tags one right after the other that are whole in [at, end), start tags without attributes, and elements that
 * consist of text. Stops before anything else, in the state in which the others take over. */
static const char *feed_tags(ob_listxml *p, const char *at, const char *end) {
  for (;;) {
    element parent = p->open[p->depth];
    if (parent < E_LIST || parent >= E_KEY || p->depth == MAX_DEPTH) return at;
    if (*at == '/') {
      const char *name = p->names + p->name_at[p->depth];
      size_t len = p->names_len - p->name_at[p->depth];
      if ((size_t)(end - at) < len + 2 || at[len + 1] != '>' || memcmp(at + 1, name, len) != 0) return at;
      if (end_element(p) != 0) return NULL;
      at += len + 2;
    } else {
      const char *name = at;
      size_t len = 0;
      while (name + len < end && !ends_name(name[len]) && name[len] != ':') len++;
      const char *value = name + len + 1;
      if (len == 0 || *name == '!' || *name == '?' || value >= end || value[-1] != '>') return at;
      if (len > MAX_NAMES - p->names_len) return at;
      element child = identify(parent, name, len);
      if (child > E_UNKNOWN && child < E_KEY) {
        p->name_at[p->depth + 1] = p->names_len;
        memcpy(p->names + p->names_len, name, len);
        p->names_len += (uint32_t)len;
        if (start_element(p) != 0) return NULL;
        at = value;
      } else {
        /* Looked for once: were each reference to look for it again, time would grow with their square. */
        const char *stop = memchr(value, '<', (size_t)(end - value));
        if (stop == NULL || (size_t)(end - stop) < len + 3 || stop[1] != '/' || stop[len + 2] != '>' ||
            memcmp(stop + 2, name, len) != 0)
          return at;
        int rc = take_leaf(p, child, value, stop);
        if (rc != 1) return rc == 0 ? at : NULL;
        at = stop + len + 3;
      }
    }
    if (at == end || *at != '<') {
      p->at = AT_TEXT;
      return at;
    }
    if (++at == end) return at;
  }
}

int ob_listxml_feed(ob_listxml *p, const char *data, size_t len) {
  if (p->error[0] != '\0') return -1;
  const char *at = data;
  const char *end = data + len;
  while (at < end) {
    if (p->json != NULL) return ob_listjson_feed(p->json, at, (size_t)(end - at));
    switch (p->at) {
    case AT_START:
      at = feed_start(p, at);
      break;
    case AT_TEXT:
      at = feed_text(p, at, end);
      break;
    case AT_REFERENCE:
      at = feed_reference(p, at, end);
      break;
    case AT_MARKUP:
      at = feed_tags(p, at, end);
      if (at != NULL && at < end && p->at == AT_MARKUP) at = feed_markup(p, at);
      break;
    case AT_NAME:
      at = feed_name(p, at, end);
      break;
    case AT_ATTRIBUTES:
      at = feed_attributes(p, at, end);
      break;
    case AT_END_NAME:
      at = feed_end_name(p, at, end);
      break;
    case AT_END_TAIL:
      at = feed_end_tail(p, at, end);
      break;
    case AT_BANG:
      at = feed_bang(p, at);
      break;
    case AT_COMMENT:
      at = feed_until(p, at, end, '-', 2, false);
      break;
    case AT_INSTRUCTION:
      at = feed_until(p, at, end, '?', 1, false);
      break;
    case AT_CDATA:
      at = feed_until(p, at, end, ']', 2, p->open[p->depth] >= E_KEY);
      break;
    }
    if (at == NULL) return -1;
  }
  return 0;
}

int ob_listxml_finish(ob_listxml *p, ob_list_page *page) {
  if (p->json != NULL && p->error[0] == '\0') return ob_listjson_finish(p->json, page);
  if (p->error[0] == '\0') {
    if (!p->root_seen || p->depth > 0 || p->at != AT_TEXT) {
      fail(p, "the document is cut short");
    } else if (strcmp(p->root, "ListBucketResult") != 0 && strcmp(p->root, "EnumerationResults") != 0 &&
               strcmp(p->root, "multistatus") != 0) {
      fail(p, "the document is not a list");
    }
  }
  if (p->error[0] != '\0') return -1;

  /* Only now: EncodingType may come after the entries. */
  if (p->url_encoded && !p->finished) {
    for (size_t i = 0; i < p->objects.n; i++) {
      ob_list_entry *entry = &p->objects.items[i];
      entry->key_len = decode_percent(p->text + entry->key_off, entry->key_len, ' ');
    }
    for (size_t i = 0; i < p->prefixes.n; i++) {
      ob_list_entry *entry = &p->prefixes.items[i];
      entry->key_len = decode_percent(p->text + entry->key_off, entry->key_len, ' ');
    }
    if (p->marker_len != NONE) p->marker_len = decode_percent(p->text + p->marker_off, p->marker_len, ' ');
  }
  p->finished = true;

  *page = (ob_list_page){
      .text = p->text,
      .entries = p->objects.items,
      .n_entries = p->objects.n,
      .prefixes = p->prefixes.items,
      .n_prefixes = p->prefixes.n,
      .truncated = p->truncated,
      .token_off = p->token_off,
      .token_len = p->token_len,
      .marker_off = p->marker_off,
      .marker_len = p->marker_len,
  };
  return 0;
}

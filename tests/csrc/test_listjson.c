/* sources: ob_listjson.c ob_listxml.c
 *
 * The parser of Google's list pages, by way of ob_listxml, which hands them on: documents by hand, whole, byte by byte and split
 * at random; then documents spoiled at random, which must be read alike however they are split. Prints the first failure and
 * exits with 1. Compiled with -DOB_TORTURE (both files), each allocation fails in turn too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ob_listxml.h"

#define NONE UINT32_MAX
#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n  document: %.2000s\n", __FILE__, __LINE__, #condition, under_test);         \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

#ifdef OB_TORTURE
_Atomic long ob_torture_countdown = -1;
#endif

static const char *under_test = "";
static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint32_t below(uint32_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 32) % n;
}

typedef enum { WHOLE, BYTEWISE, RANDOM_SPLITS, HOWS } how;

/* From memory of exactly the size of each piece, for the sanitizer's sake. */
static ob_listxml *parse(const char *data, size_t len, how split) {
  ob_listxml *parser = ob_listxml_new();
  if (parser == NULL) abort();
  for (size_t at = 0; at < len;) {
    size_t n = split == WHOLE ? len : split == BYTEWISE ? 1 : below(12);
    if (n > len - at) n = len - at;
    char *piece = malloc(n + 1);
    if (piece == NULL) abort();
    memcpy(piece, data + at, n);
    ob_listxml_feed(parser, piece, n);
    free(piece);
    at += n;
  }
  return parser;
}

static int is(const ob_list_page *page, uint32_t off, uint32_t len, const char *expected) {
  if (expected == NULL) return len == NONE;
  return len == strlen(expected) && memcmp(page->text + off, expected, len) == 0;
}

static void test_page(void) {
  static const char document[] =
      "{\n \"kind\": \"storage#objects\",\n \"nextPageToken\": \"CgNhL2I=\",\n \"prefixes\": [ \"d/\", \"e\\u00e9/\" "
      "],\n"
      " \"items\": [\n  {\"kind\": \"storage#object\", \"name\": \"a \\\"b\\\\\\/c\\u20ac\\ud83d\\ude00\", \"size\": "
      "\"12\","
      " \"metadata\": {\"name\": \"not this\", \"size\": \"x\", \"deep\": [[{\"etag\": 1}]]}, \"updated\":"
      " \"2024-02-29T12:00:00.123Z\", \"etag\": \"CJ+=\", \"generation\": \"1709208000123000\", \"acl\": [{\"name\": "
      "1}]},\n"
      "  {\"name\": \"b\", \"size\": 7, \"temporaryHold\": true, \"etag\": \"\", \"owner\": null, \"n\": -1.5e+3},\n"
      "  {\"size\": \"0\", \"name\": \"\\t\\ud800x\\udc00\"}\n ],\n \"other\": {\"items\": [{\"name\": \"nor "
      "this\"}]}\n}\n";
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, sizeof document - 1, split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0);
    CHECK(strcmp(ob_listxml_error(parser), "") == 0);
    CHECK(page.n_entries == 3);
    const ob_list_entry *e = page.entries;
    CHECK(is(&page, e[0].key_off, e[0].key_len, "a \"b\\/c\xe2\x82\xac\xf0\x9f\x98\x80"));
    CHECK(e[0].size == 12);
    CHECK(e[0].modified_us == 1709208000123000);
    CHECK(is(&page, e[0].etag_off, e[0].etag_len, "CJ+="));
    CHECK(is(&page, e[0].version_off, e[0].version_len, "1709208000123000"));
    CHECK(is(&page, e[1].key_off, e[1].key_len, "b"));
    CHECK(e[1].size == 7);
    CHECK(e[1].modified_us == INT64_MIN);
    CHECK(is(&page, e[1].etag_off, e[1].etag_len, NULL));
    CHECK(is(&page, e[1].version_off, e[1].version_len, NULL));
    CHECK(is(&page, e[2].key_off, e[2].key_len, "\t\xef\xbf\xbdx\xef\xbf\xbd"));
    CHECK(page.n_prefixes == 2);
    CHECK(is(&page, page.prefixes[0].key_off, page.prefixes[0].key_len, "d/"));
    CHECK(is(&page, page.prefixes[1].key_off, page.prefixes[1].key_len, "e\xc3\xa9/"));
    CHECK(page.truncated == 1);
    CHECK(is(&page, page.token_off, page.token_len, "CgNhL2I="));
    CHECK(is(&page, page.marker_off, page.marker_len, NULL));
    ob_listxml_free(parser);
  }
}

static void test_empty_pages(void) {
  static const char *const documents[] = {"{}", " {\"items\": []}",
                                          "{\"items\":[],\"prefixes\":[],\"nextPageToken\":\"\"}"};
  for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
    under_test = documents[i];
    for (how split = WHOLE; split < HOWS; split++) {
      ob_listxml *parser = parse(documents[i], strlen(documents[i]), split);
      ob_list_page page;
      CHECK(ob_listxml_finish(parser, &page) == 0);
      CHECK(page.n_entries == 0 && page.n_prefixes == 0 && !page.truncated && page.token_len == NONE);
      ob_listxml_free(parser);
    }
  }
}

static void refused(const char *document, const char *reason) {
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, strlen(document), split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == -1);
    if (strcmp(ob_listxml_error(parser), reason) != 0) {
      fprintf(stderr, "refused as \"%s\", not as \"%s\"\n", ob_listxml_error(parser), reason);
      CHECK(!"the reason given");
    }
    ob_listxml_free(parser);
  }
}

static void test_refusals(void) {
  refused("{", "the document is cut short");
  refused("{\"items\": [{\"name\": \"a", "the document is cut short");
  refused("{\"items\": [{\"name\": \"a\"}]", "the document is cut short");
  refused("{\"error\": {\"code\": 403}}", "the document is an error");
  refused("{\"items\": [{\"size\": \"1\"}]}", "an object has no name");
  refused("{\"items\": [{\"name\": \"a\", \"size\": \"x\"}]}", "a size is no number");
  refused("{\"items\": [{\"name\": \"a\", \"updated\": \"now\"}]}", "a time is not RFC 3339");
  refused("{\"items\": [{\"size\": \"\"}]}", "a size is no number"); /* the first text that is kept is empty */
  refused("{\"items\": [{\"updated\": \"\"}]}", "a time is not RFC 3339");
  static const char *const malformed[] = {
      "{]",    "{\"a\" 1}",           "{\"a\":,}", "{a:1}",      "{\"a\":1,}", "{\"a\":\"\\x\"}", "{\"a\":[1 2]}",
      "{} {}", "{\"a\":\"\\u12g4\"}", "{,}",       "{\"a\":'b'}"};
  for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) refused(malformed[i], "the document is malformed");
  char deep[200] = "{\"a\":";
  memset(deep + 5, '[', 64);
  refused(deep, "the document is nested too deeply");
}

static void test_long_values(void) {
  size_t len = (1u << 20) + 1;
  char *document = malloc(len + 100);
  if (document == NULL) abort();
  for (int over = 0; over < 2; over++) {
    size_t n = (size_t)sprintf(document, "{\"items\": [{\"name\": \"");
    memset(document + n, 'k', len - 1 + (size_t)over);
    n += len - 1 + (size_t)over;
    n += (size_t)sprintf(document + n, "\"}]}");
    under_test = "(a name of 1 MiB)";
    ob_listxml *parser = parse(document, n, WHOLE);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == (over ? -1 : 0));
    CHECK(strcmp(ob_listxml_error(parser), over ? "a value is too long" : "") == 0);
    ob_listxml_free(parser);
  }
  free(document);
}

/* Spoil a page and read it whole and in pieces: both must say the same. */
static void test_spoiled_pages(void) {
  static const char seed[] =
      "{\"nextPageToken\":\"t\",\"prefixes\":[\"d/\",\"e\\u20ac/\"],\"items\":[{\"name\":\"a\\n\",\"size\":\"12\","
      "\"updated\":\"2024-02-29T12:00:00Z\",\"etag\":\"e\",\"generation\":\"1\",\"m\":{\"x\":[1,null]}},"
      "{\"name\":\"\\ud83d\\ude00\"}],\"z\":true}";
  static const char alphabet[] = "{}[]\",:\\u0dtfn -1e.\x01\xff";
  for (int run = 0; run < 20000; run++) {
    char document[400];
    size_t len = sizeof seed - 1;
    memcpy(document, seed, len);
    for (uint32_t changes = 1 + below(3); changes > 0; changes--) {
      size_t at = below((uint32_t)len);
      switch (below(3)) {
      case 0:
        document[at] = alphabet[below(sizeof alphabet - 1)];
        break;
      case 1:
        memmove(document + at, document + at + 1, len - at - 1);
        len--;
        break;
      default:
        memmove(document + at + 1, document + at, len - at);
        document[at] = alphabet[below(sizeof alphabet - 1)];
        len++;
      }
    }
    document[len] = '\0';
    if (document[0] != '{') continue; /* XML's */
    under_test = document;
    ob_listxml *whole = parse(document, len, WHOLE), *pieces = parse(document, len, RANDOM_SPLITS);
    ob_list_page a, b;
    int parsed = ob_listxml_finish(whole, &a);
    CHECK(ob_listxml_finish(pieces, &b) == parsed);
    CHECK(strcmp(ob_listxml_error(whole), ob_listxml_error(pieces)) == 0);
    CHECK((ob_listxml_error(whole)[0] == '\0') == (parsed == 0));
    if (parsed == 0) {
      CHECK(a.n_entries == b.n_entries && a.n_prefixes == b.n_prefixes && a.token_len == b.token_len);
      for (size_t i = 0; i < a.n_entries; i++) {
        CHECK(a.entries[i].key_len == b.entries[i].key_len && a.entries[i].size == b.entries[i].size);
        CHECK(memcmp(a.text + a.entries[i].key_off, b.text + b.entries[i].key_off, a.entries[i].key_len) == 0);
      }
    }
    ob_listxml_free(whole);
    ob_listxml_free(pieces);
  }
}

#ifdef OB_TORTURE
/* The n-th allocation fails, for every n. */
static void test_memory_running_short(void) {
  size_t cap = 1 << 20, len = 0;
  char *document = malloc(cap);
  if (document == NULL) abort();
  len += (size_t)sprintf(document, "{\"prefixes\":[\"p/\"],\"items\":[");
  for (int i = 0; i < 2500; i++)
    len += (size_t)sprintf(document + len, "%s{\"name\":\"%0100d\"}", i != 0 ? "," : "", i);
  len += (size_t)sprintf(document + len, "]}");
  under_test = "(2,500 entries)";
  int failures = 0;
  for (long n = 0;; n++) {
    ob_torture_countdown = n;
    ob_listxml *parser = ob_listxml_new();
    int fed = parser != NULL ? ob_listxml_feed(parser, document, len) : -1;
    int failed = ob_torture_countdown < 0;
    ob_torture_countdown = -1;
    CHECK(failed == (fed != 0));
    if (parser != NULL && failed) CHECK(strcmp(ob_listxml_error(parser), "out of memory") == 0);
    ob_listxml_free(parser);
    failures += failed;
    if (!failed) break;
  }
  CHECK(failures >= 5);
  free(document);
}
#endif

int main(void) {
  test_page();
  test_empty_pages();
  test_refusals();
  test_long_values();
  test_spoiled_pages();
#ifdef OB_TORTURE
  test_memory_running_short();
#endif
  return 0;
}

/* sources: ob_listjson.c ob_listxml.c
 *
 * The list parser: documents by hand, documents made at random from a model of what they hold, and each of them whole,
 * byte by byte and split at random. Prints the first failure and exits with 1; with the argument "bench" measures instead.
 * Compiled with -DOB_TORTURE (all of it), each allocation fails in turn too.
 */
#include "ob_listxml.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NONE UINT32_MAX
#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n  document: %.2000s\n", __FILE__, __LINE__, #condition, under_test);         \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static const char *under_test = "";

static uint64_t random_state = 0x9e3779b97f4a7c15u;

/* xorshift64: the same documents in every run */
static uint32_t below(uint32_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 32) % n;
}

/* ---- driving the parser ------------------------------------------------------------------------------ */

typedef enum { WHOLE, BYTEWISE, RANDOM_SPLITS, HOWS } how;

/* Every piece is fed from memory of exactly its size, so that a sanitizer sees any byte read beyond it. */
static void feed_piece(ob_listxml *parser, const char *data, size_t len) {
  char *piece = malloc(len != 0 ? len : 1);
  if (piece == NULL) abort();
  memcpy(piece, data, len);
  ob_listxml_feed(parser, piece, len);
  free(piece);
}

static ob_listxml *parse(const char *data, size_t len, how split) {
  ob_listxml *parser = ob_listxml_new();
  if (parser == NULL) abort();
  if (split == WHOLE) feed_piece(parser, data, len);
  for (size_t at = 0; split != WHOLE && at < len;) {
    size_t n = split == BYTEWISE ? 1 : below(4) == 0 ? below(200) : below(12);
    if (n > len - at) n = len - at;
    feed_piece(parser, data + at, n);
    at += n;
  }
  return parser;
}

static int same(const ob_list_page *page, uint32_t off, uint32_t len, const char *expected, size_t expected_len) {
  return len == expected_len && memcmp(page->text + off, expected, len) == 0;
}

static int is(const ob_list_page *page, uint32_t off, uint32_t len, const char *expected) {
  if (expected == NULL) return len == NONE;
  return len != NONE && same(page, off, len, expected, strlen(expected));
}

/* ---- documents by hand ------------------------------------------------------------------------------- */

#define ROOT(inside) "<ListBucketResult>" inside "</ListBucketResult>"
#define KEY(inside) ROOT("<Contents><Key>" inside "</Key></Contents>")

/* The document is refused, for this reason, however it is split. */
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
    CHECK(ob_listxml_feed(parser, "<", 1) == -1 || strstr(reason, "cut short") || strstr(reason, "not a list"));
    ob_listxml_free(parser);
  }
}

/* The document holds one object with this key. */
static void has_key(const char *document, const char *key) {
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, strlen(document), split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0);
    CHECK(strcmp(ob_listxml_error(parser), "") == 0);
    CHECK(page.n_entries == 1);
    CHECK(is(&page, page.entries[0].key_off, page.entries[0].key_len, key));
    ob_listxml_free(parser);
  }
}

static void has_time(const char *time, int64_t expected_us) {
  char document[300];
  snprintf(document, sizeof document, ROOT("<Contents><Key>k</Key><LastModified>%s</LastModified></Contents>"), time);
  under_test = document;
  ob_listxml *parser = parse(document, strlen(document), WHOLE);
  ob_list_page page;
  CHECK(ob_listxml_finish(parser, &page) == 0);
  CHECK(page.entries[0].modified_us == expected_us);
  ob_listxml_free(parser);
}

static void refuses_value(const char *name, const char *value, const char *reason) {
  char document[300];
  snprintf(document, sizeof document, ROOT("<Contents><Key>k</Key><%s>%s</%s></Contents>"), name, value, name);
  refused(document, reason);
}

static void test_page_of_s3(void) {
  static const char document[] =
      "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix>root-prefix/</Prefix>"
      "<NextContinuationToken>1ueGcxLPRx1Tr/XYExHnh%2B==</NextContinuationToken><KeyCount>3</KeyCount>"
      "<MaxKeys>3</MaxKeys><Delimiter>/</Delimiter><IsTruncated> true\n</IsTruncated>"
      "<Contents><Key>a&amp;b</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>"
      "<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size><StorageClass>STANDARD</"
      "StorageClass>"
      "<Owner><ID>75aa</ID><DisplayName>me</DisplayName><Key>not this</Key></Owner>"
      "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
      "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress><Size>9</Size></RestoreStatus></Contents>"
      "<Contents><Key>bare</Key></Contents>"
      "<Contents><VersionId>v.1</VersionId><Size> 0 </Size><ETag/><Key>c</Key></Contents>"
      "<CommonPrefixes><Prefix>x/</Prefix><Prefix>y/</Prefix></CommonPrefixes>"
      "<CommonPrefixes><Prefix>z/</Prefix></CommonPrefixes><CommonPrefixes/></ListBucketResult>\n<!-- end -->\n";
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, sizeof document - 1, split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0);
    CHECK(strcmp(ob_listxml_root(parser), "ListBucketResult") == 0);
    CHECK(page.truncated == 1);
    CHECK(is(&page, page.token_off, page.token_len, "1ueGcxLPRx1Tr/XYExHnh%2B=="));
    CHECK(page.marker_len == NONE);
    CHECK(page.n_entries == 3);
    const ob_list_entry *e = page.entries;
    CHECK(is(&page, e[0].key_off, e[0].key_len, "a&b"));
    CHECK(is(&page, e[0].etag_off, e[0].etag_len, "\"fba9dede5f27731c9771645a39863328\""));
    CHECK(e[0].version_len == NONE);
    CHECK(e[0].size == 434234);
    CHECK(e[0].modified_us == 1255369830000000);
    CHECK(is(&page, e[1].key_off, e[1].key_len, "bare"));
    CHECK(e[1].etag_len == NONE && e[1].version_len == NONE && e[1].size == -1 && e[1].modified_us == INT64_MIN);
    CHECK(is(&page, e[2].key_off, e[2].key_len, "c"));
    CHECK(is(&page, e[2].version_off, e[2].version_len, "v.1"));
    CHECK(e[2].size == 0 && e[2].etag_len == NONE);
    CHECK(page.n_prefixes == 3);
    CHECK(is(&page, page.prefixes[0].key_off, page.prefixes[0].key_len, "x/"));
    CHECK(is(&page, page.prefixes[1].key_off, page.prefixes[1].key_len, "y/"));
    CHECK(is(&page, page.prefixes[2].key_off, page.prefixes[2].key_len, "z/"));
    ob_listxml_free(parser);
  }
}

static void test_encoding_type(void) {
  /* The percent-encoded page of ListObjects V1; EncodingType comes last. */
  static const char document[] =
      ROOT("<Marker/><NextMarker>n%2fm+1</NextMarker><IsTruncated>TRUE</IsTruncated>"
           "<Contents><Key>a+b%2Bc%0a%C3%A9</Key><ETag>%22</ETag></Contents><Contents><Key>100%25%</Key></Contents>"
           "<Contents><Key>%zz%4</Key></Contents>"
           "<CommonPrefixes><Prefix>p+q%2F</Prefix></CommonPrefixes>"
           "<NextContinuationToken>t+%41</NextContinuationToken><EncodingType>url</EncodingType>");
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, sizeof document - 1, split);
    ob_list_page page;
    for (int again = 0; again < 2; again++) { /* finishing twice does not decode twice */
      CHECK(ob_listxml_finish(parser, &page) == 0);
      CHECK(page.truncated == 1);
      CHECK(is(&page, page.marker_off, page.marker_len, "n/m 1"));
      CHECK(is(&page, page.token_off, page.token_len, "t+%41"));
      CHECK(is(&page, page.entries[0].key_off, page.entries[0].key_len, "a b+c\n\xc3\xa9"));
      CHECK(is(&page, page.entries[0].etag_off, page.entries[0].etag_len, "%22"));
      CHECK(is(&page, page.entries[1].key_off, page.entries[1].key_len, "100%%"));
      CHECK(is(&page, page.entries[2].key_off, page.entries[2].key_len, "%zz%4"));
      CHECK(is(&page, page.prefixes[0].key_off, page.prefixes[0].key_len, "p q/"));
    }
    ob_listxml_free(parser);
  }
  has_key(KEY("a+b%2B"), "a+b%2B"); /* not encoded: stays */
}

static void test_empty_page(void) {
  static const char *const documents[] = {"<ListBucketResult/>", ROOT(""), " <a:ListBucketResult xmlns:a='x>y' />\n",
                                          ROOT("<NextMarker></NextMarker><NextContinuationToken/><IsTruncated/>")};
  for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
    under_test = documents[i];
    for (how split = WHOLE; split < HOWS; split++) {
      ob_listxml *parser = parse(documents[i], strlen(documents[i]), split);
      ob_list_page page;
      CHECK(ob_listxml_finish(parser, &page) == 0);
      CHECK(page.n_entries == 0 && page.n_prefixes == 0 && page.truncated == 0);
      CHECK(page.token_len == NONE && page.marker_len == NONE && page.text != NULL);
      ob_listxml_free(parser);
    }
  }
}

static void test_text(void) {
  has_key(KEY("&lt;&gt;&amp;&quot;&apos;"), "<>&\"'");
  has_key(KEY("&#65;&#x42;&#x6a;&#233;&#x20AC;&#x1F600;&#1;&#x0000043;"), "ABj\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x01"
                                                                          "C");
  has_key(KEY("a<![CDATA[<b>&amp;]]]>]]>c<![CDATA[]]><![CDATA[]x]]y]]>"), "a<b>&amp;]]]>c]x]]y");
  has_key(KEY("a<!-- <Key>&broken; -- ---><?php a > b ?\?>b"), "ab");
  has_key(KEY(" two  spaces \r\n"), " two  spaces \r\n");
  has_key(KEY(""), "");
  has_key(ROOT("<Contents><Key/></Contents>"), "");
  has_key("<s3:ListBucketResult><s3:Contents a=\"x>y\" b='\"/>'><q:Key c = '/' >k</q:Key "
          "\n></s3:Contents></s3:ListBucketResult >",
          "k");
  has_key(ROOT("<Key>no</Key><Contents><Key>k</Key></Contents><Versions><Contents><Key>no</Key></Contents></Versions>"),
          "k");
  has_key(ROOT("loose &text; is ignored<Contents>here too<Key>k</Key></Contents>"), "k");

  static const char with_nul[] = KEY("a&#0;b\0c");
  under_test = with_nul;
  ob_listxml *parser = parse(with_nul, sizeof with_nul - 1, WHOLE);
  ob_list_page page;
  CHECK(ob_listxml_finish(parser, &page) == 0);
  CHECK(same(&page, page.entries[0].key_off, page.entries[0].key_len, "a\0b\0c", 5));
  ob_listxml_free(parser);
}

static void test_times(void) {
  has_time("1970-01-01T00:00:00Z", 0);
  has_time("1969-12-31T23:59:59.999999Z", -1);
  has_time("2024-02-29T12:00:00.5Z", 1709208000500000);
  has_time("2024-02-29T12:00:00.123456789+05:30", 1709208000123456 - 19800000000);
  has_time("2024-02-29 12:00:00-00:30", 1709208000000000 + 1800000000);
  has_time("2000-03-01t00:00:00z", 951868800000000);
  has_time("2016-12-31T23:59:60Z", 1483228800000000);
  has_time(" 2024-02-29T12:00:00\n", 1709208000000000);
  has_time("0001-01-01T00:00:00Z", -62135596800000000);
  has_time("9999-12-31T23:59:59Z", 253402300799000000);
  has_time("", INT64_MIN);

  static const char *const wrong[] = {
      "2023-02-29T12:00:00Z",      "2024-13-01T00:00:00Z",     "2024-00-01T00:00:00Z",
      "2024-01-00T00:00:00Z",      "2024-01-01T24:00:00Z",     "2024-01-01T00:60:00Z",
      "2024-01-01T00:00:61Z",      "2024-01-01T00:00:00.Z",    "2024-01-01T00:00:00+0100",
      "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00Zx",    "2024-01-01",
      "1900-02-29T00:00:00Z",      "2024-1-01T00:00:00ZZ",     "Mon, 01 Jan 2024 00:00:00 GMT",
      "2023-02-29T12:00:00.000Z",  "2024-01-01T24:00:00.000Z", "2024-01-01T00:60:00.000Z",
      "2024-01-01T00:00:61.000Z",  "2024-01-01T0:000:00.000Z", "2024-01-01T00:00:00.00:Z",
      "2024-01-01T00:00:00.0/0Z",  "2024-01-01T00:00:00,000Z"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    refuses_value("LastModified", wrong[i], "a LastModified is not an RFC 3339 time");
    char document[400]; /* after a right one, most often of the same day */
    snprintf(document, sizeof document,
             ROOT("<Contents><Key>k</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
                  "<Contents><Key>l</Key><LastModified>%s</LastModified></Contents>"),
             wrong[i]);
    refused(document, "a LastModified is not an RFC 3339 time");
  }
  /* The way S3 writes them: each the neighbour of one of its day, of another day, and of what no day is. */
  has_time("2024-02-29T23:59:59.999Z", 1709251199999000);
  has_time("2016-12-31T23:59:60.001Z", 1483228800001000);
  has_time("1969-12-31T23:59:59.001Z", -999000);
  static const char days[] =
      ROOT("<Contents><Key>a</Key><LastModified>2024-02-29T12:00:00.000Z</LastModified></Contents>"
           "<Contents><Key>b</Key><LastModified>2024-02-29T00:00:01.500Z</LastModified></Contents>"
           "<Contents><Key>c</Key><LastModified>2024-03-01T00:00:00.000Z</LastModified></Contents>"
           "<Contents><Key>d</Key><LastModified>2024-02-29t00:00:00.000Z</LastModified></Contents>");
  static const int64_t of_days[] = {1709208000000000, 1709164801500000, 1709251200000000, 1709164800000000};
  for (how split = WHOLE; split < HOWS; split++) {
    under_test = days;
    ob_listxml *parser = parse(days, sizeof days - 1, split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0 && page.n_entries == 4);
    for (size_t i = 0; i < 4; i++) CHECK(page.entries[i].modified_us == of_days[i]);
    ob_listxml_free(parser);
  }
  static const char nothing[] = ROOT("<Contents><Key>k</Key><LastModified>\0\0\0\0\0\0\0\0\0\0\0"
                                     "00:00:00.000Z</LastModified></Contents>");
  ob_listxml *parser = parse(nothing, sizeof nothing - 1, WHOLE);
  CHECK(strcmp(ob_listxml_error(parser), "a LastModified is not an RFC 3339 time") == 0);
  ob_listxml_free(parser);
}

static void test_sizes(void) {
  static const char largest[] = ROOT("<Contents><Key>k</Key><Size>9223372036854775807</Size></Contents>");
  under_test = largest;
  ob_listxml *parser = parse(largest, sizeof largest - 1, WHOLE);
  ob_list_page page;
  CHECK(ob_listxml_finish(parser, &page) == 0);
  CHECK(page.entries[0].size == INT64_MAX);
  ob_listxml_free(parser);

  static const char *const wrong[] = {"-1", "9223372036854775808", "99999999999999999999", "1e3", "1 2", "0x10"};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    refuses_value("Size", wrong[i], "a Size is not a number of bytes");
}

static void test_malformed(void) {
  refused("", "the document is cut short");
  refused(" ", "the document is cut short");
  refused("<?xml version='1.0'?>", "the document is cut short");
  refused("<ListBucketResult>", "the document is cut short");
  refused("<ListBucketResult/><!-- open", "the document is cut short");
  refused(ROOT("<Contents><Key>k</Key>") "<", "an end tag does not match its start");
  refused("\xef\xbbx", "the document is not XML");
  refused("<!DOCTYPE x [<!ENTITY a 'aaa'>]><x>&a;</x>", "a document type is not allowed");
  refused("<![CDATA[x]]><ListBucketResult/>", "text outside the root element");
  refused(ROOT("") "x", "text after the root element");
  refused(ROOT("") ROOT(""), "there is more than one root element");
  refused("</ListBucketResult>", "an end tag without its start");
  refused("<ListBucketResult></ListBucketResul>", "an end tag does not match its start");
  refused("<ListBucketResult></ListBucketResults>", "an end tag does not match its start");
  refused("<a:ListBucketResult></b:ListBucketResult>", "an end tag does not match its start");
  refused(ROOT("<a><b></a></b>"), "an end tag does not match its start");
  refused(ROOT("<>"), "a tag has no name");
  refused(ROOT("<a/ >"), "a tag is malformed");
  refused(ROOT("<a <b>"), "a tag is malformed");
  refused(ROOT("<a></a b>"), "a tag is malformed");
  refused(ROOT("<a=b>"), "a tag is malformed");
  refused(ROOT("<!ELEMENT a>"), "a tag is malformed");
  refused(ROOT("<!-x>"), "a tag is malformed");
  refused(KEY("&nbsp;"), "a reference is malformed");
  refused(KEY("&"), "a reference is malformed");
  refused(KEY("&;"), "a reference is malformed");
  refused(KEY("&#;"), "a reference is malformed");
  refused(KEY("&#x;"), "a reference is malformed");
  refused(KEY("&#12a;"), "a reference is malformed");
  refused(KEY("&#xd800;"), "a reference is malformed");
  refused(KEY("&#x110000;"), "a reference is malformed");
  refused(KEY("&#99999999999;"), "a reference is malformed");
  refused(KEY("a<b>c</b>"), "an element where text was expected");
  refused(ROOT("<Contents><Size>1</Size></Contents>"), "an entry has no Key");
  refused(ROOT("<Contents/>"), "an entry has no Key");
}

static void test_other_root(void) {
  static const char document[] =
      "<e:Error xmlns:e=''><Code>InternalError</Code><Contents><Key>k</Key></Contents></e:Error>";
  refused(document, "the document is not a list");
  ob_listxml *parser = ob_listxml_new();
  CHECK(strcmp(ob_listxml_root(parser), "") == 0);
  CHECK(ob_listxml_feed(parser, document, 20) == 0);
  CHECK(strcmp(ob_listxml_root(parser), "Error") == 0);
  ob_listxml_free(parser);
}

/* A text that grows. */
typedef struct {
  char *data;
  size_t len, cap;
} text;

static void add_bytes(text *t, const char *data, size_t len) {
  if (t->len + len + 1 > t->cap) {
    t->cap = 2 * t->cap + len + 1;
    t->data = realloc(t->data, t->cap);
    if (t->data == NULL) abort();
  }
  memcpy(t->data + t->len, data, len);
  t->len += len;
  t->data[t->len] = '\0';
}

static void add(text *t, const char *format, ...) {
  char buffer[4096];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= sizeof buffer) abort();
  add_bytes(t, buffer, (size_t)n);
}

static void add_repeated(text *t, const char *what, size_t times) {
  for (size_t i = 0; i < times; i++) add_bytes(t, what, strlen(what));
}

static void limit(const char *before, const char *repeated, size_t times, const char *after, const char *reason) {
  text t = {0};
  add(&t, "%s", before);
  add_repeated(&t, repeated, times);
  add(&t, "%s", after);
  under_test = before;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(t.data, t.len, split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == (reason[0] != '\0' ? -1 : 0));
    CHECK(strcmp(ob_listxml_error(parser), reason) == 0);
    ob_listxml_free(parser);
  }
  free(t.data);
}

static void test_limits(void) {
  limit("<ListBucketResult><Contents><Key>", "x", 1 << 20, "</Key></Contents></ListBucketResult>", "");
  limit("<ListBucketResult><Contents><Key>", "x", (1 << 20) + 1, "</Key></Contents></ListBucketResult>",
        "a value is too long");
  limit("<ListBucketResult><Contents><Key>", "&gt;", (1 << 20) + 1, "</Key></Contents></ListBucketResult>",
        "a value is too long");
  limit("<ListBucketResult><Other>", "x", 3 << 20, "</Other></ListBucketResult>", "");
  limit("<ListBucketResult>", "<a>", 63, "", "the document is cut short");
  limit("<ListBucketResult>", "<a>", 64, "", "elements are nested too deeply");
  limit("<ListBucketResult a=\"", "x", 3 << 20, "\"/>", "");
  limit("<ListBucketResult><", "x", 16384, "/></ListBucketResult>", "names of elements are too long");
}

/* ---- documents at random: a model of the page, written in one of the many ways XML allows ------------------ */

#define MODEL_ENTRIES 20

typedef struct {
  char bytes[24];
  size_t len;
} word;

typedef struct {
  word key, etag, version;
  int has_etag, has_version, has_size, has_time;
  int64_t size, modified_us;
} model_entry;

static const char *const PIECES[] = {"a",
                                     "Z",
                                     "/",
                                     " ",
                                     "&",
                                     "<",
                                     ">",
                                     "\"",
                                     "'",
                                     "]",
                                     "]]>",
                                     "-",
                                     "\n",
                                     "\r",
                                     "%",
                                     "+",
                                     "%41",
                                     "\xc3\xa9",
                                     "\xe2\x82\xac",
                                     "\xf0\x9f\x98\x80",
                                     "\x7f",
                                     "\x01",
                                     ";",
                                     "#",
                                     "?"};

static word random_word(void) {
  word w = {.len = 0};
  for (uint32_t n = 1 + below(5); n > 0; n--) {
    const char *piece = PIECES[below(sizeof PIECES / sizeof *PIECES)];
    memcpy(w.bytes + w.len, piece, strlen(piece));
    w.len += strlen(piece);
  }
  return w;
}

static void add_noise(text *t) {
  static const char *const noise[] = {
      "\n  ",     "<!-- <Contents> & -->", "<?pi ?a?>", "<x:Owner a='>'><ID>1</ID><Key/></x:Owner>",
      "<Other/>", "<![CDATA[<Key>]]>",     "&lost;",    "<Owner><Owner><Key>k</Key></Owner></Owner>"};
  if (below(6) == 0) add(t, "%s", noise[below(sizeof noise / sizeof *noise)]);
}

/* The code point at s; *len: its bytes. */
static uint32_t code_point(const char *s, size_t *len) {
  const unsigned char *u = (const unsigned char *)s;
  *len = u[0] < 0x80 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
  uint32_t c = *len == 1 ? u[0] : u[0] & (0xffu >> (*len + 1));
  for (size_t i = 1; i < *len; i++) c = c << 6 | (u[i] & 0x3f);
  return c;
}

static void add_value(text *t, const word *w) {
  for (size_t at = 0; at < w->len;) {
    size_t len;
    uint32_t c = code_point(w->bytes + at, &len);
    uint32_t manner = below(12);
    if (manner == 0)
      add(t, "&#%u;", c);
    else if (manner == 1)
      add(t, "&#x%0*X;", (int)below(7), c);
    else if (manner == 2)
      add(t, "<![CDATA[%.*s]]>", (int)len, w->bytes + at);
    else if (c == '&')
      add(t, "&amp;");
    else if (c == '<')
      add(t, "&lt;");
    else if (c == '"' && manner < 6)
      add(t, "&quot;");
    else if (c == '\'' && manner < 6)
      add(t, "&apos;");
    else if (c == '>' && manner < 6)
      add(t, "&gt;");
    else
      add(t, "%.*s", (int)len, w->bytes + at);
    if (below(20) == 0) add(t, "%s", below(2) ? "<!-- & <b> -->" : "<?x <&?>");
    at += len;
  }
}

static void add_element(text *t, const char *name, const word *value) {
  const char *prefix = below(5) == 0 ? "s3:" : "";
  add(t, "<%s%s%s>", prefix, name, below(5) == 0 ? " a=\"/>\" b='<' " : "");
  add_value(t, value);
  add(t, "</%s%s%s>", prefix, name, below(5) == 0 ? " \n" : "");
  add_noise(t);
}

static void random_document(void) {
  model_entry entries[MODEL_ENTRIES];
  word prefixes[MODEL_ENTRIES];
  uint32_t n_entries = below(MODEL_ENTRIES), n_prefixes = below(MODEL_ENTRIES), i_prefix = 0;
  word token = random_word(), marker = random_word();
  int has_token = below(2) == 0, has_marker = below(2) == 0, truncated = below(2) == 0;

  text t = {0};
  add(&t, "<ListBucketResult xmlns='http://s3'>");
  add_noise(&t);
  if (has_token) add_element(&t, "NextContinuationToken", &token);
  for (uint32_t i = 0; i < n_entries; i++) {
    model_entry *e = &entries[i];
    *e = (model_entry){
        .key = random_word(), .etag = random_word(), .version = random_word(), .size = -1, .modified_us = INT64_MIN};
    e->has_etag = below(3) != 0;
    e->has_version = below(3) == 0;
    add(&t, "<Contents>");
    add_noise(&t);
    add_element(&t, "Key", &e->key);
    if (below(4) != 0) {
      e->size = (int64_t)below(1u << 31) << below(20);
      add(&t, "<Size>%lld</Size>", (long long)e->size);
    }
    if (e->has_etag) add_element(&t, "ETag", &e->etag);
    if (below(4) != 0) {
      time_t seconds = (time_t)below(2000000000);
      uint32_t micros = below(1000000);
      bool usual = below(2) == 0; /* as S3 writes it */
      if (usual) micros -= micros % 1000;
      struct tm utc;
      char stamp[32];
      if (gmtime_r(&seconds, &utc) == NULL) abort();
      strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc); /* the C library's calendar against ours */
      e->modified_us = (int64_t)seconds * 1000000 + micros;
      add(&t, usual ? "<LastModified>%s.%03uZ</LastModified>" : "<LastModified>%s.%06uZ</LastModified>", stamp,
          usual ? micros / 1000 : micros);
    }
    if (e->has_version) add_element(&t, "VersionId", &e->version);
    add(&t, "</Contents>");
    add_noise(&t);
    if (i_prefix < n_prefixes && below(2) == 0) {
      add(&t, "<CommonPrefixes>");
      prefixes[i_prefix] = random_word();
      add_element(&t, "Prefix", &prefixes[i_prefix++]);
      add(&t, "</CommonPrefixes>");
    }
  }
  if (i_prefix < n_prefixes) {
    add(&t, "<CommonPrefixes>");
    while (i_prefix < n_prefixes) {
      prefixes[i_prefix] = random_word();
      add_element(&t, "Prefix", &prefixes[i_prefix++]);
    }
    add(&t, "</CommonPrefixes>");
  }
  if (has_marker) add_element(&t, "NextMarker", &marker);
  add(&t, "<IsTruncated>%s</IsTruncated></ListBucketResult>", truncated ? "true" : "false");

  under_test = t.data;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(t.data, t.len, split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0);
    CHECK(page.truncated == truncated);
    CHECK(has_token ? same(&page, page.token_off, page.token_len, token.bytes, token.len) : page.token_len == NONE);
    CHECK(has_marker ? same(&page, page.marker_off, page.marker_len, marker.bytes, marker.len)
                     : page.marker_len == NONE);
    CHECK(page.n_entries == n_entries);
    for (uint32_t i = 0; i < n_entries; i++) {
      const model_entry *m = &entries[i];
      const ob_list_entry *e = &page.entries[i];
      CHECK(same(&page, e->key_off, e->key_len, m->key.bytes, m->key.len));
      CHECK(m->has_etag ? same(&page, e->etag_off, e->etag_len, m->etag.bytes, m->etag.len) : e->etag_len == NONE);
      CHECK(m->has_version ? same(&page, e->version_off, e->version_len, m->version.bytes, m->version.len)
                           : e->version_len == NONE);
      CHECK(e->size == m->size);
      CHECK(e->modified_us == m->modified_us);
    }
    CHECK(page.n_prefixes == n_prefixes);
    for (uint32_t i = 0; i < n_prefixes; i++) {
      CHECK(same(&page, page.prefixes[i].key_off, page.prefixes[i].key_len, prefixes[i].bytes, prefixes[i].len));
    }
    ob_listxml_free(parser);
  }

  /* No proper part of the document is a document. */
  ob_listxml *parser = parse(t.data, below((uint32_t)t.len), WHOLE);
  ob_list_page page;
  CHECK(ob_listxml_finish(parser, &page) == -1);
  CHECK(strcmp(ob_listxml_error(parser), "the document is cut short") == 0);
  ob_listxml_free(parser);
  free(t.data);
}

/* ---- memory running short: the n-th allocation fails, for every n -------------------------------------------- */

#ifdef OB_TORTURE
_Atomic long ob_torture_countdown = -1;

static void test_memory_running_short(void) {
  text t = {0};
  add(&t, "<ListBucketResult>");
  for (int i = 0; i < 2500; i++) { /* enough to let each array grow */
    add(&t, "<Contents><Key>%0100d</Key></Contents><CommonPrefixes><Prefix>p%d/</Prefix></CommonPrefixes>", i, i);
  }
  add(&t, "</ListBucketResult>");
  under_test = "(2,500 entries)";
  int failures = 0;
  for (long n = 0;; n++) {
    ob_torture_countdown = n;
    ob_listxml *parser = ob_listxml_new();
    int fed = parser != NULL ? ob_listxml_feed(parser, t.data, t.len) : -1;
    int failed = ob_torture_countdown < 0; /* it counts on below 0 once it has failed one */
    ob_torture_countdown = -1;
    CHECK(failed == (fed != 0));
    if (parser != NULL) {
      ob_list_page page;
      CHECK(ob_listxml_finish(parser, &page) == fed);
      CHECK(strcmp(ob_listxml_error(parser), failed ? "out of memory" : "") == 0);
      CHECK(failed || page.n_entries == 2500);
    }
    ob_listxml_free(parser);
    if (!failed) break;
    failures++;
  }
  CHECK(failures >= 6); /* the parser, the text twice or more, both arrays twice or more */
  free(t.data);
}
#endif

/* ---- speed --------------------------------------------------------------------------------------------- */

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Pages of 1,000 keys, fed in pieces of 16 KiB. */
static void measure(const char *name, text *t) {
  double best = 1e9;
  for (int round = 0; round < 500; round++) {
    double begin = seconds_now();
    ob_listxml *parser = ob_listxml_new();
    for (size_t at = 0; at < t->len; at += 16384)
      ob_listxml_feed(parser, t->data + at, t->len - at < 16384 ? t->len - at : 16384);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0 && page.n_entries == 1000);
    ob_listxml_free(parser);
    double took = seconds_now() - begin;
    if (took < best) best = took;
  }
  printf("%s: %zu bytes, 1000 keys: best of 500 %.3f ms, %.0f MB/s\n", name, t->len, best * 1e3,
         (double)t->len / best / 1e6);
  free(t->data);
}

static void bench(void) {
  text s3 = {0};
  add(&s3,
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
      "<Name>b</Name><Prefix></Prefix><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</"
      "IsTruncated>");
  for (int i = 0; i < 1000; i++) {
    add(&s3,
        "<Contents><Key>data/year=2024/month=02/part-%08d.parquet</Key><LastModified>2024-02-29T12:00:%02d.000Z</"
        "LastModified>"
        "<ETag>&quot;%032x&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</"
        "ChecksumType>"
        "<Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>",
        i, i % 60, i, i * 12345);
  }
  add(&s3, "</ListBucketResult>");
  measure("S3", &s3);

  text dav = {0}; /* as Apache writes it */
  add(&dav, "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\" xmlns:ns0=\"DAV:\">\n");
  for (int i = 0; i < 1000; i++) {
    add(&dav,
        "<D:response xmlns:lp1=\"DAV:\" xmlns:lp2=\"http://apache.org/dav/props/\">\n"
        "<D:href>/data/year=2024/month=02/part-%08d.parquet</D:href>\n<D:propstat>\n<D:prop>\n<lp1:resourcetype/>\n"
        "<lp1:getcontentlength>%d</lp1:getcontentlength>\n<lp1:getlastmodified>Thu, 29 Feb 2024 12:00:%02d GMT</"
        "lp1:getlastmodified>\n<lp1:getetag>\"%x-%x\"</lp1:getetag>\n</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n"
        "</D:propstat>\n</D:response>\n",
        i, i * 12345, i % 60, i * 12345, i);
  }
  add(&dav, "</D:multistatus>\n");
  measure("WebDAV", &dav);
}

/* ---- WebDAV ------------------------------------------------------------------------------------------- */

#define DAV(inside) "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">" inside "</D:multistatus>"
#define RESPONSE(href, inside) "<D:response><D:href>" href "</D:href>" inside "</D:response>"
#define FOUND(properties) "<D:propstat><D:prop>" properties "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
#define FILE_OF(href) RESPONSE(href, FOUND("<D:resourcetype/><D:getcontentlength>3</D:getcontentlength>"))

static void has_path(const char *href, const char *path) {
  char document[500];
  snprintf(document, sizeof document, DAV("%s%s%s"), "<D:response><D:href>", href,
           "</D:href>" FOUND("<D:getcontentlength>3</D:getcontentlength>") "</D:response>");
  has_key(document, path);
}

static void has_etag(const char *given, const char *expected) {
  static char document[500];
  snprintf(document, sizeof document,
           DAV("<D:response><D:href>/k</D:href><D:propstat><D:prop><D:getcontentlength>3</D:getcontentlength>"
               "<D:getetag>%s</D:getetag></D:prop></D:propstat></D:response>"),
           given);
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, strlen(document), split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0 && page.n_entries == 1);
    CHECK(is(&page, page.entries[0].etag_off, page.entries[0].etag_len, expected));
    ob_listxml_free(parser);
  }
}

static void test_webdav(void) {
  /* As Apache sends it: prefixes of its own, line breaks, properties that it does not have in a propstat of their own. */
  const char *document = under_test =
      "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\" xmlns:ns0=\"DAV:\">\n"
      "<D:response xmlns:lp1=\"DAV:\">\n<D:href>/base/</D:href>\n<D:propstat>\n<D:prop>\n"
      "<lp1:resourcetype><D:collection/></lp1:resourcetype>\n<lp1:getlastmodified>Sun, 06 Nov 1994 08:49:37 "
      "GMT</lp1:getlastmodified>\n</D:prop>\n<D:status>HTTP/1.1 200 OK</D:status>\n</D:propstat>\n<D:propstat>\n"
      "<D:prop>\n<D:getcontentlength/>\n</D:prop>\n<D:status>HTTP/1.1 404 Not Found</D:status>\n</D:propstat>\n"
      "</D:response>\n<D:response xmlns:lp1=\"DAV:\">\n<D:href>/base/a%20b+c.txt</D:href>\n<D:propstat>\n<D:prop>\n"
      "<lp1:resourcetype/>\n<lp1:getcontentlength>12</lp1:getcontentlength>\n<lp1:getlastmodified>Sun, 06 Nov 1994 "
      "08:49:37 GMT</lp1:getlastmodified>\n<lp1:getetag>\"c-1\"</lp1:getetag>\n</D:prop>\n<D:status>HTTP/1.1 200 "
      "OK</D:status>\n</D:propstat>\n</D:response>\n</D:multistatus>\n";
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, strlen(document), split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0);
    CHECK(strcmp(ob_listxml_root(parser), "multistatus") == 0);
    CHECK(page.n_entries == 1 && page.n_prefixes == 1);
    CHECK(is(&page, page.prefixes[0].key_off, page.prefixes[0].key_len, "/base/"));
    const ob_list_entry *file = &page.entries[0];
    CHECK(is(&page, file->key_off, file->key_len, "/base/a b+c.txt"));
    CHECK(file->size == 12 && file->modified_us == 784111777000000);
    CHECK(is(&page, file->etag_off, file->etag_len, "\"c-1\""));
    CHECK(file->version_len == NONE && !page.truncated && page.token_len == NONE);
    ob_listxml_free(parser);
  }

  has_path("/plain", "/plain");
  has_path("\n  /in%2520lines \n", "/in%20lines");
  has_path("http://host:80/a/b", "/a/b");
  has_path("https://[::1]:8443/", "/");
  has_path("/a:b//c", "/a:b//c");
  has_path("relative:/x", "relative:/x");
  has_path("/&amp;&#228;%C3%A4%", "/&\xc3\xa4\xc3\xa4%");

  has_etag("\"x\"", "\"x\"");
  has_etag("W/\"x\"", "W/\"x\"");
  has_etag("x-1", "\"x-1\"");
  has_etag(" \n&quot;x&quot; ", "\"x\"");
  has_etag("\"", "\"\"\"");
  has_etag("  ", NULL);

  /* What a failed propstat holds does not count; an unreadable date is none. */
  document = under_test =
      DAV(RESPONSE("/k", FOUND("<D:getcontentlength>1</D:getcontentlength><D:getlastmodified>yesterday</"
                               "D:getlastmodified>") "<D:propstat><D:status>HTTP/1.1 403 "
                                                     "Forbidden</D:status><D:prop><D:getcontentlength>2"
                                                     "</D:getcontentlength><D:resourcetype><D:collection/></"
                                                     "D:resourcetype></D:prop></D:propstat>"));
  ob_listxml *parser = parse(document, strlen(document), WHOLE);
  ob_list_page page;
  CHECK(ob_listxml_finish(parser, &page) == 0 && page.n_entries == 1 && page.n_prefixes == 0);
  CHECK(page.entries[0].size == 1 && page.entries[0].modified_us == INT64_MIN);
  ob_listxml_free(parser);

  refused(DAV("<D:response><D:propstat/></D:response>"), "an entry has no href");
  refused(DAV(RESPONSE(" ", "")), "an entry has no href");
  refused(DAV(RESPONSE("/k", FOUND("<D:getetag>x</D:getetag>"))), "an entry has no getcontentlength");
  refused(DAV(RESPONSE("/k", FOUND("<D:getcontentlength>x</D:getcontentlength>"))),
          "a getcontentlength is no number of bytes");
  refused(DAV(FILE_OF("/a") RESPONSE("/k", "<D:status>HTTP/1.1 403 Forbidden</D:status>")),
          "the server could not tell of all entries");
  refused("<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>" DAV(FILE_OF("/&b;")),
          "a document type is not allowed");
  refused(DAV(FILE_OF("/&b;")), "a reference is malformed");
  refused("<D:multistatus xmlns:D=\"DAV:\">" FILE_OF("/a"), "the document is cut short");
}

/* ---- Azure ---------------------------------------------------------------------------------------------------- */

#define BLOBS(inside) "<EnumerationResults><Blobs>" inside "</Blobs><NextMarker/></EnumerationResults>"
#define BLOB(name, properties) "<Blob>" name "<Properties>" properties "</Properties></Blob>"

static void test_azure(void) {
  /* As documented for List Blobs, with a delimiter, on a hierarchical namespace. */
  static const char document[] =
      "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults "
      "ServiceEndpoint=\"https://a.blob.core.windows"
      ".net/\" ContainerName=\"c\"><Prefix>p/</Prefix><Delimiter>/</Delimiter><MaxResults>4</MaxResults><Blobs>"
      "<Blob><Name>p/a&amp;b%20c+d</Name><VersionId>2020-01-01T00:00:00.0000000Z</VersionId><Properties>"
      "<Creation-Time>Sun, 27 Sep 2009 18:41:57 GMT</Creation-Time><Last-Modified>Sun, 06 Nov 1994 08:49:37 "
      "GMT</Last-Modified><Etag>0x8CBFF45D8A29A19</Etag><Content-Length>100</Content-Length><Content-Type>text/html</"
      "Content-Type><ResourceType>file</ResourceType></Properties><Metadata><Name>not this</Name></Metadata>"
      "<OrMetadata/></Blob><BlobPrefix><Name>p/d/</Name><Properties><ResourceType>directory</ResourceType>"
      "</Properties></BlobPrefix><Blob><Name Encoded=\"true\">p/%EF%BF%BE+x</Name><Properties><Etag>\"q\"</Etag>"
      "</Properties></Blob><Blob><Name>p/e</Name><Properties><ResourceType>directory</ResourceType><Content-Length>0"
      "</Content-Length></Properties></Blob><BlobPrefix><Name\n x='y' Encoded = 'true' Encoded='true' >p/%2F/</Name>"
      "</BlobPrefix></Blobs><NextMarker>2!100!x--</NextMarker></EnumerationResults>";
  under_test = document;
  for (how split = WHOLE; split < HOWS; split++) {
    ob_listxml *parser = parse(document, sizeof document - 1, split);
    ob_list_page page;
    CHECK(ob_listxml_finish(parser, &page) == 0);
    CHECK(strcmp(ob_listxml_root(parser), "EnumerationResults") == 0);
    CHECK(page.n_entries == 2 && page.n_prefixes == 2);
    const ob_list_entry *e = page.entries;
    CHECK(is(&page, e[0].key_off, e[0].key_len, "p/a&b%20c+d"));
    CHECK(is(&page, e[0].etag_off, e[0].etag_len, "\"0x8CBFF45D8A29A19\""));
    CHECK(is(&page, e[0].version_off, e[0].version_len, "2020-01-01T00:00:00.0000000Z"));
    CHECK(e[0].size == 100 && e[0].modified_us == 784111777000000);
    CHECK(is(&page, e[1].key_off, e[1].key_len, "p/\xef\xbf\xbe+x"));
    CHECK(is(&page, e[1].etag_off, e[1].etag_len, "\"q\""));
    CHECK(e[1].size == -1 && e[1].modified_us == INT64_MIN && e[1].version_len == NONE);
    CHECK(is(&page, page.prefixes[0].key_off, page.prefixes[0].key_len, "p/d/"));
    CHECK(is(&page, page.prefixes[1].key_off, page.prefixes[1].key_len, "p///"));
    CHECK(is(&page, page.token_off, page.token_len, "2!100!x--"));
    CHECK(page.marker_len == NONE && !page.truncated);
    ob_listxml_free(parser);
  }

  /* Names that are not said to be encoded are taken as they are. */
  static const char *const plain[] = {"<Name>%41</Name>", "<Name Encoded=\"false\">%41</Name>",
                                      "<Name Encode=\"true\">%41</Name>", "<Name xEncoded=\"true\">%41</Name>"};
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
    char text[300];
    snprintf(text, sizeof text, BLOBS("<Blob>%s</Blob>"), plain[i]);
    under_test = text;
    for (how split = WHOLE; split < HOWS; split++) {
      ob_listxml *parser = parse(text, strlen(text), split);
      ob_list_page page;
      CHECK(ob_listxml_finish(parser, &page) == 0 && page.n_entries == 1 && page.token_len == NONE);
      CHECK(is(&page, page.entries[0].key_off, page.entries[0].key_len, "%41"));
      ob_listxml_free(parser);
    }
  }

  refused(BLOBS(BLOB("", "")), "an entry has no Name");
  refused(BLOBS(BLOB("<Name>k</Name>", "<Content-Length>x</Content-Length>")), "a Size is not a number of bytes");
  refused(BLOBS(BLOB("<Name>k</Name>", "<Last-Modified>2020-01-01T00:00:00Z</Last-Modified>")),
          "a Last-Modified is not an HTTP date");
  refused("<EnumerationResults><Blobs>" BLOB("<Name>k</Name>", ""), "the document is cut short");
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "bench") == 0) {
    bench();
    return 0;
  }
  test_page_of_s3();
  test_encoding_type();
  test_empty_page();
  test_text();
  test_times();
  test_sizes();
  test_malformed();
  test_other_root();
  test_webdav();
  test_azure();
  test_limits();
  for (int i = 0; i < 3000; i++) random_document();
#ifdef OB_TORTURE
  test_memory_running_short();
#endif
  ob_listxml_free(NULL);
  return 0;
}

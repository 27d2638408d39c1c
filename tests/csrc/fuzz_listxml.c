/* sources: ob_listjson.c ob_listxml.c
 *
 * Fuzzing of the list parser: any input is parsed whole and in pieces, and both must say the same.
 *
 *   clang -fsanitize=fuzzer,address,undefined -DOB_LIBFUZZER -Icsrc tests/csrc/fuzz_listxml.c csrc/ob_list*.c
 *   gcc   -fsanitize=address,undefined        -Icsrc tests/csrc/fuzz_listxml.c csrc/ob_list*.c   # a.out [runs] [seed]
 *
 * Without libFuzzer, main() mutates a page by a fixed pseudo-random sequence.
 */
#include "ob_listxml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                                                              \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* From memory of exactly the size, for the sanitizer's sake. */
static ob_listxml *parse(const uint8_t *data, size_t size, size_t piece) {
  ob_listxml *parser = ob_listxml_new();
  EXPECT(parser != NULL);
  for (size_t at = 0; at < size;) {
    size_t n = size - at < piece ? size - at : piece;
    char *copy = malloc(n);
    EXPECT(copy != NULL);
    memcpy(copy, data + at, n);
    ob_listxml_feed(parser, copy, n);
    free(copy);
    at += n;
  }
  return parser;
}

static void expect_same_text(const ob_list_page *a, uint32_t a_off, uint32_t a_len, const ob_list_page *b,
                             uint32_t b_off, uint32_t b_len) {
  EXPECT(a_len == b_len);
  EXPECT(a_len == UINT32_MAX || memcmp(a->text + a_off, b->text + b_off, a_len) == 0);
}

static void expect_same_entries(const ob_list_page *a, const ob_list_entry *x, const ob_list_page *b,
                                const ob_list_entry *y, size_t n) {
  for (size_t i = 0; i < n; i++) {
    EXPECT(x[i].key_len != UINT32_MAX);
    expect_same_text(a, x[i].key_off, x[i].key_len, b, y[i].key_off, y[i].key_len);
    expect_same_text(a, x[i].etag_off, x[i].etag_len, b, y[i].etag_off, y[i].etag_len);
    expect_same_text(a, x[i].version_off, x[i].version_len, b, y[i].version_off, y[i].version_len);
    EXPECT(x[i].size == y[i].size && x[i].size >= -1);
    EXPECT(x[i].modified_us == y[i].modified_us);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ob_listxml *whole = parse(data, size, size + 1);
  size_t piece = size > 0 && data[size - 1] % 2 == 0 ? 1 : 1 + size % 7;
  ob_listxml *pieces = parse(data, size, piece);
  ob_list_page a, b;
  int parsed = ob_listxml_finish(whole, &a);
  EXPECT(ob_listxml_finish(pieces, &b) == parsed);
  EXPECT((ob_listxml_error(whole)[0] == '\0') == (parsed == 0));
  EXPECT(strcmp(ob_listxml_error(whole), ob_listxml_error(pieces)) == 0);
  EXPECT(strcmp(ob_listxml_root(whole), ob_listxml_root(pieces)) == 0);
  if (parsed == 0) {
    EXPECT(a.n_entries == b.n_entries && a.n_prefixes == b.n_prefixes && a.truncated == b.truncated);
    expect_same_entries(&a, a.entries, &b, b.entries, a.n_entries);
    expect_same_entries(&a, a.prefixes, &b, b.prefixes, a.n_prefixes);
    expect_same_text(&a, a.token_off, a.token_len, &b, b.token_off, b.token_len);
    expect_same_text(&a, a.marker_off, a.marker_len, &b, b.marker_off, b.marker_len);
  }
  ob_listxml_free(whole);
  ob_listxml_free(pieces);
  return 0;
}

#ifndef OB_LIBFUZZER

static const char S3_PAGE[] =
    "<?xml version=\"1.0\"?><s:ListBucketResult xmlns:s='u'><Prefix>p</Prefix><EncodingType>url</EncodingType>"
    "<NextMarker>m%2f</NextMarker><NextContinuationToken>t</NextContinuationToken><IsTruncated>true</IsTruncated>"
    "<Contents><Key>a+b%41&amp;&#x20ac;</Key><Size>12</Size><LastModified>2024-02-29T12:00:00.5+01:00</LastModified>"
    "<ETag>&quot;e&quot;</ETag><VersionId>v</VersionId><Owner a=\"b>\" c='/'><ID>1</ID></Owner></Contents><!-- c -->"
    "<Contents><Key><![CDATA[x]]y]]></Key></Contents><CommonPrefixes><Prefix>d/</Prefix><Prefix>e/</Prefix></"
    "CommonPrefixes>"
    "</s:ListBucketResult>";

/* As S3 writes it, all on one line. */
static const char USUAL_PAGE[] =
    "<?xml version=\"1.0\"?>\n<ListBucketResult "
    "xmlns=\"u\"><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>a/1"
    "</Key><LastModified>2026-01-01T00:00:40.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>37001</"
    "Size><StorageClass>"
    "STANDARD</StorageClass></Contents><Contents><Key>a/2&amp;3</Key><LastModified>2026-01-01T23:59:41.120Z</"
    "LastModified>"
    "<ETag>&quot;f&quot;</ETag><Size>0</Size><Owner><ID>7</ID></Owner></Contents><Contents><Key>b</Key><LastModified>"
    "1969-12-31T10:00:00.001Z</LastModified></Contents><CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>"
    "</ListBucketResult>";

static const char AZURE_PAGE[] = "<?xml version=\"1.0\"?><EnumerationResults "
                                 "ContainerName=\"c\"><Prefix>p</Prefix><Blobs><Blob><Name Encoded=\"true\">a%41+&amp;"
                                 "</Name><VersionId>v</VersionId><Properties><Last-Modified>Sun, 06 Nov 1994 08:49:37 "
                                 "GMT</Last-Modified><Etag>0x8</Etag>"
                                 "<Content-Length>12</Content-Length><ResourceType>file</ResourceType></"
                                 "Properties><Metadata><Name/></Metadata></Blob>"
                                 "<Blob><Name>d</Name><Properties><ResourceType>directory</ResourceType></Properties></"
                                 "Blob><BlobPrefix><Name>e/</Name>"
                                 "</BlobPrefix></Blobs><NextMarker>2!3--</NextMarker></EnumerationResults>";

static const char JSON_PAGE[] = "{\"kind\":\"storage#objects\",\"nextPageToken\":\"t\",\"prefixes\":[\"d/"
                                "\"],\"items\":[{\"name\":\"a\\u20ac\",\"size\":"
                                "\"12\",\"updated\":\"2024-02-29T12:00:00.5Z\",\"etag\":\"e\",\"generation\":\"1\","
                                "\"metadata\":{\"a\":[1,2.5e3,null]}}]}";

static const struct {
  const char *text;
  size_t len;
} SEEDS[] = {{JSON_PAGE, sizeof JSON_PAGE - 1},
             {S3_PAGE, sizeof S3_PAGE - 1},
             {AZURE_PAGE, sizeof AZURE_PAGE - 1},
             {USUAL_PAGE, sizeof USUAL_PAGE - 1}};

static const char *const TOKENS[] = {"<",
                                     ">",
                                     "/",
                                     "&",
                                     ";",
                                     "</",
                                     "/>",
                                     "<!--",
                                     "-->",
                                     "<![CDATA[",
                                     "]]>",
                                     "<?",
                                     "?>",
                                     "<!DOCTYPE",
                                     "&#",
                                     "&#x",
                                     "&#0;",
                                     "\"",
                                     "'",
                                     "=",
                                     ":",
                                     " ",
                                     "<Contents>",
                                     "</Contents>",
                                     "<Key>",
                                     "</Key>",
                                     "<Size>",
                                     "</Size>",
                                     "<Prefix/>",
                                     "%",
                                     "%4",
                                     "+",
                                     "-",
                                     "Z",
                                     "\xef\xbb\xbf",
                                     "9",
                                     "{",
                                     "}",
                                     "\"\"",
                                     ",",
                                     "\\u",
                                     "\"size\":\"\"",
                                     "99999999999",
                                     "<Name>",
                                     "<Blob>",
                                     "<Etag>",
                                     "<LastModified>",
                                     "2026-01-01T00:00:00.000Z",
                                     "&quot;",
                                     "&amp;",
                                     "</Contents><Contents>",
                                     " Encoded=\"true\""};

static uint64_t random_state;

static uint32_t below(size_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)((random_state >> 32) % n);
}

/* Replace `cut` bytes at `at` by `n` others, as far as there is room. */
static size_t splice(uint8_t *buffer, size_t len, size_t cap, size_t at, size_t cut, const void *with, size_t n) {
  if (cut > len - at) cut = len - at;
  if (len - cut + n > cap) return len;
  memmove(buffer + at + n, buffer + at + cut, len - at - cut);
  memmove(buffer + at, with, n);
  return len - cut + n;
}

int main(int argc, char **argv) {
  long runs = argc > 1 ? atol(argv[1]) : 20000;
  random_state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 88172645463325252u;
  for (long run = 0; run < runs; run++) {
    uint8_t buffer[4096], copied[64];
    size_t seed = (size_t)run % (sizeof SEEDS / sizeof *SEEDS), len = SEEDS[seed].len;
    memcpy(buffer, SEEDS[seed].text, len);
    for (uint32_t changes = 1 + below(4); changes > 0; changes--) {
      size_t at = below(len + 1);
      uint8_t byte = (uint8_t)below(256);
      const char *token = TOKENS[below(sizeof TOKENS / sizeof *TOKENS)];
      size_t n = below(sizeof copied), from = below(len + 1);
      switch (below(6)) {
      case 0:
        len = splice(buffer, len, sizeof buffer, at, 1, &byte, 1);
        break;
      case 1:
        len = splice(buffer, len, sizeof buffer, at, below(3), token, strlen(token));
        break;
      case 2:
        len = splice(buffer, len, sizeof buffer, at, 0, token, strlen(token));
        break;
      case 3:
        len = splice(buffer, len, sizeof buffer, at, 1 + below(40), "", 0);
        break;
      case 4: /* a piece of itself somewhere else */
        if (n > len - from) n = len - from;
        memcpy(copied, buffer + from, n);
        len = splice(buffer, len, sizeof buffer, at, 0, copied, n);
        break;
      default:
        if (below(4) == 0) len = at;
      }
    }
    LLVMFuzzerTestOneInput(buffer, len);
  }
  return 0;
}

#endif

/* ob_listxml.h - list pages parsed as they arrive: S3's (ListObjectsV2 and V1, ListBucketResult), Azure's (List Blobs,
 * EnumerationResults) and WebDAV's (multistatus, the answer to PROPFIND).
 *
 * A push parser over arbitrary splits of the input: no tree, no copy but into one text arena, no recursion.
 * Knows elements by local name (namespaces and prefixes ignored), decodes entities and character references, ignores
 * comments, processing instructions and unknown elements, refuses DTDs. Text is UTF-8 and passes unchecked and unchanged,
 * control characters and references to them included; an empty ETag, VersionId, token or marker counts as none. A document
 * that begins with { is left to ob_listjson. Limits: 64 open elements, 16 KiB in their names, 1 MiB in a value, 4 GiB in all
 * values.
 */
#ifndef OB_LISTXML_H
#define OB_LISTXML_H

#include <stddef.h>
#include <stdint.h>

typedef struct ob_listxml ob_listxml;

typedef struct ob_list_entry {
  uint32_t key_off, key_len;         /* in the text arena; decoded (entities, and percent where EncodingType is url).
                                        WebDAV: the decoded path of the href, without its origin */
  uint32_t etag_off, etag_len;       /* len UINT32_MAX: none; quotes kept */
  uint32_t version_off, version_len; /* len UINT32_MAX: none */
  int64_t size;                      /* -1: none given */
  int64_t modified_us;               /* microseconds since 1970 UTC; INT64_MIN: none given */
} ob_list_entry;

typedef struct ob_list_page {
  const char *text; /* the arena, never NULL */
  const ob_list_entry *entries;
  size_t n_entries;
  const ob_list_entry *prefixes; /* trailing delimiter kept; S3: key_off/key_len only; WebDAV: the collections */
  size_t n_prefixes;
  int truncated; /* IsTruncated */
  uint32_t token_off,
      token_len; /* NextContinuationToken, Azure's NextMarker; len UINT32_MAX: none. Never percent-decoded */
  uint32_t marker_off, marker_len; /* NextMarker, likewise; percent-decoded where EncodingType is url */
} ob_list_page;

/* One reference, no count: free with ob_listxml_free. NULL when memory is short. Any thread, one at a time. */
ob_listxml *ob_listxml_new(void);
void ob_listxml_free(ob_listxml *parser);
/* 0, or -1 once the document is malformed (the parser then ignores further input). */
int ob_listxml_feed(ob_listxml *parser, const char *data, size_t len);
/* After the last byte. 0 and the page, which lives as long as the parser; -1 if the document is malformed, cut short
 * or its root is not a list. */
int ob_listxml_finish(ob_listxml *parser, ob_list_page *page);
/* Why it failed: static text; "" if it did not. */
const char *ob_listxml_error(const ob_listxml *parser);
/* Whether text holds an ASCII control character (below 32, or 127). */
int ob_text_has_control(const char *text, size_t len);
/* Name of the root element once seen (e.g. "Error" in a 200 answer), else "". */
const char *ob_listxml_root(const ob_listxml *parser);

#endif

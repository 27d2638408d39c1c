/* ob_listjson.h - list pages of Google Cloud Storage's JSON API (Objects: list) parsed as they arrive.
 *
 * A push parser like ob_listxml, which hands it every document that begins with {. Of the top object it knows items, prefixes
 * and nextPageToken, of an item name, size, updated, etag and generation (as the version); the rest is checked for its
 * brackets and skipped. Limits: 64 open brackets, 1 MiB in a value, 4 GiB in all values.
 */
#ifndef OB_LISTJSON_H
#define OB_LISTJSON_H

#include <stddef.h>

#include "ob_listxml.h"

typedef struct ob_listjson ob_listjson;

/* One reference, no count: free with ob_listjson_free. NULL when memory is short. Any thread, one at a time. */
ob_listjson *ob_listjson_new(void);
void ob_listjson_free(ob_listjson *parser);
/* 0, or -1 once the document is malformed (the parser then ignores further input). */
int ob_listjson_feed(ob_listjson *parser, const char *data, size_t len);
/* After the last byte. 0 and the page, which lives as long as the parser; -1 if the document is malformed, cut short or an
 * error. */
int ob_listjson_finish(ob_listjson *parser, ob_list_page *page);
/* Why it failed: static text; "" if it did not. */
const char *ob_listjson_error(const ob_listjson *parser);

#endif

/* ob_curl.h - the table of libcurl functions, filled at run time. */
#ifndef OB_CURL_H
#define OB_CURL_H

#include <stddef.h>

/* Any thread, idempotent: opens `path` (RTLD_NOW | RTLD_LOCAL), fills the table, refuses libcurl before 7.84 or without thread-safe
 * global init, calls curl_global_init once. 0, or -1 with one line in err. A second call with another path keeps the first. */
int ob_curl_load(const char *path, char *err, size_t err_size);
int ob_curl_loaded(void);
/* After load. Texts live as long as the process. */
const char *ob_curl_version(void);     /* "8.23.0" */
const char *ob_curl_tls(void);         /* "OpenSSL/3.6.5" */
const char *ob_curl_description(void); /* curl_version() */
const char *ob_curl_path(void);        /* file it was loaded from */
int ob_curl_has_http2(void);
int ob_curl_has_http3(void);

#endif

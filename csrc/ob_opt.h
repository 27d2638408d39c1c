/* ob_opt.h - typed setopt and getinfo: the only varargs calls of the project.
 *
 * libcurl reads each option's value by the type that the option's number implies; a value of another width is undefined
 * behaviour that no compiler reports. One function per type; debug builds compare it with the number.
 */
#ifndef OB_OPT_H
#define OB_OPT_H

#include "ob_abi.h"
#include "ob_curl.h"
#include "ob_port.h"

typedef struct ob_curl_table {
#define OB_SYMBOL(result, name, parameters) result(*name) parameters;
#include "ob_symbols.def"
#undef OB_SYMBOL
  unsigned int version_num;
  uint32_t features;
} ob_curl_table;

/* Written by ob_curl_load before it returns 0, constant afterwards. */
extern ob_curl_table ob_lib;
/* Child after fork, single-threaded. */
void ob_curl_forked_child(void);

/* Options that some builds lack, probed at load. */
enum {
  OB_FEATURE_MAXAGE_CONN = 1 << 0,
  OB_FEATURE_DNS_SHUFFLE = 1 << 1,
  OB_FEATURE_PROXY = 1 << 2,
  OB_FEATURE_PROXY_TLS = 1 << 3,
  OB_FEATURE_PROTOCOLS_STR = 1 << 5,
  OB_FEATURE_KEEPALIVE = 1 << 6,
  OB_FEATURE_CAPATH = 1 << 7,
  OB_FEATURE_NETRC = 1 << 8,
  OB_FEATURE_TLS = 1 << 9
};

static inline bool ob_has(uint32_t feature) {
  return (ob_lib.features & feature) != 0;
}

/* Each returns a CURLcode. Loop thread (or before the handle is shared). */
static inline int ob_set_long(void *easy, int option, long value) {
  OB_ASSERT(option / 10000 == 0);
  return ob_lib.easy_setopt(easy, option, value);
}

static inline int ob_set_ptr(void *easy, int option, const void *value) {
  OB_ASSERT(option / 10000 == 1);
  return ob_lib.easy_setopt(easy, option, value);
}

static inline int ob_set_str(void *easy, int option, const char *value) {
  OB_ASSERT(option / 10000 == 1);
  return ob_lib.easy_setopt(easy, option, value);
}

static inline int ob_set_fn(void *easy, int option, void (*value)(void)) {
  OB_ASSERT(option / 10000 == 2);
  return ob_lib.easy_setopt(easy, option, value);
}

static inline int ob_set_off(void *easy, int option, int64_t value) {
  OB_ASSERT(option / 10000 == 3);
  return ob_lib.easy_setopt(easy, option, (ob_curl_off)value);
}

static inline int ob_set_multi_long(void *multi, int option, long value) {
  OB_ASSERT(option / 10000 == 0);
  return ob_lib.multi_setopt(multi, option, value);
}

/* 0 or NULL where libcurl does not know. Strings die with the handle's next use: copy. */
static inline long ob_get_long(void *easy, int info) {
  long value = 0;
  OB_ASSERT((info & 0xf00000) == 0x200000);
  return ob_lib.easy_getinfo(easy, info, &value) == OB_CURLE_OK ? value : 0;
}

static inline int64_t ob_get_off(void *easy, int info) {
  ob_curl_off value = 0;
  OB_ASSERT((info & 0xf00000) == 0x600000);
  return ob_lib.easy_getinfo(easy, info, &value) == OB_CURLE_OK ? value : 0;
}

static inline void *ob_get_ptr(void *easy, int info) {
  char *value = NULL;
  OB_ASSERT((info & 0xf00000) == 0x100000);
  return ob_lib.easy_getinfo(easy, info, &value) == OB_CURLE_OK ? value : NULL;
}

static inline int ob_get_socket(void *easy) {
  int value = OB_CURL_SOCKET_BAD;
  return ob_lib.easy_getinfo(easy, OB_CURLINFO_ACTIVESOCKET, &value) == OB_CURLE_OK ? value : OB_CURL_SOCKET_BAD;
}

#endif

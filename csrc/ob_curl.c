/* ob_curl.c - find libcurl's functions at run time and refuse a library that cannot serve. */
#include <dlfcn.h>

#include "ob_opt.h"

#if defined(__has_include)
#if __has_include(<curl/curl.h>)
#define CURL_DISABLE_TYPECHECK
#define CURL_DISABLE_DEPRECATION
#include <curl/curl.h>
#define OB_HAVE_CURL_H 1
#endif
#endif

/* A header older than an option does not know it: 7.84 is the floor, PROTOCOLS_STR came in 7.85. */
#if defined(OB_HAVE_CURL_H) && LIBCURL_VERSION_NUM >= 0x075500
#define CHECK_OPTION(name, number) _Static_assert((long)CURLOPT_##name == (number), "CURLOPT_" #name);
#define CHECK_INFO(name, number) _Static_assert((long)CURLINFO_##name == (number), "CURLINFO_" #name);
#define CHECK_MULTI(name, number) _Static_assert((long)CURLMOPT_##name == (number), "CURLMOPT_" #name);
#define CHECK_CODE(name, number) _Static_assert((long)CURLE_##name == (number), "CURLE_" #name);
OB_ABI_OPTIONS(CHECK_OPTION)
OB_ABI_INFOS(CHECK_INFO)
OB_ABI_MULTI_OPTIONS(CHECK_MULTI)
OB_ABI_CODES(CHECK_CODE)
#if LIBCURL_VERSION_NUM >= 0x081400
_Static_assert((long)CURLMOPT_QUICK_EXIT == OB_CURLMOPT_QUICK_EXIT, "CURLMOPT_QUICK_EXIT");
#endif
_Static_assert(sizeof(CURLMsg) == sizeof(ob_curl_message), "CURLMsg");
_Static_assert(offsetof(CURLMsg, data) == offsetof(ob_curl_message, data), "CURLMsg.data");
_Static_assert(sizeof(struct curl_sockaddr) == sizeof(ob_curl_sockaddr), "curl_sockaddr");
_Static_assert(offsetof(struct curl_sockaddr, addr) == offsetof(ob_curl_sockaddr, addr), "curl_sockaddr.addr");
_Static_assert(sizeof(struct curl_slist) == sizeof(ob_slist), "curl_slist");
_Static_assert(sizeof(curl_off_t) == sizeof(ob_curl_off), "curl_off_t");
_Static_assert(offsetof(curl_version_info_data, ssl_version) == offsetof(ob_version_info, ssl_version), "version_info");
_Static_assert(CURL_WRITEFUNC_PAUSE == OB_CURL_WRITEFUNC_PAUSE, "CURL_WRITEFUNC_PAUSE");
_Static_assert(CURL_READFUNC_ABORT == OB_CURL_READFUNC_ABORT, "CURL_READFUNC_ABORT");
_Static_assert(CURL_PREREQFUNC_OK == OB_CURL_PREREQFUNC_OK, "CURL_PREREQFUNC_OK");
_Static_assert(CURL_PREREQFUNC_ABORT == OB_CURL_PREREQFUNC_ABORT, "CURL_PREREQFUNC_ABORT");
_Static_assert(CURL_SEEKFUNC_OK == OB_CURL_SEEKFUNC_OK, "CURL_SEEKFUNC_OK");
_Static_assert(CURL_SEEKFUNC_FAIL == OB_CURL_SEEKFUNC_FAIL, "CURL_SEEKFUNC_FAIL");
_Static_assert(CURL_ERROR_SIZE == OB_CURL_ERROR_SIZE, "CURL_ERROR_SIZE");
_Static_assert(CURLMSG_DONE == OB_CURLMSG_DONE, "CURLMSG_DONE");
_Static_assert(CURLPAUSE_CONT == OB_CURLPAUSE_CONT, "CURLPAUSE_CONT");
_Static_assert(CURL_VERSION_HTTP2 == OB_CURL_VERSION_HTTP2, "CURL_VERSION_HTTP2");
_Static_assert(CURL_VERSION_HTTP3 == OB_CURL_VERSION_HTTP3, "CURL_VERSION_HTTP3");
_Static_assert(CURL_VERSION_THREADSAFE == OB_CURL_VERSION_THREADSAFE, "CURL_VERSION_THREADSAFE");
_Static_assert((long)CURL_GLOBAL_DEFAULT == OB_CURL_GLOBAL_DEFAULT, "CURL_GLOBAL_DEFAULT");
_Static_assert((long)CURL_SSLVERSION_TLSv1_2 == OB_CURL_SSLVERSION_TLSV1_2, "CURL_SSLVERSION_TLSv1_2");
_Static_assert((long)CURL_HTTP_VERSION_1_1 == OB_CURL_HTTP_VERSION_1_1, "CURL_HTTP_VERSION_1_1");
_Static_assert((long)CURL_HTTP_VERSION_2TLS == OB_CURL_HTTP_VERSION_2TLS, "CURL_HTTP_VERSION_2TLS");
_Static_assert((long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE == OB_CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE, "HTTP 2");
_Static_assert((long)CURL_HTTP_VERSION_3 == OB_CURL_HTTP_VERSION_3, "CURL_HTTP_VERSION_3");
#endif

#define FLOOR_VERSION 0x075400 /* 7.84.0: global init is thread-safe */

ob_curl_table ob_lib;

static ob_mutex load_lock = OB_MUTEX_INIT;
static _Atomic int loaded;
static char loaded_path[4096];
static const ob_version_info *info;

static int fail(char *err, size_t err_size, const char *path, const char *reason) {
  if (err != NULL && err_size > 0) {
    snprintf(err, err_size, "%s: %s", path, reason);
  }
  return -1;
}

/* What this build of libcurl lacks is learned once, on a throw-away handle. */
static uint32_t probe(void *easy) {
  uint32_t features = 0;
  if (ob_set_long(easy, OB_CURLOPT_MAXAGE_CONN, 60L) == OB_CURLE_OK) {
    features |= OB_FEATURE_MAXAGE_CONN;
  }
  if (ob_set_long(easy, OB_CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L) == OB_CURLE_OK) {
    features |= OB_FEATURE_DNS_SHUFFLE;
  }
  if (ob_set_str(easy, OB_CURLOPT_PROXY, "") == OB_CURLE_OK &&
      ob_set_str(easy, OB_CURLOPT_NOPROXY, "") == OB_CURLE_OK) {
    features |= OB_FEATURE_PROXY;
  }
  if (ob_set_long(easy, OB_CURLOPT_PROXY_SSL_VERIFYPEER, 1L) == OB_CURLE_OK &&
      ob_set_long(easy, OB_CURLOPT_PROXY_SSL_VERIFYHOST, 2L) == OB_CURLE_OK) {
    features |= OB_FEATURE_PROXY_TLS;
  }
  if (ob_set_str(easy, OB_CURLOPT_PROTOCOLS_STR, "http") == OB_CURLE_OK &&
      ob_set_str(easy, OB_CURLOPT_REDIR_PROTOCOLS_STR, "http") == OB_CURLE_OK) {
    features |= OB_FEATURE_PROTOCOLS_STR;
  }
  if (ob_set_long(easy, OB_CURLOPT_TCP_KEEPALIVE, 1L) == OB_CURLE_OK &&
      ob_set_long(easy, OB_CURLOPT_TCP_KEEPIDLE, 30L) == OB_CURLE_OK &&
      ob_set_long(easy, OB_CURLOPT_TCP_KEEPINTVL, 30L) == OB_CURLE_OK) {
    features |= OB_FEATURE_KEEPALIVE;
  }
  if (ob_set_str(easy, OB_CURLOPT_CAPATH, NULL) == OB_CURLE_OK) {
    features |= OB_FEATURE_CAPATH;
  }
  if (ob_set_long(easy, OB_CURLOPT_NETRC, 0L) == OB_CURLE_OK) {
    features |= OB_FEATURE_NETRC;
  }
  if (info->ssl_version != NULL) {
    features |= OB_FEATURE_TLS;
  }
  return features;
}

static int load_locked(const char *path, char *err, size_t err_size) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    const char *why = dlerror();
    return fail(err, err_size, path, why != NULL ? why : "cannot be opened");
  }
  /* dlsym gives an object pointer; POSIX promises that it holds a function's. */
#define OB_SYMBOL(result, name, parameters)                                                                            \
  *(void **)&ob_lib.name = dlsym(library, "curl_" #name);                                                              \
  if (ob_lib.name == NULL) {                                                                                           \
    dlclose(library);                                                                                                  \
    return fail(err, err_size, path, "libcurl without curl_" #name);                                                   \
  }
#include "ob_symbols.def"
#undef OB_SYMBOL
  info = ob_lib.version_info(0);
  if (info == NULL || info->version_num < FLOOR_VERSION) {
    dlclose(library);
    return fail(err, err_size, path, "libcurl older than 7.84.0");
  }
  if (!(info->features & OB_CURL_VERSION_THREADSAFE)) {
    dlclose(library);
    return fail(err, err_size, path, "libcurl without thread-safe initialisation");
  }
  if (ob_lib.global_init(OB_CURL_GLOBAL_DEFAULT) != OB_CURLE_OK) {
    return fail(err, err_size, path, "curl_global_init failed");
  }
  void *easy = ob_lib.easy_init();
  if (easy == NULL) {
    return fail(err, err_size, path, "out of memory");
  }
  ob_lib.version_num = info->version_num;
  ob_lib.features = probe(easy);
  ob_lib.easy_cleanup(easy);
  /* The real path of a bare name, for those who ask which copy they got. */
  Dl_info where;
  *loaded_path = '\0';
  if (dladdr(*(void **)&ob_lib.easy_init, &where) != 0 && where.dli_fname != NULL) {
    snprintf(loaded_path, sizeof loaded_path, "%s", where.dli_fname);
  } else {
    snprintf(loaded_path, sizeof loaded_path, "%s", path);
  }
  atomic_store_explicit(&loaded, 1, memory_order_release);
  return 0;
}

int ob_curl_load(const char *path, char *err, size_t err_size) {
  if (ob_curl_loaded()) {
    return 0;
  }
  ob_lock(&load_lock);
  int rc = ob_curl_loaded() ? 0 : load_locked(path, err, err_size);
  ob_unlock(&load_lock);
  return rc;
}

int ob_curl_loaded(void) {
  return atomic_load_explicit(&loaded, memory_order_acquire);
}

void ob_curl_forked_child(void) {
  ob_mutex_init(&load_lock);
}

const char *ob_curl_version(void) {
  return info->version;
}

const char *ob_curl_tls(void) {
  return info->ssl_version != NULL ? info->ssl_version : "";
}

const char *ob_curl_description(void) {
  return ob_lib.version();
}

const char *ob_curl_path(void) {
  return loaded_path;
}

int ob_curl_has_http2(void) {
  return (info->features & OB_CURL_VERSION_HTTP2) != 0;
}

int ob_curl_has_http3(void) {
  return (info->features & OB_CURL_VERSION_HTTP3) != 0;
}

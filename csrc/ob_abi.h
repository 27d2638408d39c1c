/* ob_abi.h - the libcurl types and numbers in use, so that building needs no libcurl headers.
 *
 * The ABI of soname 4 has kept all of these since they came in. ob_curl.c compares them with <curl/curl.h> where the
 * compiler finds one.
 */
#ifndef OB_ABI_H
#define OB_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

typedef struct ob_slist {
  char *data;
  struct ob_slist *next;
} ob_slist;

typedef struct ob_curl_message {
  int msg;
  void *easy;
  union {
    void *whatever;
    int result;
  } data;
} ob_curl_message;

typedef struct ob_curl_waitfd {
  int fd;
  short events;
  short revents;
} ob_curl_waitfd;

typedef struct ob_curl_sockaddr {
  int family;
  int socktype;
  int protocol;
  unsigned int addrlen;
  struct sockaddr addr; /* longer in truth */
} ob_curl_sockaddr;

/* The first fields, present since age 0. */
typedef struct ob_version_info {
  int age;
  const char *version;
  unsigned int version_num;
  const char *host;
  int features;
  const char *ssl_version;
} ob_version_info;

typedef int64_t ob_curl_off; /* curl_off_t */

/* clang-format off */

/* Option types are number / 10000: 0 long, 1 object pointer, 2 function pointer, 3 curl_off_t. */
#define OB_ABI_OPTIONS(X) \
    X(AUTOREFERER, 58) X(BUFFERSIZE, 98) X(CAINFO, 10065) X(CAPATH, 10097) X(CLOSESOCKETDATA, 10209) \
    X(CLOSESOCKETFUNCTION, 20208) X(CONNECTTIMEOUT_MS, 156) X(CUSTOMREQUEST, 10036) X(DNS_CACHE_TIMEOUT, 92) \
    X(DNS_SHUFFLE_ADDRESSES, 275) X(ERRORBUFFER, 10010) X(FAILONERROR, 45) X(FOLLOWLOCATION, 52) X(FORBID_REUSE, 75) \
    X(FRESH_CONNECT, 74) X(HEADERDATA, 10029) X(HEADERFUNCTION, 20079) X(HTTP09_ALLOWED, 285) X(HTTPGET, 80) \
    X(HTTPHEADER, 10023) X(HTTP_VERSION, 84) X(INFILESIZE_LARGE, 30115) X(MAXAGE_CONN, 288) X(MAXREDIRS, 68) \
    X(NETRC, 51) X(NOBODY, 44) X(NOPROGRESS, 43) X(NOPROXY, 10177) X(NOSIGNAL, 99) X(OPENSOCKETDATA, 10164) \
    X(OPENSOCKETFUNCTION, 20163) X(PATH_AS_IS, 234) X(PIPEWAIT, 237) X(PREREQDATA, 10313) \
    X(PREREQFUNCTION, 20312) X(PRIVATE, 10103) X(PROTOCOLS_STR, 10318) \
    X(PROTOCOLS, 181) X(PROXY, 10004) X(PROXY_CAINFO, 10246) X(PROXY_SSL_VERIFYHOST, 249) \
    X(PROXY_SSL_VERIFYPEER, 248) X(READDATA, 10009) X(READFUNCTION, 20012) X(REDIR_PROTOCOLS, 182) \
    X(REDIR_PROTOCOLS_STR, 10319) X(SEEKDATA, 10168) X(SEEKFUNCTION, 20167) X(SSLVERSION, 32) X(SSL_VERIFYHOST, 81) \
    X(SSL_VERIFYPEER, 64) X(SUPPRESS_CONNECT_HEADERS, 265) X(TCP_KEEPALIVE, 213) X(TCP_KEEPIDLE, 214) \
    X(TCP_KEEPINTVL, 215) X(TCP_NODELAY, 121) X(TIMEOUT_MS, 155) X(UNRESTRICTED_AUTH, 105) X(UPLOAD, 46) \
    X(UPLOAD_BUFFERSIZE, 280) X(URL, 10002) X(USERAGENT, 10018) X(WRITEDATA, 10001) X(WRITEFUNCTION, 20011)

/* Info types are the bits of 0xf00000: 1 string, 2 long, 5 socket, 6 curl_off_t. */
#define OB_ABI_INFOS(X) \
    X(ACTIVESOCKET, 0x500000 + 44) X(APPCONNECT_TIME_T, 0x600000 + 56) X(CONNECT_TIME_T, 0x600000 + 52) \
    X(HTTP_CONNECTCODE, 0x200000 + 22) X(HTTP_VERSION, 0x200000 + 46) X(NAMELOOKUP_TIME_T, 0x600000 + 51) X(NUM_CONNECTS, 0x200000 + 26) \
    X(OS_ERRNO, 0x200000 + 25) X(PRIMARY_IP, 0x100000 + 32) X(PRIMARY_PORT, 0x200000 + 40) \
    X(PRETRANSFER_TIME_T, 0x600000 + 53) X(PRIVATE, 0x100000 + 21) X(REDIRECT_COUNT, 0x200000 + 20) X(REQUEST_SIZE, 0x200000 + 12) X(SIZE_UPLOAD_T, 0x600000 + 7) \
    X(STARTTRANSFER_TIME_T, 0x600000 + 54)

#define OB_ABI_MULTI_OPTIONS(X) \
    X(MAXCONNECTS, 6) X(MAX_CONCURRENT_STREAMS, 16) X(MAX_TOTAL_CONNECTIONS, 13)
#define OB_CURLMOPT_QUICK_EXIT 21 /* since 8.20, newer than many a header */

#define OB_ABI_CODES(X) \
    X(OK, 0) X(UNSUPPORTED_PROTOCOL, 1) X(FAILED_INIT, 2) X(URL_MALFORMAT, 3) X(NOT_BUILT_IN, 4) \
    X(COULDNT_RESOLVE_PROXY, 5) X(COULDNT_RESOLVE_HOST, 6) X(COULDNT_CONNECT, 7) X(WEIRD_SERVER_REPLY, 8) X(HTTP2, 16) \
    X(PARTIAL_FILE, 18) X(WRITE_ERROR, 23) X(READ_ERROR, 26) X(OUT_OF_MEMORY, 27) X(OPERATION_TIMEDOUT, 28) \
    X(SSL_CONNECT_ERROR, 35) X(ABORTED_BY_CALLBACK, 42) X(BAD_FUNCTION_ARGUMENT, 43) X(TOO_MANY_REDIRECTS, 47) \
    X(UNKNOWN_OPTION, 48) X(GOT_NOTHING, 52) X(SSL_ENGINE_NOTFOUND, 53) X(SSL_ENGINE_SETFAILED, 54) X(SEND_ERROR, 55) \
    X(RECV_ERROR, 56) X(SSL_CERTPROBLEM, 58) X(SSL_CIPHER, 59) X(PEER_FAILED_VERIFICATION, 60) \
    X(BAD_CONTENT_ENCODING, 61) X(FILESIZE_EXCEEDED, 63) X(USE_SSL_FAILED, 64) X(SEND_FAIL_REWIND, 65) \
    X(SSL_ENGINE_INITFAILED, 66) X(SSL_CACERT_BADFILE, 77) X(SSL_SHUTDOWN_FAILED, 80) X(SSL_CRL_BADFILE, 82) \
    X(SSL_ISSUER_ERROR, 83) X(NO_CONNECTION_AVAILABLE, 89) X(SSL_PINNEDPUBKEYNOTMATCH, 90) \
    X(SSL_INVALIDCERTSTATUS, 91) X(HTTP2_STREAM, 92) X(HTTP3, 95) X(QUIC_CONNECT_ERROR, 96) X(PROXY, 97)
/* clang-format on */

#define OB_ABI_ENUM_OPTION(name, number) OB_CURLOPT_##name = number,
#define OB_ABI_ENUM_INFO(name, number) OB_CURLINFO_##name = number,
#define OB_ABI_ENUM_MULTI(name, number) OB_CURLMOPT_##name = number,
#define OB_ABI_ENUM_CODE(name, number) OB_CURLE_##name = number,
enum { OB_ABI_OPTIONS(OB_ABI_ENUM_OPTION) };
enum { OB_ABI_INFOS(OB_ABI_ENUM_INFO) };
enum { OB_ABI_MULTI_OPTIONS(OB_ABI_ENUM_MULTI) };
enum { OB_ABI_CODES(OB_ABI_ENUM_CODE) };

#define OB_CURL_GLOBAL_DEFAULT 3L
#define OB_CURL_VERSION_HTTP2 (1 << 16)
#define OB_CURL_VERSION_HTTP3 (1 << 25)
#define OB_CURL_VERSION_THREADSAFE (1 << 30)
#define OB_CURLMSG_DONE 1
#define OB_CURLPAUSE_CONT 0
#define OB_CURL_WAIT_POLLIN 1
#define OB_CURL_WRITEFUNC_PAUSE 0x10000001
#define OB_CURL_READFUNC_ABORT 0x10000000
#define OB_CURL_PREREQFUNC_OK 0
#define OB_CURL_PREREQFUNC_ABORT 1
#define OB_CURL_SEEKFUNC_OK 0
#define OB_CURL_SEEKFUNC_FAIL 1
#define OB_CURL_SOCKET_BAD (-1)
#define OB_CURL_ERROR_SIZE 256
#define OB_CURLPROTO_HTTP (1L << 0)
#define OB_CURLPROTO_HTTPS (1L << 1)
#define OB_CURL_SSLVERSION_TLSV1_2 6L
#define OB_CURL_HTTP_VERSION_1_1 2L
#define OB_CURL_HTTP_VERSION_2TLS 4L
#define OB_CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE 5L
#define OB_CURL_HTTP_VERSION_3 30L

#endif

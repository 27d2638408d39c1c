/* test_pieces.c - parts of the core that need no network: blocks, received headers, queues, clients. */
#include "harness.h"
#include "ob_digest.h"
#include "ob_headers.h"
#include "ob_sha256.h"

static void blocks_are_counted_and_large_ones_kept(void) {
  ob_block *small = ob_block_new(1000);
  CHECK(small != NULL && !small->mapped);
  CHECK_EQ(ob_block_live_bytes(), 1000);
  ob_block *large = ob_block_new(8u << 20);
  CHECK(large != NULL && large->mapped);
  memset(large->data, 1, large->cap);
  char *memory = large->data;
  ob_block_unref(ob_block_ref(large));
  CHECK_EQ(ob_block_live_bytes(), 1000 + (8u << 20));
  ob_block_unref(large);
  CHECK_EQ(ob_block_live_bytes(), 1000);
  CHECK_EQ(ob_block_kept_bytes(), 8u << 20);
  large = ob_block_new(7u << 20);
  CHECK(large->data == memory); /* the same pages again */
  CHECK_EQ(large->len, 0);
  CHECK(large->next == NULL);
  CHECK_EQ(ob_block_kept_bytes(), 0);
  ob_block *other = ob_block_new(1u << 20);
  ob_block_unref(large);
  ob_block_unref(other);
  other = ob_block_new(3u << 20); /* the kept ones are too small or far too large */
  CHECK(other->data != memory);
  ob_block_unref(other);
  ob_block_unref(small);
  ob_block_unref(NULL);
  CHECK(ob_block_new(SIZE_MAX) == NULL);
  CHECK(ob_block_new((size_t)1 << 60) == NULL);
  ob_block_trim();
  CHECK_EQ(ob_block_kept_bytes(), 0);
  CHECK_EQ(ob_block_live_bytes(), 0);
}

static void kept_blocks_are_bounded(void) {
  enum { N = 40 };
  ob_block *blocks[N];
  for (int i = 0; i < N; i++) blocks[i] = ob_block_new(4u << 20);
  for (int i = 0; i < N; i++) ob_block_unref(blocks[i]);
  CHECK(ob_block_kept_bytes() > 0);
  CHECK(ob_block_kept_bytes() <= 64u << 20);
  ob_block_trim();
}

static void add(ob_headers *headers, const char *line) {
  CHECK_EQ(ob_headers_add(headers, line, strlen(line)), 0);
}

static void check_found(const ob_headers *headers, const char *name, const char *value) {
  const ob_header *header = ob_headers_find(headers, name, strlen(name));
  CHECK(header != NULL);
  CHECK_EQ(header->value_len, strlen(value));
  CHECK(strcmp(headers->text + header->value_off, value) == 0);
}

static void headers_are_found_by_any_case(void) {
  ob_headers headers = {.text = NULL};
  add(&headers, "ETag: \"a\"\r\n");
  add(&headers, "x-empty:\r\n");
  add(&headers, "X-Blanks: \t b c \t\r\n");
  add(&headers, "no colon at all\r\n");
  add(&headers, ": no name\r\n");
  add(&headers, "etag:\"b\"\n");
  CHECK_EQ(headers.n, 4);
  check_found(&headers, "etag", "\"b\"");
  check_found(&headers, "X-EMPTY", "");
  check_found(&headers, "x-blanks", "b c");
  CHECK(ob_headers_find(&headers, "eta", 3) == NULL);
  CHECK(ob_headers_find(&headers, "x", 1) == NULL);
  ob_headers_clear(&headers);
  CHECK(ob_headers_find(&headers, "etag", 4) == NULL);
  for (int i = 0; i < 500; i++) {
    char line[64];
    snprintf(line, sizeof line, "x-%d: value of %d\r\n", i, i);
    add(&headers, line);
  }
  check_found(&headers, "x-0", "value of 0");
  check_found(&headers, "x-499", "value of 499");
  ob_headers_free(&headers);
}

static void headers_are_bounded(void) {
  ob_headers headers = {.text = NULL};
  static char line[70000];
  memset(line, 'v', sizeof line);
  memcpy(line, "x: ", 3);
  int n = 0;
  while (n < 100 && ob_headers_add(&headers, line, sizeof line) == 0) n++;
  CHECK(n > 4 && n < 20);
  ob_headers_free(&headers);
}

static void empty_queue_waits_and_takes_nothing(void) {
  ob_cq *cq = ob_cq_new();
  CHECK(cq != NULL && ob_cq_fd(cq) >= 0);
  CHECK_EQ(ob_cq_wait(cq, 0), 0);
  int64_t before = ob_now_us();
  CHECK_EQ(ob_cq_wait(cq, 50), 0);
  CHECK(ob_now_us() - before >= 49000);
  CHECK(ob_cq_take(cq) == NULL);
  CHECK_EQ(ob_cq_generation(cq), ob_engine_generation());
  ob_cq_close(cq);
  int fd = ob_cq_fd(cq);
  ob_cq_unref(cq);
  CHECK_EQ(fcntl(fd, F_GETFD), -1); /* closed with the last reference */
}

static void interrupt(int signal_number) {
  (void)signal_number;
}

static void signal_ends_the_wait(void) {
  struct sigaction action = {.sa_handler = interrupt};
  sigaction(SIGUSR1, &action, NULL);
  ob_cq *cq = ob_cq_new();
  pid_t pid = fork();
  if (pid == 0) {
    nap_ms(100);
    kill(getppid(), SIGUSR1);
    _exit(0);
  }
  CHECK_EQ(ob_cq_wait(cq, 10000), -1);
  CHECK_EQ(errno, EINTR);
  waitpid(pid, NULL, 0);
  ob_cq_unref(cq);
}

static void client_copies_its_options(void) {
  char name[] = "http://a:1";
  ob_client_options options = {.endpoint = name, .user_agent = "agent", .proxy = "", .max_connections = 3};
  ob_client *client = ob_client_new(&options);
  CHECK(client != NULL);
  memset(name, 'x', sizeof name - 1);
  ob_client_unref(ob_client_ref(client));
  ob_stats stats;
  ob_engine_stats(&stats);
  CHECK_EQ(stats.live_clients, 1);
  ob_client_unref(client);
  ob_engine_stats(&stats);
  CHECK_EQ(stats.live_clients, 0);
}

static void engine_before_first_use(void) {
  ob_limits limits;
  CHECK(ob_engine_orphans() == NULL);
  ob_engine_get_limits(&limits);
  CHECK(limits.connections >= 8 && limits.connections <= 1024);
  CHECK(limits.threads >= 1 && limits.threads <= 4);
  CHECK_EQ(ob_engine_endpoint_limit("http://nobody"), 0);
  CHECK_EQ(ob_engine_shutdown(0), 1);
}

static void loading_is_idempotent_and_says_why_not(void) {
  char err[256] = "";
  CHECK(ob_curl_loaded());
  CHECK_EQ(ob_curl_load("/no/such/library.so", err, sizeof err), 0); /* the first one stays */
  CHECK(strchr(ob_curl_version(), '.') != NULL);
  CHECK(strstr(ob_curl_description(), ob_curl_version()) != NULL);
  CHECK(strstr(ob_curl_path(), "libcurl") != NULL);
  pid_t pid = fork();
  if (pid == 0) {
    char *command[] = {"/proc/self/exe", "/no/such/library.so", "loading_is_idempotent_and_says_why_not", NULL};
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    execv(command[0], command);
    _exit(99);
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK_EQ(WEXITSTATUS(status), 1);
}

static void names_of_states_and_kinds(void) {
  for (int state = OB_XFER_NEW; state <= OB_XFER_DONE; state++) CHECK(ob_xfer_state_name(state)[0] != '?');
  for (int kind = OB_KIND_OK; kind <= OB_KIND_ENGINE; kind++) CHECK(ob_kind_name(kind)[0] != '?');
  CHECK(strcmp(ob_kind_name(OB_KIND_ENGINE + 1), "?") == 0);
  CHECK(strcmp(ob_xfer_state_name(OB_XFER_DONE + 1), "?") == 0);
}

static void hex_of_sha256(const char *text, size_t repeat, char hex[65]) {
  ob_sha256 sha;
  uint8_t digest[OB_SHA256_BYTES];
  ob_sha256_init(&sha);
  for (size_t i = 0; i < repeat; i++) ob_sha256_update(&sha, text, strlen(text));
  ob_sha256_final(&sha, digest);
  ob_hex(digest, hex);
  hex[64] = '\0';
}

/* FIPS 180-4 examples, and RFC 4231 test case 2. */
static void sha256_is_that_of_the_standard(void) {
  char hex[65];
  hex_of_sha256("abc", 1, hex);
  CHECK(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
  hex_of_sha256("", 1, hex);
  CHECK(strcmp(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855") == 0);
  hex_of_sha256("aaaaaaaaaa", 100000, hex);
  CHECK(strcmp(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
  ob_sha256 inner, outer;
  uint8_t mac[OB_SHA256_BYTES];
  ob_hmac_key((const uint8_t *)"Jefe", 4, &inner, &outer);
  ob_hmac(&inner, &outer, "what do ya want for nothing?", 28, mac);
  ob_hex(mac, hex);
  CHECK(strncmp(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 64) == 0);
}

static void add_line(ob_headers *headers, const char *line) {
  CHECK_EQ(ob_headers_add(headers, line, strlen(line)), 0);
}

static void digests_are_read_from_headers(void) {
  uint64_t value;
  CHECK(ob_digest_parse("4waSgw==", 8, 4, &value));
  CHECK_EQ(value, 0xe3069283);
  CHECK(!ob_digest_parse("4waSgw=", 7, 4, &value));
  CHECK(!ob_digest_parse("4waS!w==", 8, 4, &value));
  CHECK(!ob_digest_parse("4waSgwAA", 8, 4, &value));
  ob_headers headers = {0};
  ob_digest digest = {.kind = OB_DIGEST_AUTO};
  add_line(&headers, "x-amz-checksum-crc32c: 4waSgw==\r\n");
  ob_digest_begin(&digest, &headers);
  CHECK(digest.announced && digest.kind == OB_DIGEST_CRC32C && digest.expected == 0xe3069283);
  ob_digest_update(&digest, "1234", 4);
  ob_digest_update(&digest, "56789", 5);
  CHECK_EQ(digest.value, 0xe3069283);
  add_line(&headers, "x-amz-checksum-type: COMPOSITE\r\n");
  digest.kind = OB_DIGEST_AUTO;
  ob_digest_begin(&digest, &headers);
  CHECK(!digest.announced && digest.kind == OB_DIGEST_NONE);
  ob_headers_clear(&headers);
  add_line(&headers, "x-amz-checksum-crc32c: 4waSgw==-3\r\n"); /* of parts */
  digest.kind = OB_DIGEST_CRC32C;
  ob_digest_begin(&digest, &headers);
  CHECK(!digest.announced && digest.kind == OB_DIGEST_CRC32C);
  ob_headers_clear(&headers);
  add_line(&headers, "x-goog-hash: md5=xxx\r\n");
  add_line(&headers, "x-goog-hash: crc32c=4waSgw==\r\n");
  digest.kind = OB_DIGEST_AUTO;
  ob_digest_begin(&digest, &headers);
  CHECK(digest.announced && digest.expected == 0xe3069283);
  add_line(&headers, "x-goog-stored-content-encoding: gzip\r\n"); /* and sent decompressed */
  digest.kind = OB_DIGEST_AUTO;
  ob_digest_begin(&digest, &headers);
  CHECK(!digest.announced);
  ob_headers_free(&headers);
}

static const test tests[] = {
    {"sha256_is_that_of_the_standard", sha256_is_that_of_the_standard},
    {"digests_are_read_from_headers", digests_are_read_from_headers},
    {"blocks_are_counted_and_large_ones_kept", blocks_are_counted_and_large_ones_kept},
    {"kept_blocks_are_bounded", kept_blocks_are_bounded},
    {"headers_are_found_by_any_case", headers_are_found_by_any_case},
    {"headers_are_bounded", headers_are_bounded},
    {"empty_queue_waits_and_takes_nothing", empty_queue_waits_and_takes_nothing},
    {"signal_ends_the_wait", signal_ends_the_wait},
    {"client_copies_its_options", client_copies_its_options},
    {"engine_before_first_use", engine_before_first_use},
    {"loading_is_idempotent_and_says_why_not", loading_is_idempotent_and_says_why_not},
    {"names_of_states_and_kinds", names_of_states_and_kinds},
    {NULL, NULL},
};

int main(int argc, char **argv) {
  return run_test(argc, argv, tests);
}

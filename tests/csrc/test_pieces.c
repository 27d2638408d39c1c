/* test_pieces.c - parts of the core that need no network: blocks, received headers, queues, clients. */
#include "harness.h"
#include "ob_headers.h"

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

static const test tests[] = {
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

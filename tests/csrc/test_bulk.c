/* test_bulk.c - many small transfers: read to files and into memory, written from files and buffers, with failures in between. */
#include <ftw.h>
#include <sys/stat.h>

#include "harness.h"
#include "ob_bulk.h"
#include "ob_file.h"

#define OBJECT_BYTES 3000

static server srv;
static char root[] = "/tmp/obstore-bulk-XXXXXX";
static int dir_fd, temp_fd;
static atomic_int stored, refused;

/* ---- the other side ----------------------------------------------------------------------------------- */

/* PUT of "/b/..." takes a body whose hash the header names; GET answers objects, but for "/b/missing". */
static bool serve_bucket(request *r) {
  if (strcmp(r->method, "PUT") == 0) {
    char hash[2 * OB_SHA256_BYTES + 1] = "";
    uint8_t digest[OB_SHA256_BYTES];
    ob_sha256 sha;
    ob_sha256_init(&sha);
    ob_sha256_update(&sha, r->body, r->body_len);
    ob_sha256_final(&sha, digest);
    ob_hex(digest, hash);
    const char *named = request_header(r, "x-hash");
    bool right = named != NULL && strcmp(named, hash) == 0;
    atomic_fetch_add(right ? &stored : &refused, 1);
    send_text(r->fd, "HTTP/1.1 %s\r\nContent-Length: 0\r\nETag: \"e\"\r\n\r\n", right ? "200 OK" : "400 Bad Request");
    return true;
  }
  if (strstr(r->path, "missing") != NULL) {
    send_text(r->fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone");
    return true;
  }
  send_text(r->fd, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: \"e\"\r\n\r\n", OBJECT_BYTES);
  send_pattern(r->fd, 0, OBJECT_BYTES);
  return true;
}

static void open_root(void) {
  CHECK(mkdtemp(root) != NULL);
  dir_fd = open(root, O_RDONLY | O_DIRECTORY);
  CHECK(dir_fd >= 0 && mkdirat(dir_fd, ".temp", 0777) == 0);
  temp_fd = openat(dir_fd, ".temp", O_RDONLY | O_DIRECTORY);
  CHECK(temp_fd >= 0);
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *at) {
  (void)about;
  (void)kind;
  (void)at;
  return remove(path);
}

static void close_root(void) {
  close(temp_fd);
  close(dir_fd);
  CHECK_EQ(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* ---- our side ------------------------------------------------------------------------------------------ */

static ob_form *form_of(const char *method) {
  char origin[64];
  static const char hash_header[] = "x-hash\0\x01";
  snprintf(origin, sizeof origin, "http://127.0.0.1:%d", srv.port);
  bool puts = strcmp(method, "PUT") == 0;
  ob_form_spec spec = {
      .method = method,
      .origin = origin,
      .path = "/b/",
      .suffix = "",
      .keep_slash = true,
      .signing = OB_SIGN_SIGV4,
      .before = puts ? "PUT\n" : "GET\n",
      .after = puts ? "\n\nhost:h\n\x01" : "\n\nhost:h\n",
      .scope_text = "AWS4-HMAC-SHA256\n",
      .authorization = "AWS4-HMAC-SHA256 Signature=",
  };
  ob_hmac_key((const uint8_t *)"key", 3, &spec.inner, &spec.outer);
  return ob_form_new(&spec, hash_header, puts ? sizeof hash_header : 0);
}

static ob_bulk_text text(const char *value) {
  return (ob_bulk_text){value, strlen(value)};
}

/* Drives it to its end; returns the left-over items by outcome. Files that are whole are no items. */
static void drain(ob_bulk *bulk, int by_outcome[OB_BULK_OTHER + 1]) {
  ob_bulk_counts counts;
  do {
    ob_bulk_step(bulk, 1000, 0);
    for (ob_bulk_item *item = ob_bulk_take(bulk), *next; item != NULL; item = next) {
      next = item->next;
      by_outcome[item->outcome]++;
      if (item->outcome == OB_BULK_BODY) {
        CHECK_EQ(item->body->len, OBJECT_BYTES);
        CHECK(is_pattern(item->body->data, item->body->len, 0));
      }
      if (item->outcome == OB_BULK_STATUS) CHECK_EQ(ob_transfer_status(item->transfer), item->status);
      ob_bulk_item_free(item);
    }
    ob_bulk_count(bulk, &counts);
  } while (counts.pending + counts.active + counts.left > 0);
}

static ob_bulk *new_bulk(ob_client *client, bool sends, bool to_files) {
  ob_bulk_options options = {
      .window = 4,
      .piece = 100000,
      .sends = sends,
      .to_files = to_files,
      .verify = true,
      .dir_fd = to_files ? dir_fd : -1,
      .temp_fd = to_files ? temp_fd : -1,
      .journal_fd = -1,
  };
  return ob_bulk_new(client, &options);
}

static uint64_t objects_done(ob_bulk *bulk) {
  ob_bulk_counts counts;
  ob_bulk_count(bulk, &counts);
  return counts.done;
}

static void reads_and_writes(void) {
  server_start(&srv, serve_bucket);
  srv.reads_body = true;
  open_root();
  ob_client *client = client_for(NULL);

  int reads[OB_BULK_OTHER + 1] = {0};
  ob_bulk *bulk = new_bulk(client, false, true);
  CHECK_EQ(ob_bulk_set_form(bulk, 0, form_of("GET")), 1);
  for (int i = 0; i < 20; i++) {
    char name[32];
    snprintf(name, sizeof name, "d%d/k%d", i % 3, i);
    ob_bulk_task task = {.id = (uint64_t)i, .key = text(name), .name = text(name), .size = -1};
    CHECK_EQ(ob_bulk_add(bulk, &task), 0);
  }
  ob_bulk_task gone = {.key = text("missing"), .name = text("missing"), .size = -1};
  ob_bulk_task out = {.key = text("x"), .name = text("../x"), .size = -1};
  CHECK(ob_bulk_add(bulk, &gone) == 0 && ob_bulk_add(bulk, &out) == 0);
  drain(bulk, reads);
  CHECK_EQ(objects_done(bulk), 20);
  CHECK(reads[OB_BULK_STATUS] == 1 && reads[OB_BULK_UNSAFE] == 1);
  struct stat about;
  CHECK(fstatat(dir_fd, "d1/k1", &about, 0) == 0 && about.st_size == OBJECT_BYTES);
  CHECK(ob_bulk_free(bulk, 1000));

  int writes[OB_BULK_OTHER + 1] = {0};
  char path[128];
  bulk = new_bulk(client, true, false);
  CHECK_EQ(ob_bulk_set_form(bulk, 5, form_of("PUT")), 1);
  snprintf(path, sizeof path, "%s/d1/k1", root);
  ob_bulk_task file = {.form = 5, .key = text("file"), .name = text(path), .size = -1};
  ob_bulk_task buffer = {.form = 5, .key = text("buffer"), .content = text("content"), .size = 7};
  ob_bulk_task empty = {.form = 5, .key = text("empty"), .content = text(""), .size = 0};
  ob_bulk_task none = {.form = 5, .key = text("none"), .name = text("/nowhere/at/all"), .size = -1};
  ob_bulk_task folder = {.form = 5, .key = text("folder"), .name = text(root), .size = -1};
  CHECK(ob_bulk_add(bulk, &file) == 0 && ob_bulk_add(bulk, &buffer) == 0 && ob_bulk_add(bulk, &empty) == 0);
  CHECK(ob_bulk_add(bulk, &none) == 0 && ob_bulk_add(bulk, &folder) == 0);
  drain(bulk, writes);
  CHECK_EQ(objects_done(bulk), 3);
  CHECK(writes[OB_BULK_FILE] == 1 && writes[OB_BULK_OTHER] == 1);
  CHECK(atomic_load(&stored) == 3 && atomic_load(&refused) == 0);
  CHECK(ob_bulk_free(bulk, 1000));
  close_root();
  finish(client, ob_cq_new());
}

static void limited_clients_are_counted_with_the_first(void) {
  server_start(&srv, serve_bucket);
  ob_client *client = client_for(NULL), *limited = ob_client_limited(client, NULL, 1, 0);
  ob_client *again = ob_client_limited(limited, "http://other", 2, 0);
  CHECK(limited != NULL && again != NULL);
  for (int i = 0; i < 2; i++) {
    int left[OB_BULK_OTHER + 1] = {0};
    ob_bulk *bulk = new_bulk(i == 0 ? limited : again, false, false);
    ob_bulk_set_form(bulk, 0, form_of("GET"));
    for (int k = 0; k < 5; k++) {
      ob_bulk_task task = {.key = text("k"), .size = -1};
      CHECK_EQ(ob_bulk_add(bulk, &task), 0);
    }
    drain(bulk, left);
    CHECK_EQ(left[OB_BULK_BODY], 5);
    CHECK(ob_bulk_free(bulk, 1000));
  }
  CHECK(srv.busiest <= 2);
  ob_client_stats stats;
  ob_client_get_stats(client, &stats);
  CHECK(stats.requests == 10 && stats.succeeded == 10 && stats.bytes_in == 10 * OBJECT_BYTES);
  ob_client_unref(limited);
  ob_client_unref(again);
  finish(client, ob_cq_new());
}

/* ---- memory that runs short ------------------------------------------------------------------------ */

#ifdef OB_TORTURE
/* The n-th allocation fails, for every n that a bulk meets: an item, or nothing was begun; never a crash, a leak or a wait. */
static long torture(ob_client *client, bool sends, bool to_files) {
  char path[128];
  snprintf(path, sizeof path, "%s/source", root);
  for (long n = 0;; n++) {
    int left[OB_BULK_OTHER + 1] = {0};
    uint64_t done = 0;
    int fed = 0;
    ob_form *form = form_of(sends ? "PUT" : "GET");
    CHECK(form != NULL);
    atomic_store(&ob_torture_countdown, n);
    ob_bulk *bulk = new_bulk(client, sends, to_files);
    if (bulk != NULL) {
      ob_bulk_set_form(bulk, 0, form);
      ob_bulk_task tasks[] = {
          {.key = text("a"), .name = text("a"), .size = -1},
          {.key = text("missing"), .name = text("deep/b"), .size = -1},
      };
      if (sends) {
        tasks[0] = (ob_bulk_task){.key = text("a"), .name = text(path), .size = -1};
        tasks[1] = (ob_bulk_task){.key = text("b"), .content = text("content"), .size = 7};
      }
      for (int i = 0; i < 2; i++) fed += ob_bulk_add(bulk, &tasks[i]) == 0;
      drain(bulk, left);
      done = objects_done(bulk);
      CHECK(ob_bulk_free(bulk, 5000));
    } else {
      ob_form_free(form);
    }
    bool reached = atomic_exchange(&ob_torture_countdown, -1) < 0;
    int failed = left[OB_BULK_STATUS] + left[OB_BULK_FAILED] + left[OB_BULK_FILE];
    CHECK_EQ(to_files || sends ? (int)done + failed : left[OB_BULK_BODY] + failed, fed);
    if (!reached) {
      CHECK_EQ(fed, 2);
      return n;
    }
  }
}

static void short_memory_makes_items(void) {
  server_start(&srv, serve_bucket);
  srv.reads_body = true;
  open_root();
  int fd = openat(dir_fd, "source", O_WRONLY | O_CREAT, 0666);
  CHECK(fd >= 0 && write(fd, "some text", 9) == 9);
  close(fd);
  ob_client *client = client_for(NULL);
  CHECK(torture(client, false, true) > 8);
  CHECK(torture(client, false, false) > 8);
  CHECK(torture(client, true, false) > 8);
  CHECK_EQ(atomic_load(&refused), 0);
  close_root();
  finish(client, ob_cq_new());
}
#endif

static const test tests[] = {
    {"reads_and_writes", reads_and_writes},
    {"limited_clients_are_counted_with_the_first", limited_clients_are_counted_with_the_first},
#ifdef OB_TORTURE
    {"short_memory_makes_items", short_memory_makes_items},
#endif
    {NULL, NULL},
};

int main(int argc, char **argv) {
  return run_test(argc, argv, tests);
}

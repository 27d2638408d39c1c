/* ob_bulk.c - see ob_bulk.h. All of it runs on the consumer's thread, but for the writing to files, which the loops do. */
#include "ob_bulk.h"

#include <sys/stat.h>

#include "ob_engine.h"
#include "ob_file.h"
#include "ob_port.h"
#include "ob_sha256.h"

#define PATIENCE_MS 50
#define GATHER_ITEMS 256
#define GATHER_US 1000

struct ob_bulk {
  ob_client *client;
  ob_cq *cq;
  ob_bulk_options options;
  uint32_t generation;
  atomic_bool cancelled;
  ob_bulk_counts counts;
  int64_t in_flight_bytes; /* expected of what is in flight */
  int64_t largest;         /* object of unknown size that came so far */
  ob_form *forms[OB_BULK_FORMS];
  uint32_t n_forms_set;

  ob_bulk_item *pending_first, *pending_last;
  ob_bulk_item *left_first, *left_last;
  ob_bulk_item **active; /* by slot */
  int *free_slots;
  int n_free;
};

/* ---- items ------------------------------------------------------------------------------------------------------- */

void ob_bulk_item_free(ob_bulk_item *item) {
  if (item == NULL) return;
  ob_transfer_unref(item->transfer);
  ob_block_unref(item->body);
  ob_free((char *)item->part);
  ob_free((char *)item->e_tag);
  ob_free(item);
}

static char *place_text(char **at, const ob_bulk_text *text) {
  char *copy = *at;
  if (text->data == NULL) return NULL;
  memcpy(copy, text->data, text->len);
  copy[text->len] = '\0';
  *at += text->len + 1;
  return copy;
}

static ob_block *copy_of(const ob_bulk_text *content) {
  ob_block *block = ob_block_new(content->len);
  if (block == NULL) return NULL;
  memcpy(block->data, content->data, content->len);
  block->len = content->len;
  return block;
}

int ob_bulk_add(ob_bulk *bulk, const ob_bulk_task *task) {
  ob_bulk_item *item = ob_malloc(sizeof *item + task->key.len + task->name.len + task->url.len + task->headers.len + 4);
  if (item == NULL) return -1;
  memset(item, 0, sizeof *item);
  char *at = (char *)(item + 1);
  item->id = task->id;
  item->form = task->form;
  item->size = task->size;
  item->fd = -1;
  item->slot = -1;
  item->modified_s = -1;
  item->key = place_text(&at, &task->key);
  item->key_len = task->key.len;
  item->name = place_text(&at, &task->name);
  item->url = place_text(&at, &task->url);
  item->headers = place_text(&at, &task->headers);
  if (task->content.data != NULL && (item->body = copy_of(&task->content)) == NULL) {
    ob_bulk_item_free(item);
    return -1;
  }
  *(bulk->pending_last != NULL ? &bulk->pending_last->next : &bulk->pending_first) = item;
  bulk->pending_last = item;
  bulk->counts.pending++;
  bulk->counts.pending_bytes += task->content.len;
  return 0;
}

static void leave(ob_bulk *bulk, ob_bulk_item *item, ob_bulk_outcome outcome) {
  item->outcome = outcome;
  item->next = NULL;
  *(bulk->left_last != NULL ? &bulk->left_last->next : &bulk->left_first) = item;
  bulk->left_last = item;
  bulk->counts.left++;
  if (item->body != NULL) bulk->counts.held += item->body->len;
}

static void leave_file_error(ob_bulk *bulk, ob_bulk_item *item, int error) {
  item->oserrno = error;
  leave(bulk, item, OB_BULK_FILE);
}

ob_bulk_item *ob_bulk_take(ob_bulk *bulk) {
  ob_bulk_item *first = bulk->left_first;
  bulk->left_first = bulk->left_last = NULL;
  bulk->counts.left = bulk->counts.held = 0;
  return first;
}

static void temp_name(char text[32], int slot) {
  snprintf(text, 32, "slot-%d", slot);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

uint32_t ob_bulk_set_form(ob_bulk *bulk, int number, ob_form *form) {
  ob_form_free(bulk->forms[number]);
  bulk->forms[number] = form;
  return ++bulk->n_forms_set;
}

static int64_t expected_of(const ob_bulk *bulk, const ob_bulk_item *item) {
  if (item->body != NULL) return (int64_t)item->body->len;
  if (item->size >= 0) return item->size;
  /* Of unknown size: as large as the largest so far; before the first has come, a few. */
  return bulk->largest > 0 ? bulk->largest : bulk->options.memory / 8;
}

static bool has_room(const ob_bulk *bulk, const ob_bulk_item *item) {
  if (bulk->n_free == 0) return false;
  if (bulk->options.to_files || bulk->options.memory <= 0) return true;
  if (item->body != NULL) return true; /* in memory already */
  if (bulk->counts.active == 0 && bulk->counts.left == 0) return true;
  return bulk->in_flight_bytes + (int64_t)bulk->counts.held + expected_of(bulk, item) <= bulk->options.memory;
}

static void give_slot(ob_bulk *bulk, ob_bulk_item *item) {
  bulk->active[item->slot] = NULL;
  bulk->free_slots[bulk->n_free++] = item->slot;
}

/* What is to be sent is in memory; else the item is left over. */
static bool has_content(ob_bulk *bulk, ob_bulk_item *item) {
  uint64_t limit = bulk->options.piece > 0 ? bulk->options.piece : UINT64_MAX;
  int error = 0;
  if (item->body != NULL) return true;
  switch (ob_file_read(item->name, limit, &item->body, &error)) {
  case OB_FILE_READ:
    item->size = (int64_t)item->body->len;
    return true;
  case OB_FILE_OTHER:
    leave(bulk, item, OB_BULK_OTHER);
    return false;
  case OB_FILE_FAILED:
    leave_file_error(bulk, item, error);
    return false;
  }
  return false;
}

/* 0, or what ob_transfer_set_url and its kin return. */
static int fill_request(ob_bulk *bulk, ob_bulk_item *item, ob_transfer *x) {
  if (item->url != NULL) {
    int rc = ob_transfer_set_url(x, item->url, strlen(item->url));
    return rc != 0 ? rc : ob_form_add_headers(x, item->headers);
  }
  ob_iovec content = {0};
  if (bulk->options.sends) content = (ob_iovec){item->body->data, item->body->len};
  return ob_form_fill(bulk->forms[item->form], x, item->key, bulk->options.sends ? &content : NULL);
}

/* Where the answer's body goes. 0 or an errno. */
static int open_sink(ob_bulk *bulk, ob_bulk_item *item, ob_transfer *x) {
  const ob_bulk_options *options = &bulk->options;
  if (options->sends) {
    ob_transfer_sink_discard(x);
    return 0;
  }
  if (options->piece > 0) ob_transfer_set_slice(x, 0, options->piece);
  if (options->verify) ob_transfer_set_digest(x, OB_DIGEST_AUTO);
  if (!options->to_files) {
    ob_transfer_sink_collect(x, -1);
    return 0;
  }
  char name[32];
  temp_name(name, item->slot);
  item->fd = openat(options->temp_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (item->fd < 0) return errno;
  ob_transfer_sink_fd(x, item->fd, 0);
  return 0;
}

/* The item is in flight afterwards, or left over. */
static void send(ob_bulk *bulk, ob_bulk_item *item) {
  const ob_bulk_options *options = &bulk->options;
  if (options->to_files && (item->name == NULL || !ob_file_is_safe(item->name, options->flat))) {
    leave(bulk, item, OB_BULK_UNSAFE);
    return;
  }
  if (options->sends && !has_content(bulk, item)) return;
  ob_transfer *x = ob_transfer_new(bulk->client, item);
  if (x == NULL) {
    leave_file_error(bulk, item, ENOMEM);
    return;
  }
  item->slot = bulk->free_slots[--bulk->n_free];
  item->forms = bulk->n_forms_set;
  int rc = fill_request(bulk, item, x);
  int error = rc == 0 ? open_sink(bulk, item, x) : 0;
  if (rc == 0 && error == 0) rc = ob_engine_submit(x, bulk->cq);
  if (rc != 0 || error != 0) {
    if (item->fd >= 0) close(item->fd);
    item->fd = -1;
    give_slot(bulk, item);
    ob_transfer_unref(x);
    if (error != 0) {
      leave_file_error(bulk, item, error);
      return;
    }
    item->kind = rc == -1 ? OB_KIND_MEMORY : rc == -2 && item->url == NULL ? OB_KIND_PROTOCOL : OB_KIND_ENGINE;
    leave(bulk, item, OB_BULK_FAILED);
    return;
  }
  item->transfer = x;
  bulk->active[item->slot] = item;
  item->counted = expected_of(bulk, item);
  bulk->in_flight_bytes += item->counted;
  bulk->counts.active++;
}

static bool is_cancelled(const ob_bulk *bulk) {
  return atomic_load_explicit(&((ob_bulk *)bulk)->cancelled, memory_order_relaxed);
}

static void send_pending(ob_bulk *bulk) {
  while (bulk->pending_first != NULL) {
    ob_bulk_item *item = bulk->pending_first;
    if (is_cancelled(bulk) || !has_room(bulk, item)) return;
    bulk->pending_first = item->next;
    if (item->next == NULL) bulk->pending_last = NULL;
    bulk->counts.pending--;
    if (item->body != NULL) bulk->counts.pending_bytes -= item->body->len;
    item->next = NULL;
    send(bulk, item);
  }
}

/* ---- finishing ------------------------------------------------------------------------------------------------------ */

static int two_digits(const char *text) {
  return text[0] >= '0' && text[0] <= '9' && text[1] >= '0' && text[1] <= '9' ? 10 * (text[0] - '0') + text[1] - '0'
                                                                              : -1;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT" as seconds since 1970; -1 for any other form. */
static int64_t http_date(const char *text, size_t len) {
  static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (len != 29 || memcmp(text + 25, " GMT", 4) != 0) return -1;
  int day = two_digits(text + 5), century = two_digits(text + 12), year = two_digits(text + 14);
  int hour = two_digits(text + 17), minute = two_digits(text + 20), second = two_digits(text + 23), month = 0;
  while (month < 12 && memcmp(text + 8, months + 3 * month, 3) != 0) month++;
  if (day < 1 || century < 19 || year < 0 || hour < 0 || minute < 0 || second < 0 || month == 12) return -1;
  int64_t y = 100 * century + year - (month < 2);
  int64_t era = y / 400, of_era = y - era * 400,
          of_year = (153 * (month < 2 ? month + 10 : month - 2) + 2) / 5 + day - 1;
  int64_t days = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
  return days * 86400 + hour * 3600 + minute * 60 + second;
}

static void read_meta(ob_bulk_item *item) {
  size_t len;
  const char *value = ob_transfer_header(item->transfer, "last-modified", 13, &len);
  if (value != NULL) item->modified_s = http_date(value, len);
}

static char *e_tag_of(const ob_bulk_item *item) {
  size_t len = 0;
  const char *value = ob_transfer_header(item->transfer, "etag", 4, &len);
  char *copy = value != NULL ? ob_malloc(len + 1) : NULL;
  if (copy != NULL) {
    memcpy(copy, value, len);
    copy[len] = '\0';
  }
  return copy;
}

/* What a later run recognises the file by: the first bytes of the SHA-256 of key, ETag without quotes, and size. */
static void write_record(ob_bulk *bulk, const ob_bulk_item *item) {
  char *e_tag = bulk->options.journal_fd >= 0 ? e_tag_of(item) : NULL;
  if (e_tag == NULL) return;
  uint8_t digest[OB_SHA256_BYTES];
  char size[32];
  size_t start = e_tag[0] == '"' ? 1 : 0, len = strlen(e_tag);
  if (len > start && e_tag[len - 1] == '"') len--;
  ob_sha256 sha;
  ob_sha256_init(&sha);
  ob_sha256_update(&sha, item->key, strlen(item->key) + 1);
  ob_sha256_update(&sha, e_tag + start, len - start);
  int n = snprintf(size, sizeof size, "%c%lld", 0, (long long)item->size);
  ob_sha256_update(&sha, size, (size_t)n);
  ob_sha256_final(&sha, digest);
  ob_free(e_tag);
  /* A record that is lost, or torn, costs one object to be fetched again. */
  ssize_t rc = write(bulk->options.journal_fd, digest, OB_BULK_RECORD);
  (void)rc;
}

/* The file is whole: give it its time and its name. 0 or an errno. */
static int put_in_place(ob_bulk *bulk, ob_bulk_item *item, const char *temp) {
  const ob_bulk_options *options = &bulk->options;
  if (item->modified_s >= 0) {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = item->modified_s}};
    (void)futimens(item->fd, times); /* some file systems keep no times: then the file is as new as it looks */
  }
  int rc = close(item->fd);
  item->fd = -1;
  if (rc != 0 && errno != EINTR) return errno; /* where the disk is full, some systems say so only now */
  return ob_file_place(options->temp_fd, temp, options->dir_fd, item->name);
}

static void keep_part(ob_bulk *bulk, ob_bulk_item *item, const char *temp) {
  char *part = ob_malloc(32);
  item->e_tag = e_tag_of(item);
  if (part != NULL) {
    snprintf(part, 32, "first-%llu", (unsigned long long)item->id);
    item->part = part;
  }
  if (item->fd >= 0) {
    close(item->fd);
    item->fd = -1;
    if (part == NULL || renameat(bulk->options.temp_fd, temp, bulk->options.temp_fd, part) != 0) {
      leave_file_error(bulk, item, part == NULL ? ENOMEM : errno);
      return;
    }
  }
  leave(bulk, item, OB_BULK_PARTIAL);
}

static void count_done(ob_bulk *bulk, int64_t bytes) {
  bulk->counts.done++;
  bulk->counts.bytes += (uint64_t)bytes;
}

/* A 200 answer to a read is whole. True: the item is settled. Else it was left over. */
static bool settle_read(ob_bulk *bulk, ob_bulk_item *item, const ob_outcome *outcome) {
  const ob_bulk_options *options = &bulk->options;
  bool partial = outcome->announced > outcome->received;
  bool is_unknown = item->size < 0;
  char temp[32];
  temp_name(temp, item->slot);
  item->size = partial ? outcome->announced : outcome->received;
  if (is_unknown && outcome->received > bulk->largest) bulk->largest = outcome->received;
  if (options->to_files) {
    read_meta(item);
  } else if ((item->body = ob_transfer_body(item->transfer)) == NULL) {
    leave_file_error(bulk, item, ENOMEM);
    return false;
  }
  if (partial) {
    read_meta(item);
    keep_part(bulk, item, temp);
    return false;
  }
  if (item->digest.announced && item->digest.value != item->digest.expected) {
    leave(bulk, item, OB_BULK_CORRUPT);
    return false;
  }
  if (!options->to_files) {
    count_done(bulk, item->received);
    bulk->counts.verified += item->digest.announced;
    leave(bulk, item, OB_BULK_BODY);
    return false;
  }
  int error = put_in_place(bulk, item, temp);
  if (error != 0) {
    leave_file_error(bulk, item, error);
    return false;
  }
  count_done(bulk, item->received);
  bulk->counts.verified += item->digest.announced;
  write_record(bulk, item);
  return true;
}

/* Its END was taken. */
static void finish(ob_bulk *bulk, ob_bulk_item *item) {
  const ob_outcome *outcome = ob_transfer_outcome(item->transfer);
  bool settled = false, keeps_attempt = false;
  bulk->counts.active--;
  bulk->in_flight_bytes -= item->counted;
  item->kind = outcome->kind;
  item->status = outcome->status;
  item->received = outcome->received;
  item->digest = *ob_transfer_digest(item->transfer);
  if (outcome->kind == OB_KIND_FILE) {
    leave_file_error(bulk, item, outcome->oserrno);
  } else if (outcome->kind != OB_KIND_OK) {
    keeps_attempt = true;
    leave(bulk, item, OB_BULK_FAILED);
  } else if (bulk->options.sends ? outcome->status < 200 || outcome->status > 299 : outcome->status != 200) {
    keeps_attempt = true;
    leave(bulk, item, OB_BULK_STATUS);
  } else if (bulk->options.sends) {
    count_done(bulk, (int64_t)item->body->len);
    settled = true;
  } else {
    settled = settle_read(bulk, item, outcome);
  }
  if (item->fd >= 0) close(item->fd);
  item->fd = -1;
  if (!keeps_attempt) {
    ob_transfer_unref(item->transfer);
    item->transfer = NULL;
  }
  give_slot(bulk, item);
  if (settled) ob_bulk_item_free(item);
}

static void take_ended(ob_bulk *bulk) {
  ob_transfer *next;
  for (ob_transfer *x = ob_cq_take(bulk->cq); x != NULL; x = next) {
    next = ob_transfer_next_taken(x);
    int events = ob_transfer_events(x, bulk->cq);
    if ((events & OB_EVENT_END) != 0) finish(bulk, ob_transfer_owner(x));
    ob_transfer_unref(x); /* the entry's */
  }
}

/* Handing over costs as much for one item as for many: where there is one, more are waited for, a moment. */
static bool has_gathered(const ob_bulk *bulk, int64_t now_us, int64_t *until_us) {
  if (bulk->counts.left == 0) return false;
  if (bulk->counts.left >= GATHER_ITEMS) return true;
  if (*until_us == 0) *until_us = now_us + GATHER_US;
  return now_us >= *until_us;
}

void ob_bulk_step(ob_bulk *bulk, int timeout_ms, uint64_t low) {
  int64_t now_us = ob_now_us(), until_us = now_us + (int64_t)timeout_ms * 1000, gather_us = 0;
  if (ob_bulk_stale(bulk)) return;
  for (;; now_us = ob_now_us()) {
    send_pending(bulk);
    if (bulk->counts.active == 0 || bulk->counts.pending < low || is_cancelled(bulk)) return;
    if (has_gathered(bulk, now_us, &gather_us) || now_us >= until_us) return;
    int64_t end_us = gather_us > 0 && gather_us < until_us ? gather_us : until_us;
    int64_t wait_ms = (end_us - now_us + 999) / 1000;
    int rc = ob_cq_wait(bulk->cq, wait_ms < PATIENCE_MS ? (int)wait_ms : PATIENCE_MS);
    if (rc < 0) return;
    take_ended(bulk);
  }
}

void ob_bulk_count(const ob_bulk *bulk, ob_bulk_counts *counts) {
  *counts = bulk->counts;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------------- */

bool ob_bulk_stale(const ob_bulk *bulk) {
  return bulk->generation != ob_engine_generation();
}

ob_bulk *ob_bulk_new(ob_client *client, const ob_bulk_options *options) {
  ob_bulk *bulk = ob_calloc(sizeof *bulk);
  if (bulk == NULL) return NULL;
  bulk->options = *options;
  bulk->generation = ob_engine_generation();
  bulk->client = ob_client_ref(client);
  bulk->cq = ob_cq_new();
  bulk->active = ob_calloc((size_t)options->window * sizeof *bulk->active);
  bulk->free_slots = ob_calloc((size_t)options->window * sizeof *bulk->free_slots);
  atomic_init(&bulk->cancelled, false);
  if (bulk->cq == NULL || bulk->active == NULL || bulk->free_slots == NULL) {
    ob_bulk_free(bulk, 0);
    return NULL;
  }
  for (int64_t i = options->window; i > 0; i--) bulk->free_slots[bulk->n_free++] = (int)(i - 1);
  return bulk;
}

void ob_bulk_cancel(ob_bulk *bulk) {
  atomic_store_explicit(&bulk->cancelled, true, memory_order_relaxed);
}

static void free_chain(ob_bulk_item *item) {
  while (item != NULL) {
    ob_bulk_item *next = item->next;
    ob_bulk_item_free(item);
    item = next;
  }
}

bool ob_bulk_free(ob_bulk *bulk, int timeout_ms) {
  if (bulk == NULL) return true;
  if (ob_bulk_stale(bulk)) return false; /* its parent's: locks and sockets may be in any state */
  int64_t until = ob_now_us() + (int64_t)timeout_ms * 1000;
  for (int64_t i = 0; bulk->active != NULL && i < bulk->options.window; i++) {
    if (bulk->active[i] != NULL) ob_transfer_cancel(bulk->active[i]->transfer);
  }
  while (bulk->counts.active > 0) {
    if (ob_now_us() >= until) return false; /* a loop that hangs still has its pointers to us */
    (void)ob_cq_wait(bulk->cq, PATIENCE_MS);
    take_ended(bulk);
  }
  free_chain(bulk->pending_first);
  free_chain(bulk->left_first);
  if (bulk->cq != NULL) {
    ob_cq_close(bulk->cq);
    ob_cq_unref(bulk->cq);
  }
  ob_client_unref(bulk->client);
  ob_free(bulk->active);
  ob_free(bulk->free_slots);
  for (int i = 0; i < OB_BULK_FORMS; i++) ob_form_free(bulk->forms[i]);
  ob_free(bulk);
  return true;
}

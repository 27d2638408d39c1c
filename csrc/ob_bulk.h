/* ob_bulk.h - many small transfers driven without a look at each: keys in; files, or bodies, out. Or files and buffers in.
 *
 * A bulk belongs to one thread at a time, its consumer, which feeds it, lets it work in ob_bulk_step (without the GIL) and takes
 * what is left over. It builds and signs requests, submits them, and puts what comes into place. Only what is not a plain
 * success, and bodies, come back as items: whether to try again, and what an answer means, is for those above to say.
 *
 * Files are written under a temporary name in `temp_fd` by the loop threads and renamed into `dir_fd` once they are whole and
 * their checksum, where the service announced one, is right. Files to be sent are read by the consumer when their turn comes.
 */
#ifndef OB_BULK_H
#define OB_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ob_digest.h"
#include "ob_form.h"
#include "ob_transfer.h"

typedef struct ob_bulk ob_bulk;

typedef struct ob_bulk_options {
  int64_t window; /* requests in flight at most */
  int64_t memory; /* bytes of bodies in flight or waiting to be taken; one is always let through. 0: no bound */
  uint64_t
      piece; /* bytes of an object to take at most; of larger ones only the first come. Larger files are not sent. 0: all */
  bool sends;     /* objects are written; all below is of no use then */
  bool to_files;  /* else bodies are kept in memory */
  bool verify;    /* compare with the checksum that the service announces */
  bool flat;      /* refuse names with a slash */
  int dir_fd;     /* of the destination; the owner's, like the next two */
  int temp_fd;    /* of unfinished files, on the same file system */
  int journal_fd; /* -1: none; else one record of OB_BULK_RECORD bytes for every finished file */
} ob_bulk_options;

#define OB_BULK_RECORD 8
#define OB_BULK_FORMS 64

typedef enum {
  OB_BULK_BODY,    /* whole; its body is in `body` */
  OB_BULK_PARTIAL, /* the first bytes of a larger object: in `body`, or in the file `part` of temp_fd */
  OB_BULK_STATUS,  /* an answer that is no success: see `transfer` */
  OB_BULK_FAILED,  /* no whole answer: see `transfer`; NULL: nothing was sent, and `kind` says why */
  OB_BULK_CORRUPT, /* not the checksum that was announced */
  OB_BULK_FILE,    /* the file could not be made, or read: oserrno says why */
  OB_BULK_UNSAFE,  /* the name leads out of the destination, or cannot be a file's */
  OB_BULK_OTHER,   /* no regular file, or larger than a piece: nothing was sent */
} ob_bulk_outcome;

typedef struct ob_bulk_text {
  const char *data; /* NULL: none */
  size_t len;
} ob_bulk_text;

/* What is to be done. Texts are copied. */
typedef struct ob_bulk_task {
  uint64_t id;
  int form; /* by number */
  ob_bulk_text key;
  ob_bulk_text name;    /* of the file below the destination; of the file to be sent, its path */
  ob_bulk_text url;     /* of a request of its own, which needs no form */
  ob_bulk_text headers; /* of that: name NUL value NUL ... NUL */
  ob_bulk_text content; /* to be sent, instead of a file */
  int64_t size;         /* as far as known; -1 */
} ob_bulk_task;

typedef struct ob_bulk_item {
  struct ob_bulk_item *next;
  uint64_t id;
  ob_bulk_outcome outcome;
  ob_kind kind;
  int status;
  int oserrno;
  int64_t size;     /* of the whole object; expected, until it was announced; -1 unknown */
  int64_t received; /* bytes that came */
  ob_block *body;   /* a reference; what came, or what was to be sent */
  ob_digest digest; /* of what was received, and what was announced of the whole */
  int64_t modified_s;
  const char *key, *name, *part, *e_tag; /* NULL: none; part and e_tag after a partial answer */
  size_t key_len;
  ob_transfer *transfer; /* a reference: the attempt that failed. NULL after every other outcome */
  int form;              /* the number of its form */
  uint32_t forms;        /* how many had been set when it was sent */
  /* the bulk's own */
  char *url;
  char *headers;
  int fd;
  int slot;
  int64_t counted; /* of its bytes, while in flight */
} ob_bulk_item;

typedef struct ob_bulk_counts {
  uint64_t done;          /* whole objects, in place */
  uint64_t bytes;         /* in them */
  uint64_t verified;      /* of them, equal to a checksum that was announced */
  uint64_t pending;       /* fed and not yet sent */
  uint64_t pending_bytes; /* of content in those */
  uint64_t active;        /* in flight */
  uint64_t left;          /* items waiting to be taken */
  uint64_t held;          /* bytes in those */
} ob_bulk_counts;

/* NULL: out of memory or descriptors. Takes a reference on client. */
ob_bulk *ob_bulk_new(ob_client *client, const ob_bulk_options *options);
/* Cancels what is in flight and waits for it, at most timeout_ms; true where the bulk is gone. Else it is left behind, whole. */
bool ob_bulk_free(ob_bulk *bulk, int timeout_ms);
/* For all requests sent from now on by that number, below OB_BULK_FORMS. Takes the form over. Returns how many were set so far. */
uint32_t ob_bulk_set_form(ob_bulk *bulk, int number, ob_form *form);
/* Feed one. 0 or -1. */
int ob_bulk_add(ob_bulk *bulk, const ob_bulk_task *task);
/* Work until timeout_ms have passed, or fewer than `low` keys are pending, or there are items to take, or all is done, or a signal
 * came. Whatever it is, the counts tell. */
void ob_bulk_step(ob_bulk *bulk, int timeout_ms, uint64_t low);
/* Take all items that are left over, a chain by `next`; each is freed by ob_bulk_item_free. */
ob_bulk_item *ob_bulk_take(ob_bulk *bulk);
void ob_bulk_item_free(ob_bulk_item *item);
/* Send nothing more, and let ob_bulk_step return soon. Any thread. */
void ob_bulk_cancel(ob_bulk *bulk);
void ob_bulk_count(const ob_bulk *bulk, ob_bulk_counts *counts);
/* Made before this process was forked off: may only be forgotten. */
bool ob_bulk_stale(const ob_bulk *bulk);

#endif

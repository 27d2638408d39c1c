/* ob_file.h - local files that objects are made from, or made into. The caller's thread; everything blocks. */
#ifndef OB_FILE_H
#define OB_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "ob_body.h"

/* A relative path whose every part is a name of its own: nothing leads out of the directory. flat: a single part. */
bool ob_file_is_safe(const char *name, bool flat);
/* Move `temp` of temp_fd to `name` below dir_fd, with the directories that lead there. 0 or an errno. */
int ob_file_place(int temp_fd, const char *temp, int dir_fd, const char *name);

typedef enum {
  OB_FILE_READ,  /* *body holds all of it */
  OB_FILE_OTHER, /* no regular file, or larger than the limit: nothing was read */
  OB_FILE_FAILED /* *error says why */
} ob_file_outcome;

/* The content of a regular file of at most `limit` bytes, as one block that the caller owns. */
ob_file_outcome ob_file_read(const char *path, uint64_t limit, ob_block **body, int *error);

#endif

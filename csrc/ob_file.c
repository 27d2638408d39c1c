/* ob_file.c - see ob_file.h. */
#include "ob_file.h"

#include <sys/stat.h>

#include "ob_port.h"

#define NAME_BYTES 4096

bool ob_file_is_safe(const char *name, bool flat) {
  size_t len = strlen(name);
  if (len == 0 || len >= NAME_BYTES) return false;
  for (const char *part = name;;) {
    size_t n = strcspn(part, "/");
    if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.')) return false;
    if (part[n] == '\0') return true;
    if (flat) return false;
    part += n + 1;
  }
}

/* The directories that lead to `name`. 0, or -1 with errno. */
static int make_parents(int dir_fd, const char *name) {
  char path[NAME_BYTES];
  size_t len = strlen(name);
  memcpy(path, name, len + 1);
  for (char *at = strchr(path, '/'); at != NULL; at = strchr(at + 1, '/')) {
    *at = '\0';
    if (mkdirat(dir_fd, path, 0777) != 0 && errno != EEXIST) return -1;
    *at = '/';
  }
  return 0;
}

int ob_file_place(int temp_fd, const char *temp, int dir_fd, const char *name) {
  if (renameat(temp_fd, temp, dir_fd, name) == 0) return 0;
  if (errno != ENOENT) return errno;
  if (make_parents(dir_fd, name) != 0) return errno;
  return renameat(temp_fd, temp, dir_fd, name) == 0 ? 0 : errno;
}

/* Up to its end, or what it had when it was opened. 0 or an errno. */
static int read_all(int fd, ob_block *block) {
  while (block->len < block->cap) {
    ssize_t n = read(fd, block->data + block->len, block->cap - block->len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) break;
    block->len += (size_t)n;
  }
  return 0;
}

ob_file_outcome ob_file_read(const char *path, uint64_t limit, ob_block **body, int *error) {
  struct stat about;
  ob_block *block = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is told by its kind, not waited for */
  *error = 0;
  if (fd < 0 || fstat(fd, &about) != 0) {
    *error = errno;
  } else if (!S_ISREG(about.st_mode) || (uint64_t)about.st_size > limit) {
    close(fd);
    return OB_FILE_OTHER;
  } else if ((block = ob_block_new((size_t)about.st_size)) == NULL) {
    *error = ENOMEM;
  } else {
    *error = read_all(fd, block);
  }
  if (fd >= 0) close(fd);
  if (*error == 0) {
    *body = block;
    return OB_FILE_READ;
  }
  ob_block_unref(block);
  return OB_FILE_FAILED;
}

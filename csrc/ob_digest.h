/* ob_digest.h - the checksum of a body as it arrives, and the one that the service says the whole object has.
 *
 * Known headers: x-amz-checksum-crc32, -crc32c, -crc64nvme (of whole objects only: a composite one is told by its "-parts"
 * or by x-amz-checksum-type) and the crc32c of x-goog-hash. Where none of them is, an MD5: content-md5, that of x-goog-hash, or the
 * ETag of S3 for what was put in one piece and not encrypted by a key of the user's. Of an MD5 the first 64 bits count.
 */
#ifndef OB_DIGEST_H
#define OB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ob_headers.h"
#include "ob_md5.h"

typedef enum {
  OB_DIGEST_NONE,
  OB_DIGEST_AUTO, /* whichever the response announces */
  OB_DIGEST_CRC32,
  OB_DIGEST_CRC32C,
  OB_DIGEST_CRC64NVME,
  OB_DIGEST_MD5 /* of whole objects, in one go: parts of it cannot be combined */
} ob_digest_kind;

typedef struct ob_digest {
  ob_digest_kind kind; /* never AUTO once a body has begun */
  bool announced;      /* expected holds what the service says of the whole object */
  bool in_part;        /* not all of the object will come: an MD5 of that would be worth nothing, and is not computed */
  uint64_t value;      /* of the bytes so far; of an MD5, when it has ended */
  uint64_t expected;
  ob_md5 md5;
} ob_digest;

/* Any thread, one at a time. Settles AUTO by the headers of a 2xx response, and reads what they announce. */
void ob_digest_begin(ob_digest *digest, const ob_headers *headers);
void ob_digest_end(ob_digest *digest);
void ob_digest_update(ob_digest *digest, const void *data, size_t len);
/* Checksum of ab from those of a and b and the length of b. */
uint64_t ob_digest_combine(ob_digest_kind kind, uint64_t a, uint64_t b, uint64_t len_b);
/* Decodes base64 of exactly `size` bytes (at most 8), big endian. False: it is none. */
bool ob_digest_parse(const char *text, size_t len, size_t size, uint64_t *value);

#endif

/* ob_digest.h - the checksum of a body as it arrives, and the one that the service says the whole object has.
 *
 * Known headers: x-amz-checksum-crc32, -crc32c, -crc64nvme (of whole objects only: a composite one is told by its "-parts"
 * or by x-amz-checksum-type) and the crc32c of x-goog-hash.
 */
#ifndef OB_DIGEST_H
#define OB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ob_headers.h"

typedef enum {
  OB_DIGEST_NONE,
  OB_DIGEST_AUTO, /* whichever the response announces */
  OB_DIGEST_CRC32,
  OB_DIGEST_CRC32C,
  OB_DIGEST_CRC64NVME
} ob_digest_kind;

typedef struct ob_digest {
  ob_digest_kind kind; /* never AUTO once a body has begun */
  bool announced;      /* expected holds what the service says of the whole object */
  uint64_t value;      /* of the bytes so far */
  uint64_t expected;
} ob_digest;

/* Any thread, one at a time. Settles AUTO by the headers of a 2xx response, and reads what they announce. */
void ob_digest_begin(ob_digest *digest, const ob_headers *headers);
void ob_digest_update(ob_digest *digest, const void *data, size_t len);
/* Checksum of ab from those of a and b and the length of b. */
uint64_t ob_digest_combine(ob_digest_kind kind, uint64_t a, uint64_t b, uint64_t len_b);
/* Decodes base64 of exactly `size` bytes (at most 8), big endian. False: it is none. */
bool ob_digest_parse(const char *text, size_t len, size_t size, uint64_t *value);

#endif

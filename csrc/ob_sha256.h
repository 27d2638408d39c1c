/* ob_sha256.h - SHA-256 and HMAC-SHA-256 (FIPS 180-4, RFC 2104) of what requests are signed with. Pure functions. */
#ifndef OB_SHA256_H
#define OB_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OB_SHA256_BYTES 32

typedef struct ob_sha256 {
  uint32_t state[8];
  uint64_t len;
  uint8_t block[64];
} ob_sha256;

void ob_sha256_init(ob_sha256 *sha);
void ob_sha256_update(ob_sha256 *sha, const void *data, size_t len);
/* The same for two texts, which must not overlap the states; a processor that ob_sha256_has_pairs takes less time than for one after
 * the other, once both stand at a multiple of 64 bytes. */
void ob_sha256_update_pair(ob_sha256 *a, const void *data_a, ob_sha256 *b, const void *data_b, size_t len);
bool ob_sha256_has_pairs(void);
void ob_sha256_final(ob_sha256 *sha, uint8_t digest[OB_SHA256_BYTES]);
/* The key as the two states that every HMAC with it begins from. */
void ob_hmac_key(const uint8_t *key, size_t len, ob_sha256 *inner, ob_sha256 *outer);
void ob_hmac(const ob_sha256 *inner, const ob_sha256 *outer, const void *data, size_t len,
             uint8_t mac[OB_SHA256_BYTES]);
/* 64 digits in lower case, no NUL. */
void ob_hex(const uint8_t digest[OB_SHA256_BYTES], char *text);

#endif

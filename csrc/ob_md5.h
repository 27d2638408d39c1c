/* ob_md5.h - MD5 (RFC 1321): against accidents on the way, where a service has no better checksum. Pure functions. */
#ifndef OB_MD5_H
#define OB_MD5_H

#include <stddef.h>
#include <stdint.h>

#define OB_MD5_BYTES 16

typedef struct ob_md5 {
  uint32_t state[4];
  uint64_t len;
  uint8_t block[64];
} ob_md5;

void ob_md5_init(ob_md5 *md5);
void ob_md5_update(ob_md5 *md5, const void *data, size_t len);
void ob_md5_final(ob_md5 *md5, uint8_t digest[OB_MD5_BYTES]);

#endif

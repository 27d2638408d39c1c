/* ob_crc.h - CRC-32 (of zlib), CRC-32C (Castagnoli) and CRC-64/NVME, with combination of adjacent pieces. Pure functions, any thread. */
#ifndef OB_CRC_H
#define OB_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Continue a checksum: start with 0; ob_crc32c(ob_crc32c(0, a), b) == ob_crc32c(0, ab). Hardware where there is some. */
uint32_t ob_crc32(uint32_t crc, const void *data, size_t len);
uint32_t ob_crc32c(uint32_t crc, const void *data, size_t len);
uint64_t ob_crc64nvme(uint64_t crc, const void *data, size_t len);
/* Checksum of ab from those of a and b and the length of b. */
uint32_t ob_crc32_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);
uint32_t ob_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);
uint64_t ob_crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b);

#endif

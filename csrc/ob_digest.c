/* ob_digest.c - see ob_digest.h. */
#include "ob_digest.h"

#include <string.h>
#include <strings.h>

#include "ob_crc.h"

typedef struct announced_as {
  ob_digest_kind kind;
  const char *header;
  size_t bytes;
} announced_as;

/* In the order of preference: the cheapest to compute first. */
static const announced_as known[] = {
    {OB_DIGEST_CRC32C, "x-amz-checksum-crc32c", 4},
    {OB_DIGEST_CRC64NVME, "x-amz-checksum-crc64nvme", 8},
    {OB_DIGEST_CRC32, "x-amz-checksum-crc32", 4},
};

static int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool ob_digest_parse(const char *text, size_t len, size_t size, uint64_t *value) {
  size_t padded = (size + 2) / 3 * 4;
  size_t digits = (size * 8 + 5) / 6;
  uint64_t bits = 0, result = 0;
  size_t n_bits = 0, n_bytes = 0;
  if (len != padded) return false;
  for (size_t i = 0; i < len; i++) {
    if (i >= digits) {
      if (text[i] != '=') return false;
      continue;
    }
    int digit = base64_digit(text[i]);
    if (digit < 0) return false;
    bits = (bits << 6 | (uint64_t)digit) & 0xffff;
    n_bits += 6;
    if (n_bits >= 8 && n_bytes < size) {
      n_bits -= 8;
      result = result << 8 | (bits >> n_bits & 0xff);
      n_bytes++;
    }
  }
  *value = result;
  return n_bytes == size;
}

static bool is_composite(const ob_headers *headers) {
  const ob_header *type = ob_headers_find(headers, "x-amz-checksum-type", 19);
  return type != NULL && strcasecmp(headers->text + type->value_off, "FULL_OBJECT") != 0;
}

/* "crc32c=...,md5=..." */
static bool read_goog_hash(const ob_headers *headers, uint64_t *value) {
  for (uint32_t i = 0; i < headers->n; i++) {
    const ob_header *header = &headers->index[i];
    if (header->name_len != 11 || strcasecmp(headers->text + header->name_off, "x-goog-hash") != 0) continue;
    const char *at = strstr(headers->text + header->value_off, "crc32c=");
    if (at != NULL) return ob_digest_parse(at + 7, strcspn(at + 7, ", "), 4, value);
  }
  return false;
}

/* Stored compressed and sent decompressed: the checksum is that of other bytes. */
static bool is_transcoded(const ob_headers *headers) {
  const ob_header *stored = ob_headers_find(headers, "x-goog-stored-content-encoding", 30);
  return stored != NULL && strcasecmp(headers->text + stored->value_off, "identity") != 0 &&
         ob_headers_find(headers, "content-encoding", 16) == NULL;
}

static bool read_announced(const ob_headers *headers, ob_digest_kind wanted, ob_digest *digest) {
  if (!is_composite(headers)) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
      const ob_header *header = ob_headers_find(headers, known[i].header, strlen(known[i].header));
      if (header == NULL || (wanted != OB_DIGEST_AUTO && wanted != known[i].kind)) continue;
      if (!ob_digest_parse(headers->text + header->value_off, header->value_len, known[i].bytes, &digest->expected))
        continue;
      digest->kind = known[i].kind;
      return true;
    }
  }
  if ((wanted == OB_DIGEST_AUTO || wanted == OB_DIGEST_CRC32C) && read_goog_hash(headers, &digest->expected)) {
    digest->kind = OB_DIGEST_CRC32C;
    return true;
  }
  return false;
}

void ob_digest_begin(ob_digest *digest, const ob_headers *headers) {
  if (digest->kind == OB_DIGEST_NONE) return;
  digest->value = 0;
  digest->announced = !is_transcoded(headers) && read_announced(headers, digest->kind, digest);
  if (digest->kind == OB_DIGEST_AUTO) digest->kind = OB_DIGEST_NONE;
}

void ob_digest_update(ob_digest *digest, const void *data, size_t len) {
  switch (digest->kind) {
  case OB_DIGEST_CRC32:
    digest->value = ob_crc32((uint32_t)digest->value, data, len);
    break;
  case OB_DIGEST_CRC32C:
    digest->value = ob_crc32c((uint32_t)digest->value, data, len);
    break;
  case OB_DIGEST_CRC64NVME:
    digest->value = ob_crc64nvme(digest->value, data, len);
    break;
  case OB_DIGEST_NONE:
  case OB_DIGEST_AUTO:
    break;
  }
}

uint64_t ob_digest_combine(ob_digest_kind kind, uint64_t a, uint64_t b, uint64_t len_b) {
  if (kind == OB_DIGEST_CRC32) return ob_crc32_combine((uint32_t)a, (uint32_t)b, len_b);
  if (kind == OB_DIGEST_CRC32C) return ob_crc32c_combine((uint32_t)a, (uint32_t)b, len_b);
  return kind == OB_DIGEST_CRC64NVME ? ob_crc64nvme_combine(a, b, len_b) : 0;
}

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

/* The first 8 of `size` bytes at most. */
static bool parse(const char *text, size_t len, size_t size, uint64_t *value) {
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
      if (n_bytes < 8) result = result << 8 | (bits >> n_bits & 0xff);
      n_bytes++;
    }
  }
  *value = result;
  return n_bytes == size;
}

bool ob_digest_parse(const char *text, size_t len, size_t size, uint64_t *value) {
  return size <= 8 && parse(text, len, size, value);
}

static bool is_composite(const ob_headers *headers) {
  const ob_header *type = ob_headers_find(headers, "x-amz-checksum-type", 19);
  return type != NULL && strcasecmp(headers->text + type->value_off, "FULL_OBJECT") != 0;
}

/* "crc32c=...,md5=...", or two headers */
static bool read_goog_hash(const ob_headers *headers, const char *name, size_t size, uint64_t *value) {
  for (uint32_t i = 0; i < headers->n; i++) {
    const ob_header *header = &headers->index[i];
    if (header->name_len != 11 || strcasecmp(headers->text + header->name_off, "x-goog-hash") != 0) continue;
    const char *at = strstr(headers->text + header->value_off, name);
    if (at == NULL) continue;
    at += strlen(name);
    return parse(at, strcspn(at, ", "), size, value);
  }
  return false;
}

/* Stored compressed and sent decompressed: the checksum is that of other bytes. */
static bool is_transcoded(const ob_headers *headers) {
  const ob_header *stored = ob_headers_find(headers, "x-goog-stored-content-encoding", 30);
  return stored != NULL && strcasecmp(headers->text + stored->value_off, "identity") != 0 &&
         ob_headers_find(headers, "content-encoding", 16) == NULL;
}

static bool is_of_s3(const ob_headers *headers) {
  for (uint32_t i = 0; i < headers->n; i++) {
    if (strncasecmp(headers->text + headers->index[i].name_off, "x-amz", 5) == 0) return true;
  }
  return false;
}

static bool has_value(const ob_headers *headers, const char *name, const char *prefix) {
  const ob_header *header = ob_headers_find(headers, name, strlen(name));
  return header != NULL && strncasecmp(headers->text + header->value_off, prefix, strlen(prefix)) == 0;
}

/* S3's ETag is the MD5 of what was put in one piece, in the clear or encrypted with keys of S3 itself; in parts it has a dash. In a
 * directory bucket it is nothing of the kind. */
static bool read_e_tag(const ob_headers *headers, uint64_t *value) {
  const ob_header *header = ob_headers_find(headers, "etag", 4);
  if (header == NULL || !is_of_s3(headers)) return false;
  if (has_value(headers, "x-amz-server-side-encryption", "aws:kms") ||
      has_value(headers, "x-amz-server-side-encryption-customer-algorithm", "") ||
      has_value(headers, "x-amz-storage-class", "EXPRESS_ONEZONE")) {
    return false;
  }
  const char *at = headers->text + header->value_off;
  size_t len = header->value_len;
  if (len >= 2 && at[0] == '"' && at[len - 1] == '"') at++, len -= 2;
  if (len != 32) return false;
  uint64_t high = 0;
  for (size_t i = 0; i < len; i++) {
    int low = at[i] | 0x20; /* of letters, the lower case */
    int digit = at[i] >= '0' && at[i] <= '9' ? at[i] - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
    if (digit < 0) return false;
    if (i < 16) high = high << 4 | (uint64_t)digit;
  }
  *value = high;
  return true;
}

static bool read_md5(const ob_headers *headers, uint64_t *value) {
  const ob_header *header = ob_headers_find(headers, "content-md5", 11);
  if (header != NULL) return parse(headers->text + header->value_off, header->value_len, OB_MD5_BYTES, value);
  return read_goog_hash(headers, "md5=", OB_MD5_BYTES, value) || read_e_tag(headers, value);
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
  if ((wanted == OB_DIGEST_AUTO || wanted == OB_DIGEST_CRC32C) &&
      read_goog_hash(headers, "crc32c=", 4, &digest->expected)) {
    digest->kind = OB_DIGEST_CRC32C;
    return true;
  }
  if (wanted == OB_DIGEST_AUTO && read_md5(headers, &digest->expected)) {
    digest->kind = OB_DIGEST_MD5;
    ob_md5_init(&digest->md5);
    return true;
  }
  return false;
}

void ob_digest_begin(ob_digest *digest, const ob_headers *headers) {
  if (digest->kind == OB_DIGEST_NONE) return;
  digest->value = 0;
  digest->in_part = false;
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
  case OB_DIGEST_MD5:
    if (!digest->in_part) ob_md5_update(&digest->md5, data, len);
    break;
  case OB_DIGEST_NONE:
  case OB_DIGEST_AUTO:
    break;
  }
}

void ob_digest_end(ob_digest *digest) {
  if (digest->kind != OB_DIGEST_MD5 || !digest->announced || digest->in_part) return;
  ob_md5 md5 = digest->md5; /* a transfer may end more than once on paper */
  uint8_t bytes[OB_MD5_BYTES];
  ob_md5_final(&md5, bytes);
  digest->value = 0;
  for (int i = 0; i < 8; i++) digest->value = digest->value << 8 | bytes[i];
}

uint64_t ob_digest_combine(ob_digest_kind kind, uint64_t a, uint64_t b, uint64_t len_b) {
  if (kind == OB_DIGEST_CRC32) return ob_crc32_combine((uint32_t)a, (uint32_t)b, len_b);
  if (kind == OB_DIGEST_CRC32C) return ob_crc32c_combine((uint32_t)a, (uint32_t)b, len_b);
  return kind == OB_DIGEST_CRC64NVME ? ob_crc64nvme_combine(a, b, len_b) : 0;
}

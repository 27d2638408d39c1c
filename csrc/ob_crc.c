/* ob_crc.c - CRC-32, CRC-32C and CRC-64/NVME.
 *
 * All are reflected: bit 0 of the register stands for the highest power of x. Long inputs are folded by carry-less
 * multiplication where the processor has it; else, and for the ends, CRC-32C uses the processor's instruction and all fall
 * back to eight tables, eight bytes a step. The tables and folding constants are computed from the polynomials at first use.
 */
#include "ob_crc.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define OB_CRC_X86 1
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define OB_CRC_ARM 1
#include <arm_acle.h>
#endif

/* A CRC of `top`'s position + 1 bits. x^0 is `top`, x^1 is top >> 1. */
typedef struct crc_kind {
  uint64_t poly; /* reflected, without the leading term */
  uint64_t top;
  unsigned width;
} crc_kind;

static const crc_kind CRC32 = {0xedb88320u, (uint64_t)1 << 31, 32};
static const crc_kind CRC32C = {0x82f63b78u, (uint64_t)1 << 31, 32};
static const crc_kind CRC64NVME = {0x9a6c9329ac4bc9b5u, (uint64_t)1 << 63, 64};

#define FOLD_BYTES 64 /* four registers of 16 bytes side by side */
#define FOLD_MIN 256  /* shorter inputs do not repay the end of folding */

/* Multipliers that move the two halves of a register on by 64 bytes and by 16. */
typedef struct fold_constants {
  uint64_t by64[2], by16[2];
} fold_constants;

static uint32_t table32_ieee[8][256];
static uint32_t table32[8][256];
static uint64_t table64[8][256];
static fold_constants fold32_ieee, fold32, fold64;
static bool have_crc32_instruction, have_clmul;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

/* ---- polynomials over GF(2) ---------------------------------------------------------------------------- */

static uint64_t times_x(const crc_kind *kind, uint64_t a) {
  return a & 1 ? a >> 1 ^ kind->poly : a >> 1;
}

static uint64_t multiply(const crc_kind *kind, uint64_t a, uint64_t b) {
  uint64_t product = 0;
  for (uint64_t bit = kind->top; bit != 0; bit >>= 1) {
    if (a & bit) product ^= b;
    b = times_x(kind, b);
  }
  return product;
}

static uint64_t power(const crc_kind *kind, uint64_t base, uint64_t exponent) {
  uint64_t result = kind->top;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result = multiply(kind, result, base);
    base = multiply(kind, base, base);
  }
  return result;
}

/* crc(ab) = crc(a) * x^(8 * len_b) + crc(b): what both do to the register before and after the data cancels out. */
static uint64_t combine(const crc_kind *kind, uint64_t crc_a, uint64_t crc_b, uint64_t len_b) {
  return multiply(kind, crc_a, power(kind, kind->top >> 8, len_b)) ^ crc_b;
}

/* ---- preparation ----------------------------------------------------------------------------------------- */

/* A register holds L * x^64 + H, L its first eight bytes. The carry-less product of two reflected halves is their product
 * times x, less one bit of place: hence the 63 and -1. A short CRC's multiplier is held at the high end of the 64 bits. */
static void fill_fold(const crc_kind *kind, unsigned bits, uint64_t constants[2]) {
  uint64_t x = kind->top >> 1;
  constants[0] = power(kind, x, bits + 63) << (64 - kind->width);
  constants[1] = power(kind, x, bits - 1) << (64 - kind->width);
}

static void prepare(void) {
  for (unsigned i = 0; i < 256; i++) {
    uint64_t a = i, b = i, c = i;
    for (int bit = 0; bit < 8; bit++) {
      a = times_x(&CRC32C, a);
      b = times_x(&CRC64NVME, b);
      c = times_x(&CRC32, c);
    }
    table32_ieee[0][i] = (uint32_t)c;
    table32[0][i] = (uint32_t)a;
    table64[0][i] = b;
  }
  for (int t = 1; t < 8; t++) {
    for (int i = 0; i < 256; i++) {
      table32_ieee[t][i] = table32_ieee[t - 1][i] >> 8 ^ table32_ieee[0][table32_ieee[t - 1][i] & 0xff];
      table32[t][i] = table32[t - 1][i] >> 8 ^ table32[0][table32[t - 1][i] & 0xff];
      table64[t][i] = table64[t - 1][i] >> 8 ^ table64[0][table64[t - 1][i] & 0xff];
    }
  }
  fill_fold(&CRC32, 8 * FOLD_BYTES, fold32_ieee.by64);
  fill_fold(&CRC32, 8 * 16, fold32_ieee.by16);
  fill_fold(&CRC32C, 8 * FOLD_BYTES, fold32.by64);
  fill_fold(&CRC32C, 8 * 16, fold32.by16);
  fill_fold(&CRC64NVME, 8 * FOLD_BYTES, fold64.by64);
  fill_fold(&CRC64NVME, 8 * 16, fold64.by16);
#ifdef OB_CRC_X86
  __builtin_cpu_init();
  have_crc32_instruction = __builtin_cpu_supports("sse4.2");
  have_clmul = __builtin_cpu_supports("pclmul");
#elif defined(OB_CRC_ARM)
  have_crc32_instruction = true;
#endif
}

/* ---- eight bytes a step ------------------------------------------------------------------------------------ */

static inline uint64_t load_little_endian(const uint8_t *p) {
  return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
         (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static uint32_t tables_crc32(uint32_t table[8][256], uint32_t crc, const uint8_t *p, size_t len) {
  for (; len >= 8; p += 8, len -= 8) {
    uint64_t word = load_little_endian(p) ^ crc;
    crc = table[7][word & 0xff] ^ table[6][word >> 8 & 0xff] ^ table[5][word >> 16 & 0xff] ^
          table[4][word >> 24 & 0xff] ^ table[3][word >> 32 & 0xff] ^ table[2][word >> 40 & 0xff] ^
          table[1][word >> 48 & 0xff] ^ table[0][word >> 56];
  }
  for (; len > 0; p++, len--) crc = crc >> 8 ^ table[0][(crc ^ *p) & 0xff];
  return crc;
}

static uint32_t tables_crc32c(uint32_t crc, const uint8_t *p, size_t len) {
  return tables_crc32(table32, crc, p, len);
}

static uint64_t tables_crc64nvme(uint64_t crc, const uint8_t *p, size_t len) {
  for (; len >= 8; p += 8, len -= 8) {
    uint64_t word = load_little_endian(p) ^ crc;
    crc = table64[7][word & 0xff] ^ table64[6][word >> 8 & 0xff] ^ table64[5][word >> 16 & 0xff] ^
          table64[4][word >> 24 & 0xff] ^ table64[3][word >> 32 & 0xff] ^ table64[2][word >> 40 & 0xff] ^
          table64[1][word >> 48 & 0xff] ^ table64[0][word >> 56];
  }
  for (; len > 0; p++, len--) crc = crc >> 8 ^ table64[0][(crc ^ *p) & 0xff];
  return crc;
}

/* ---- with the processor's help ------------------------------------------------------------------------------- */

#ifdef OB_CRC_X86

__attribute__((target("sse4.2"))) static uint32_t instruction_crc32c(uint32_t crc, const uint8_t *p, size_t len) {
  uint64_t wide = crc;
  for (; len >= 8; p += 8, len -= 8) wide = _mm_crc32_u64(wide, load_little_endian(p));
  crc = (uint32_t)wide;
  for (; len > 0; p++, len--) crc = _mm_crc32_u8(crc, *p);
  return crc;
}

__attribute__((target("pclmul"))) static inline __m128i fold_on(__m128i a, __m128i constants, __m128i next) {
  __m128i low = _mm_clmulepi64_si128(a, constants, 0x00), high = _mm_clmulepi64_si128(a, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* Reduce len bytes (a multiple of 16, at least FOLD_BYTES) to 16 that have the same CRC from 0 as the input has from `crc`. */
__attribute__((target("pclmul"))) static void fold(const fold_constants *c, uint64_t crc, const uint8_t *p, size_t len,
                                                   uint8_t rest[16]) {
  __m128i by64 = _mm_loadu_si128((const __m128i *)(const void *)c->by64);
  __m128i by16 = _mm_loadu_si128((const __m128i *)(const void *)c->by16);
  __m128i lane[4];
  for (int i = 0; i < 4; i++) lane[i] = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
  lane[0] = _mm_xor_si128(lane[0], _mm_set_epi64x(0, (long long)crc));
  p += FOLD_BYTES;
  len -= FOLD_BYTES;
  for (; len >= FOLD_BYTES; p += FOLD_BYTES, len -= FOLD_BYTES) {
    for (int i = 0; i < 4; i++)
      lane[i] = fold_on(lane[i], by64, _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)));
  }
  __m128i all = fold_on(fold_on(fold_on(lane[0], by16, lane[1]), by16, lane[2]), by16, lane[3]);
  for (; len > 0; p += 16, len -= 16) all = fold_on(all, by16, _mm_loadu_si128((const __m128i *)(const void *)p));
  _mm_storeu_si128((__m128i *)(void *)rest, all);
}

#else

#ifdef OB_CRC_ARM
static uint32_t instruction_crc32c(uint32_t crc, const uint8_t *p, size_t len) {
  for (; len >= 8; p += 8, len -= 8) crc = __crc32cd(crc, load_little_endian(p));
  for (; len > 0; p++, len--) crc = __crc32cb(crc, *p);
  return crc;
}
#else
#define instruction_crc32c tables_crc32c
#endif

/* Never called: have_clmul stays false. */
static void fold(const fold_constants *c, uint64_t crc, const uint8_t *p, size_t len, uint8_t rest[16]) {
  (void)c, (void)crc, (void)p, (void)len, (void)rest;
}

#endif

uint32_t ob_crc32c(uint32_t crc, const void *data, size_t len) {
  pthread_once(&prepared, prepare);
  const uint8_t *p = data;
  crc = ~crc;
  if (have_clmul && len >= FOLD_MIN) {
    uint8_t rest[16];
    fold(&fold32, crc, p, len & ~(size_t)15, rest);
    crc = have_crc32_instruction ? instruction_crc32c(0, rest, 16) : tables_crc32c(0, rest, 16);
    p += len & ~(size_t)15;
    len &= 15;
  }
  return ~(have_crc32_instruction ? instruction_crc32c(crc, p, len) : tables_crc32c(crc, p, len));
}

uint32_t ob_crc32(uint32_t crc, const void *data, size_t len) {
  pthread_once(&prepared, prepare);
  const uint8_t *p = data;
  crc = ~crc;
  if (have_clmul && len >= FOLD_MIN) {
    uint8_t rest[16];
    fold(&fold32_ieee, crc, p, len & ~(size_t)15, rest);
    crc = tables_crc32(table32_ieee, 0, rest, 16);
    p += len & ~(size_t)15;
    len &= 15;
  }
  return ~tables_crc32(table32_ieee, crc, p, len);
}

uint64_t ob_crc64nvme(uint64_t crc, const void *data, size_t len) {
  pthread_once(&prepared, prepare);
  const uint8_t *p = data;
  crc = ~crc;
  if (have_clmul && len >= FOLD_MIN) {
    uint8_t rest[16];
    fold(&fold64, crc, p, len & ~(size_t)15, rest);
    crc = tables_crc64nvme(0, rest, 16);
    p += len & ~(size_t)15;
    len &= 15;
  }
  return ~tables_crc64nvme(crc, p, len);
}

uint32_t ob_crc32_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b) {
  return (uint32_t)combine(&CRC32, crc_a, crc_b, len_b);
}

uint32_t ob_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b) {
  return (uint32_t)combine(&CRC32C, crc_a, crc_b, len_b);
}

uint64_t ob_crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b) {
  return combine(&CRC64NVME, crc_a, crc_b, len_b);
}

/* ob_sha256.c - see ob_sha256.h. The processor's SHA instructions are used where they are. */
#include "ob_sha256.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define OB_SHA_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n) {
  return x >> n | x << (32 - n);
}

static void compress_portable(uint32_t state[8], const uint8_t *p, size_t blocks) {
  for (; blocks > 0; blocks--, p += 64) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) {
      w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    }
    for (int i = 16; i < 64; i++) {
      uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
      uint32_t t1 = v[7] + (rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) +
                    K[i] + w[i];
      uint32_t t2 =
          (rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      memmove(v + 1, v, 7 * sizeof *v);
      v[4] += t1;
      v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
  }
}

#ifdef OB_SHA_X86

#define OB_SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))

/* Four rounds an instruction pair; the schedule of four words ahead is computed beside them. One text leaves the processor waiting
 * for the result of every pair: a second lane fills the time. */
OB_SHA_TARGET __attribute__((always_inline)) static inline void
lanes_x86(uint32_t *const state[], const uint8_t *const data[], size_t blocks, const int lanes) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  __m128i abef[2], cdgh[2], w[2][4];
  for (int k = 0; k < lanes; k++) {
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state[k]), 0xb1);
    __m128i hi = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state[k] + 4)), 0x1b);
    abef[k] = _mm_alignr_epi8(t, hi, 8);
    cdgh[k] = _mm_blend_epi16(hi, t, 0xf0);
  }
  for (size_t block = 0; block < blocks; block++) {
    __m128i abef_before[2], cdgh_before[2];
    for (int k = 0; k < lanes; k++) {
      const uint8_t *p = data[k] + 64 * block;
      abef_before[k] = abef[k];
      cdgh_before[k] = cdgh[k];
      for (int i = 0; i < 4; i++) {
        w[k][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      const __m128i constants = _mm_loadu_si128((const __m128i *)(const void *)(K + 4 * i));
#pragma GCC unroll 2
      for (int k = 0; k < lanes; k++) {
        __m128i now = w[k][i & 3];
        __m128i sum = _mm_add_epi32(now, constants);
        cdgh[k] = _mm_sha256rnds2_epu32(cdgh[k], abef[k], sum);
        abef[k] = _mm_sha256rnds2_epu32(abef[k], cdgh[k], _mm_shuffle_epi32(sum, 0x0e));
        if (i < 12) {
          __m128i last = w[k][(i + 3) & 3];
          __m128i next = _mm_sha256msg1_epu32(now, w[k][(i + 1) & 3]);
          next = _mm_add_epi32(next, _mm_alignr_epi8(last, w[k][(i + 2) & 3], 4));
          w[k][i & 3] = _mm_sha256msg2_epu32(next, last);
        }
      }
    }
    for (int k = 0; k < lanes; k++) {
      abef[k] = _mm_add_epi32(abef[k], abef_before[k]);
      cdgh[k] = _mm_add_epi32(cdgh[k], cdgh_before[k]);
    }
  }
  for (int k = 0; k < lanes; k++) {
    __m128i t = _mm_shuffle_epi32(abef[k], 0x1b);
    __m128i hi = _mm_shuffle_epi32(cdgh[k], 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state[k], _mm_blend_epi16(t, hi, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state[k] + 4), _mm_alignr_epi8(hi, t, 8));
  }
}

OB_SHA_TARGET static void compress_x86(uint32_t state[8], const uint8_t *p, size_t blocks) {
  lanes_x86(&state, &p, blocks, 1);
}

OB_SHA_TARGET static void compress_pair_x86(uint32_t *const state[2], const uint8_t *const p[2], size_t blocks) {
  lanes_x86(state, p, blocks, 2);
}

static bool has_sha(void) {
  unsigned a, b, c, d;
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("sse4.1") || !__builtin_cpu_supports("ssse3")) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) != 0;
}

#endif

static void (*compress)(uint32_t state[8], const uint8_t *p, size_t blocks) = compress_portable;
static void (*compress_pair)(uint32_t *const state[2], const uint8_t *const p[2],
                             size_t blocks); /* NULL: nothing gained */
static pthread_once_t prepared = PTHREAD_ONCE_INIT;

static void prepare(void) {
#ifdef OB_SHA_X86
  if (!has_sha()) return;
  compress = compress_x86;
  compress_pair = compress_pair_x86;
#endif
}

void ob_sha256_init(ob_sha256 *sha) {
  static const uint32_t start[8] = {
      0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  };
  pthread_once(&prepared, prepare);
  memcpy(sha->state, start, sizeof start);
  sha->len = 0;
}

void ob_sha256_update(ob_sha256 *sha, const void *data, size_t len) {
  const uint8_t *p = data;
  size_t have = sha->len % 64;
  sha->len += len;
  if (have > 0) {
    size_t n = 64 - have < len ? 64 - have : len;
    memcpy(sha->block + have, p, n);
    p += n;
    len -= n;
    if (have + n < 64) return;
    compress(sha->state, sha->block, 1);
  }
  if (len >= 64) compress(sha->state, p, len / 64);
  if (len % 64 > 0) memcpy(sha->block, p + len / 64 * 64, len % 64);
}

bool ob_sha256_has_pairs(void) {
  pthread_once(&prepared, prepare);
  return compress_pair != NULL;
}

void ob_sha256_update_pair(ob_sha256 *a, const void *data_a, ob_sha256 *b, const void *data_b, size_t len) {
  size_t done = 0;
  if (compress_pair != NULL && a->len % 64 == 0 && b->len % 64 == 0) {
    uint32_t *const states[2] = {a->state, b->state};
    const uint8_t *const texts[2] = {data_a, data_b};
    done = len - len % 64;
    compress_pair(states, texts, done / 64);
    a->len += done;
    b->len += done;
  }
  ob_sha256_update(a, (const uint8_t *)data_a + done, len - done);
  ob_sha256_update(b, (const uint8_t *)data_b + done, len - done);
}

void ob_sha256_final(ob_sha256 *sha, uint8_t digest[OB_SHA256_BYTES]) {
  static const uint8_t padding[64] = {0x80};
  uint64_t bits = sha->len * 8;
  uint8_t size[8];
  for (int i = 0; i < 8; i++) size[i] = (uint8_t)(bits >> (56 - 8 * i));
  ob_sha256_update(sha, padding, 1 + (119 - sha->len % 64) % 64);
  ob_sha256_update(sha, size, 8);
  for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(sha->state[i / 4] >> (24 - 8 * (i % 4)));
}

void ob_hmac_key(const uint8_t *key, size_t len, ob_sha256 *inner, ob_sha256 *outer) {
  uint8_t block[64] = {0};
  if (len > 64) {
    ob_sha256_init(inner);
    ob_sha256_update(inner, key, len);
    ob_sha256_final(inner, block);
  } else {
    memcpy(block, key, len);
  }
  for (int i = 0; i < 64; i++) block[i] ^= 0x36;
  ob_sha256_init(inner);
  ob_sha256_update(inner, block, 64);
  for (int i = 0; i < 64; i++) block[i] ^= 0x36 ^ 0x5c;
  ob_sha256_init(outer);
  ob_sha256_update(outer, block, 64);
}

void ob_hmac(const ob_sha256 *inner, const ob_sha256 *outer, const void *data, size_t len,
             uint8_t mac[OB_SHA256_BYTES]) {
  ob_sha256 sha = *inner;
  ob_sha256_update(&sha, data, len);
  ob_sha256_final(&sha, mac);
  sha = *outer;
  ob_sha256_update(&sha, mac, OB_SHA256_BYTES);
  ob_sha256_final(&sha, mac);
}

void ob_hex(const uint8_t digest[OB_SHA256_BYTES], char *text) {
  static const char digits[] = "0123456789abcdef";
  for (int i = 0; i < OB_SHA256_BYTES; i++) {
    text[2 * i] = digits[digest[i] >> 4];
    text[2 * i + 1] = digits[digest[i] & 15];
  }
}

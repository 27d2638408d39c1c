/* sources: ob_crc.c
 *
 * CRC-32C and CRC-64/NVME: published check values, the bit-by-bit definition, pieces and combinations. The source is
 * included a second time under other names, so that each way of computing is tested, whichever this machine would
 * choose. With the argument "bench" measures instead.
 */
#define ob_crc32c each_crc32c
#define ob_crc32 each_crc32
#define ob_crc64nvme each_crc64nvme
#define ob_crc32c_combine each_crc32c_combine
#define ob_crc32_combine each_crc32_combine
#define ob_crc64nvme_combine each_crc64nvme_combine
#include "../../csrc/ob_crc.c"
#undef ob_crc32c
#undef ob_crc64nvme
#undef ob_crc32c_combine
#undef ob_crc64nvme_combine

/* ob_crc.h was read under the other names. */
uint32_t ob_crc32c(uint32_t crc, const void *data, size_t len);
uint64_t ob_crc64nvme(uint64_t crc, const void *data, size_t len);
uint32_t ob_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);
uint64_t ob_crc64nvme_combine(uint64_t crc_a, uint64_t crc_b, uint64_t len_b);

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                          \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random64(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

/* The definition, a bit at a time, from polynomials in their usual (not reflected) notation. */
static uint64_t defined_crc(uint64_t poly, int width, const uint8_t *p, size_t len) {
  uint64_t mask = width == 64 ? ~(uint64_t)0 : ((uint64_t)1 << width) - 1, crc = mask;
  for (size_t i = 0; i < len; i++) {
    for (int bit = 0; bit < 8; bit++) {
      uint64_t out = (crc >> (width - 1) ^ p[i] >> bit) & 1;
      crc = (crc << 1 ^ (out ? poly : 0)) & mask;
    }
  }
  uint64_t reflected = 0;
  for (int i = 0; i < width; i++) reflected |= (crc >> i & 1) << (width - 1 - i);
  return ~reflected & mask;
}

static void test_published_values(void) {
  CHECK(ob_crc32c(0, "123456789", 9) == 0xe3069283u);
  CHECK(ob_crc64nvme(0, "123456789", 9) == 0xae8b14860a799888u);
  CHECK(each_crc32c_combine(0xe3069283u, 0, 0) == 0xe3069283u && each_crc64nvme_combine(1, 0, 0) == 1);
  CHECK(ob_crc32c(0, NULL, 0) == 0);
  CHECK(ob_crc64nvme(0, NULL, 0) == 0);

  /* RFC 3720, B.4 */
  uint8_t bytes[32];
  memset(bytes, 0, sizeof bytes);
  CHECK(ob_crc32c(0, bytes, 32) == 0x8a9136aau);
  memset(bytes, 0xff, sizeof bytes);
  CHECK(ob_crc32c(0, bytes, 32) == 0x62a8ab43u);
  for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
  CHECK(ob_crc32c(0, bytes, 32) == 0x46dd794eu);
  for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(31 - i);
  CHECK(ob_crc32c(0, bytes, 32) == 0x113fdb5cu);
}

/* Every length up to some folds, at every alignment, against the definition; each way of computing. */
static void test_definition(void) {
  static uint8_t memory[1200];
  for (size_t i = 0; i < sizeof memory; i++) memory[i] = (uint8_t)random64();
  each_crc32c(0, "", 0); /* finds out what the processor has */
  bool instruction = have_crc32_instruction, clmul = have_clmul;
  for (size_t len = 0; len < 1100; len++) {
    const uint8_t *p = memory + len % 17;
    uint32_t expected32 = (uint32_t)defined_crc(0x1edc6f41u, 32, p, len);
    uint64_t expected64 = defined_crc(0xad93d23594c93659u, 64, p, len);
    for (int with = 0; with < 4; with++) {
      have_crc32_instruction = instruction && (with & 1) != 0;
      have_clmul = clmul && (with & 2) != 0;
      CHECK(each_crc32c(0, p, len) == expected32);
      CHECK(each_crc64nvme(0, p, len) == expected64);
    }
    CHECK(ob_crc32c(0, p, len) == expected32);
    CHECK(ob_crc64nvme(0, p, len) == expected64);
  }
}

static void test_pieces_and_combination(void) {
  static uint8_t memory[5000];
  for (size_t i = 0; i < sizeof memory; i++) memory[i] = (uint8_t)random64();
  for (int round = 0; round < 2000; round++) {
    size_t len = random64() % (sizeof memory + 1), cut = len != 0 ? random64() % (len + 1) : 0;
    uint32_t whole32 = ob_crc32c(0, memory, len), a32 = ob_crc32c(0, memory, cut);
    uint64_t whole64 = ob_crc64nvme(0, memory, len), a64 = ob_crc64nvme(0, memory, cut);
    CHECK(ob_crc32c(a32, memory + cut, len - cut) == whole32);
    CHECK(ob_crc64nvme(a64, memory + cut, len - cut) == whole64);
    CHECK(ob_crc32c_combine(a32, ob_crc32c(0, memory + cut, len - cut), len - cut) == whole32);
    CHECK(ob_crc64nvme_combine(a64, ob_crc64nvme(0, memory + cut, len - cut), len - cut) == whole64);
  }
}

/* Lengths that no buffer has: combining is associative, ((a b) c) = (a (b c)). */
static void test_combination_of_huge_pieces(void) {
  for (int round = 0; round < 500; round++) {
    uint64_t a = random64(), b = random64(), c = random64();
    uint64_t len_b = random64() >> random64() % 60 >> 1, len_c = random64() >> random64() % 60 >> 1;
    CHECK(ob_crc64nvme_combine(ob_crc64nvme_combine(a, b, len_b), c, len_c) ==
          ob_crc64nvme_combine(a, ob_crc64nvme_combine(b, c, len_c), len_b + len_c));
    uint32_t d = (uint32_t)a, e = (uint32_t)b, f = (uint32_t)c;
    CHECK(ob_crc32c_combine(ob_crc32c_combine(d, e, len_b), f, len_c) ==
          ob_crc32c_combine(d, ob_crc32c_combine(e, f, len_c), len_b + len_c));
  }
}

static void *first_use(void *result) {
  *(uint64_t *)result = ob_crc64nvme(ob_crc32c(0, "123456789", 9) == 0xe3069283u ? 0 : 1, "123456789", 9);
  return NULL;
}

static void test_first_use_by_many_threads(void) {
  pthread_t threads[8];
  uint64_t results[8];
  for (int i = 0; i < 8; i++) CHECK(pthread_create(&threads[i], NULL, first_use, &results[i]) == 0);
  for (int i = 0; i < 8; i++) {
    pthread_join(threads[i], NULL);
    CHECK(results[i] == 0xae8b14860a799888u);
  }
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void bench(void) {
  static uint8_t memory[1 << 20];
  for (size_t i = 0; i < sizeof memory; i++) memory[i] = (uint8_t)random64();
  each_crc32c(0, "", 0);
  bool clmul = have_clmul, instruction = have_crc32_instruction;
  static const char *const names[] = {"tables", "instruction", "folding"};
  for (int way = 0; way < 3; way++) {
    have_crc32_instruction = way > 0 && instruction;
    have_clmul = way > 1 && clmul;
    double best32 = 1e9, best64 = 1e9;
    volatile uint64_t sink = 0;
    for (int round = 0; round < 50; round++) {
      double begin = seconds_now();
      sink ^= each_crc32c(0, memory, sizeof memory);
      double middle = seconds_now();
      sink ^= each_crc64nvme(0, memory, sizeof memory);
      double end = seconds_now();
      if (middle - begin < best32) best32 = middle - begin;
      if (end - middle < best64) best64 = end - middle;
    }
    printf("%-12s crc32c %6.1f GB/s   crc64nvme %6.1f GB/s\n", names[way], sizeof memory / best32 / 1e9,
           sizeof memory / best64 / 1e9);
  }
}

int main(int argc, char **argv) {
  test_first_use_by_many_threads();
  if (argc > 1 && strcmp(argv[1], "bench") == 0) {
    bench();
    return 0;
  }
  test_published_values();
  test_definition();
  test_pieces_and_combination();
  test_combination_of_huge_pieces();
  return 0;
}

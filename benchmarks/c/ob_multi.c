/* ob_multi LIBCURL URL IN_FLIGHT SECONDS COUNT [CAFILE] - the limit: what libcurl's multi interface does with no library on top.
 *
 * One thread, curl_multi_poll, IN_FLIGHT easy handles that are reset and used again; bodies are counted in a C callback
 * and dropped; nothing is signed, checked or handed on. It runs for SECONDS, or for COUNT requests where that is not 0,
 * after a tenth of that as warm-up. Prints one line of JSON, as the workers do.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "../../csrc/ob_abi.h"

#define OB_SYMBOL(result, name, parameters) static result(*curl_##name) parameters;
#include "../../csrc/ob_symbols.def"
#undef OB_SYMBOL

enum { MAX_SAMPLES = 1 << 20 };

static const char *url, *ca_file;
static int64_t bytes;
static int64_t samples_us[MAX_SAMPLES];
static size_t n_samples;

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static size_t on_body(char *data, size_t one, size_t n, void *user) {
  (void)data, (void)one, (void)user;
  bytes += (int64_t)n;
  return n;
}

static size_t on_header(char *data, size_t one, size_t n, void *user) {
  (void)data, (void)user;
  return one * n;
}

static void start(void *multi, void *easy, int64_t *began) {
  curl_easy_reset(easy);
  curl_easy_setopt(easy, OB_CURLOPT_URL, url);
  curl_easy_setopt(easy, OB_CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, OB_CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(easy, OB_CURLOPT_PRIVATE, (void *)began);
  curl_easy_setopt(easy, OB_CURLOPT_BUFFERSIZE, 512L * 1024);
  curl_easy_setopt(easy, OB_CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, OB_CURLOPT_HEADERFUNCTION, on_header);
  if (ca_file != NULL) curl_easy_setopt(easy, OB_CURLOPT_CAINFO, ca_file);
  *began = now_us();
  curl_multi_add_handle(multi, easy);
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static long peak_kb(void) {
  char line[256];
  long kb = 0;
  FILE *status = fopen("/proc/self/status", "r");
  if (status == NULL) return 0;
  while (fgets(line, sizeof line, status) != NULL) {
    if (sscanf(line, "VmHWM: %ld", &kb) == 1) break;
  }
  fclose(status);
  return kb;
}

static double cpu_s(const struct rusage *use) {
  return (double)(use->ru_utime.tv_sec + use->ru_stime.tv_sec) +
         (double)(use->ru_utime.tv_usec + use->ru_stime.tv_usec) / 1e6;
}

/* Runs until `deadline` (us) or until `count` requests are done, and lets those in flight end. Returns how many, -1 on errors. */
static long run(void *multi, void **easies, int64_t *began, long in_flight, int64_t deadline, long count) {
  long started = 0, done = 0;
  int running, left;
  for (; started < in_flight && (count == 0 || started < count); started++) {
    start(multi, easies[started], &began[started]);
  }
  while (done < started) {
    curl_multi_perform(multi, &running);
    ob_curl_message *message;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
      void *easy = message->easy;
      int result = message->data.result;
      int64_t *since;
      curl_easy_getinfo(easy, OB_CURLINFO_PRIVATE, (void *)&since);
      curl_multi_remove_handle(multi, easy);
      if (result != OB_CURLE_OK) {
        fprintf(stderr, "%s: %s\n", url, curl_easy_strerror(result));
        return -1;
      }
      if (n_samples < MAX_SAMPLES) samples_us[n_samples++] = now_us() - *since;
      done++;
      if (count != 0 ? started < count : now_us() < deadline) {
        start(multi, easy, since);
        started++;
      }
    }
    if (done < started) curl_multi_poll(multi, NULL, 0, 1000, &left);
  }
  return done;
}

int main(int argc, char **argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: %s LIBCURL URL IN_FLIGHT SECONDS COUNT [CAFILE]\n", argv[0]);
    return 2;
  }
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
#define OB_SYMBOL(result, name, parameters)                                                                            \
  if ((*(void **)&curl_##name = dlsym(library, "curl_" #name)) == NULL) return 1;
#include "../../csrc/ob_symbols.def"
  url = argv[2];
  long in_flight = atol(argv[3]);
  double seconds = atof(argv[4]);
  long count = atol(argv[5]);
  ca_file = argc > 6 ? argv[6] : NULL;

  curl_global_init(OB_CURL_GLOBAL_DEFAULT);
  void *multi = curl_multi_init();
  curl_multi_setopt(multi, OB_CURLMOPT_MAXCONNECTS, in_flight + 8);
  void **easies = calloc((size_t)in_flight, sizeof *easies);
  int64_t *began = calloc((size_t)in_flight, sizeof *began);
  if (easies == NULL || began == NULL) return 1;
  for (long i = 0; i < in_flight; i++) easies[i] = curl_easy_init();

  int64_t warm = now_us() + (int64_t)(seconds * 1e5);
  if (run(multi, easies, began, in_flight, warm, count != 0 ? 1 : 0) < 0) return 1;
  n_samples = 0;
  bytes = 0;
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  int64_t t0 = now_us();
  long done = run(multi, easies, began, in_flight, t0 + (int64_t)(seconds * 1e6), count);
  double wall = (double)(now_us() - t0) / 1e6;
  getrusage(RUSAGE_SELF, &after);
  if (done < 0) return 1;
  qsort(samples_us, n_samples, sizeof *samples_us, by_value);
  printf(
      "{\"ops\": %ld, \"bytes\": %lld, \"wall_s\": %.6f, \"cpu_s\": %.6f, \"peak_rss_mb\": %.1f, \"page_faults\": %ld, "
      "\"context_switches\": %ld, \"p50_us\": %lld, \"p99_us\": %lld, \"errors\": 0, \"version\": \"%s\"}\n",
      done, (long long)bytes, wall, cpu_s(&after) - cpu_s(&before), (double)peak_kb() * 1024 / 1e6,
      after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt,
      after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw, (long long)samples_us[n_samples / 2],
      (long long)samples_us[n_samples * 99 / 100], curl_version_info(0)->version);
  return 0;
}

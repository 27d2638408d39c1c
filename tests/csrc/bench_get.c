/* bench_get LIBCURL HOST:PORT PATH N IN_FLIGHT - small GETs as fast as the core alone can do them.
 *
 * Prints requests a second, CPU microseconds a request (this process only) and the counts that explain them.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "ob_curl.h"
#include "ob_engine.h"
#include "ob_port.h"

static double cpu_us(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1e6 +
         (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void submit(ob_client *client, ob_cq *cq, const char *url) {
  static const char date[] = "20260101T000000Z";
  ob_transfer *x = ob_transfer_new(client, NULL);
  if (x == NULL || ob_transfer_set_url(x, url, strlen(url)) != 0 ||
      ob_transfer_add_header(x, "x-amz-date", 10, date, sizeof date - 1) != 0 || ob_engine_submit(x, cq) != 0) {
    fprintf(stderr, "submit failed\n");
    exit(1);
  }
}

int main(int argc, char **argv) {
  char err[512];
  char url[1024];
  if (argc != 6) {
    fprintf(stderr, "usage: %s LIBCURL HOST:PORT PATH N IN_FLIGHT\n", argv[0]);
    return 2;
  }
  if (ob_curl_load(argv[1], err, sizeof err) != 0) {
    fprintf(stderr, "%s\n", err);
    return 1;
  }
  snprintf(url, sizeof url, "http://%s%s", argv[2], argv[3]);
  long n = atol(argv[4]);
  long in_flight = atol(argv[5]);
  ob_client_options options = {.insecure_http = 1, .connect_timeout_ms = 5000, .read_timeout_ms = 30000};
  ob_client *client = ob_client_new(&options);
  ob_cq *cq = ob_cq_new();
  if (client == NULL || cq == NULL) return 1;

  long submitted = 0, done = 0, bad = 0;
  double cpu = cpu_us();
  int64_t start = ob_now_us();
  for (; submitted < in_flight && submitted < n; submitted++) submit(client, cq, url);
  while (done < n) {
    if (ob_cq_wait(cq, 10000) != 1) break;
    ob_transfer *next;
    for (ob_transfer *x = ob_cq_take(cq); x != NULL; x = next) {
      next = ob_transfer_next_taken(x);
      if ((ob_transfer_events(x, cq) & OB_EVENT_END) != 0) {
        const ob_outcome *outcome = ob_transfer_outcome(x);
        ob_block *body = ob_transfer_body(x);
        if ((outcome->kind != OB_KIND_OK || outcome->status != 200) && bad++ == 0) {
          fprintf(stderr, "%s %d: %s\n", ob_kind_name(outcome->kind), outcome->status, outcome->message);
        }
        ob_block_unref(body);
        ob_transfer_unref(x); /* the owner's */
        done++;
        if (submitted < n) {
          submit(client, cq, url);
          submitted++;
        }
      }
      ob_transfer_unref(x); /* the entry's */
    }
  }
  double wall = (double)(ob_now_us() - start);
  cpu = cpu_us() - cpu;
  ob_stats stats;
  ob_engine_stats(&stats);
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  printf(
      "%ld done, %ld bad, %.0f req/s, %.1f us CPU a request, %llu connections, %llu loops, %.2f wakeups and %.2f queue "
      "writes a request, %ld KiB peak\n",
      done, bad, (double)done / wall * 1e6, cpu / (double)done, (unsigned long long)stats.connections_opened,
      (unsigned long long)stats.loops, (double)stats.wakeups / (double)done, (double)stats.cq_writes / (double)done,
      use.ru_maxrss);
  ob_cq_close(cq);
  ob_cq_unref(cq);
  ob_client_unref(client);
  return ob_engine_shutdown(2000) && bad == 0 && done == n ? 0 : 1;
}

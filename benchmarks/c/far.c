/* far PORT DELAY_MS BYTES_PER_SECOND SIZE - a distant object server: each answer comes late, each connection has so much bandwidth.
 *
 * Whatever is asked for is an object of SIZE bytes; GET (with ranges of the form bytes=a-b and bytes=a-) and HEAD. A thread for each
 * connection: what a client gains by more of them is what a client gains from a service that gives each connection its share.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 16384, PIECE_BYTES = 1 << 18 };

static int64_t delay_us, rate, size;
static char piece[PIECE_BYTES];

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void sleep_until(int64_t due_us) {
  struct timespec t = {.tv_sec = due_us / 1000000, .tv_nsec = due_us % 1000000 * 1000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static int send_all(int fd, const char *data, size_t len) {
  while (len > 0) {
    ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
    if (n <= 0) return -1;
    data += n;
    len -= (size_t)n;
  }
  return 0;
}

/* As fast as the connection's bandwidth allows. */
static int send_body(int fd, int64_t len) {
  int64_t began_us = now_us(), sent = 0;
  while (sent < len) {
    int64_t n = len - sent < PIECE_BYTES ? len - sent : PIECE_BYTES;
    if (send_all(fd, piece, (size_t)n) != 0) return -1;
    sent += n;
    int64_t due_us = began_us + (int64_t)((double)sent / (double)rate * 1e6);
    if (due_us > now_us()) sleep_until(due_us);
  }
  return 0;
}

/* The span that is asked for; 1 where it is a range. */
static int find_range(const char *head, int64_t *first, int64_t *last) {
  const char *at = strcasestr(head, "\r\nrange: bytes=");
  *first = 0;
  *last = size - 1;
  if (at == NULL) return 0;
  char *end;
  *first = strtoll(at + 15, &end, 10);
  if (*end == '-' && end[1] >= '0' && end[1] <= '9') *last = strtoll(end + 1, NULL, 10);
  if (*last >= size) *last = size - 1;
  return 1;
}

static int answer(int fd, const char *head) {
  char text[512];
  int64_t first, last;
  int ranged = find_range(head, &first, &last);
  int n = snprintf(text, sizeof text,
                   "HTTP/1.1 %s\r\nContent-Length: %lld\r\nETag: \"far\"\r\nAccept-Ranges: bytes\r\n"
                   "Last-Modified: Mon, 02 Nov 2026 00:00:00 GMT\r\nContent-Type: application/octet-stream\r\n",
                   ranged ? "206 Partial Content" : "200 OK", (long long)(last - first + 1));
  if (ranged) {
    n += snprintf(text + n, sizeof text - (size_t)n, "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)first,
                  (long long)last, (long long)size);
  }
  n += snprintf(text + n, sizeof text - (size_t)n, "\r\n");
  sleep_until(now_us() + delay_us);
  if (send_all(fd, text, (size_t)n) != 0) return -1;
  return strncmp(head, "HEAD ", 5) == 0 ? 0 : send_body(fd, last - first + 1);
}

static void *serve(void *argument) {
  int fd = (int)(intptr_t)argument;
  char head[HEAD_BYTES + 1];
  size_t have = 0;
  for (;;) {
    head[have] = '\0';
    char *end = strstr(head, "\r\n\r\n");
    if (end != NULL) {
      size_t len = (size_t)(end - head) + 4;
      end[2] = '\0';
      if (answer(fd, head) != 0) break;
      have -= len;
      memmove(head, head + len, have);
      continue;
    }
    ssize_t n = have < HEAD_BYTES ? recv(fd, head + have, HEAD_BYTES - have, 0) : 0;
    if (n <= 0) break;
    have += (size_t)n;
  }
  close(fd);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: far PORT DELAY_MS BYTES_PER_SECOND SIZE\n");
    return 2;
  }
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  delay_us = atoll(argv[2]) * 1000;
  rate = atoll(argv[3]);
  size = atoll(argv[4]);
  signal(SIGPIPE, SIG_IGN);
  int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1024) != 0) {
    perror("far");
    return 1;
  }
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 1 << 18);
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) continue;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    pthread_t thread;
    if (pthread_create(&thread, &attributes, serve, (void *)(intptr_t)fd) != 0) close(fd);
  }
}

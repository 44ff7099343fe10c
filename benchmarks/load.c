/* The load generator: one thread, raw sockets, requests built beforehand.
 *
 *   load run PORT CONNECTIONS WARM_UP SECONDS RATE SEED REQUESTS LATENCIES
 *   load respond PORT ANSWER
 *
 * `run` sends the requests of the file REQUESTS (each a little-endian uint32 length and its bytes) in
 * turn. RATE 0 is a closed loop: every connection sends again when it was answered. Any other RATE is
 * an open loop: requests are due at the times of a Poisson process, whether or not earlier ones were
 * answered; one that finds no free connection waits, and its latency counts from the time it was due.
 * It writes the latencies of good answers in nanoseconds (uint64) to LATENCIES and prints `begin` and
 * `end` around the measured time, then one line of JSON.
 *
 * `respond` answers every request with the bytes of the file ANSWER. It shows what `run` can do.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, SCRATCH = 1 << 18, STATUSES = 600, EVENTS = 256, DRAIN_SECONDS = 2 };

struct bytes {
  char *data;
  size_t size;
};

/* How far an answer has come; `need` counts body bytes that are still to come. */
enum stage { HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct connection {
  int fd, busy, closing, status;
  const struct bytes *request;
  size_t sent;
  uint64_t due;
  enum stage stage;
  size_t head_size, need, line;
  char head[HEAD_MAX + 1];
};

static struct {
  uint16_t port;
  int epoll, timer, count;
  struct connection *connections;
  struct bytes *requests;
  size_t request_count, next_request;
  double rate;
  uint64_t random;
  /* Due times that found no free connection, oldest first. */
  uint64_t *waiting, next_due;
  size_t waiting_size, waiting_first, waiting_last;
  uint64_t warm_until, stop_at;
  uint64_t statuses[STATUSES], broken, unanswered, offered;
  uint64_t *latencies;
  size_t latency_count, latency_size;
} the;

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(2);
}

static void *grown(void *old, size_t size) {
  void *block = realloc(old, size);
  if (!block) fail("memory");
  return block;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static struct bytes whole_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(path);
  fseek(file, 0, SEEK_END);
  struct bytes content = {NULL, (size_t)ftell(file)};
  rewind(file);
  content.data = grown(NULL, content.size + 1);
  if (fread(content.data, 1, content.size, file) != content.size) fail(path);
  fclose(file);
  return content;
}

static void read_requests(const char *path) {
  struct bytes file = whole_file(path);
  for (size_t at = 0; at + 4 <= file.size;) {
    uint32_t size;
    memcpy(&size, file.data + at, 4);
    if (size > file.size - at - 4) break;
    the.requests = grown(the.requests, (the.request_count + 1) * sizeof *the.requests);
    the.requests[the.request_count++] = (struct bytes){file.data + at + 4, size};
    at += 4 + size;
  }
  if (!the.request_count) fail("no requests");
}

/* The gap to the next due time, exponentially distributed (splitmix64 gives the uniform number). */
static uint64_t gap(void) {
  uint64_t z = (the.random += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  double uniform = (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
  return (uint64_t)(-log1p(-uniform) / the.rate * 1e9);
}

static void watch(struct connection *c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(the.epoll, operation, c->fd, &event)) fail("epoll_ctl");
}

static void dial(struct connection *c) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(the.port)};
  int on = 1;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  c->busy = 0;
  watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void push(struct connection *c) {
  while (c->sent < c->request->size) {
    ssize_t n = send(c->fd, c->request->data + c->sent, c->request->size - c->sent, MSG_NOSIGNAL);
    if (n < 0) {
      /* A connection that was reset shows itself to the next read. */
      if (errno == EAGAIN) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    c->sent += (size_t)n;
  }
}

static void begin(struct connection *c, uint64_t due) {
  c->busy = 1;
  c->due = due;
  c->request = &the.requests[the.next_request++ % the.request_count];
  c->sent = c->head_size = 0;
  c->stage = HEAD;
  push(c);
}

static int within(uint64_t time) { return time >= the.warm_until && time < the.stop_at; }

static void keep(uint64_t latency) {
  if (the.latency_count == the.latency_size) {
    the.latency_size = the.latency_size ? the.latency_size * 2 : 65536;
    the.latencies = grown(the.latencies, the.latency_size * sizeof *the.latencies);
  }
  the.latencies[the.latency_count++] = latency;
}

/* A closed loop counts what was answered in the measured time. An open loop counts the answers of that
 * time, and takes the latency of all that was due in it. */
static void finish(struct connection *c) {
  uint64_t time = now();
  int good = c->status == 200;
  if (within(time)) the.statuses[c->status]++;
  if (good && within(the.rate > 0 ? c->due : time)) keep(time - c->due);
  c->busy = 0;
}

static void redial(struct connection *c) {
  close(c->fd);
  dial(c);
}

static char *header(struct connection *c, const char *name) {
  char *found = strcasestr(c->head, name);
  return found ? found + strlen(name) : NULL;
}

static void read_head(struct connection *c) {
  char *value;
  c->head[c->head_size] = 0;
  c->status = c->head_size > 12 ? atoi(c->head + 9) : 0;
  if (c->status < 100 || c->status >= STATUSES) c->status = 0;
  value = header(c, "\nconnection:");
  c->closing = value && !strncasecmp(value + strspn(value, " "), "close", 5);
  if (header(c, "\ntransfer-encoding: chunked")) {
    c->stage = CHUNK_SIZE;
    c->need = c->line = 0;
    return;
  }
  value = header(c, "\ncontent-length:");
  c->need = value ? strtoul(value, NULL, 10) : 0;
  c->stage = BODY;
}

static size_t take_head(struct connection *c, const char *data, size_t size) {
  for (size_t i = 0; i < size && c->head_size < HEAD_MAX; i++) {
    c->head[c->head_size++] = data[i];
    if (data[i] == '\n' && c->head_size >= 4 && !memcmp(c->head + c->head_size - 4, "\r\n\r\n", 4)) {
      read_head(c);
      return i + 1;
    }
  }
  return size;
}

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 32;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of what stands between the chunks' data; returns 1 when the answer is complete. */
static int take_frame(struct connection *c, char byte) {
  if (c->stage == CHUNK_SIZE) {
    int value = digit(byte);
    if (byte == '\n') c->stage = c->need ? CHUNK_DATA : TRAILER, c->line = 0;
    else if (byte == ';') c->line = 1;
    else if (value >= 0 && !c->line) c->need = c->need * 16 + (size_t)value;
  } else if (c->stage == CHUNK_END) {
    if (byte == '\n') c->stage = CHUNK_SIZE, c->need = c->line = 0;
  } else {
    if (byte == '\n' && !c->line) return 1;
    if (byte == '\n') c->line = 0;
    else if (byte != '\r') c->line++;
  }
  return 0;
}

/* Returns 1 when the answer is complete. */
static int take(struct connection *c, const char *data, size_t size) {
  size_t at = 0;
  for (;;) {
    if (c->stage == HEAD) {
      at += take_head(c, data + at, size - at);
      if (c->stage == HEAD) return 0;
    }
    if (c->stage == BODY || c->stage == CHUNK_DATA) {
      size_t part = size - at < c->need ? size - at : c->need;
      at += part;
      c->need -= part;
      if (c->need) return 0;
      if (c->stage == BODY) return 1;
      c->stage = CHUNK_END;
    }
    if (at == size) return 0;
    if (take_frame(c, data[at++])) return 1;
  }
}

/* Reads what came; returns 1 when the connection is free for another request. */
static int pull(struct connection *c) {
  static char scratch[SCRATCH];
  ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) {
    if (c->busy && within(now())) the.broken++;
    redial(c);
    return 1;
  }
  if (!c->busy || !take(c, scratch, (size_t)n)) return 0;
  finish(c);
  if (c->closing) redial(c);
  return 1;
}

static void arm(uint64_t time) {
  struct itimerspec at = {.it_value = {(time_t)(time / 1000000000u), (long)(time % 1000000000u)}};
  timerfd_settime(the.timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void wait_for_connection(uint64_t due) {
  if (the.waiting_last == the.waiting_size) {
    the.waiting_size = the.waiting_size ? the.waiting_size * 2 : 65536;
    the.waiting = grown(the.waiting, the.waiting_size * sizeof *the.waiting);
  }
  the.waiting[the.waiting_last++] = due;
}

static void send_due(void) {
  static int first_free;
  uint64_t time = now();
  for (; the.next_due <= time && the.next_due < the.stop_at; the.next_due += gap()) {
    if (within(the.next_due)) the.offered++;
    wait_for_connection(the.next_due);
  }
  for (int tried = 0; the.waiting_first < the.waiting_last && tried < the.count; tried++) {
    struct connection *c = &the.connections[first_free++ % the.count];
    if (!c->busy) begin(c, the.waiting[the.waiting_first++]), tried = 0;
  }
  first_free %= the.count;
  if (the.next_due < the.stop_at) arm(the.next_due);
}

static void turn(int milliseconds) {
  struct epoll_event events[EVENTS];
  int n = epoll_wait(the.epoll, events, EVENTS, milliseconds);
  for (int i = 0; i < n; i++) {
    struct connection *c = events[i].data.ptr;
    uint64_t expirations;
    if (!c) {
      if (read(the.timer, &expirations, sizeof expirations) < 0) continue;
    } else if (events[i].events & EPOLLOUT) {
      watch(c, EPOLL_CTL_MOD, EPOLLIN);
      push(c);
    } else if (pull(c) && the.rate == 0) {
      begin(c, now());
    }
  }
  if (the.rate > 0) send_due();
}

static int busy_count(void) {
  int busy = 0;
  for (int i = 0; i < the.count; i++) busy += the.connections[i].busy;
  return busy;
}

/* What was due and never answered counts with the time it has waited so far. */
static void count_unanswered(void) {
  uint64_t time = now();
  for (int i = 0; i < the.count; i++) {
    struct connection *c = &the.connections[i];
    if (c->busy && within(c->due)) the.unanswered++, keep(time - c->due);
  }
  for (size_t i = the.waiting_first; i < the.waiting_last; i++)
    if (within(the.waiting[i])) the.unanswered++, keep(time - the.waiting[i]);
}

static void set_up(char **arguments) {
  double warm_up = atof(arguments[2]), seconds = atof(arguments[3]);
  struct epoll_event timer = {.events = EPOLLIN, .data.ptr = NULL};
  the.port = (uint16_t)atoi(arguments[0]);
  the.count = atoi(arguments[1]);
  the.rate = atof(arguments[4]);
  the.random = strtoull(arguments[5], NULL, 10);
  read_requests(arguments[6]);
  the.epoll = epoll_create1(EPOLL_CLOEXEC);
  the.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (epoll_ctl(the.epoll, EPOLL_CTL_ADD, the.timer, &timer)) fail("timer");
  the.connections = calloc((size_t)the.count, sizeof *the.connections);
  if (!the.connections) fail("memory");
  for (int i = 0; i < the.count; i++) dial(&the.connections[i]);
  the.next_due = now();
  the.warm_until = the.next_due + (uint64_t)(warm_up * 1e9);
  the.stop_at = the.warm_until + (uint64_t)(seconds * 1e9);
}

static void print_counts(double seconds, double cpu) {
  const char *comma = "";
  printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"offered\": %llu, \"broken\": %llu, "
         "\"unanswered\": %llu, \"statuses\": {",
         seconds, cpu, (unsigned long long)the.offered, (unsigned long long)the.broken,
         (unsigned long long)the.unanswered);
  for (int i = 0; i < STATUSES; i++)
    if (the.statuses[i]) {
      printf("%s\"%d\": %llu", comma, i, (unsigned long long)the.statuses[i]);
      comma = ", ";
    }
  puts("}}");
}

static void mark(const char *word) {
  puts(word);
  fflush(stdout);
}

static int run(char **arguments) {
  set_up(arguments);
  if (the.rate == 0)
    for (int i = 0; i < the.count; i++) begin(&the.connections[i], now());
  else
    send_due();
  while (now() < the.warm_until) turn(5);
  mark("begin");
  double cpu = cpu_seconds();
  uint64_t began = now();
  while (now() < the.stop_at) turn(5);
  double seconds = (double)(now() - began) * 1e-9;
  cpu = cpu_seconds() - cpu;
  mark("end");
  if (the.rate > 0) {
    send_due();
    uint64_t give_up = the.stop_at + DRAIN_SECONDS * 1000000000ull;
    while (now() < give_up && (busy_count() || the.waiting_first < the.waiting_last)) turn(5);
    count_unanswered();
  }
  FILE *file = fopen(arguments[7], "wb");
  if (!file) fail(arguments[7]);
  fwrite(the.latencies, sizeof *the.latencies, the.latency_count, file);
  fclose(file);
  print_counts(seconds, cpu);
  return 0;
}

static size_t request_size(const char *data, size_t size) {
  const char *end = memmem(data, size, "\r\n\r\n", 4);
  const char *length = strcasestr(data, "\ncontent-length:");
  if (!end) return 0;
  return (size_t)(end - data) + 4 + (length && length < end ? strtoul(length + 16, NULL, 10) : 0);
}

static void answer(struct connection *c, const struct bytes *body) {
  static char scratch[SCRATCH];
  ssize_t n = recv(c->fd, scratch, sizeof scratch - 1, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    close(c->fd);
    free(c);
    return;
  }
  scratch[n] = 0;
  if (!c->need) c->need = request_size(scratch, (size_t)n);
  c->need -= (size_t)n < c->need ? (size_t)n : c->need;
  if (!c->need && send(c->fd, body->data, body->size, MSG_NOSIGNAL) < 0) perror("load: send");
}

static _Noreturn void respond(char **arguments) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[0]))};
  struct bytes body = whole_file(arguments[1]);
  struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.ptr = NULL};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 1024)) fail("listen");
  the.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ctl(the.epoll, EPOLL_CTL_ADD, listener, &first)) fail("epoll_ctl");
  for (;;) {
    int n = epoll_wait(the.epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (c) {
        answer(c, &body);
        continue;
      }
      c = calloc(1, sizeof *c);
      if (!c) fail("memory");
      c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (c->fd < 0) fail("accept");
      setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
  }
}

int main(int count, char **arguments) {
  if (count == 10 && !strcmp(arguments[1], "run")) return run(arguments + 2);
  if (count == 4 && !strcmp(arguments[1], "respond")) respond(arguments + 2);
  fputs("usage: load run PORT CONNECTIONS WARM_UP SECONDS RATE SEED REQUESTS LATENCIES\n"
        "       load respond PORT ANSWER\n", stderr);
  return 2;
}

/* Sends packets, or makes connections, through routers in turn, and says what each cost in CPU time of this thread.
 *
 * Everything between two namespaces on one machine happens in the sender's own softirq: client, router, server, and the drop
 * in a full socket buffer. One CPU, one thread. Reads flows from stdin, one a line:
 *   KIND CLIENT_NAMESPACE SERVER_NAMESPACE SOURCE SOURCE_PORT DESTINATION DESTINATION_PORT
 * KIND: new (never answered), established (answered once), drop (must not arrive), connect (TCP: a byte each way, then RST).
 * Arguments: CPU, rounds, packets or connections of a block, flows of a group. Within a round the groups come one after
 * another; which flow of a group is first, and the direction, change from round to round. Prints a line for each flow: ns per
 * packet, round after round. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 256, BATCH = 32, PAYLOAD = 18 };
union ip { struct sockaddr any; struct sockaddr_in four; struct sockaddr_in6 six; };
struct flow { char kind[16]; int client, server; union ip from, to; socklen_t size; char client_ns[256]; double *found; };
static struct flow flows[MOST];
static struct mmsghdr batch[BATCH];

static void fail(const char *what, int number) {
    fprintf(stderr, "sender: flow %d: ", number);
    perror(what);
    exit(1);
}

static void enter(const char *name) {
    char path[300];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || setns(fd, CLONE_NEWNET)) { perror(path); exit(1); }
    close(fd);
}

static union ip address(const char *text, int port) {
    union ip found = {0};
    int six = strchr(text, ':') != NULL;
    if (six) found.six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    else found.four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    void *to = six ? (void *)&found.six.sin6_addr : (void *)&found.four.sin_addr;
    if (inet_pton(found.any.sa_family, text, to) != 1) { fprintf(stderr, "sender: address %s\n", text); exit(1); }
    return found;
}

static int arrives(int fd, int milliseconds) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, milliseconds) == 1;
}

static void prepare(struct flow *flow, const char *server_ns, int number) {
    int tcp = !strcmp(flow->kind, "connect"), small = 1, yes = 1, family = flow->to.any.sa_family;
    socklen_t size = flow->size;
    char byte[PAYLOAD] = {0};
    enter(server_ns);
    flow->server = socket(family, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    setsockopt(flow->server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(flow->server, &flow->to.any, size)) fail("bind the server", number);
    enter(flow->client_ns);
    if (tcp) {
        struct timeval most = {.tv_sec = 2};
        setsockopt(flow->server, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
        if (listen(flow->server, 128)) fail("listen", number);
        return;
    }
    setsockopt(flow->server, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    flow->client = socket(family, SOCK_DGRAM, 0);
    if (bind(flow->client, &flow->from.any, size)) fail("bind the client", number);
    if (connect(flow->client, &flow->to.any, size)) fail("connect", number);
    int drop = !strcmp(flow->kind, "drop");
    for (int tries = 0; tries < 3; tries++) { /* the first may be lost to address resolution */
        send(flow->client, byte, sizeof byte, 0);
        if (arrives(flow->server, drop ? 50 : 1000)) break;
        if (tries == 2 && !drop) { fprintf(stderr, "sender: flow %d does not arrive\n", number); exit(1); }
    }
    if (drop && arrives(flow->server, 0)) { fprintf(stderr, "sender: flow %d arrives\n", number); exit(1); }
    if (!strcmp(flow->kind, "established")) {
        union ip peer;
        if (recvfrom(flow->server, byte, sizeof byte, 0, &peer.any, &size) < 0) fail("receive", number);
        if (sendto(flow->server, byte, sizeof byte, 0, &peer.any, size) < 0) fail("answer", number);
        if (!arrives(flow->client, 1000)) { fprintf(stderr, "sender: flow %d is not answered\n", number); exit(1); }
    }
}

static void send_packets(struct flow *flow, int count) {
    for (int sent = 0; sent < count; sent += BATCH)
        if (sendmmsg(flow->client, batch, BATCH, 0) != BATCH) fail("send", (int)(flow - flows));
}

static void make_connections(struct flow *flow, int count) {
    struct linger reset = {1, 0};
    char byte = 0;
    for (int made = 0; made < count; made++) {
        int client = socket(flow->to.any.sa_family, SOCK_STREAM, 0), server;
        if (bind(client, &flow->from.any, flow->size)) fail("bind", (int)(flow - flows));
        if (connect(client, &flow->to.any, flow->size)) fail("connect", (int)(flow - flows));
        if ((server = accept(flow->server, NULL, NULL)) < 0) fail("accept", (int)(flow - flows));
        if (write(client, &byte, 1) != 1 || read(server, &byte, 1) != 1) fail("ask", (int)(flow - flows));
        if (write(server, &byte, 1) != 1 || read(client, &byte, 1) != 1) fail("answer", (int)(flow - flows));
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(client);
        close(server);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int rounds = atoi(argv[2]), count = atoi(argv[3]), group = atoi(argv[4]), all = 0, from_port, to_port;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[1]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus)) { perror("sched_setaffinity"); return 1; }
    static char payload[PAYLOAD];
    static struct iovec piece = {payload, PAYLOAD};
    for (int n = 0; n < BATCH; n++) batch[n].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
    char server_ns[256], from[64], to[64];
    while (all < MOST && scanf("%15s %255s %255s %63s %d %63s %d", flows[all].kind, flows[all].client_ns, server_ns, from,
                               &from_port, to, &to_port) == 7) {
        struct flow *flow = &flows[all];
        flow->from = address(from, from_port);
        flow->to = address(to, to_port);
        flow->size = flow->to.any.sa_family == AF_INET6 ? sizeof flow->to.six : sizeof flow->to.four;
        flow->found = calloc(rounds, sizeof *flow->found);
        prepare(flow, server_ns, all++);
    }
    for (int round = 0; round < rounds; round++)
        for (int first = 0; first < all; first += group)
            for (int step = 0; step < group; step++) {
                int turn = (round / 2 + step) % group;
                struct flow *flow = &flows[first + (round % 2 ? group - 1 - turn : turn)];
                int tcp = !strcmp(flow->kind, "connect");
                void (*carry)(struct flow *, int) = tcp ? make_connections : send_packets;
                if (tcp) enter(flow->client_ns);
                carry(flow, tcp ? 2 : BATCH); /* the tables are in the caches again */
                double before = now();
                carry(flow, count);
                flow->found[round] = (now() - before) / count;
            }
    for (int n = 0; n < all; n++) {
        for (int round = 0; round < rounds; round++) printf("%.1f ", flows[n].found[round]);
        printf("\n");
    }
    return 0;
}

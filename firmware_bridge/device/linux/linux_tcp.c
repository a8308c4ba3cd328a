/* A TCP connection as the line. tcp(7). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux_line.h"
#include "linux_platform.h"

#define DEAD_AFTER_S 10 /* a host that has gone without a word is noticed within twice this */

static struct sockaddr_in address_of(const char *text) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_ANY)}};
    char host[INET_ADDRSTRLEN] = "";
    char *end;
    const char *colon = strrchr(text, ':');
    const char *port = colon == NULL ? text : colon + 1;
    const size_t host_bytes = colon == NULL ? 0u : (size_t)(colon - text);
    const unsigned long number = strtoul(port, &end, 10);
    bool good = end != port && *end == '\0' && number <= 65535u && host_bytes < sizeof host;
    if (good && colon != NULL) {
        (void)memcpy(host, text, host_bytes);
        good = inet_pton(AF_INET, host, &address.sin_addr) == 1;
    }
    if (!good) {
        (void)fprintf(stderr, "--listen takes PORT or IPV4-ADDRESS:PORT, not %s\n", text);
        exit(EXIT_USAGE);
    }
    address.sin_port = htons((uint16_t)number);
    return address;
}

/* Port 0 takes a free one, and keeps it; the URL is printed once. */
static int open_listener(const char *text) {
    static struct sockaddr_in address;
    static bool known;
    const int on = 1;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!known) {
        address = address_of(text);
    }
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0) {
        line_fail("cannot listen on", text);
    }
    if (!known) {
        char host[INET_ADDRSTRLEN];
        socklen_t length = sizeof address;
        (void)getsockname(listener, (struct sockaddr *)&address, &length);
        (void)inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
        (void)printf("socket://%s:%u\n", host, (unsigned)ntohs(address.sin_port));
        (void)fflush(stdout);
        known = true;
    }
    return listener;
}

line_t line_accept(const char *text) {
    const int on = 1;
    const int seconds = DEAD_AFTER_S;
    const int listener = open_listener(text);
    int host;
    do {
        host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    } while (host < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (host < 0) {
        line_fail("nobody can connect to", text);
    }
    (void)close(listener);
    (void)setsockopt(host, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(host, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(host, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    (void)setsockopt(host, IPPROTO_TCP, TCP_KEEPINTVL, &(int){1}, sizeof(int));
    (void)setsockopt(host, IPPROTO_TCP, TCP_KEEPCNT, &seconds, sizeof seconds);
    const line_t line = {host, host};
    return line;
}

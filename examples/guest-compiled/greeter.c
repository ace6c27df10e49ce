/* A small HTTP server: answers every request with a line, and counts them. It knows nothing of rolehost: ADDRESS, PORT
   and NAME come by its environment, and it ends in order when it gets TERM. */

#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t stopping = 0;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "greeter: the variable %s is not set\n", name);
        exit(2);
    }
    return value;
}

static int listening_at(const char *address, const char *port)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || inet_pton(AF_INET, address, &place.sin_addr) != 1)
        return -1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) != 0 || listen(listener, 64) != 0)
        return -1;
    return listener;
}

static void answer(int connection, const char *name, unsigned long number)
{
    struct timeval patience = {.tv_sec = 5};
    char request[4096], body[256], head[256];
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (recv(connection, request, sizeof request, 0) <= 0)
        return;
    int length = snprintf(body, sizeof body, "%s greets you, for the %lu. time\n", name, number);
    int begin = snprintf(head, sizeof head,
                         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
                         length);
    if (send(connection, head, (size_t)begin, MSG_NOSIGNAL) == begin)
        (void)!send(connection, body, (size_t)length, MSG_NOSIGNAL);
}

int main(void)
{
    const char *address = variable("ADDRESS"), *port = variable("PORT"), *name = variable("NAME");
    struct sigaction told = {.sa_handler = stop};
    sigaction(SIGTERM, &told, NULL);
    int listener = listening_at(address, port);
    if (listener < 0) {
        fprintf(stderr, "greeter: can't listen at %s:%s: %s\n", address, port, strerror(errno));
        return 1;
    }
    printf("%s listens at %s:%s\n", name, address, port);
    fflush(stdout);
    unsigned long number = 0;
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    while (!stopping) {
        if (poll(&waiting, 1, 500) <= 0) /* a signal that comes just before it is seen half a second later */
            continue;
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        answer(connection, name, ++number);
        close(connection);
    }
    printf("%s has answered %lu requests\n", name, number);
    return 0;
}

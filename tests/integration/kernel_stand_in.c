/* Stands before the kernel for programs that feed it (LD_PRELOAD): what they feed goes to the file STAND_IN_LOG.
   With STAND_IN_WANTS set, /dev/random wants bytes whenever it is asked, as before Linux 5.18.
   With STAND_IN_PASSES set, the kernel gets what they feed, too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    if (request != RNDADDENTROPY)
        return real(fd, request, argument);
    struct rand_pool_info *fed = argument;
    int log = open(getenv("STAND_IN_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    ssize_t written = write(log, fed, sizeof *fed + fed->buf_size);
    close(log);
    if (written < 0)
        return -1;
    return getenv("STAND_IN_PASSES") ? real(fd, request, argument) : 0;
}

int poll(struct pollfd *fds, nfds_t count, int timeout)
{
    int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
    if (!getenv("STAND_IN_WANTS"))
        return real(fds, count, timeout);
    int ready = real(fds, count, timeout < 0 || timeout > 20 ? 20 : timeout);
    for (nfds_t i = 0; i < count; i++)
        if ((fds[i].events & POLLOUT) && !fds[i].revents) {
            fds[i].revents = POLLOUT;
            ready++;
        }
    return ready;
}

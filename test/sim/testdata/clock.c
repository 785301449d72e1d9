// Moves the clock of the programs that it is preloaded into: what time it is, and
// not how much of it passes. The file CLOCK says by how many seconds, now.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*real)(clockid_t, struct timespec *);
static volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int fd = open(getenv("CLOCK"), O_RDONLY);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
	if (!real || at == MAP_FAILED) {
		abort();
	}
	close(fd);
	ahead = at;
}

int clock_gettime(clockid_t id, struct timespec *t) {
	if (!ahead) {
		begin();
	}
	int err = real(id, t);
	if (!err && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		t->tv_sec += *ahead;
	}
	return err;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
	struct timespec now;
	(void)zone;
	int err = clock_gettime(CLOCK_REALTIME, &now);
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return err;
}

time_t time(time_t *t) {
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (t) {
		*t = now.tv_sec;
	}
	return now.tv_sec;
}

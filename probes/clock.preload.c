// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The wall clock of a program that chaosd has started, ahead or behind: loaded in front of its C library
 * (ld.so(8), LD_PRELOAD), for the vDSO answers without a system call that anybody could meet.
 *
 * How far is in a page that the engine shares (chaosd/kernel/clock.py). It has a deadline like all that is
 * leased: when it is over, or the page is not there, every call gets the time as it is.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define MONOTONIC_COND 2 /* __PTHREAD_COND_CLOCK_MONOTONIC_MASK, nptl/pthreadP.h */

struct page {
	uint64_t deadline; /* CLOCK_BOOTTIME, ns */
	uint64_t since; /* the same; from when on the clock drifts */
	int64_t offset; /* ns */
	int64_t drift; /* ns each second */
	uint64_t injected; /* readings that were put wrong */
	uint64_t expired; /* readings after the deadline */
};

static struct page *page;
static bool counts;
static int (*real_gettime)(clockid_t, struct timespec *);

static int now(clockid_t id, struct timespec *ts)
{
	if (real_gettime)
		return real_gettime(id, ts);
	return (int)syscall(SYS_clock_gettime, id, ts); /* before this library was set up */
}

static int64_t ns(const struct timespec *ts)
{
	return ts->tv_sec * SECOND + ts->tv_nsec;
}

static struct timespec shifted(const struct timespec *ts, int64_t by)
{
	int64_t sum = ns(ts) + by;
	int64_t rest = sum % SECOND;

	if (rest < 0)
		rest += SECOND;
	return (struct timespec){.tv_sec = (sum - rest) / SECOND, .tv_nsec = rest};
}

static bool is_wall(clockid_t id)
{
	return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI;
}

/* How far the clock is ahead now, in ns; sets *live to whether the deadline is yet to come. */
static int64_t ahead(bool *live)
{
	struct timespec boot;
	int64_t at;

	*live = false;
	if (!page || now(CLOCK_BOOTTIME, &boot))
		return 0;
	at = ns(&boot);
	*live = at < (int64_t)__atomic_load_n(&page->deadline, __ATOMIC_ACQUIRE);
	if (!*live)
		return 0;
	return page->offset + (int64_t)((__int128)page->drift * (at - (int64_t)page->since) / SECOND);
}

static void wrong(struct timespec *ts)
{
	bool live;
	int64_t by = ahead(&live);

	if (counts)
		__atomic_fetch_add(live ? &page->injected : &page->expired, 1, __ATOMIC_RELAXED);
	*ts = shifted(ts, by);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int failed = now(id, ts);

	if (!failed && is_wall(id))
		wrong(ts);
	return failed;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;

	if (zone)
		*(struct timezone *)zone = (struct timezone){0};
	if (clock_gettime(CLOCK_REALTIME, &ts))
		return -1;
	*tv = (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *where)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_REALTIME, &ts))
		return -1;
	if (where)
		*where = ts.tv_sec;
	return ts.tv_sec;
}

int timespec_get(struct timespec *ts, int base)
{
	return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, ts) ? base : 0;
}

/*
 * A deadline by the wall clock was reckoned from a time that was wrong. What waits for it is told the right
 * moment, as the kernel of a host with that clock would have it.
 */
static const struct timespec *right(clockid_t id, const struct timespec *until, struct timespec *room)
{
	bool live;

	if (!until || !is_wall(id))
		return until;
	*room = shifted(until, -ahead(&live));
	return room;
}

#define REAL(result, name, ...)             \
	static result (*real)(__VA_ARGS__); \
	if (!real)                          \
	real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define TIMED(name, type)                                             \
	int name(type *it, const struct timespec *until)              \
	{                                                             \
		struct timespec room;                                 \
		REAL(int, name, type *, const struct timespec *);     \
		return real(it, right(CLOCK_REALTIME, until, &room)); \
	}

#define CLOCKED(name, type)                                                  \
	int name(type *it, clockid_t id, const struct timespec *until)       \
	{                                                                    \
		struct timespec room;                                        \
		REAL(int, name, type *, clockid_t, const struct timespec *); \
		return real(it, id, right(id, until, &room));                \
	}

TIMED(sem_timedwait, sem_t)
TIMED(pthread_mutex_timedlock, pthread_mutex_t)
TIMED(pthread_rwlock_timedrdlock, pthread_rwlock_t)
TIMED(pthread_rwlock_timedwrlock, pthread_rwlock_t)
CLOCKED(sem_clockwait, sem_t)
CLOCKED(pthread_mutex_clocklock, pthread_mutex_t)
CLOCKED(pthread_rwlock_clockrdlock, pthread_rwlock_t)
CLOCKED(pthread_rwlock_clockwrlock, pthread_rwlock_t)

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *lock, clockid_t id,
			   const struct timespec *until)
{
	struct timespec room;
	REAL(int, pthread_cond_clockwait, pthread_cond_t *, pthread_mutex_t *, clockid_t,
	     const struct timespec *);

	return real(cond, lock, id, right(id, until, &room));
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	clockid_t id = cond->__data.__wrefs & MONOTONIC_COND ? CLOCK_MONOTONIC : CLOCK_REALTIME;
	struct timespec room;

	/* x86-64 has an older one of that name, which RTLD_NEXT would find first (do_lookup_x(),
	 * elf/dl-lookup.c) */
	if (!real)
		real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
	if (!real)
		real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
	return real(cond, lock, right(id, until, &room));
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *until, struct timespec *left)
{
	struct timespec room;
	REAL(int, clock_nanosleep, clockid_t, int, const struct timespec *, struct timespec *);

	return real(id, flags, flags & TIMER_ABSTIME ? right(id, until, &room) : until, left);
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CHAOSD_CLOCK");
	int fd;
	void *found;

	real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (!path)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	counts = fd >= 0;
	if (!counts)
		fd =
		    open(path, O_RDONLY | O_CLOEXEC); /* it is of another user: it has the clock, uncounted */
	if (fd < 0)
		return;
	found = mmap(NULL, sizeof(*page), PROT_READ | (counts ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
	close(fd);
	if (found != MAP_FAILED)
		page = found;
}

/* The thread pool. Each thread has a share of a phase's chunks, side by side in memory, and helps itself from the others'
   when it is through; so one that the system has set aside holds up nobody but for the chunk it is in. A thread that finds
   no more chunks spins for a while and then sleeps until the next phase.

   A share is one word: the number of the phase, counted for ever, above the chunks of it that nobody has taken. A thread
   owns a chunk by lowering that word by one; as long as one is owned, its phase and its job last. */
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* A millisecond of spinning: a thread that slept between two phases, or two tokens, would come too late for the next. */
enum { MOST_THREADS = 256, SPINS = 20000 };

struct share {
    _Alignas(64) atomic_uint_fast64_t left;
};

static struct {
    pthread_mutex_t turn;
    int started;
    struct job job;
    uint64_t first; /* the number of the job's phase 0 */
    atomic_int sharing; /* threads of the running job */
    struct share shares[MOST_THREADS];
    _Alignas(64) atomic_uint_fast64_t phase;
    _Alignas(64) atomic_int done; /* chunks */
    _Alignas(64) atomic_uint epoch;
    atomic_int sleepers;
#if !defined(__linux__)
    pthread_mutex_t lock;
    pthread_cond_t woken;
#endif
} pool = {
    .turn = PTHREAD_MUTEX_INITIALIZER,
#if !defined(__linux__)
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .woken = PTHREAD_COND_INITIALIZER,
#endif
};

static void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void sleep_in(unsigned epoch) {
#if defined(__linux__)
    syscall(SYS_futex, &pool.epoch, FUTEX_WAIT_PRIVATE, epoch, NULL, NULL, 0);
#else
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.epoch) == epoch) pthread_cond_wait(&pool.woken, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
#endif
}

static void wake(void) {
#if defined(__linux__)
    atomic_fetch_add(&pool.epoch, 1);
    if (atomic_load(&pool.sleepers)) syscall(SYS_futex, &pool.epoch, FUTEX_WAKE_PRIVATE, MOST_THREADS, NULL, NULL, 0);
#else
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.epoch, 1);
    pthread_cond_broadcast(&pool.woken);
    pthread_mutex_unlock(&pool.lock);
#endif
}

/* Wait until the phase is no longer `seen`. */
static void wait_past(uint64_t seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool.phase, memory_order_acquire) != seen) return;
        pause_a_little();
    }
    unsigned epoch = atomic_load(&pool.epoch);
    atomic_fetch_add(&pool.sleepers, 1);
    /* The phase changes before the epoch does: if it has not changed yet, the sleep ends when it does. */
    if (atomic_load(&pool.phase) == seen) sleep_in(epoch);
    atomic_fetch_sub(&pool.sleepers, 1);
}

/* Where the chunks of a share begin; those of the last one end where one more would begin. */
static int begin(int count, int share, int sharing) { return (int)((int64_t)count * share / sharing); }

/* Past a job's last phase stands one without chunks. */
static void open_phase(uint64_t number) {
    uint64_t phase = number - pool.first;
    int sharing = pool.sharing, count = phase < (uint64_t)pool.job.phases ? pool.job.chunks[phase] : 0;
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    for (int i = 0; i < sharing; i++) {
        uint64_t own = (uint64_t)(begin(count, i + 1, sharing) - begin(count, i, sharing));
        atomic_store_explicit(&pool.shares[i].left, number * MOST_CHUNKS + own, memory_order_release);
    }
    atomic_store(&pool.phase, number);
    wake();
}

/* Take chunks of one share and run them until there are none; gives how many. */
static int run_share(uint64_t number, int share) {
    int ran = 0;
    uint64_t left = atomic_load_explicit(&pool.shares[share].left, memory_order_acquire);
    while (left / MOST_CHUNKS == number && left % MOST_CHUNKS) {
        if (!atomic_compare_exchange_weak(&pool.shares[share].left, &left, left - 1)) continue;
        int phase = (int)(number - pool.first), sharing = pool.sharing;
        int end = begin(pool.job.chunks[phase], share + 1, sharing);
        pool.job.run(pool.job.data, phase, end - (int)(left % MOST_CHUNKS));
        ran++;
        left = atomic_load_explicit(&pool.shares[share].left, memory_order_acquire);
    }
    return ran;
}

/* What there is to do in the phase, the own share first; then go on to the next one, or wait for it. */
static void work(uint64_t number, int own) {
    int ran = 0, sharing = pool.sharing;
    for (int i = 0; i < sharing; i++) ran += run_share(number, (own + i) % sharing);
    /* The job lasts as long as what this thread ran is not counted. */
    int count = ran ? pool.job.chunks[number - pool.first] : 0;
    if (ran && atomic_fetch_add(&pool.done, ran) + ran == count) open_phase(number + 1);
    else wait_past(number);
}

static void *loop(void *argument) {
    int own = (int)(intptr_t)argument;
    for (;;) {
        uint64_t number = atomic_load_explicit(&pool.phase, memory_order_acquire);
        if (own < pool.sharing) work(number, own);
        else wait_past(number);
    }
    return NULL;
}

/* In a forked process, which has none of the threads. If it was made in the middle of a job, that job is not its own:
   whoever held the turn is not there to give it back, and no chunk that was left may be taken. */
static void forget(void) {
    pthread_mutex_init(&pool.turn, NULL);
#if !defined(__linux__)
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.woken, NULL);
#endif
    pool.started = 0;
    atomic_store(&pool.sleepers, 0);
    for (int i = 0; i < MOST_THREADS; i++) atomic_store(&pool.shares[i].left, 0);
}

static void start(int threads) {
    static int watched;
    if (!watched) watched = !pthread_atfork(NULL, NULL, forget);
    for (; pool.started < threads - 1; pool.started++) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&thread, &attributes, loop, (void *)(intptr_t)(pool.started + 1));
        pthread_attr_destroy(&attributes);
        if (failed) return; /* fewer threads do the same work */
    }
}

static void run_alone(const struct job *job) {
    for (int phase = 0; phase < job->phases; phase++)
        for (int chunk = 0; chunk < job->chunks[phase]; chunk++) job->run(job->data, phase, chunk);
}

void pool_run(const struct job *job, int threads) {
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads <= 1 || !job->phases) {
        run_alone(job);
        return;
    }
    pthread_mutex_lock(&pool.turn);
    start(threads);
    uint64_t first = atomic_load(&pool.phase) + 1, last = first + (uint64_t)job->phases;
    pool.job = *job;
    pool.first = first;
    pool.sharing = threads;
    open_phase(first);
    for (uint64_t number; (number = atomic_load_explicit(&pool.phase, memory_order_acquire)) != last;) work(number, 0);
    pthread_mutex_unlock(&pool.turn);
}

/* What threads share, to be run under the thread sanitizer (tools/sanitize.sh): the pool, and matrices read from files.

   Phases write plain memory that the next one reads, so that a phase which begins too soon is a race, and so is a result
   that the caller sees too soon. What is wrong goes to stdout, and the status is 1. */
#include "../../crane_app/backends/torch/csrc/crane.h"
#include "../../crane_app/backends/torch/csrc/kernels.h"
#include "../../crane_app/backends/torch/csrc/pool.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const struct kernels *kernels = &kernels_plain;

enum { PHASES = 9, MOST = 600, JOBS = 300, CHILDREN = 60, ROWS = 1000, COLUMNS = 1024, ROW = COLUMNS / 32 * 18 };

static int wrong;

static void expect(int right, const char *what, int a, int b) {
    if (right) return;
    if (__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED) < 20) printf("%s is wrong at %d, %d\n", what, a, b);
}

struct work {
    const int *chunks;
    int64_t numbers[PHASES + 1][MOST];
};

/* A number of each phase is its place and the sum of all of the phase before. */
static void sum_up(void *data, int phase, int chunk) {
    struct work *w = data;
    int64_t sum = chunk;
    for (int i = 0; phase && i < w->chunks[phase - 1]; i++) sum += w->numbers[phase - 1][i] % 1009;
    w->numbers[phase][chunk] = sum;
}

static void run_one(int phases, int seed, int threads) {
    int chunks[PHASES];
    struct work *pooled = calloc(1, sizeof *pooled), *alone = calloc(1, sizeof *alone);
    for (int i = 0; i < phases; i++) chunks[i] = 1 + (seed * 7919 + i * i * 31) % (i % 3 ? 5 : MOST);
    pooled->chunks = alone->chunks = chunks;
    struct job job = {phases, chunks, sum_up, pooled};
    pool_run(&job, threads);
    job.data = alone;
    pool_run(&job, 1);
    expect(!memcmp(pooled->numbers, alone->numbers, sizeof pooled->numbers), "a job", threads, seed);
    free(pooled), free(alone);
}

/* Jobs of few and of many chunks, on fewer and on more threads than there were, one after the other. */
static void *run_many(void *first) {
    static const int threads[] = {2, 4, 3, 1, 7, 2};
    for (int i = 0; i < JOBS; i++) run_one(i % (PHASES + 1), i + (int)(intptr_t)first, threads[i % 6]);
    return NULL;
}

static void run_from_two_threads(void) {
    pthread_t other;
    pthread_create(&other, NULL, run_many, (void *)1000);
    run_many(NULL);
    pthread_join(other, NULL);
}

/* A child has none of the threads, and may be made in the middle of a job. */
static void fork_meanwhile(void) {
    pthread_t other;
    pthread_create(&other, NULL, run_many, (void *)2000);
    for (int i = 0; i < CHILDREN; i++) {
        int status = 0;
        pid_t child = fork();
        if (!child) {
            alarm(20);
            wrong = 0;
            for (int j = 0; j < 5; j++) run_one(PHASES, j, 3);
            _exit(wrong > 0);
        }
        waitpid(child, &status, 0);
        expect(!status, "a child", i, status);
    }
    pthread_join(other, NULL);
}

static void fill(FILE *file, int count, int threads, int stops, int fault) {
    struct lying lying[8];
    int64_t size = ROWS / STRIP * crane_strip_bytes(Q4_0, COLUMNS) + crane_strip_bytes(Q4_0, COLUMNS);
    struct filling filling = {.matrices = lying, .count = count, .threads = threads};
    for (int i = 0; i < count; i++) {
        lying[i] = (struct lying){.format = Q4_0, .rows = ROWS, .columns = COLUMNS, .file = {fileno(file)}};
        lying[i].start[0] = i * 18;
        lying[i].strips = malloc((size_t)size);
    }
    pthread_t other;
    pthread_create(&other, NULL, (void *(*)(void *))(void (*)(void))crane_fill, &filling);
    if (stops) __atomic_store_n(&filling.stop, 1, __ATOMIC_RELAXED);
    pthread_join(other, NULL);
    expect(filling.fault == fault, "the end of a file", filling.fault, count);
    expect(stops || fault || filling.done == (int64_t)count * ROWS * ROW, "what was filled", count, threads);
    for (int i = 1; i < count && !stops && !fault; i++)
        expect(memcmp(lying[0].strips, lying[i].strips, 64) != 0, "a matrix", i, threads);
    for (int i = 0; i < count; i++) free(lying[i].strips);
}

static void fill_from_files(void) {
    FILE *file = tmpfile();
    unsigned state = 1;
    for (int i = 0; i < ROWS * ROW + 18 * 7; i++) putc((int)((state = state * 1103515245 + 12345) >> 24), file);
    fflush(file);
    for (int threads = 1; threads <= 4; threads++)
        for (int i = 0; i < 5; i++) fill(file, 8, threads, 0, 0);
    for (int i = 0; i < 20; i++) fill(file, 8, 3, 1, 0);
    expect(!ftruncate(fileno(file), ROWS * ROW / 2), "a shorter file", 0, 0);
    for (int i = 0; i < 20; i++) fill(file, 8, 3, 0, -1);
    fclose(file);
}

int main(void) {
    run_from_two_threads();
    printf("jobs: %d wrong\n", wrong);
    fill_from_files();
    printf("and files: %d wrong\n", wrong);
    fflush(stdout);
    fork_meanwhile();
    printf("and children: %d wrong\n", wrong);
    return wrong > 0;
}

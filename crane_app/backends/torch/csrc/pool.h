/* Threads that run a list of phases, each of so many chunks; a phase begins when the one before is done. */
#ifndef POOL_H
#define POOL_H

struct job {
    int phases;
    const int *chunks; /* of each phase, at least 1 */
    void (*run)(void *data, int phase, int chunk);
    void *data;
};

enum { MOST_CHUNKS = 1 << 24 };

/* Return when all phases are done. Calls from several threads take turns. */
void pool_run(const struct job *job, int threads);

#endif

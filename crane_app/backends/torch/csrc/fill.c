/* From files to strips: matrices are read and packed piece by piece, each piece by whichever thread comes to it.

   The threads are the filling's own: those of the pool stay free for the steps of other models. They give way to what
   else a load does, which one thread does alone and which takes longer. */
#define _GNU_SOURCE
#include "pack.h"
#include "strips.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/resource.h>
#include <sys/syscall.h>
#endif

enum { PIECE = 1 << 19, MOST_FILLERS = 256, ENDED = -1, NICER = 5 }; /* a piece and its strips stay in a core's cache */

/* Bytes of a row of source number `source`. */
static int64_t bytes_of(const struct lying *m, int source) {
    return source ? m->columns / m->size * 2 : row_bytes(m->format, m->columns);
}

/* Rows of a piece: whole strips. */
static int rows_of(const struct lying *m) {
    int64_t rows = PIECE / bytes_of(m, 0) / STRIP * STRIP;
    return rows < STRIP ? STRIP : rows > m->rows ? m->rows : (int)rows;
}

static int pieces_of(const struct lying *m) { return (m->rows + rows_of(m) - 1) / rows_of(m); }

/* 0, or what was wrong: an errno or ENDED. */
static int read_at(int file, uint8_t *to, int64_t size, int64_t at) {
    while (size) {
        ssize_t got = pread(file, to, (size_t)size, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got ? errno : ENDED;
        to += got, at += got, size -= got;
    }
    return 0;
}

/* Which row of the file is row `row`: within a head a file has pairs (0, half), (1, half + 1) ... */
static int64_t row_in_file(const struct lying *m, int row) {
    int dim = m->rows / m->heads, half = dim / 2, i = row % dim;
    return row - i + i % half * 2 + i / half;
}

static int read_rows(const struct lying *m, int source, int first, int count, uint8_t *to) {
    int64_t size = bytes_of(m, source), start = m->start[source];
    int file = m->file[source], fault = 0;
    if (!m->heads) return read_at(file, to, count * size, start + first * size);
    for (int r = 0; r < count && !fault; r++)
        fault = read_at(file, to + r * size, size, start + row_in_file(m, first + r) * size);
    return fault;
}

/* Rows from `first` on, through memory for so many of them. */
static int fill_piece(const struct lying *m, int first, int count, uint8_t *memory) {
    int64_t size = bytes_of(m, 0);
    uint8_t *strips = m->strips + first / STRIP * strip_bytes(m->format, m->columns);
    int fault = read_rows(m, 0, first, count, memory);
    if (!m->size) {
        for (int r = 0; r < count && !fault; r += STRIP, strips += strip_bytes(m->format, m->columns))
            pack_rows(m->format, memory + r * size, size, count - r < STRIP ? count - r : STRIP, m->columns, strips);
        return fault;
    }
    uint8_t *scales = memory + count * size, *biases = scales + count * bytes_of(m, 1);
    if (!fault) fault = read_rows(m, 1, first, count, scales);
    if (!fault) fault = read_rows(m, 2, first, count, biases);
    struct grouping grouping = {m->format, m->size, count, m->columns, memory, (uint16_t *)scales, (uint16_t *)biases, strips};
    for (int i = 0; i * STRIP < count && !fault; i++) pack_grouped(&grouping, i);
    return fault;
}

/* Note the first fault alone, and end. */
static void fail(struct filling *f, int matrix, int fault) {
    int32_t none = 0;
    if (__atomic_compare_exchange_n(&f->fault, &none, fault, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) f->faulty = matrix;
    __atomic_store_n(&f->stop, 1, __ATOMIC_SEQ_CST);
}

/* On Linux each thread has a nice value of its own: setpriority(2). */
static void give_way(void) {
#if defined(__linux__)
    id_t thread = (id_t)syscall(SYS_gettid);
    setpriority(PRIO_PROCESS, thread, getpriority(PRIO_PROCESS, thread) + NICER);
#endif
}

static void *work(void *argument) {
    struct filling *f = argument;
    give_way();
    uint8_t *memory = NULL;
    int64_t room = 0, before = 0; /* pieces of the matrices before this one */
    int matrix = 0;
    while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
        int64_t piece = __atomic_fetch_add(&f->next, 1, __ATOMIC_RELAXED);
        while (matrix < f->count && piece - before >= pieces_of(f->matrices + matrix))
            before += pieces_of(f->matrices + matrix++);
        if (matrix == f->count) break;
        const struct lying *m = f->matrices + matrix;
        int each = rows_of(m), first = (int)(piece - before) * each, count = m->rows - first < each ? m->rows - first : each;
        int64_t nbytes = count * (bytes_of(m, 0) + (m->size ? 2 * bytes_of(m, 1) : 0));
        if (room < nbytes) {
            free(memory);
            memory = malloc((size_t)(room = nbytes));
        }
        int fault = memory ? fill_piece(m, first, count, memory) : ENOMEM;
        if (fault) {
            fail(f, matrix, fault);
            break;
        }
        __atomic_fetch_add(&f->done, nbytes, __ATOMIC_RELAXED);
    }
    free(memory);
    return NULL;
}

/* Return when all matrices are whole, or `stop` was set. Called by a thread that does nothing else: it stays nicer. */
void crane_fill(struct filling *filling) {
    pthread_t threads[MOST_FILLERS];
    int started = 0, wanted = filling->threads < MOST_FILLERS ? filling->threads : MOST_FILLERS;
    while (started < wanted - 1 && !pthread_create(threads + started, NULL, work, filling)) started++;
    work(filling);
    while (started) pthread_join(threads[--started], NULL);
}

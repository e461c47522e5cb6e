/* Preloaded into a process that writes below the folder RECORD_FOLDER: logs every change of its files, in order, to the
 * file RECORD_LOG, and makes the call number RECORD_FAIL of the kind RECORD_FAIL_KIND (write or sync) fail once with EIO.
 *
 * A log entry: one byte kind (W write, T truncate, S sync, D unlink), then as 64-bit native integers the lengths of the
 * name and of the data and the offset, then the name and the data. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int log_fd = -1;
static char folder[4096];
static long fail_at = -1, calls;
static char fail_kind;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("RECORD_LOG"), *where = getenv("RECORD_FOLDER"), *fail = getenv("RECORD_FAIL");
    if (where) snprintf(folder, sizeof folder, "%s/", where);
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fail) {
        fail_at = atol(fail);
        fail_kind = getenv("RECORD_FAIL_KIND")[0];
    }
}

static void all(const void *data, size_t n) {
    for (const char *at = data; n > 0;) {
        ssize_t done = syscall(SYS_write, log_fd, at, n);
        if (done <= 0) abort();
        at += done;
        n -= done;
    }
}

static void note(char kind, const char *name, const void *data, uint64_t n, uint64_t offset) {
    if (log_fd < 0) return;
    uint64_t head[3] = {strlen(name), n, offset};
    all(&kind, 1);
    all(head, sizeof head);
    all(name, head[0]);
    if (data) all(data, n);
}

static const char *ours(const char *path) {
    size_t n = strlen(folder);
    /* The folder itself has the empty name. */
    if (n > 0 && strncmp(path, folder, n - 1) == 0 && path[n - 1] == 0) return path + n - 1;
    return n > 0 && strncmp(path, folder, n) == 0 ? path + n : NULL;
}

static const char *name_of(int fd, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, path, 4095);
    if (n <= 0) return NULL;
    path[n] = 0;
    return ours(path);
}

static int fails(char kind, const char *name) {
    return kind == fail_kind && strcmp(name, "acks") != 0 && calls++ == fail_at;
}

static ssize_t write_at(int fd, const void *data, size_t n, off_t offset, int here) {
    char path[4096];
    const char *name = log_fd >= 0 || fail_at >= 0 ? name_of(fd, path) : NULL;
    ssize_t done;
    if (!name) return here ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, offset);
    pthread_mutex_lock(&lock);
    if (here) offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    if (fails('w', name)) {
        errno = EIO;
        done = -1;
    } else {
        done = here ? syscall(SYS_write, fd, data, n) : syscall(SYS_pwrite64, fd, data, n, offset);
        if (done > 0) note('W', name, data, done, offset);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t n) { return write_at(fd, data, n, 0, 1); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return write_at(fd, data, n, at, 0); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return write_at(fd, data, n, at, 0); }

static int sync_fd(int fd, long call) {
    char path[4096];
    const char *name = name_of(fd, path);
    if (!name) return syscall(call, fd);
    pthread_mutex_lock(&lock);
    int done;
    if (fails('s', name)) {
        errno = EIO;
        done = -1;
    } else {
        done = syscall(call, fd);
        if (done == 0) note('S', name, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return sync_fd(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_fd(fd, SYS_fdatasync); }

static int cut(int fd, off_t length) {
    char path[4096];
    const char *name = name_of(fd, path);
    pthread_mutex_lock(&lock);
    int done = syscall(SYS_ftruncate, fd, length);
    if (name && done == 0) note('T', name, NULL, 0, length);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t length) { return cut(fd, length); }
int ftruncate64(int fd, off_t length) { return cut(fd, length); }

int unlink(const char *path) {
    const char *name = ours(path);
    pthread_mutex_lock(&lock);
    int done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (name && done == 0) note('D', name, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

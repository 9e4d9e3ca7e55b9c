/* memory: as Linux tells it. Of control groups both generations are asked, and each group's limit
 * up to the root, since the tightest of them counts. */
#include "memory_priv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_LEN = 1024 };

/* A number that stands alone in a file; "max", or no such file, limits nothing. */
static uint64_t
read_limit(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long long n = UINT64_MAX;

    if (file == NULL)
        return UINT64_MAX;
    if (fscanf(file, "%llu", &n) != 1)
        n = UINT64_MAX;
    fclose(file);
    return n;
}

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The least of the limits of `group` and those above it, under root. Cuts the group's name. */
static uint64_t
read_groups(const char *root, char *group, const char *file)
{
    uint64_t limit = UINT64_MAX;
    char path[2 * PATH_LEN];

    for (;;) {
        char *slash = strrchr(group, '/');

        snprintf(path, sizeof(path), "%s%s/%s", root, group, file);
        limit = least(limit, read_limit(path));
        if (slash == NULL || group[0] == '\0')
            return limit;
        *slash = '\0';
    }
}

/* Whether `name` is one of the words of "cpu,memory". */
static bool
has_word(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = list; (at = strstr(at, name)) != NULL; at += n)
        if ((at == list || at[-1] == ',') && (at[n] == '\0' || at[n] == ','))
            return true;
    return false;
}

/* Lines are "0::/group" of the second generation, "4:memory:/group" of the first. */
static uint64_t
read_control_groups(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    uint64_t limit = UINT64_MAX;
    char line[PATH_LEN];

    if (file == NULL)
        return limit;
    while (fgets(line, sizeof(line), file) != NULL) {
        char *kinds = strchr(line, ':');
        char *group = kinds != NULL ? strchr(kinds + 1, ':') : NULL;

        if (group == NULL)
            continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (kinds[1] == '\0')
            limit = least(limit, read_groups("/sys/fs/cgroup", group, "memory.max"));
        else if (has_word(kinds + 1, "memory"))
            limit =
                least(limit, read_groups("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
    fclose(file);
    return limit;
}

uint64_t
memory_total(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t total = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;

    total = least(total, read_control_groups());
    return total == UINT64_MAX ? 0 : total;
}

uint64_t
memory_resident(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long size, resident = 0, shared = 0;
    long page = sysconf(_SC_PAGESIZE);

    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu %llu", &size, &resident, &shared) != 3 || shared > resident)
        resident = shared = 0;
    fclose(file);
    return page > 0 ? (resident - shared) * (uint64_t)page : 0;
}

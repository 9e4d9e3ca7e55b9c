/*
 * Runs a fuzz target over every file of a directory, without a fuzzer. Each input is copied to
 * where it ends exactly at the end of its memory. Fails when there is none: a corpus that nobody
 * finds tests nothing.
 */
#include <dirent.h>

#include "lepus/base/buf.h"
#include "lepus/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t size);

static bool
replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct buf input;
    uint8_t piece[4096], *exact;
    size_t n;

    if (file == NULL)
        return false;
    buf_init(&input, 1 << 24);
    while ((n = fread(piece, 1, sizeof(piece), file)) > 0)
        buf_append(&input, piece, n);
    fclose(file);
    exact = mem_alloc(input.len);
    if (input.len > 0)
        memcpy(exact, input.at, input.len);
    LLVMFuzzerTestOneInput(exact, input.len);
    free(exact);
    buf_fini(&input);
    return true;
}

int
main(int argc, char **argv)
{
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    unsigned count = 0;
    char path[4096];

    if (directory == NULL) {
        fprintf(stderr, "usage: replay <directory>\n");
        return 2;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        if (!replay(path)) {
            perror(path);
            return 1;
        }
        count++;
    }
    closedir(directory);
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1;
}

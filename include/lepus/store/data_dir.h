/*
 * data_dir: the folder of everything that outlives the process, and who may write to it.
 *
 *     lock              held (flock) by the broker that runs here; tells its pid
 *     lepus.state       this module's: format version, shards, term
 *     metadata.sqlite   metadata.h
 *     journal, pages    journal.h, pages.h
 *
 * Opening it makes it when it is missing, locks it, and starts a new term: a number that grows by
 * one with every opening, and is on disk before anybody writes anything else. What a former term
 * left is thereby known as such.
 *
 * The number of shards is decided at the first start and kept for ever after: a queue's shard is
 * part of what it is, while the workers that serve the shards may change from start to start.
 *
 * lepus.state has two slots of 512 octets, of which the one with the higher term counts; the other
 * one is written next, so that a crash while writing spoils the older one only (after which a term
 * is left out). A slot is text, filled up with blanks, and a line of its own each:
 *
 *     lepus data directory
 *     version 1
 *     shards 4
 *     term 17
 *     sum 1f3a5c7e9b0d2f46        XXH64 of the lines before, hexadecimal
 *
 * The first two lines and the last stay what they are in every version to come, so that an older
 * broker can refuse what a newer one wrote.
 */
#ifndef LEPUS_STORE_DATA_DIR_H
#define LEPUS_STORE_DATA_DIR_H

#include "lepus/base/err.h"
#include "lepus/store/file.h"

enum { DATA_DIR_VERSION = 1 };

struct data_dir {
    char *path;
    int lock; /* a descriptor */
    uint32_t shards;
    uint64_t term; /* from 1 */
    bool is_new;   /* made by this opening */
};

/* shards: of a new one. False, with nothing kept open: another broker runs here (its pid is
 * named), a newer version wrote it, both slots are spoilt, or the disk refuses. */
bool data_dir_open(struct data_dir *dir, const char *path, const struct file_system *files,
                   uint32_t shards, struct err *err);

/* Gives up the lock. Fine for one that is zeroed or was not opened. */
void data_dir_close(struct data_dir *dir);

#endif

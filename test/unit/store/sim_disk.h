/*
 * sim_disk: a disk in memory that is as mean as a real one may be.
 *
 * It keeps two states of everything: what a running process sees, and what would be found after a
 * power cut. A sector of 512 octets goes from the first to the second with its file's sync, or on a
 * whim at any time before; a name with the sync_dir of its folder, likewise. A sync that fails has
 * written some sectors, and the next one, though it succeeds, does not write the rest: it was told
 * once. A write that fails has written a part of it.
 *
 * Paths are relative: "data" is a folder that is there from the start; others are made. Functions
 * may be called from any thread, but for sim_disk_kill and what follows it in this file.
 *
 *   struct sim_disk *sim = sim_disk_new(seed);
 *   ... use sim_disk_files(sim) ...
 *   sim_disk_cut(sim, 7);     the power fails before the 7th call from now: all calls fail
 *   ... end what uses it ...
 *   sim_disk_crash(sim);      what is left; or sim_disk_kill(sim): only the process died
 *   ... recover ...
 */
#ifndef TEST_STORE_SIM_DISK_H
#define TEST_STORE_SIM_DISK_H

#include "lepus/store/file.h"

enum { SIM_SECTOR = 512 };

/* Which calls; to be or'ed. */
enum sim_call {
    SIM_OPEN = 1 << 0,
    SIM_READ = 1 << 1, /* size, too */
    SIM_WRITE = 1 << 2,
    SIM_ALLOCATE = 1 << 3,
    SIM_TRUNCATE = 1 << 4,
    SIM_SYNC = 1 << 5,
    SIM_SYNC_DIR = 1 << 6,
    SIM_UNLINK = 1 << 7,
    SIM_MAKE_DIR = 1 << 8,
    SIM_LIST_DIR = 1 << 9,
    SIM_ANY = (1 << 10) - 1,
    SIM_CHANGES = SIM_ANY & ~(SIM_READ | SIM_LIST_DIR),
};

struct sim_disk;
struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk *sim); /* open descriptors are fine: see sim_disk_open_files */
struct file_system sim_disk_files(struct sim_disk *sim);

/* --- trouble --------------------------------------------------------------------------- */

/* Of the calls of these kinds from now on the nth (from 1) fails with the errno, and so do the
 * `times - 1` that follow it. Replaces what was asked before; times 0: nothing fails. */
void sim_disk_fail(struct sim_disk *sim, unsigned calls, uint64_t nth, uint64_t times, int error);

/* The power fails before the nth call from now: it and all that follow do nothing but fail. */
void sim_disk_cut(struct sim_disk *sim, uint64_t nth);
bool sim_disk_is_cut(const struct sim_disk *sim); /* has it come to that? */

/* Room for so many octets; what needs more fails with ENOSPC. */
void sim_disk_set_room(struct sim_disk *sim, uint64_t octets);

/* So many descriptors; more fail with EMFILE. At first 256, and never more. */
void sim_disk_set_descriptors(struct sim_disk *sim, unsigned n);

/* A read that touches [at, at + n) of the file fails with EIO; n 0: none does. */
void sim_disk_spoil(struct sim_disk *sim, const char *path, uint64_t at, uint64_t n);

/* --- the end of a process -------------------------------------------------------------- */

/* Descriptors are closed, faults forgotten; everything else stays as it was. */
void sim_disk_kill(struct sim_disk *sim);

/* The same, with the machine: of what was not synced something stays, drawn anew. */
void sim_disk_crash(struct sim_disk *sim);

/* --- looking, and turning octets round ------------------------------------------------- */

uint64_t sim_disk_calls(const struct sim_disk *sim); /* since the start */
uint64_t sim_disk_calls_of(const struct sim_disk *sim, enum sim_call call);
unsigned sim_disk_open_files(const struct sim_disk *sim);
uint64_t sim_disk_used(const struct sim_disk *sim); /* octets of all files */

/* Calls each(arg, path) for every file below the folder, in the order of their making. */
void sim_disk_each(struct sim_disk *sim, const char *folder,
                   void (*each)(void *arg, const char *path), void *arg);

bool sim_disk_has(const struct sim_disk *sim, const char *path);

/* A file's octets, borrowed until its next change; NULL when there is none. */
const uint8_t *sim_disk_octets(const struct sim_disk *sim, const char *path, uint64_t *out_size);

/* The octet rots: seen and kept, it is xor'ed with `bits` from now on. */
void sim_disk_rot(struct sim_disk *sim, const char *path, uint64_t at, uint8_t bits);

/* Makes or replaces a file, and the folder it is in, for good. */
void sim_disk_put(struct sim_disk *sim, const char *path, const void *octets, uint64_t size);

#endif

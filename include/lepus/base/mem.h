/*
 * mem: allocation.
 *
 * Small fixed sizes abort when memory is out (mem_new, mem_alloc): there is nothing better to
 * do. Sizes that a peer chose are checked against a limit first and then asked for with
 * mem_try, which may answer NULL; the caller turns that into an err.
 */
#ifndef LEPUS_BASE_MEM_H
#define LEPUS_BASE_MEM_H

#include <stddef.h>

#include "lepus/base/banned.h"

/* Once, before there are threads: blocks of half a MiB and more are the system's again as soon as
 * they are freed. (glibc by itself, once it has seen such a block go, takes the next ones from a
 * heap, and keeps that: 16 MiB for a password, for good.) */
void mem_begin(void);

/* One zeroed struct of the type. */
#define mem_new(type) ((type *)mem_alloc_zero(sizeof(type)))

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_alloc_zero(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_resize(void *old, size_t size) __attribute__((returns_nonnull));

/* NULL when there is none, or when tests make the allocation fail. */
void *mem_try(size_t size) __attribute__((malloc));
void *mem_try_resize(void *old, size_t size);

/* Of the processor's cache. */
enum { MEM_LINE = 64 };

/* Zeroed, at the border of a line, for a table that is looked into at random: a large one stands in
 * large pages where the system has them, and takes memory only as it is written to. Aborts when
 * memory is out. Who frees it says again how large it is; NULL is fine. */
void *mem_table_new(size_t size) __attribute__((malloc, returns_nonnull));
void mem_table_free(void *at, size_t size);

/* The struct that holds `member` at `pointer`. */
#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Tests: the nth mem_try from now fails (1: the next); 0: none does. */
void mem_fail_nth(unsigned n);

#endif

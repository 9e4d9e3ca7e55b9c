/*
 * memory_priv: how much memory there is for us, and how much of it we have.
 */
#ifndef LEPUS_SERVER_MEMORY_PRIV_H
#define LEPUS_SERVER_MEMORY_PRIV_H

#include <stdint.h>

/* Octets: the machine's, or what a control group leaves us of it. 0: unknown. */
uint64_t memory_total(void);

/* Octets that are resident and our own: not the files that are mapped, nor what is shared. 0:
 * unknown. */
uint64_t memory_resident(void);

#endif

/* random: unguessable numbers and names, from the system's generator. */
#ifndef LEPUS_BASE_RANDOM_H
#define LEPUS_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_octets(void *to, size_t n);
uint64_t random_u64(void);

enum { RANDOM_NAME_DIGITS = 22 }; /* 16 octets in base64 */

/* The prefix and 22 digits of the base64 that URLs may hold, NUL-terminated. `out` has room for
 * both. */
void random_name(const char *prefix, char *out);

#endif

/*
 * banned: functions that this tree does not call, turned into compile errors.
 *
 * Included by every header of base/, after the system's headers. What to use instead stands
 * beside each.
 */
#ifndef LEPUS_BASE_BANNED_H
#define LEPUS_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __GNUC__
/* clang-format off */
#pragma GCC poison strcpy strcat strncpy strncat /* snprintf, memcpy with a checked length */
#pragma GCC poison sprintf vsprintf              /* snprintf, vsnprintf */
#pragma GCC poison strtok atoi atol atoll        /* views; strtoll with its end checked */
#pragma GCC poison gmtime localtime ctime        /* the _r forms */
/* clang-format on */
#endif

#endif

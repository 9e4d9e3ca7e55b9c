#include "crc32_priv.h"

#include <stdlib.h>

bool
crc32_may_fold(void)
{
    return false;
}

void
crc32_fold(uint32_t reg, const uint8_t *at, size_t n, uint8_t out[16])
{
    (void)reg, (void)at, (void)n, (void)out;
    abort(); /* nobody asks */
}

/*
 * fuzz_wire: what the first octet of an input of the wire's fuzzer means.
 */
#ifndef TEST_FUZZ_WIRE_H
#define TEST_FUZZ_WIRE_H

enum fuzz_wire_kind {
    FUZZ_FRAMES,     /* frames, as from a socket */
    FUZZ_METHOD,     /* number of a row, then arguments */
    FUZZ_TABLE,      /* a table's contents */
    FUZZ_PROPERTIES, /* flag word and values */
    FUZZ_KINDS
};

#endif

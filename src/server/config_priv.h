/*
 * config_priv: the row of a key, and how its type reads a value.
 */
#ifndef LEPUS_SERVER_CONFIG_PRIV_H
#define LEPUS_SERVER_CONFIG_PRIV_H

#include "lepus/server/config.h"

/* What a value looks like; the member it fills has the width in parentheses. */
enum config_type {
    KEY_STRING,       /* min to max bytes of text (char[]) */
    KEY_PATH,         /* the same, a file's name (char[]) */
    KEY_BOOL,         /* yes, no and their synonyms (bool) */
    KEY_INTEGER,      /* (4 or 8) */
    KEY_SECONDS,      /* 90, 90s or 2m, whole seconds (4 or 8) */
    KEY_MILLISECONDS, /* 500, 500ms or 10s (4 or 8) */
    KEY_SIZE,         /* bytes: 4096, 128KiB, 1MB (4 or 8) */
    KEY_CHOICE,       /* the place of the word in the row's choices (4) */
    KEY_ADDRESSES,    /* (struct address_list) */
    KEY_SYNC,         /* (struct sync_policy) */
    KEY_DISK_SHARE,   /* (struct disk_share) */
    KEY_TLS_VERSIONS, /* bits (4) */
};

/* What a row says beside its bounds. */
enum config_flag {
    CONFIG_LIVE = 1,     /* a running server takes a change */
    CONFIG_ZERO_TOO = 2, /* 0 is allowed, though below min */
    CONFIG_SECRET = 4,   /* errors do not repeat the value */
};

struct config_key {
    const char *section, *name;
    enum config_type type;
    size_t offset, size;   /* of the member, in struct config */
    const char *otherwise; /* the default, written as in a file */
    uint64_t min, max;     /* in the key's unit; bytes for text; 0, 0 where the type has none */
    unsigned flags;        /* of config_flag */
    const char *choices;   /* "error|warn|info|debug", in the order of their enum, or NULL */
    const char *missing;   /* what this version lacks to honour the key, or NULL */
    const char *help;
};

/* Parses value into the row's member of the struct at base; on failure leaves it alone and puts
 * "expected ..., found '...'" into err. */
bool config_value_set(const struct config_key *key, void *base, const char *value, struct err *err);

/* "a duration from 0s to 65535s": what config_value_set accepts. */
void config_value_describe(const struct config_key *key, char *out, size_t size);

#endif

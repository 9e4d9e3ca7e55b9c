/*
 * tls: certificates, keys and rules, out of which the TLS side of a transport is made.
 *
 * A context is immutable once made, shared by all workers, and counted: every transport that was
 * made with it keeps it. The shelf holds the one in force; a reload puts another there, and
 * connections that exist go on with theirs. Nothing of a context that was refused is used.
 *
 * What we allow. TLS 1.2 and 1.3. No renegotiation, no compression, no early data; the server's
 * order of ciphers counts. Sessions are resumed by tickets alone, sealed with keys that are made
 * with the context and end with it: workers share no cache, and a reload, which may change who is
 * trusted, makes every client prove itself anew.
 */
#ifndef LEPUS_NET_TLS_H
#define LEPUS_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lepus/base/err.h"

enum tls_verify {
    TLS_VERIFY_NONE,    /* clients are not asked for a certificate */
    TLS_VERIFY_PEER,    /* asked; one that is shown must be good */
    TLS_VERIFY_REQUIRE, /* no certificate, no connection */
};

enum { TLS_1_2 = 1, TLS_1_3 = 2 }; /* bits of tls_settings.versions */

/* What an operator decides. Strings are borrowed for the call; none is NULL. */
struct tls_settings {
    const char *certificate; /* PEM files, by commas: each a certificate and its chain. The first
                                serves clients that name no host, or one that no other has */
    const char *key;         /* as many, in that order; empty: they are in the same files */
    const char *passphrase_file; /* its first line opens keys that are encrypted; may be empty */
    const char *ca;              /* PEM file: whom clients' certificates must come from */
    enum tls_verify verify;
    unsigned verify_depth;         /* certificates between a client's and the CA's */
    unsigned versions;             /* at least one */
    const char *ciphers;           /* of TLS 1.2, as OpenSSL lists them */
    const char *ciphersuites;      /* of TLS 1.3 */
    uint32_t session_timeout_s;    /* how long a session may be resumed; 0: none is */
    uint32_t handshake_timeout_ms; /* from the TCP connection to the end of the handshake */
    bool kernel;                   /* let the kernel encrypt what is sent, where it can */
};

enum { TLS_CERTIFICATES_MAX = 32 };

struct tls_context;

/* Loads and checks all files. NULL, with the key's name in *err ("tls.key: server.key: ..."). */
struct tls_context *tls_context_new(const struct tls_settings *settings, struct err *err);
struct tls_context *tls_context_ref(struct tls_context *context);
void tls_context_unref(struct tls_context **context); /* leaves NULL behind */

/* For the log: one certificate of the context, from 0, as "server.pem: CN=a.example, for a.example
 * b.example, until 2027-01-31 12:00:00 UTC". *out_days: until it expires, negative behind that.
 * False when there is no such certificate. */
bool tls_context_describe(const struct tls_context *context, size_t nth, char *out, size_t size,
                          long *out_days);

/* The context in force. Any thread. */
struct tls_shelf;

struct tls_shelf *tls_shelf_new(struct tls_context *context);             /* takes it */
void tls_shelf_put(struct tls_shelf *shelf, struct tls_context *context); /* takes it */
struct tls_context *tls_shelf_get(struct tls_shelf *shelf); /* a reference for the caller */
void tls_shelf_free(struct tls_shelf *shelf);               /* NULL is fine */

/* Which of the names in a certificate. */
enum tls_name {
    TLS_NAME_COMMON,        /* the subject's CN; of several, all, by commas */
    TLS_NAME_DISTINGUISHED, /* the whole subject, as in RFC 4514: "CN=a,O=b" */
    TLS_NAME_DNS,           /* subjectAltName's nth dNSName */
    TLS_NAME_EMAIL,         /* its nth rfc822Name */
};

#endif

/*
 * tls_load_priv: from the [tls] section to a context, and what the log says of it.
 */
#ifndef LEPUS_SERVER_TLS_LOAD_PRIV_H
#define LEPUS_SERVER_TLS_LOAD_PRIV_H

#include "lepus/server/config.h"

/* NULL, with the key and the file in *err, when it cannot be had. */
struct tls_context *tls_load(const struct config *config, struct err *err);

/* Whom they are for and how long; a warning for those that will soon be of no use. */
void tls_log_certificates(const struct tls_context *context);

#endif

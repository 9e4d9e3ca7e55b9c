#include "tls_load_priv.h"

#include "lepus/base/log.h"

enum { WARN_DAYS = 14 };

struct tls_context *
tls_load(const struct config *config, struct err *err)
{
    const struct tls_settings settings = {
        .certificate = config->tls.certificate,
        .key = config->tls.key,
        .passphrase_file = config->tls.key_passphrase_file,
        .ca = config->tls.ca,
        .verify = config->tls.verify,
        .verify_depth = config->tls.verify_depth,
        .versions = config->tls.versions,
        .ciphers = config->tls.ciphers,
        .ciphersuites = config->tls.ciphersuites,
        .session_timeout_s = config->tls.session_timeout_s,
        .handshake_timeout_ms = config->tls.handshake_timeout_ms,
        .kernel = config->tls.kernel,
    };

    return tls_context_new(&settings, err);
}

void
tls_log_certificates(const struct tls_context *context)
{
    char text[512];
    long days;

    for (size_t i = 0; tls_context_describe(context, i, text, sizeof(text), &days); i++) {
        if (days < 0)
            log_warn(NULL, "certificate %s: has expired, clients will refuse it", text);
        else if (days < WARN_DAYS)
            log_warn(NULL, "certificate %s: expires in %ld days", text, days);
        else
            log_info(NULL, "certificate %s", text);
    }
}

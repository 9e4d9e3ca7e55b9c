/*
 * Contexts: from settings to SSL_CTX, one for each certificate, and the shelf.
 *
 * All of them have the same rules and differ in the certificate alone. A connection begins with
 * the first; when the client names a host (SNI) that another certificate is for, it goes on with
 * that one.
 */
#include "lepus/net/tls.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lepus/base/mem.h"
#include "lepus/base/view.h"
#include "tls_priv.h"

enum {
    /* What one read of the socket may bring: two records, which is as fast as sixteen, and stays in
     * the cache. Released while nothing is under way. */
    READ_BUFFER_SIZE = 32 * 1024,
    PATH_MAX_LEN = 1023,
    PASSPHRASE_MAX = 1023,
    LIST_MAX = TLS_CERTIFICATES_MAX * (PATH_MAX_LEN + 1),
};

struct tls_context {
    atomic_uint refs;
    BIO_METHOD *bio;
    uint32_t handshake_timeout_ms;
    bool may_use_kernel;
    size_t count; /* at least 1 */
    struct identity {
        SSL_CTX *ctx;
        char *path;
    } identities[TLS_CERTIFICATES_MAX];
};

/* --- errors ------------------------------------------------------------------------------ */

/* The first of OpenSSL's errors, which is the cause of the others, in words; clears them. */
static const char *
take_reason(void)
{
    unsigned long first = ERR_get_error();
    const char *reason = NULL;

    ERR_clear_error();
    if (first == 0)
        return "refused";
    if (ERR_SYSTEM_ERROR(first))
        reason = strerror(ERR_GET_REASON(first));
    else
        reason = ERR_reason_error_string(first);
    return reason != NULL ? reason : "refused";
}

static bool
refuse(struct err *err, const char *key, const char *value)
{
    return err_set(err, PRECONDITION_FAILED, "tls.%s: %s: %s", key, value, take_reason());
}

/* --- files ------------------------------------------------------------------------------- */

struct passphrase {
    const char *file;
    bool was_asked;
    char text[PASSPHRASE_MAX + 1];
};

static bool
read_passphrase(struct passphrase *passphrase, struct err *err)
{
    FILE *file;

    if (passphrase->file[0] == '\0')
        return true;
    file = fopen(passphrase->file, "re");
    if (file == NULL)
        return err_set(err, PRECONDITION_FAILED, "tls.key_passphrase_file: %s: %s",
                       passphrase->file, strerror(errno));
    setvbuf(file, NULL, _IONBF, 0); /* no second copy of it in memory */
    if (fgets(passphrase->text, sizeof(passphrase->text), file) == NULL)
        passphrase->text[0] = '\0';
    fclose(file);
    passphrase->text[strcspn(passphrase->text, "\r\n")] = '\0';
    return true;
}

/* OpenSSL asks only when a key is encrypted; without this it would ask at the terminal. */
static int
give_passphrase(char *out, int size, int writing, void *arg)
{
    struct passphrase *passphrase = arg;
    size_t n = strlen(passphrase->text);

    (void)writing;
    passphrase->was_asked = true;
    if (n == 0 || n > (size_t)size)
        return -1;
    memcpy(out, passphrase->text, n);
    return (int)n;
}

/* The next of a list separated by commas; false at its end, or when it is too long. */
static bool
next_path(const char **list, char out[PATH_MAX_LEN + 1])
{
    size_t n;

    *list += strspn(*list, " \t");
    n = strcspn(*list, ",");
    if (n > PATH_MAX_LEN || (**list == '\0'))
        return false;
    memcpy(out, *list, n);
    *list += n + ((*list)[n] == ',');
    while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '\t'))
        n--;
    out[n] = '\0';
    return true;
}

static bool
load_key(SSL_CTX *ctx, const char *path, struct passphrase *passphrase, struct err *err)
{
    bool is_good;

    SSL_CTX_set_default_passwd_cb(ctx, give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, passphrase);
    is_good = SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL); /* it does not outlive the loading */
    SSL_CTX_set_default_passwd_cb(ctx, NULL);
    if (!is_good && passphrase->was_asked) {
        ERR_clear_error();
        return err_set(err, PRECONDITION_FAILED,
                       "tls.key: %s: it is encrypted, and tls.key_passphrase_file does not open it",
                       path);
    }
    if (!is_good)
        return refuse(err, "key", path);
    return SSL_CTX_check_private_key(ctx) == 1 || refuse(err, "key", path);
}

static bool
load_ca(SSL_CTX *ctx, const char *path, struct err *err)
{
    STACK_OF(X509_NAME) * names;

    if (SSL_CTX_load_verify_locations(ctx, path, NULL) != 1)
        return refuse(err, "ca", path);
    names = SSL_load_client_CA_file(path); /* told to clients, so that they know which to show */
    if (names == NULL)
        return refuse(err, "ca", path);
    SSL_CTX_set_client_CA_list(ctx, names); /* takes them */
    return true;
}

/* --- rules ------------------------------------------------------------------------------- */

static bool
set_versions(SSL_CTX *ctx, unsigned versions, struct err *err)
{
    int least = versions & TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
    int most = versions & TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;

    if (SSL_CTX_set_min_proto_version(ctx, least) == 1 &&
        SSL_CTX_set_max_proto_version(ctx, most) == 1)
        return true;
    return refuse(err, "versions", "this OpenSSL");
}

static void
set_sessions(SSL_CTX *ctx, uint32_t timeout_s)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"lepus", 5);
    if (timeout_s == 0) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
        return;
    }
    SSL_CTX_set_num_tickets(ctx, 1); /* a client has one connection, not the two of a browser */
    SSL_CTX_set_timeout(ctx, timeout_s);
}

static bool
set_verify(SSL_CTX *ctx, const struct tls_settings *settings, struct err *err)
{
    static const int modes[] = {
        [TLS_VERIFY_NONE] = SSL_VERIFY_NONE,
        [TLS_VERIFY_PEER] = SSL_VERIFY_PEER,
        [TLS_VERIFY_REQUIRE] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };

    if (settings->verify == TLS_VERIFY_NONE)
        return true;
    if (settings->ca[0] == '\0')
        return err_set(err, PRECONDITION_FAILED,
                       "tls.ca: expected a file, since tls.verify is set, found none");
    SSL_CTX_set_verify(ctx, modes[settings->verify], NULL);
    /* OpenSSL counts what is between the two ends, but for the CA itself. */
    SSL_CTX_set_verify_depth(ctx, (int)settings->verify_depth);
    return load_ca(ctx, settings->ca, err);
}

static bool
set_ciphers(SSL_CTX *ctx, const struct tls_settings *settings, struct err *err)
{
    if (SSL_CTX_set_cipher_list(ctx, settings->ciphers) != 1)
        return refuse(err, "ciphers", settings->ciphers);
    return SSL_CTX_set_ciphersuites(ctx, settings->ciphersuites) == 1 ||
           refuse(err, "ciphersuites", settings->ciphersuites);
}

static SSL_CTX *
make_ctx(const struct tls_settings *settings, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (ctx == NULL) {
        err_set(err, INTERNAL_ERROR, "OpenSSL: %s", take_reason());
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    if (settings->kernel)
        SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_SIZE);
    set_sessions(ctx, settings->session_timeout_s);
    if (set_versions(ctx, settings->versions, err) && set_ciphers(ctx, settings, err) &&
        set_verify(ctx, settings, err))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

/* --- which certificate -------------------------------------------------------------------- */

/* The client has named a host, or none. One that no certificate is for gets the first, and judges
 * for itself. */
static int
on_server_name(SSL *ssl, int *out_alert, void *arg)
{
    const struct tls_context *context = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)out_alert;
    if (name == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    for (size_t i = 0; i < context->count; i++) {
        SSL_CTX *ctx = context->identities[i].ctx;

        if (X509_check_host(SSL_CTX_get0_certificate(ctx), name, 0, 0, NULL) == 1) {
            SSL_set_SSL_CTX(ssl, ctx);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static bool
add_identity(struct tls_context *context, const struct tls_settings *settings, const char *path,
             const char *key_path, struct passphrase *passphrase, struct err *err)
{
    struct identity *identity = &context->identities[context->count];

    identity->ctx = make_ctx(settings, err);
    if (identity->ctx == NULL)
        return false;
    context->count++;
    identity->path = view_dup(view_str(path));
    if (SSL_CTX_use_certificate_chain_file(identity->ctx, path) != 1)
        return refuse(err, "certificate", path);
    return load_key(identity->ctx, key_path, passphrase, err);
}

static bool
add_identities(struct tls_context *context, const struct tls_settings *settings,
               struct passphrase *passphrase, struct err *err)
{
    const char *certificates = settings->certificate, *keys = settings->key;
    bool keys_are_apart = keys[strspn(keys, " \t")] != '\0';
    char path[PATH_MAX_LEN + 1], key_path[PATH_MAX_LEN + 1];

    while (next_path(&certificates, path)) {
        if (context->count == TLS_CERTIFICATES_MAX)
            return err_set(err, PRECONDITION_FAILED, "tls.certificate: expected at most %d files",
                           TLS_CERTIFICATES_MAX);
        if (keys_are_apart && !next_path(&keys, key_path))
            return err_set(err, PRECONDITION_FAILED,
                           "tls.key: expected as many files as tls.certificate has, found %zu",
                           context->count);
        if (!add_identity(context, settings, path, keys_are_apart ? key_path : path, passphrase,
                          err))
            return false;
    }
    if (*certificates != '\0')
        return err_set(err, PRECONDITION_FAILED, "tls.certificate: a name is too long");
    if (context->count == 0)
        return err_set(err, PRECONDITION_FAILED, "tls.certificate: expected a file, found none");
    if (*keys != '\0')
        return err_set(err, PRECONDITION_FAILED,
                       "tls.key: expected as many files as tls.certificate has (%zu), found more",
                       context->count);
    return true;
}

/* --- life -------------------------------------------------------------------------------- */

struct tls_context *
tls_context_new(const struct tls_settings *settings, struct err *err)
{
    struct tls_context *context = mem_new(struct tls_context);
    struct passphrase passphrase = {.file = settings->passphrase_file};
    bool is_good;

    atomic_init(&context->refs, 1);
    ERR_clear_error();
    context->bio = tls_session_bio_method();
    context->handshake_timeout_ms = settings->handshake_timeout_ms;
    context->may_use_kernel = settings->kernel;
    is_good =
        read_passphrase(&passphrase, err) && add_identities(context, settings, &passphrase, err);
    OPENSSL_cleanse(passphrase.text, sizeof(passphrase.text));
    if (!is_good) {
        tls_context_unref(&context);
        return NULL;
    }
    if (context->count > 1) {
        SSL_CTX_set_tlsext_servername_callback(context->identities[0].ctx, on_server_name);
        SSL_CTX_set_tlsext_servername_arg(context->identities[0].ctx, context);
    }
    return context;
}

struct tls_context *
tls_context_ref(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->refs, 1, memory_order_relaxed);
    return context;
}

void
tls_context_unref(struct tls_context **context)
{
    struct tls_context *c = *context;

    *context = NULL;
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < c->count; i++) {
        SSL_CTX_free(c->identities[i].ctx);
        free(c->identities[i].path);
    }
    BIO_meth_free(c->bio);
    free(c);
}

SSL *
tls_context_new_ssl(struct tls_context *context)
{
    return SSL_new(context->identities[0].ctx);
}

const BIO_METHOD *
tls_context_bio(const struct tls_context *context)
{
    return context->bio;
}

bool
tls_context_may_use_kernel(const struct tls_context *context)
{
    return context->may_use_kernel;
}

uint32_t
tls_context_handshake_timeout_ms(const struct tls_context *context)
{
    return context->handshake_timeout_ms;
}

/* --- for the log -------------------------------------------------------------------------- */

static void
print_time(BIO *to, const ASN1_TIME *time)
{
    struct tm tm;
    char text[32];

    if (ASN1_TIME_to_tm(time, &tm) == 1 &&
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm) > 0)
        BIO_puts(to, text);
    else
        BIO_puts(to, "an unreadable time");
}

static void
print_hosts(BIO *to, X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int n = names != NULL ? sk_GENERAL_NAME_num(names) : 0;
    const char *before = ", for ";

    for (int i = 0; i < n; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_DNS)
            continue;
        BIO_puts(to, before);
        ASN1_STRING_print_ex(to, name->d.dNSName, ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB);
        before = " ";
    }
    GENERAL_NAMES_free(names);
}

bool
tls_context_describe(const struct tls_context *context, size_t nth, char *out, size_t size,
                     long *out_days)
{
    X509 *certificate;
    BIO *to;
    int days = 0, seconds = 0, n;

    if (nth >= context->count)
        return false;
    certificate = SSL_CTX_get0_certificate(context->identities[nth].ctx);
    ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate));
    *out_days = seconds < 0 ? days - 1 : days;
    to = BIO_new(BIO_s_mem());
    if (to == NULL)
        abort();
    BIO_printf(to, "%s: ", context->identities[nth].path);
    X509_NAME_print_ex(to, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    print_hosts(to, certificate);
    BIO_puts(to, ", until ");
    print_time(to, X509_get0_notAfter(certificate));
    n = BIO_read(to, out, (int)size - 1);
    out[n > 0 ? n : 0] = '\0';
    BIO_free(to);
    return true;
}

/* --- the shelf --------------------------------------------------------------------------- */

struct tls_shelf {
    pthread_mutex_t lock;
    struct tls_context *context;
};

struct tls_shelf *
tls_shelf_new(struct tls_context *context)
{
    struct tls_shelf *shelf = mem_new(struct tls_shelf);

    pthread_mutex_init(&shelf->lock, NULL);
    shelf->context = context;
    return shelf;
}

void
tls_shelf_put(struct tls_shelf *shelf, struct tls_context *context)
{
    struct tls_context *old;

    pthread_mutex_lock(&shelf->lock);
    old = shelf->context;
    shelf->context = context;
    pthread_mutex_unlock(&shelf->lock);
    tls_context_unref(&old);
}

struct tls_context *
tls_shelf_get(struct tls_shelf *shelf)
{
    struct tls_context *context;

    pthread_mutex_lock(&shelf->lock);
    context = tls_context_ref(shelf->context);
    pthread_mutex_unlock(&shelf->lock);
    return context;
}

void
tls_shelf_free(struct tls_shelf *shelf)
{
    if (shelf == NULL)
        return;
    tls_context_unref(&shelf->context);
    pthread_mutex_destroy(&shelf->lock);
    free(shelf);
}

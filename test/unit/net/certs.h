/*
 * certs: certificates for a test, made on the spot in a folder that goes with it.
 */
#ifndef TEST_NET_CERTS_H
#define TEST_NET_CERTS_H

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

struct certs {
    char dir[64];
};

struct wish {
    const char *name;     /* of the files: name.pem, name.key */
    const char *common;   /* CN; NULL: the subject is "O=nobody" */
    const char *alt;      /* subjectAltName, or NULL */
    long from_s, until_s; /* from now */
    bool is_ca;
    const char *passphrase; /* of the key's file, or NULL */
};

static inline void
certs_init(struct certs *certs)
{
    snprintf(certs->dir, sizeof(certs->dir), "/tmp/lepus-certs-XXXXXX");
    assert(mkdtemp(certs->dir) != NULL);
}

static inline void
certs_fini(struct certs *certs)
{
    DIR *dir = opendir(certs->dir);
    char path[400];

    for (struct dirent *at; (at = readdir(dir)) != NULL;) {
        snprintf(path, sizeof(path), "%s/%s", certs->dir, at->d_name);
        unlink(path);
    }
    closedir(dir);
    rmdir(certs->dir);
}

/* Stays for good. */
static inline const char *
certs_path(const struct certs *certs, const char *name, const char *ending)
{
    static char *paths[64];
    char path[200];

    snprintf(path, sizeof(path), "%s/%s.%s", certs->dir, name, ending);
    for (unsigned i = 0; i < 64; i++) {
        if (paths[i] == NULL)
            paths[i] = strdup(path);
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    abort();
}

static inline void
certs_write(const struct certs *certs, const struct wish *wish, const struct identity *identity)
{
    FILE *file = fopen(certs_path(certs, wish->name, "pem"), "w");

    assert(file != NULL && PEM_write_X509(file, identity->certificate) == 1);
    fclose(file);
    file = fopen(certs_path(certs, wish->name, "key"), "w");
    assert(file != NULL);
    assert(PEM_write_PrivateKey(file, identity->key,
                                wish->passphrase != NULL ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL,
                                (void *)(uintptr_t)wish->passphrase) == 1);
    fclose(file);
}

static inline void
certs_extend(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* Makes key and certificate, signed by issuer (NULL: by itself), and writes their files. */
static inline struct identity
certs_make(const struct certs *certs, const struct wish *wish, const struct identity *issuer)
{
    static long serial = 1;
    struct identity made = {EVP_EC_gen("P-256"), X509_new()};
    X509_NAME *subject = X509_get_subject_name(made.certificate);
    const unsigned char *text =
        (const unsigned char *)(wish->common != NULL ? wish->common : "nobody");

    if (issuer == NULL)
        issuer = &made;
    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_NAME_add_entry_by_txt(subject, wish->common != NULL ? "CN" : "O", MBSTRING_UTF8, text, -1,
                               -1, 0);
    X509_set_issuer_name(made.certificate,
                         issuer == &made ? subject : X509_get_subject_name(issuer->certificate));
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), wish->from_s);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), wish->until_s);
    X509_set_pubkey(made.certificate, made.key);
    if (wish->is_ca)
        certs_extend(made.certificate, NID_basic_constraints, "critical,CA:TRUE");
    if (wish->alt != NULL)
        certs_extend(made.certificate, NID_subject_alt_name, wish->alt);
    assert(X509_sign(made.certificate, issuer->key, EVP_sha256()) > 0);
    certs_write(certs, wish, &made);
    return made;
}

static inline void
certs_drop(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

#endif

#include "lepus/auth/password.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <string.h>

enum {
    RABBIT_SALT = 4,
    SCRYPT_HEAD = 3, /* log2 N, r, p */
    SCRYPT_SALT = 16,
    SCRYPT_HASH = 32,
    SCRYPT_LOG_N = 14,
    SCRYPT_R = 8,
    SCRYPT_P = 1,
    SCRYPT_LOG_N_MAX = 17, /* what a hash of somebody else's may ask of us */
    SCRYPT_R_MAX = 16,
    SCRYPT_P_MAX = 4,
    SCRYPT_BYTES_MAX = 320 * 1024 * 1024,
    HASH_MAX = RABBIT_SALT + EVP_MAX_MD_SIZE,
};

static const struct algorithm {
    const char *name;
    const EVP_MD *(*digest)(void); /* NULL: scrypt */
    size_t size;                   /* of a hash's octets, the salt included */
} algorithms[] = {
    {PASSWORD_SCRYPT, NULL, SCRYPT_HEAD + SCRYPT_SALT + SCRYPT_HASH},
    {PASSWORD_SHA256, EVP_sha256, RABBIT_SALT + 32},
    {"rabbit_password_hashing_sha512", EVP_sha512, RABBIT_SALT + 64},
    {"rabbit_password_hashing_md5", EVP_md5, RABBIT_SALT + 16},
};

static const struct algorithm *
find(struct view name)
{
    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++)
        if (view_equal(name, view_str(algorithms[i].name)))
            return &algorithms[i];
    return NULL;
}

bool
password_is_known(struct view algorithm)
{
    return find(algorithm) != NULL;
}

/* --- octets as text ------------------------------------------------------------------------ */

/* False unless the text is the base64 of just so many octets. */
static bool
decode(struct view text, uint8_t *out, size_t size)
{
    uint8_t room[HASH_MAX + 3]; /* what is padding becomes octets too */
    size_t padding = (3 - size % 3) % 3;

    if (text.len != (size + 2) / 3 * 4 ||
        EVP_DecodeBlock(room, text.at, (int)text.len) != (int)(size + padding))
        return false;
    for (size_t i = 0; i < 2; i++) /* as many signs of padding as belong there, and no other */
        if ((text.at[text.len - 1 - i] == '=') != (i < padding))
            return false;
    memcpy(out, room, size);
    return true;
}

/* --- hashing ------------------------------------------------------------------------------- */

static bool
digest(const struct algorithm *algorithm, const uint8_t *salt, struct view password, uint8_t *out)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context != NULL && EVP_DigestInit_ex(context, algorithm->digest(), NULL) == 1 &&
              EVP_DigestUpdate(context, salt, RABBIT_SALT) == 1 &&
              EVP_DigestUpdate(context, password.at, password.len) == 1 &&
              EVP_DigestFinal_ex(context, out, NULL) == 1;

    EVP_MD_CTX_free(context);
    return ok;
}

static bool
scrypt(const uint8_t *head, struct view password, uint8_t *out)
{
    return head[0] >= 1 && head[0] <= SCRYPT_LOG_N_MAX && head[1] >= 1 && head[1] <= SCRYPT_R_MAX &&
           head[2] >= 1 && head[2] <= SCRYPT_P_MAX &&
           EVP_PBE_scrypt((const char *)password.at, password.len, head + SCRYPT_HEAD, SCRYPT_SALT,
                          UINT64_C(1) << head[0], head[1], head[2], SCRYPT_BYTES_MAX, out,
                          SCRYPT_HASH) == 1;
}

/* What stands in front of the hash is kept, the hash is put behind it. */
static bool
hash(const struct algorithm *algorithm, struct view password, uint8_t *octets)
{
    if (algorithm->digest != NULL)
        return digest(algorithm, octets, password, octets + RABBIT_SALT);
    return scrypt(octets, password, octets + SCRYPT_HEAD + SCRYPT_SALT);
}

bool
password_is_hash(struct view algorithm, struct view text)
{
    const struct algorithm *found = find(algorithm);
    uint8_t octets[HASH_MAX];

    return found != NULL && (text.len == 0 || decode(text, octets, found->size));
}

bool
password_make(const char *name, struct view password, char out[PASSWORD_TEXT_MAX])
{
    const struct algorithm *algorithm = find(view_str(name));
    uint8_t octets[HASH_MAX] = {SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P};

    if (algorithm == NULL)
        return false;
    if (algorithm->digest != NULL ? RAND_bytes(octets, RABBIT_SALT) != 1
                                  : RAND_bytes(octets + SCRYPT_HEAD, SCRYPT_SALT) != 1)
        return false;
    if (!hash(algorithm, password, octets))
        return false;
    EVP_EncodeBlock((uint8_t *)out, octets, (int)algorithm->size);
    return true;
}

bool
password_is_right(struct view name, struct view text, struct view password)
{
    const struct algorithm *algorithm = find(name);
    uint8_t kept[HASH_MAX], made[HASH_MAX];
    bool is_right;

    if (algorithm == NULL || password.len == 0 || !decode(text, kept, algorithm->size))
        return false;
    memcpy(made, kept, algorithm->size);
    is_right = hash(algorithm, password, made) && CRYPTO_memcmp(kept, made, algorithm->size) == 0;
    OPENSSL_cleanse(made, sizeof(made));
    return is_right;
}

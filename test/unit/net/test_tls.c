#include "unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "lepus/base/mem.h"
#include "lepus/net/transport.h"

#include "certs.h"
#include "crew.h"

/*
 * The peer is the main thread: OpenSSL as a client over a blocking socket with a deadline, or bare
 * octets. The owner of the transport, on the worker, sends back what comes (echo), or checks that
 * octet n of the input is a function of n.
 */
static struct certs certs;

enum { DAY_S = 24 * 3600 };

struct end {
    struct crew crew;
    struct tls_context *context;
    struct transport *transport;
    int peer, ours;
    SSL *ssl; /* the peer's; NULL before shake */

    bool is_echo;
    bool greets;        /* writes before anything has come */
    size_t pause_every; /* octets; 0: never */
    size_t finish_at;   /* octets; 0: never */
    uint64_t seen;      /* octets of the input */
    uint64_t expected;  /* then told */
    uint64_t next_pause;
    bool is_held; /* by a full output */
    struct worker_task resume, write;
    uint64_t written, to_write;
    struct blob *blob;
    struct random random;

    char tls[256], common[64], distinguished[64], dns[64], dns_1[64], email[64];
    bool has_names[5];
    bool has_failed_tls, is_gone, is_closed;
    char why[256];
};

static uint8_t
octet(uint64_t at)
{
    return (uint8_t)(at % 251);
}

/* --- the owner, on the worker ------------------------------------------------------------ */

static void
close_it(struct end *end)
{
    end->has_failed_tls = transport_has_failed_tls(end->transport);
    end->is_closed = true;
    transport_close(end->transport);
}

static void
pause_for_a_turn(struct end *end)
{
    transport_pause(end->transport);
    worker_schedule(crew_worker(&end->crew, 0), WORKER_AGAIN, &end->resume);
}

static size_t
on_bytes(void *arg, struct view input, size_t *out_want)
{
    struct end *end = arg;
    size_t n = input.len;

    (void)out_want;
    assert(!end->is_closed && n > 0);
    if (end->pause_every > 0 && end->seen + n >= end->next_pause) {
        n = (size_t)(end->next_pause - end->seen);
        end->next_pause += end->pause_every;
        pause_for_a_turn(end);
    }
    if (end->is_echo) {
        transport_put(end->transport, input.at, n);
        end->is_held = transport_is_full(end->transport);
        if (end->is_held)
            transport_pause(end->transport);
    } else {
        for (size_t i = 0; i < n; i++)
            assert(input.at[i] == octet(end->seen + i));
    }
    end->seen += n;
    if (end->expected > 0 && end->seen >= end->expected) {
        end->expected = 0;
        tell(&end->crew.told);
    }
    if (end->finish_at > 0 && end->seen >= end->finish_at)
        transport_finish(end->transport);
    return n;
}

static void
on_resume(void *arg)
{
    struct end *end = arg;

    if (!end->is_closed && !end->is_held)
        transport_resume(end->transport);
}

static void
on_drained(void *arg)
{
    struct end *end = arg;

    assert(!transport_is_full(end->transport));
    end->is_held = false;
    transport_resume(end->transport);
    if (end->to_write > 0)
        worker_schedule(crew_worker(&end->crew, 0), WORKER_AGAIN, &end->write);
}

static void
on_gone(void *arg, const char *why)
{
    struct end *end = arg;

    assert(!end->is_gone && !end->is_closed);
    end->is_gone = true;
    snprintf(end->why, sizeof(end->why), "%s", why);
    transport_put(end->transport, "in vain", 7);
    close_it(end);
    tell(&end->crew.told);
}

static const struct transport_ops ops = {.bytes = on_bytes, .drained = on_drained, .gone = on_gone};

/* Octets and slices of a blob in turn, until to_write or the output is full. */
static void
write_on(void *arg)
{
    struct end *end = arg;

    while (!end->is_closed && end->written < end->to_write && !transport_is_full(end->transport)) {
        bool is_blob = random_below(&end->random, 4) == 0;
        size_t n = random_below(&end->random, is_blob ? 200000 : 5000);

        if (n > end->to_write - end->written)
            n = (size_t)(end->to_write - end->written);
        if (is_blob) { /* the pattern is periodic: any place will do that has the same phase */
            transport_put_blob(end->transport, end->blob, end->written % 251, n);
        } else {
            uint8_t *at = transport_reserve(end->transport, n);

            for (size_t i = 0; i < n; i++)
                at[i] = octet(end->written + i);
            transport_commit(end->transport, n);
        }
        end->written += n;
    }
}

static void
open_it(void *arg)
{
    struct end *end = arg;

    end->transport =
        transport_new_tls(crew_worker(&end->crew, 0), end->ours, end->context, &ops, end);
    assert(transport_is_tls(end->transport));
    if (end->greets)
        transport_put(end->transport, "welcome", 7);
}

static void
look(void *arg)
{
    struct end *end = arg;
    struct transport *t = end->transport;

    transport_describe_tls(t, end->tls, sizeof(end->tls));
    end->has_names[0] = transport_peer_name(t, TLS_NAME_COMMON, 0, end->common, 64);
    end->has_names[1] = transport_peer_name(t, TLS_NAME_DISTINGUISHED, 0, end->distinguished, 64);
    end->has_names[2] = transport_peer_name(t, TLS_NAME_DNS, 0, end->dns, 64);
    end->has_names[3] = transport_peer_name(t, TLS_NAME_DNS, 1, end->dns_1, 64);
    end->has_names[4] = transport_peer_name(t, TLS_NAME_EMAIL, 0, end->email, 64);
}

/* --- settings ---------------------------------------------------------------------------- */

static struct tls_settings
plain_settings(void)
{
    return (struct tls_settings){
        .certificate = certs_path(&certs, "server", "pem"),
        .key = certs_path(&certs, "server", "key"),
        .passphrase_file = "",
        .ca = certs_path(&certs, "ca", "pem"),
        .verify_depth = 5,
        .versions = TLS_1_2 | TLS_1_3,
        .ciphers = "ECDHE+AESGCM",
        .ciphersuites = "TLS_AES_128_GCM_SHA256",
        .session_timeout_s = 3600,
        .handshake_timeout_ms = DEADLINE_S * 1000,
    };
}

static struct tls_context *
load(const struct tls_settings *settings)
{
    struct err err = {0};
    struct tls_context *context = tls_context_new(settings, &err);

    if (context == NULL)
        fail_msg("%s", err.text);
    return context;
}

/* --- both ends --------------------------------------------------------------------------- */

static void
make_pair(struct end *end)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval deadline = {.tv_sec = DEADLINE_S};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    end->peer = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(end->peer, (struct sockaddr *)&at, sizeof(at)), 0);
    end->ours = accept(listener, NULL, NULL);
    close(listener);
    assert_int_equal(fcntl(end->ours, F_SETFL, O_NONBLOCK), 0);
    setsockopt(end->peer, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    setsockopt(end->peer, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
}

/* With a context of its own, which it takes. */
static void
end_init(struct end *end, struct tls_context *context)
{
    size_t size = 300 * 1024;

    *end = (struct end){.context = context, .is_echo = true, .random = {7}};
    end->resume = (struct worker_task){.run = on_resume, .arg = end};
    end->write = (struct worker_task){.run = write_on, .arg = end};
    end->blob = blob_new(size);
    for (size_t i = 0; i < size; i++)
        end->blob->bytes[i] = octet(i);
    end->blob->len = size;
    make_pair(end);
    crew_init(&end->crew, 1);
    crew_start(&end->crew);
}

static void
begin(struct end *end)
{
    end->next_pause = end->pause_every;
    crew_do(&end->crew, 0, open_it, end);
}

static void
hang_up(struct end *end)
{
    SSL_free(end->ssl);
    end->ssl = NULL;
    if (end->peer >= 0)
        close(end->peer);
    end->peer = -1;
    ERR_clear_error();
}

static void
end_fini(struct end *end)
{
    worker_set_stop(end->crew.set);
    worker_task_cancel(&end->resume);
    worker_task_cancel(&end->write);
    if (!end->is_closed)
        close_it(end);
    crew_fini(&end->crew);
    assert_int_equal(atomic_load(&end->blob->refs), 1);
    blob_unref(&end->blob);
    tls_context_unref(&end->context);
    hang_up(end);
}

static void
await_gone(struct end *end, const char *why)
{
    await(&end->crew.told);
    assert_true(end->is_gone);
    assert_string_equal(end->why, why);
}

/* --- the client -------------------------------------------------------------------------- */

struct client {
    int least, most;           /* versions; 0: any */
    const char *ciphers;       /* of 1.2, or NULL */
    const char *identity;      /* its certificate, or NULL */
    const char *host;          /* that it names, or NULL */
    SSL_SESSION *session;      /* to resume, or NULL */
    SSL_SESSION **out_session; /* told a session that can be resumed; the caller frees */
};

static int
on_session(SSL *ssl, SSL_SESSION *session)
{
    const struct client *client = SSL_get_app_data(ssl);

    if (client->out_session == NULL)
        return 0;
    SSL_SESSION_free(*client->out_session);
    *client->out_session = session;
    return 1;
}

/* The handshake as the client sees it: 1 when it is done. Every client verifies the server. */
static int
shake(struct end *end, const struct client *client)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    SSL_CTX_load_verify_locations(ctx, certs_path(&certs, "ca", "pem"), NULL);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_security_level(ctx, 0); /* so that it offers what the server should refuse */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    SSL_CTX_set_min_proto_version(ctx, client->least);
    SSL_CTX_set_max_proto_version(ctx, client->most);
    if (client->ciphers != NULL)
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, client->ciphers), 1);
    if (client->identity != NULL) {
        const char *pem = certs_path(&certs, client->identity, "pem");
        const char *key = certs_path(&certs, client->identity, "key");

        assert_int_equal(SSL_CTX_use_certificate_chain_file(ctx, pem), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), 1);
    }
    end->ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_app_data(end->ssl, (void *)(uintptr_t)client);
    SSL_set_fd(end->ssl, end->peer);
    if (client->host != NULL)
        SSL_set_tlsext_host_name(end->ssl, client->host);
    if (client->session != NULL)
        SSL_set_session(end->ssl, client->session);
    return SSL_connect(end->ssl);
}

static const struct client anybody;

static void
must_shake(struct end *end, const struct client *client)
{
    if (shake(end, client) != 1)
        fail_msg("no handshake: %s", ERR_reason_error_string(ERR_peek_error()));
}

/* There and back. Of a session that is known to be open, then. */
static void
exchange(struct end *end, const char *text)
{
    char back[64] = "";

    assert_int_equal(SSL_write(end->ssl, text, (int)strlen(text)), (int)strlen(text));
    for (size_t n = 0; n < strlen(text);) {
        int got = SSL_read(end->ssl, back + n, (int)(strlen(text) - n));

        assert_true(got > 0);
        n += (size_t)got;
    }
    assert_string_equal(back, text);
}

/* The reason of the alert that ends the client's session; what it wrote may still go well. */
static int
await_alert(struct end *end)
{
    char octet_;

    while (SSL_read(end->ssl, &octet_, 1) > 0)
        continue;
    return ERR_GET_REASON(ERR_peek_error());
}

/* --- handshakes -------------------------------------------------------------------------- */

static void
both_versions_carry_octets(void **state)
{
    static const struct {
        int version;
        const char *described;
    } rows[] = {{TLS1_2_VERSION, "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384"},
                {TLS1_3_VERSION, "TLSv1.3 TLS_AES_128_GCM_SHA256"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_settings settings = plain_settings();
        struct client client = {.least = rows[i].version, .most = rows[i].version};
        struct end end;

        end_init(&end, load(&settings));
        begin(&end);
        must_shake(&end, &client);
        exchange(&end, "hello");
        crew_do(&end.crew, 0, look, &end);
        assert_string_equal(end.tls, rows[i].described);
        for (size_t name = 0; name < COUNT_OF(end.has_names); name++)
            assert_false(end.has_names[name]);
        SSL_shutdown(end.ssl);
        await_gone(&end, "peer closed");
        assert_false(end.has_failed_tls);
        end_fini(&end);
    }
}

static void
what_is_written_before_the_handshake_goes_out_behind_it(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;
    char text[8] = "";

    (void)state;
    end_init(&end, load(&settings));
    end.greets = true;
    begin(&end);
    must_shake(&end, &anybody);
    assert_int_equal(SSL_read(end.ssl, text, 7), 7);
    assert_string_equal(text, "welcome");
    end_fini(&end);
}

static void
octets_right_behind_the_handshake_are_handed_up(void **state)
{
    struct tls_settings settings = plain_settings();
    uint8_t hello[8] = {0, 1, 2, 3, 4, 5, 6, 7};

    (void)state;
    for (int i = 0; i < 5; i++) { /* in the same segment as the client's last message */
        struct end end;
        int on = 1;

        end_init(&end, load(&settings));
        end.is_echo = false;
        end.expected = sizeof(hello);
        setsockopt(end.peer, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
        begin(&end);
        must_shake(&end, &anybody);
        assert_int_equal(SSL_write(end.ssl, hello, sizeof(hello)), sizeof(hello));
        on = 0;
        setsockopt(end.peer, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
        await(&end.crew.told);
        end_fini(&end);
    }
}

static void
refuse(struct tls_settings settings, struct client client, const char *why, int alert)
{
    struct end end;

    end_init(&end, load(&settings));
    begin(&end);
    if (shake(&end, &client) == 1)
        await_alert(&end);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + alert);
    hang_up(&end);
    await_gone(&end, why);
    assert_true(end.has_failed_tls);
    assert_int_equal(end.seen, 0);
    end_fini(&end);
}

static void
other_versions_are_refused(void **state)
{
    struct tls_settings settings = plain_settings();
    struct client client = {.least = TLS1_VERSION, .most = TLS1_1_VERSION};

    (void)state;
    refuse(settings, client, "TLS handshake: unsupported protocol", SSL_AD_PROTOCOL_VERSION);
    settings.versions = TLS_1_3;
    client = (struct client){.least = TLS1_2_VERSION, .most = TLS1_2_VERSION};
    refuse(settings, client, "TLS handshake: unsupported protocol", SSL_AD_PROTOCOL_VERSION);
    settings.versions = TLS_1_2;
    client = (struct client){.least = TLS1_3_VERSION, .most = TLS1_3_VERSION};
    refuse(settings, client, "TLS handshake: unsupported protocol", SSL_AD_PROTOCOL_VERSION);
}

static void
other_ciphers_are_refused(void **state)
{
    struct tls_settings settings = plain_settings();
    struct client client = {.most = TLS1_2_VERSION, .ciphers = "AES128-SHA"};

    (void)state;
    refuse(settings, client, "TLS handshake: no shared cipher", SSL_AD_HANDSHAKE_FAILURE);
    settings.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384";
    client.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
    refuse(settings, client, "TLS handshake: no shared cipher", SSL_AD_HANDSHAKE_FAILURE);
}

static void
a_client_that_refuses_the_server_says_why(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    (void)state;
    settings.certificate = certs_path(&certs, "stranger", "pem");
    settings.key = certs_path(&certs, "stranger", "key");
    end_init(&end, load(&settings));
    begin(&end);
    assert_int_not_equal(shake(&end, &anybody), 1);
    hang_up(&end);
    await_gone(&end, "TLS handshake: the peer refuses: unknown CA");
    end_fini(&end);
}

/* --- what is no handshake ----------------------------------------------------------------- */

static void
send_all(int fd, const void *at, size_t n)
{
    assert_int_equal(send(fd, at, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* What comes until the end; the first octet of it, or -1. */
static int
read_to_the_end(int fd)
{
    uint8_t bytes[4096];
    int first = -1;
    ssize_t n;

    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
        if (first < 0)
            first = bytes[0];
    assert_int_equal(n, 0);
    return first;
}

static void
not_tls(const char *at, size_t n, const char *why, bool has_alert)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    end_init(&end, load(&settings));
    begin(&end);
    send_all(end.peer, at, n);
    assert_int_equal(read_to_the_end(end.peer), has_alert ? SSL3_RT_ALERT : -1);
    hang_up(&end);
    await_gone(&end, why);
    assert_true(end.has_failed_tls);
    end_fini(&end);
}

static void
garbage_instead_of_a_hello_is_told_apart(void **state)
{
    (void)state;
    not_tls("AMQP\0\0\x09\x01", 8, "TLS handshake: the peer speaks AMQP, without TLS", false);
    not_tls("GET / HTTP/1.1\r\n\r\n", 18, "TLS handshake: the peer speaks HTTP, without TLS",
            false);
    not_tls("\377\376\375\374\0\0\0", 7, "TLS handshake: the peer speaks no TLS", false);
    not_tls("A", 1, "TLS handshake: the peer speaks no TLS", false);
    not_tls("\x16\x03\x01\x00\x05garbage", 12, "TLS handshake: unexpected message", true);
    not_tls("\x16\x03\x01\xff\xff\x01\x02\x03", 8, "TLS handshake: packet length too long", true);
    not_tls("\x16\x09\x09\x00\x05garbage", 12, "TLS handshake: wrong version number", false);
}

/* The first n octets of a client's first flight. */
static size_t
make_hello(uint8_t *out, size_t size)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *in = BIO_new(BIO_s_mem()), *sent = BIO_new(BIO_s_mem());
    int n;

    SSL_set_bio(ssl, in, sent);
    assert_int_equal(SSL_connect(ssl), -1);
    n = BIO_read(sent, out, (int)size);
    assert_true(n > 100);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return (size_t)n;
}

static void
a_handshake_that_is_cut_anywhere_ends(void **state)
{
    struct tls_settings settings = plain_settings();
    uint8_t hello[1024];
    size_t len = make_hello(hello, sizeof(hello));

    (void)state;
    for (size_t n = 0; n <= len; n += n < 10 ? 1 : len / 7) {
        struct end end;

        end_init(&end, load(&settings));
        begin(&end);
        if (n > 0)
            send_all(end.peer, hello, n);
        shutdown(end.peer, SHUT_WR);
        await_gone(&end, n == 0 ? "peer closed" : "peer closed in the TLS handshake");
        end_fini(&end);
    }
}

static void
a_hello_octet_by_octet_is_a_hello(void **state)
{
    struct tls_settings settings = plain_settings();
    uint8_t hello[1024];
    size_t len = make_hello(hello, sizeof(hello));
    struct end end;
    uint8_t first;
    int on = 1;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    setsockopt(end.peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (size_t i = 0; i < len; i++) {
        send_all(end.peer, hello + i, 1);
        crew_do(&end.crew, 0, on_resume, &end); /* a turn of the worker's */
    }
    assert_int_equal(recv(end.peer, &first, 1, 0), 1);
    assert_int_equal(first, SSL3_RT_HANDSHAKE);
    end_fini(&end);
}

static void
slow_handshakes_are_ended(void **state)
{
    struct tls_settings settings = plain_settings();
    uint8_t hello[1024];

    (void)state;
    make_hello(hello, sizeof(hello));
    settings.handshake_timeout_ms = 50;
    for (size_t n = 0; n < 60; n += 19) {
        struct end end;

        end_init(&end, load(&settings));
        begin(&end);
        if (n > 0)
            send_all(end.peer, hello, n);
        await_gone(&end,
                   n == 0 ? "no TLS handshake in time" : "TLS handshake not finished in time");
        assert_int_equal(read_to_the_end(end.peer), -1);
        end_fini(&end);
    }
}

static void
resume_and_finish(void *arg)
{
    struct end *end = arg;

    transport_pause(end->transport);
    transport_resume(end->transport);
    transport_put(end->transport, "never sent", 10);
    transport_finish(end->transport);
    transport_finish(end->transport);
}

static void
finish_before_the_handshake_says_nothing(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    send_all(end.peer, "\x16\x03", 2);
    crew_do(&end.crew, 0, resume_and_finish, &end);
    assert_int_equal(read_to_the_end(end.peer), -1);
    hang_up(&end);
    await_gone(&end, "finished");
    end_fini(&end);
}

/* --- sessions ---------------------------------------------------------------------------- */

/* One connection; is it a resumed one? Takes context. */
static bool
is_resumed(struct tls_context *context, int version, SSL_SESSION **session, const char *identity)
{
    struct client client = {.least = version,
                            .most = version,
                            .identity = identity,
                            .session = *session,
                            .out_session = session};
    SSL_SESSION *before = *session;
    struct end end;
    bool resumed;

    if (before != NULL)
        SSL_SESSION_up_ref(before);
    end_init(&end, context);
    begin(&end);
    must_shake(&end, &client);
    exchange(&end, "what brings the ticket of 1.3 along");
    crew_do(&end.crew, 0, look, &end);
    resumed = strstr(end.tls, ", resumed") != NULL;
    assert_int_equal(resumed, SSL_session_reused(end.ssl));
    if (identity != NULL) {
        assert_true(end.has_names[0]);
        assert_string_equal(end.common, "client");
    }
    SSL_shutdown(end.ssl);
    end_fini(&end);
    SSL_SESSION_free(before);
    return resumed;
}

static void
sessions_are_resumed_within_a_context(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

    (void)state;
    for (int with_certificate = 0; with_certificate < 2; with_certificate++) {
        const char *identity = with_certificate ? "client" : NULL;

        for (size_t i = 0; i < COUNT_OF(versions); i++) {
            struct tls_settings settings = plain_settings();
            struct tls_context *context, *other;
            SSL_SESSION *session = NULL;

            settings.verify = with_certificate ? TLS_VERIFY_REQUIRE : TLS_VERIFY_NONE;
            context = load(&settings);
            other = load(&settings); /* as after a reload */
            assert_false(is_resumed(tls_context_ref(context), versions[i], &session, identity));
            assert_non_null(session);
            assert_true(is_resumed(tls_context_ref(context), versions[i], &session, identity));
            assert_true(is_resumed(context, versions[i], &session, identity));
            assert_false(is_resumed(other, versions[i], &session, identity));
            SSL_SESSION_free(session);
        }
    }
}

static void
no_session_is_resumed_without_a_timeout(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls_settings settings = plain_settings();

    (void)state;
    settings.session_timeout_s = 0;
    for (size_t i = 0; i < COUNT_OF(versions); i++) {
        struct tls_context *context = load(&settings);
        SSL_SESSION *session = NULL;

        assert_false(is_resumed(tls_context_ref(context), versions[i], &session, NULL));
        assert_false(is_resumed(context, versions[i], &session, NULL));
        SSL_SESSION_free(session);
    }
}

static const char *
server_common(const struct end *end)
{
    static char common[64];
    X509 *certificate = SSL_get0_peer_certificate(end->ssl);

    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, common, 64);
    return common;
}

static void
another_context_on_the_shelf_leaves_connections_alone(void **state)
{
    struct tls_settings settings = plain_settings();
    struct tls_shelf *shelf = tls_shelf_new(load(&settings));
    struct end before, after;

    (void)state;
    end_init(&before, tls_shelf_get(shelf));
    begin(&before);
    must_shake(&before, &anybody);
    assert_string_equal(server_common(&before), "server");
    settings.certificate = certs_path(&certs, "renewed", "pem");
    settings.key = certs_path(&certs, "renewed", "key");
    tls_shelf_put(shelf, load(&settings));
    end_init(&after, tls_shelf_get(shelf));
    begin(&after);
    must_shake(&after, &anybody);
    assert_string_equal(server_common(&after), "renewed");
    exchange(&before, "still here");
    exchange(&after, "new here");
    tls_shelf_free(shelf);
    exchange(&after, "and still");
    end_fini(&before);
    end_fini(&after);
}

static void
the_host_that_a_client_names_chooses_the_certificate(void **state)
{
    static const struct {
        const char *host, *common;
    } rows[] = {{NULL, "server"},         {"localhost", "server"},
                {"b.example", "renewed"}, {"x.wild.example", "renewed"},
                {"B.EXAMPLE", "renewed"}, {"unknown.example", "server"}};
    struct tls_settings settings = plain_settings();
    char certificates[400], keys[400];

    (void)state;
    snprintf(certificates, sizeof(certificates), "%s, %s", certs_path(&certs, "server", "pem"),
             certs_path(&certs, "renewed", "pem"));
    snprintf(keys, sizeof(keys), "%s ,%s", certs_path(&certs, "server", "key"),
             certs_path(&certs, "renewed", "key"));
    settings.certificate = certificates;
    settings.key = keys;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct client client = {.host = rows[i].host};
        struct end end;

        end_init(&end, load(&settings));
        begin(&end);
        must_shake(&end, &client);
        assert_string_equal(server_common(&end), rows[i].common);
        exchange(&end, "hello");
        end_fini(&end);
    }
}

/* --- clients' certificates ---------------------------------------------------------------- */

static void
a_required_certificate_gives_the_peers_names(void **state)
{
    struct tls_settings settings = plain_settings();
    struct client client = {.identity = "client"};

    (void)state;
    for (int verify = TLS_VERIFY_PEER; verify <= TLS_VERIFY_REQUIRE; verify++) {
        struct end end;

        settings.verify = (enum tls_verify)verify;
        end_init(&end, load(&settings));
        begin(&end);
        must_shake(&end, &client);
        exchange(&end, "hello");
        crew_do(&end.crew, 0, look, &end);
        for (size_t i = 0; i < COUNT_OF(end.has_names); i++)
            assert_true(end.has_names[i]);
        assert_string_equal(end.common, "client");
        assert_string_equal(end.distinguished, "CN=client");
        assert_string_equal(end.dns, "client.example");
        assert_string_equal(end.dns_1, "other.example");
        assert_string_equal(end.email, "client@example");
        assert_string_equal(end.tls, "TLSv1.3 TLS_AES_128_GCM_SHA256, peer CN=client");
        end_fini(&end);
    }
}

static void
names_that_are_not_there_or_not_asked_for_are_not_given(void **state)
{
    struct tls_settings settings = plain_settings();
    struct client client = {.identity = "nameless"};
    struct end end;

    (void)state;
    settings.verify = TLS_VERIFY_REQUIRE;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &client);
    exchange(&end, "hello");
    crew_do(&end.crew, 0, look, &end);
    for (size_t i = 0; i < COUNT_OF(end.has_names); i++)
        assert_int_equal(end.has_names[i], i == 1);
    assert_string_equal(end.distinguished, "O=nobody");
    end_fini(&end);

    settings.verify = TLS_VERIFY_NONE; /* the client has one, and is not asked */
    client.identity = "client";
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &client);
    exchange(&end, "hello");
    crew_do(&end.crew, 0, look, &end);
    for (size_t i = 0; i < COUNT_OF(end.has_names); i++)
        assert_false(end.has_names[i]);
    end_fini(&end);
}

static void
without_a_certificate_peer_lets_in_and_require_does_not(void **state)
{
    struct tls_settings settings = plain_settings();
    struct client client = {.most = TLS1_2_VERSION};
    struct end end;

    (void)state;
    settings.verify = TLS_VERIFY_PEER;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello");
    crew_do(&end.crew, 0, look, &end);
    assert_false(end.has_names[0]);
    end_fini(&end);

    settings.verify = TLS_VERIFY_REQUIRE;
    refuse(settings, anybody, "TLS handshake: peer did not return a certificate",
           SSL_AD_CERTIFICATE_REQUIRED);
    refuse(settings, client, "TLS handshake: peer did not return a certificate",
           SSL_AD_HANDSHAKE_FAILURE);
}

static void
bad_certificates_are_refused_and_told_why(void **state)
{
#define REFUSED "TLS handshake: the peer's certificate is refused: "
    static const struct {
        const char *identity, *why;
        int alert;
    } rows[] = {
        {"expired", REFUSED "certificate has expired", SSL_AD_CERTIFICATE_EXPIRED},
        {"early", REFUSED "certificate is not yet valid", SSL_AD_BAD_CERTIFICATE},
        {"stranger", REFUSED "self-signed certificate", SSL_AD_UNKNOWN_CA},
        {"foreign", REFUSED "unable to get local issuer certificate", SSL_AD_UNKNOWN_CA},
        {"forged", REFUSED "certificate signature failure", SSL_AD_DECRYPT_ERROR},
    };

    (void)state;
    for (int verify = TLS_VERIFY_PEER; verify <= TLS_VERIFY_REQUIRE; verify++)
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
            for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct tls_settings settings = plain_settings();
                struct client client = {
                    .least = version, .most = version, .identity = rows[i].identity};

                settings.verify = (enum tls_verify)verify;
                refuse(settings, client, rows[i].why, rows[i].alert);
            }
}

/* --- octets ------------------------------------------------------------------------------ */

struct half {
    struct end *end;
    uint64_t n;
};

static void
write_octets(SSL *ssl, uint64_t n, size_t at_once, struct random *random)
{
    uint8_t *bytes = mem_alloc(at_once);
    uint64_t at = 0;

    while (at < n) {
        size_t piece = 1 + random_below(random, at_once);

        if (piece > n - at)
            piece = (size_t)(n - at);
        for (size_t i = 0; i < piece; i++)
            bytes[i] = octet(at + i);
        assert_int_equal(SSL_write(ssl, bytes, (int)piece), (int)piece);
        at += piece;
    }
    free(bytes);
}

static uint64_t
read_octets(SSL *ssl, uint64_t n)
{
    uint8_t bytes[20000];
    uint64_t at = 0;

    while (at < n) {
        int got = SSL_read(ssl, bytes, sizeof(bytes));

        if (got <= 0)
            break;
        for (int i = 0; i < got; i++, at++)
            if (bytes[i] != octet(at))
                fail_msg("octet %llu is wrong", (unsigned long long)at);
    }
    return at;
}

static void
a_slow_reader_gets_exact_octets_of_pieces_and_blobs(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    end.to_write = 48 << 20;
    begin(&end);
    must_shake(&end, &anybody);
    crew_do(&end.crew, 0, write_on, &end);
    assert_int_equal(read_octets(end.ssl, 48 << 20), 48 << 20);
    end_fini(&end);
}

static void
any_pieces_of_input_give_the_same_octets(void **state)
{
    static const struct {
        uint64_t n;
        size_t at_once, pause_every;
    } rows[] = {{3000, 1, 0},
                {20000, 10, 7},
                {48 << 20, 1 << 20, 0},
                {8 << 20, 100000, 99},
                {8 << 20, 1 << 20, 16384},
                {8 << 20, 16384, 300000}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct tls_settings settings = plain_settings();
        struct random random = {i};
        struct end end;

        end_init(&end, load(&settings));
        end.is_echo = false;
        end.expected = rows[i].n;
        end.pause_every = rows[i].pause_every;
        begin(&end);
        must_shake(&end, &anybody);
        write_octets(end.ssl, rows[i].n, rows[i].at_once, &random);
        await(&end.crew.told); /* though nothing more comes to wake it */
        assert_int_equal(end.seen, rows[i].n);
        end_fini(&end);
    }
}

static void
octets_and_close_notify_in_one_go_are_both_told(void **state)
{
    struct tls_settings settings = plain_settings();

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct random random = {(uint64_t)i};
        uint64_t n = 1 + random_below(&random, 100000);
        struct end end;
        int on = 1;

        end_init(&end, load(&settings));
        end.is_echo = false;
        end.pause_every = i % 2 == 0 ? 5000 : 0;
        begin(&end);
        must_shake(&end, &anybody);
        setsockopt(end.peer, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
        write_octets(end.ssl, n, 30000, &random);
        SSL_shutdown(end.ssl); /* and no FIN, so the socket stays silent after it */
        on = 0;
        setsockopt(end.peer, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
        await_gone(&end, "peer closed");
        assert_int_equal(end.seen, n);
        end_fini(&end);
    }
}

static void *
read_half(void *arg)
{
    struct half *half = arg;
    uint8_t bytes[20000];
    uint64_t at = 0;

    while (at < half->n) {
        int got = SSL_read(half->end->ssl, bytes, sizeof(bytes));

        assert(got > 0);
        for (int i = 0; i < got; i++, at++)
            assert(bytes[i] == octet(at));
    }
    return NULL;
}

/* One SSL object may not be used by two threads: two connections, of which each goes one way at
 * full speed, and one that echoes in step. */
static void
both_ways_at_once(void **state)
{
    struct tls_settings settings = plain_settings();
    struct random random = {3};
    struct end end, sink;
    struct half half = {&end, 32 << 20};
    pthread_t reader;

    (void)state;
    end_init(&end, load(&settings));
    end.to_write = half.n;
    begin(&end);
    must_shake(&end, &anybody);
    end_init(&sink, load(&settings));
    sink.is_echo = false;
    sink.expected = half.n;
    begin(&sink);
    must_shake(&sink, &anybody);
    crew_do(&end.crew, 0, write_on, &end);
    assert_int_equal(pthread_create(&reader, NULL, read_half, &half), 0);
    write_octets(sink.ssl, half.n, 60000, &random);
    pthread_join(reader, NULL);
    await(&sink.crew.told);
    for (int i = 0; i < 2000; i++)
        exchange(&end, "in step");
    end_fini(&end);
    end_fini(&sink);
}

static void
write_and_finish(void *arg)
{
    struct end *end = arg;

    write_on(end);
    transport_finish(end->transport);
}

static void
finish_lets_all_out_then_says_close_notify(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;
    uint8_t more;

    (void)state;
    end_init(&end, load(&settings));
    end.to_write = 900000;
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello"); /* so the server has done its part, too */
    crew_do(&end.crew, 0, write_and_finish, &end);
    assert_int_equal(SSL_write(end.ssl, "unheard", 7), 7);
    assert_int_equal(read_octets(end.ssl, end.to_write), end.to_write);
    assert_int_equal(SSL_get_error(end.ssl, SSL_read(end.ssl, &more, 1)), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(read_to_the_end(end.peer), -1);
    hang_up(&end);
    await_gone(&end, "finished");
    assert_int_equal(end.seen, 5);
    end_fini(&end);
}

static void
finish_within_bytes(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;
    uint8_t more;

    (void)state;
    end_init(&end, load(&settings));
    end.finish_at = 5;
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello");
    assert_int_equal(SSL_get_error(end.ssl, SSL_read(end.ssl, &more, 1)), SSL_ERROR_ZERO_RETURN);
    hang_up(&end);
    await_gone(&end, "finished");
    end_fini(&end);
}

static void
a_stream_that_is_cut_is_told_from_one_that_ends(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello");
    shutdown(end.peer, SHUT_WR);
    await_gone(&end, "peer closed, without close_notify");
    assert_false(end.has_failed_tls);
    end_fini(&end);

    end_init(&end, load(&settings)); /* in the middle of a record */
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello");
    send_all(end.peer, "\x17\x03\x03\x00\x20half of it", 15);
    shutdown(end.peer, SHUT_WR);
    await_gone(&end, "peer closed, without close_notify");
    end_fini(&end);
}

static void
a_reset_is_told(void **state)
{
    struct tls_settings settings = plain_settings();
    struct linger linger = {.l_onoff = 1};
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello");
    setsockopt(end.peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(end.peer);
    end.peer = -1;
    await_gone(&end, "Connection reset by peer");
    end_fini(&end);
}

static void
a_record_that_was_tampered_with_ends_it(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;
    uint8_t record[5 + 40] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0, 40};

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &anybody);
    exchange(&end, "hello");
    send_all(end.peer, record, sizeof(record));
    assert_int_equal(await_alert(&end), SSL_AD_REASON_OFFSET + SSL_AD_BAD_RECORD_MAC);
    hang_up(&end);
    await_gone(&end, "TLS: decryption failed or bad record mac");
    assert_true(end.has_failed_tls);
    end_fini(&end);
}

static void
write_behind_its_back(void *arg)
{
    struct end *end = arg;

    for (int i = 0; i < 1000; i++) {
        transport_put_blob(end->transport, end->blob, 0, 100000);
        assert(transport_pending(end->transport) < 1 << 20);
    }
}

static void
what_is_written_after_a_failure_does_not_pile_up(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    send_all(end.peer, "\x16\x03\x01\x00\x05garbage", 12);
    assert_int_equal(read_to_the_end(end.peer), SSL3_RT_ALERT);
    crew_do(&end.crew, 0, write_behind_its_back, &end);
    hang_up(&end);
    await_gone(&end, "TLS handshake: unexpected message");
    end_fini(&end);
}

static void
renegotiation_is_refused(void **state)
{
    struct tls_settings settings = plain_settings();
    struct client client = {.most = TLS1_2_VERSION};
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &client);
    exchange(&end, "hello");
    assert_int_equal(SSL_renegotiate(end.ssl), 1);
    assert_int_not_equal(SSL_do_handshake(end.ssl), 1);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    end_fini(&end);
}

static void
new_keys_are_taken_and_answered(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;

    (void)state;
    end_init(&end, load(&settings));
    begin(&end);
    must_shake(&end, &anybody);
    for (int i = 0; i < 20; i++) {
        exchange(&end, "hello");
        assert_int_equal(SSL_key_update(end.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    }
    end_fini(&end);
}

/* A peer that asks for answers for ever and reads none does not fill our memory: it is cut off. */
static void
answers_that_nobody_reads_do_not_pile_up(void **state)
{
    struct tls_settings settings = plain_settings();
    struct end end;
    int size = 4096, n;

    (void)state;
    end_init(&end, load(&settings));
    setsockopt(end.ours, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(end.peer, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    begin(&end);
    must_shake(&end, &anybody);
    for (n = 0; n < 120000; n++) /* each answer is of some 27 octets */
        if (SSL_key_update(end.ssl, SSL_KEY_UPDATE_REQUESTED) != 1 ||
            SSL_do_handshake(end.ssl) != 1)
            break;
    hang_up(&end);
    await_gone(&end, "TLS: the peer asks for answers and reads none");
    end_fini(&end);
}

/* --- settings ---------------------------------------------------------------------------- */

static void
write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void
assert_refused(const struct tls_settings *settings, const char *text)
{
    struct err err = {0};
    char expected[300];
    const char *at = strchr(text, '@');

    /* @ stands for the folder */
    snprintf(expected, sizeof(expected), "%.*s%s%s", at != NULL ? (int)(at - text) : 300, text,
             at != NULL ? certs.dir : "", at != NULL ? at + 1 : "");
    assert_null(tls_context_new(settings, &err));
    assert_string_equal(err.text, expected);
}

static void
wrong_files_are_named(void **state)
{
    struct tls_settings good = plain_settings(), settings;
    char list[300];

    (void)state;
    settings = good, settings.certificate = "";
    assert_refused(&settings, "tls.certificate: expected a file, found none");
    settings = good, settings.certificate = "/nowhere/x.pem";
    assert_refused(&settings, "tls.certificate: /nowhere/x.pem: No such file or directory");
    settings = good, settings.certificate = good.key;
    assert_refused(&settings, "tls.certificate: @/server.key: no start line");
    settings = good, settings.key = "/nowhere/x.key";
    assert_refused(&settings, "tls.key: /nowhere/x.key: No such file or directory");
    settings = good, settings.key = "";
    assert_refused(&settings, "tls.key: @/server.pem: unsupported");
    settings = good, settings.key = certs_path(&certs, "renewed", "key");
    assert_refused(&settings, "tls.key: @/renewed.key: key values mismatch");
    snprintf(list, sizeof(list), "%s,%s", good.certificate, good.certificate);
    settings = good, settings.certificate = list;
    assert_refused(&settings, "tls.key: expected as many files as tls.certificate has, found 1");
    snprintf(list, sizeof(list), "%s,%s", good.key, good.key);
    settings = good, settings.key = list;
    assert_refused(&settings,
                   "tls.key: expected as many files as tls.certificate has (1), found more");
    settings = good, settings.verify = TLS_VERIFY_PEER, settings.ca = "";
    assert_refused(&settings, "tls.ca: expected a file, since tls.verify is set, found none");
    settings = good, settings.verify = TLS_VERIFY_PEER, settings.ca = "/nowhere/ca.pem";
    assert_refused(&settings, "tls.ca: /nowhere/ca.pem: No such file or directory");
    settings = good, settings.ciphers = "NONSENSE";
    assert_refused(&settings, "tls.ciphers: NONSENSE: no cipher match");
    settings = good, settings.ciphersuites = "NONSENSE";
    assert_refused(&settings, "tls.ciphersuites: NONSENSE: no cipher match");
}

static void
an_encrypted_key_wants_its_passphrase(void **state)
{
    struct tls_settings settings = plain_settings();
    struct tls_context *context;

    (void)state;
    settings.certificate = certs_path(&certs, "locked", "pem");
    settings.key = certs_path(&certs, "locked", "key");
    assert_refused(&settings, "tls.key: @/locked.key: it is encrypted, and "
                              "tls.key_passphrase_file does not open it");
    settings.passphrase_file = "/nowhere/pass";
    assert_refused(&settings, "tls.key_passphrase_file: /nowhere/pass: No such file or directory");
    settings.passphrase_file = certs_path(&certs, "pass", "txt");
    write_text(settings.passphrase_file, "wrong\n");
    assert_refused(&settings, "tls.key: @/locked.key: it is encrypted, and "
                              "tls.key_passphrase_file does not open it");
    write_text(settings.passphrase_file, "open sesame\r\nignored\n");
    context = load(&settings);
    tls_context_unref(&context);
}

static void
a_context_tells_whom_it_is_for_and_how_long(void **state)
{
    struct tls_settings settings = plain_settings();
    struct tls_context *context = load(&settings);
    char text[256], begin_[300];
    long days = 0;

    (void)state;
    assert_true(tls_context_describe(context, 0, text, sizeof(text), &days));
    snprintf(begin_, sizeof(begin_), "%s/server.pem: CN=server, for localhost a.example, until 20",
             certs.dir);
    assert_memory_equal(text, begin_, strlen(begin_));
    assert_int_equal(days, 29);
    assert_false(tls_context_describe(context, 1, text, sizeof(text), &days));
    tls_context_unref(&context);
    settings.certificate = certs_path(&certs, "expired", "pem");
    settings.key = certs_path(&certs, "expired", "key");
    context = load(&settings);
    assert_true(tls_context_describe(context, 0, text, sizeof(text), &days));
    assert_true(days < 0);
    tls_context_unref(&context);
}

/* --- all together ------------------------------------------------------------------------- */

static int
make_certs(void **state)
{
    static const struct wish ca = {"ca", "authority", NULL, 0, 30 * DAY_S, true, NULL};
    static const struct wish other = {"other", "other", NULL, 0, 30 * DAY_S, true, NULL};
    /* an authority of the same name, whose key is another */
    static const struct wish forger = {"forger", "authority", NULL, 0, 30 * DAY_S, true, NULL};
    static const struct wish by_ca[] = {
        {"server", "server", "DNS:localhost,DNS:a.example", 0, 30 * DAY_S - 60, false, NULL},
        {"renewed", "renewed", "DNS:b.example,DNS:*.wild.example", 0, 30 * DAY_S, false, NULL},
        {"locked", "locked", NULL, 0, 30 * DAY_S, false, "open sesame"},
        {"client", "client", "DNS:client.example,email:client@example,DNS:other.example", 0,
         30 * DAY_S, false, NULL},
        {"nameless", NULL, NULL, 0, 30 * DAY_S, false, NULL},
        {"expired", "client", NULL, -2 * DAY_S, -DAY_S, false, NULL},
        {"early", "client", NULL, DAY_S, 2 * DAY_S, false, NULL},
    };
    static const struct wish stranger = {"stranger", "client", NULL, 0, 30 * DAY_S, false, NULL};
    static const struct wish foreign = {"foreign", "client", NULL, 0, 30 * DAY_S, false, NULL};
    static const struct wish forged = {"forged", "client", NULL, 0, 30 * DAY_S, false, NULL};
    struct identity authority, another, last;

    (void)state;
    certs_init(&certs);
    authority = certs_make(&certs, &ca, NULL);
    for (size_t i = 0; i < COUNT_OF(by_ca); i++) {
        last = certs_make(&certs, &by_ca[i], &authority);
        certs_drop(&last);
    }
    certs_drop(&authority);
    another = certs_make(&certs, &other, NULL);
    last = certs_make(&certs, &foreign, &another);
    certs_drop(&last);
    certs_drop(&another);
    another = certs_make(&certs, &forger, NULL);
    last = certs_make(&certs, &forged, &another);
    certs_drop(&last);
    certs_drop(&another);
    last = certs_make(&certs, &stranger, NULL);
    certs_drop(&last);
    return 0;
}

static int
drop_certs(void **state)
{
    (void)state;
    certs_fini(&certs);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_carry_octets),
        cmocka_unit_test(what_is_written_before_the_handshake_goes_out_behind_it),
        cmocka_unit_test(octets_right_behind_the_handshake_are_handed_up),
        cmocka_unit_test(other_versions_are_refused),
        cmocka_unit_test(other_ciphers_are_refused),
        cmocka_unit_test(a_client_that_refuses_the_server_says_why),
        cmocka_unit_test(garbage_instead_of_a_hello_is_told_apart),
        cmocka_unit_test(a_handshake_that_is_cut_anywhere_ends),
        cmocka_unit_test(a_hello_octet_by_octet_is_a_hello),
        cmocka_unit_test(slow_handshakes_are_ended),
        cmocka_unit_test(finish_before_the_handshake_says_nothing),
        cmocka_unit_test(sessions_are_resumed_within_a_context),
        cmocka_unit_test(no_session_is_resumed_without_a_timeout),
        cmocka_unit_test(another_context_on_the_shelf_leaves_connections_alone),
        cmocka_unit_test(the_host_that_a_client_names_chooses_the_certificate),
        cmocka_unit_test(a_required_certificate_gives_the_peers_names),
        cmocka_unit_test(names_that_are_not_there_or_not_asked_for_are_not_given),
        cmocka_unit_test(without_a_certificate_peer_lets_in_and_require_does_not),
        cmocka_unit_test(bad_certificates_are_refused_and_told_why),
        cmocka_unit_test(a_slow_reader_gets_exact_octets_of_pieces_and_blobs),
        cmocka_unit_test(any_pieces_of_input_give_the_same_octets),
        cmocka_unit_test(octets_and_close_notify_in_one_go_are_both_told),
        cmocka_unit_test(both_ways_at_once),
        cmocka_unit_test(finish_lets_all_out_then_says_close_notify),
        cmocka_unit_test(finish_within_bytes),
        cmocka_unit_test(a_stream_that_is_cut_is_told_from_one_that_ends),
        cmocka_unit_test(a_reset_is_told),
        cmocka_unit_test(a_record_that_was_tampered_with_ends_it),
        cmocka_unit_test(what_is_written_after_a_failure_does_not_pile_up),
        cmocka_unit_test(renegotiation_is_refused),
        cmocka_unit_test(new_keys_are_taken_and_answered),
        cmocka_unit_test(answers_that_nobody_reads_do_not_pile_up),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(an_encrypted_key_wants_its_passphrase),
        cmocka_unit_test(a_context_tells_whom_it_is_for_and_how_long),
    };

    return cmocka_run_group_tests(tests, make_certs, drop_certs);
}

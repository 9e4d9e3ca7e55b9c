#include "privileges_priv.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static bool
fail(const struct config *config, const char *step, struct err *err)
{
    return err_set(err, ACCESS_REFUSED, "broker.user: %s '%s': %s", step, config->broker.user,
                   strerror(errno));
}

/* NULL with why. The answer is the library's until the next one. */
static const struct passwd *
find(const struct config *config, struct err *err)
{
    const struct passwd *user;

    errno = 0;
    user = getpwnam(config->broker.user);
    if (user == NULL && errno == 0)
        err_set(err, NOT_FOUND, "broker.user: there is no user '%s'", config->broker.user);
    else if (user == NULL)
        fail(config, "look up", err);
    return user;
}

/* Whether there is something to become. */
static bool
is_other(const struct config *config, const struct passwd *user)
{
    return config->broker.user[0] != '\0' && (getuid() != user->pw_uid || geteuid() != getuid());
}

bool
privileges_lower(const struct config *config, struct err *err)
{
    const struct passwd *user;

    if (config->broker.user[0] == '\0')
        return true;
    user = find(config, err);
    if (user == NULL)
        return false;
    if (!is_other(config, user))
        return true;
    if (geteuid() != 0)
        return err_set(err, ACCESS_REFUSED, "broker.user: only root can become '%s'",
                       config->broker.user);
    if (initgroups(user->pw_name, user->pw_gid) != 0)
        return fail(config, "groups of", err);
    if (setegid(user->pw_gid) != 0 || seteuid(user->pw_uid) != 0)
        return fail(config, "become", err);
    return true;
}

bool
privileges_raise(const struct config *config, struct err *err)
{
    if (config->broker.user[0] == '\0' || getuid() == geteuid())
        return true;
    return seteuid(getuid()) == 0 || fail(config, "be root again after", err);
}

bool
privileges_drop(const struct config *config, struct err *err)
{
    const struct passwd *user = NULL;

    if (config->broker.user[0] != '\0') {
        user = find(config, err);
        if (user == NULL)
            return false;
    }
    if (user != NULL && getuid() != user->pw_uid) {
        if (setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
            setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0)
            return fail(config, "become", err);
        if (user->pw_uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
            return err_set(err, ACCESS_REFUSED, "broker.user: '%s' could be root again",
                           config->broker.user);
    }
    /* the kernel has cleared it when the user changed */
    if (prctl(PR_SET_DUMPABLE, config->broker.core_dumps ? 1 : 0) != 0)
        return err_set(err, INTERNAL_ERROR, "broker.core_dumps: %s", strerror(errno));
    return true;
}

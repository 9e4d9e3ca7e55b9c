/*
 * privileges: who the process is, and who may look into it.
 *
 * Started as root with broker.user set, it is that user for all that it opens (the data directory,
 * certificates, definitions), so that what fails later would fail at once; root again for the
 * addresses that it binds; and that user for good before there is any other thread.
 */
#ifndef LEPUS_SERVER_PRIVILEGES_PRIV_H
#define LEPUS_SERVER_PRIVILEGES_PRIV_H

#include <stdbool.h>

#include "lepus/base/err.h"
#include "lepus/server/config.h"

/* For the time being; each does nothing without broker.user, or when we are that user already.
 * False: there is no such user, or only root could become it. */
bool privileges_lower(const struct config *config, struct err *err);
bool privileges_raise(const struct config *config, struct err *err);

/* For good, and the cores as broker.core_dumps has it. */
bool privileges_drop(const struct config *config, struct err *err);

#endif

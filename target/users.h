/* Users of this machine, as a person names them on the command line. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* A static binary cannot load what /etc/nsswitch.conf names: it knows the users of /etc/passwd alone. */
bool user_named(const char *name, uid_t *ret);

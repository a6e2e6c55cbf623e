#include "app/command.h"

#include <errno.h>
#include <stddef.h>

#include "base/err.h"
#include "base/log.h"

int command_usage(const char *name, const struct err *err)
{
	log_set_level(LOG_WARN); /* -q silences everything but this */
	log_warn(NULL, "error: %s (ringfold %s --help tells more)", err->msg, name);
	return EXIT_USAGE;
}

int command_failed(const struct err *err)
{
	log_set_level(LOG_WARN); /* -q silences everything but this */
	log_warn(NULL, "error: %s", err->msg);
	return err->code == EPERM || err->code == EACCES ? EXIT_NOT_PERMITTED : EXIT_FAILED;
}

#include "target/users.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>

static const struct passwd *passwd_named(const char *name)
{
#ifdef RINGFOLD_STATIC
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *pw;

	if (!file)
		return NULL;
	do
		pw = fgetpwent(file);
	while (pw && strcmp(pw->pw_name, name));
	fclose(file);
	return pw;
#else
	return getpwnam(name);
#endif
}

bool user_named(const char *name, uid_t *ret)
{
	const struct passwd *pw = passwd_named(name);

	if (pw)
		*ret = pw->pw_uid;
	return pw != NULL;
}

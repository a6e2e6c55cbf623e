/* What this process may use. */
#pragma once

/*
 * As many descriptors as the hard limit allows: the soft one, mostly 1024, is for programs that call select(), and
 * every file that is mapped anywhere on the machine stays open. What is started from here on inherits it. Failing
 * changes nothing.
 */
void descriptors_raise(void);

/* How many descriptors this process may have, of itself; 0 = not known. */
unsigned int descriptors_allowed(void);

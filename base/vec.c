#include "base/vec.h"

#include <stdint.h>

bool vec_reserve_(void **data, size_t *cap, size_t want, size_t elem_size)
{
	size_t new_cap = *cap ? *cap : 4;
	size_t bytes;
	void *grown;

	if (want <= *cap)
		return true;
	while (new_cap < want) {
		if (__builtin_mul_overflow(new_cap, 2, &new_cap))
			return false;
	}
	/* Objects above PTRDIFF_MAX break pointer differences. */
	if (__builtin_mul_overflow(new_cap, elem_size, &bytes) || bytes > PTRDIFF_MAX)
		return false;
	grown = realloc(*data, bytes);
	if (!grown)
		return false;
	*data = grown;
	*cap = new_cap;
	return true;
}

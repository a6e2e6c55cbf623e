/* In place of perfdata_zstd.c where libzstd is missing. */
#include "collector/perfdata_priv.h"

#include <errno.h>

void zstd_stream_free(struct zstd_stream *z)
{
}

void perfdata_pack_end(struct perfdata *p)
{
}

int perfdata_pack_begin(struct perfdata *p, const struct raw *raw, size_t begin, size_t size,
			struct err *err)
{
	p->info.compressed = true;
	return err_set(
		err, ENOTSUP,
		"it is compressed (perf record -z), and this ringfold was built without libzstd; either build it "
		"with, or record without -z");
}

int perfdata_unpack(struct perfdata *p, struct err *err)
{
	return 0;
}

#include "output/zip_out.h"

#include "base/cleanup.h"
#include "base/err.h"

#include <errno.h>
#include <minizip/zip.h>
#include <stdlib.h>
#include <string.h>

struct zip_out {
	FILE *out;
	zipFile zip;
	zip_fileinfo info;
	int code; /* of the first write that failed */
	char buffer[65536]; /* of the entry being written */
};

/* What minizip does not write or seek by us, it lacks memory for. */
static int code_of(const struct zip_out *z)
{
	return z->code ? z->code : ENOMEM;
}

/* minizip's view of a file that is already open. */

static voidpf ZCALLBACK open_stream(voidpf opaque, const void *name, int mode)
{
	return opaque;
}

static uLong ZCALLBACK read_stream(voidpf opaque, voidpf stream, void *buf, uLong size)
{
	return 0;
}

static uLong ZCALLBACK write_stream(voidpf opaque, voidpf stream, const void *buf, uLong size)
{
	struct zip_out *z = opaque;
	uLong done = fwrite(buf, 1, size, z->out);

	if (done != size && !z->code)
		z->code = errno ? errno : EIO;
	return done;
}

static ZPOS64_T ZCALLBACK tell_stream(voidpf opaque, voidpf stream)
{
	return (ZPOS64_T)ftello(((struct zip_out *)opaque)->out);
}

static long ZCALLBACK seek_stream(voidpf opaque, voidpf stream, ZPOS64_T offset, int origin)
{
	int how = origin == ZLIB_FILEFUNC_SEEK_CUR ? SEEK_CUR : origin == ZLIB_FILEFUNC_SEEK_END ? SEEK_END : SEEK_SET;
	struct zip_out *z = opaque;

	if (fseeko(z->out, (off_t)offset, how) == 0)
		return 0;
	if (!z->code)
		z->code = errno ? errno : EIO;
	return -1;
}

static int ZCALLBACK close_stream(voidpf opaque, voidpf stream)
{
	return 0;
}

static int ZCALLBACK stream_error(voidpf opaque, voidpf stream)
{
	return ferror(((struct zip_out *)opaque)->out);
}

int zip_out_open(FILE *out, time_t when, struct zip_out **ret, struct err *err)
{
	struct zip_out *z;
	zlib_filefunc64_def functions = {
		.zopen64_file = open_stream, .zread_file = read_stream, .zwrite_file = write_stream,
		.ztell64_file = tell_stream, .zseek64_file = seek_stream, .zclose_file = close_stream,
		.zerror_file = stream_error,
	};
	struct tm tm = { 0 };

	if (fseeko(out, 0, SEEK_CUR) < 0)
		return err_set(err, ESPIPE, "a bundle needs a file: it is not written from its beginning to its end");
	z = calloc(1, sizeof(*z));
	if (!z)
		return err_oom(err);
	z->out = out;
	functions.opaque = z;
	gmtime_r(&when, &tm);
	z->info.tmz_date = (tm_zip){ .tm_sec = (uInt)tm.tm_sec, .tm_min = (uInt)tm.tm_min, .tm_hour = (uInt)tm.tm_hour,
				     .tm_mday = (uInt)tm.tm_mday, .tm_mon = (uInt)tm.tm_mon,
				     .tm_year = (uInt)tm.tm_year + 1900 };
	z->zip = zipOpen2_64("", APPEND_STATUS_CREATE, NULL, &functions);
	if (!z->zip) {
		free(z);
		return err_oom(err);
	}
	*ret = z;
	return 0;
}

static ssize_t write_entry(void *cookie, const char *buf, size_t size)
{
	struct zip_out *z = cookie;

	if (zipWriteInFileInZip(z->zip, buf, (unsigned int)size) == ZIP_OK)
		return (ssize_t)size;
	errno = code_of(z);
	return 0;
}

FILE *zip_out_entry(struct zip_out *z, const char *name, struct err *err)
{
	const cookie_io_functions_t functions = { .write = write_entry };
	FILE *entry;

	/* Of unknown length: room for sizes over 4 GiB, in case. */
	if (zipOpenNewFileInZip64(z->zip, name, &z->info, NULL, 0, NULL, 0, NULL, Z_DEFLATED, Z_DEFAULT_COMPRESSION, 0) !=
	    ZIP_OK) {
		err_set(err, code_of(z), "a new part of the bundle: %s", strerror(code_of(z)));
		return NULL;
	}
	entry = fopencookie(z, "w", functions);
	if (entry)
		setvbuf(entry, z->buffer, _IOFBF, sizeof(z->buffer));
	else
		err_oom(err);
	return entry;
}

int zip_out_end_entry(struct zip_out *z, FILE *entry, struct err *err)
{
	int code = fclose(entry) ? errno : 0;

	if (zipCloseFileInZip(z->zip) != ZIP_OK && !code)
		code = code_of(z);
	if (z->code)
		code = z->code;
	return code ? err_set(err, code, "writing the bundle: %s", strerror(code)) : 0;
}

int zip_out_close(struct zip_out *z, struct err *err)
{
	int code = zipClose(z->zip, NULL) == ZIP_OK ? 0 : code_of(z);

	if (z->code)
		code = z->code;
	free(z);
	return code ? err_set(err, code, "writing the bundle: %s", strerror(code)) : 0;
}

/* One file with everything in it: an interactive flame graph that needs no network. The page is in html/. */
#include "base/cleanup.h"
#include "base/err.h"
#include "output/format.h"
#include "output/html_priv.h"
#include "output/profile.h"

static int write_html(const struct profile *profile, const struct profile_view *view, FILE *out, struct err *err)
{
	_cleanup_(tree_deinit) struct tree tree = { 0 };
	struct html_page page = { .tree = &tree, .stats = &profile->stats, .profile = profile };
	int r = tree_init(&tree, profile, view, TREE_FOR_PICTURE, err);

	return r < 0 ? r : html_write(&page, out, err);
}

static const char *const extensions[] = { ".html", ".htm", NULL };

const struct format format_html = {
	.name = "html",
	.description = "interactive flame graph: one page that needs no network",
	.extensions = extensions,
	.needs_samples = true,
	.write = write_html,
};

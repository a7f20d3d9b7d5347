/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hook_preset.c - the calls by which engines reload weights
 *
 * Both engines: pause, reload by versioned path, reset the caches that the old weights filled, resume.
 * SGLang writes the new path into its configuration before it loads, and vLLM loads into live
 * parameters: neither goes back by itself, so a failure sends the previous version's path again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"
#include "weightfs/base.h"

/* What becomes of requests that are running; the first is the default. */
enum { PAUSE_DEFAULT, PAUSE_RETRACT, PAUSE_ABORT, PAUSE_KEEP, PAUSE_WAIT };

const char *const hook_presets[] = { "none", "sglang", "vllm", NULL };
const char *const hook_pauses[] = { "default", "retract", "abort", "keep", "wait", NULL };

struct call {
	const char *path, *body;
	bool always, judged;
};

/* in_place is not offered: SGLang then refuses to flush the cache.  How it went stands in its answers, too. */
static const struct call sglang[] = {
	{ "/pause_generation", "{\"mode\":\"@\"}", false, true },
	{ "/update_weights_from_disk",
	  "{\"model_path\":\"{path}\",\"weight_version\":\"{version}\",\"flush_cache\":true}", false, true },
	{ "/flush_cache", NULL, false, true },
	{ "/continue_generation", "{}", true, true },
	{ NULL, NULL, false, false },
};

/* Needs VLLM_SERVER_DEV_MODE=1. */
static const struct call vllm[] = {
	{ "/pause?mode=@&clear_cache=true", NULL, false, false },
	{ "/collective_rpc", "{\"method\":\"reload_weights\",\"kwargs\":{\"weights_path\":\"{path}\"}}", false, false },
	{ "/reset_prefix_cache?reset_running_requests=true", NULL, false, false },
	{ "/resume", NULL, true, false },
	{ NULL, NULL, false, false },
};

/* A copy with '@' replaced. */
static char *with_mode(const char *text, const char *mode)
{
	const char *at = text ? strchr(text, '@') : NULL;
	char *out = NULL;

	if (!at)
		return text ? strdup(text) : NULL;
	return asprintf(&out, "%.*s%s%s", (int)(at - text), text, mode, at + 1) < 0 ? NULL : out;
}

static int pause_mode(const struct hook *h, const char **out, struct wfs_err *err)
{
	bool is_sglang = h->preset == PRESET_SGLANG;
	unsigned pause = h->pause ? h->pause : is_sglang ? PAUSE_RETRACT : PAUSE_KEEP;

	if (pause == PAUSE_ABORT || (pause == PAUSE_RETRACT) == is_sglang) {
		*out = hook_pauses[pause];
		return 0;
	}
	return wfs_fail(err, -EINVAL, "hook %s: pause=%s is not known to %s; there are: %s", h->name, hook_pauses[pause],
			hook_presets[h->preset], is_sglang ? "retract, abort" : "keep, wait, abort");
}

int hook_preset(struct hook *h, struct wfs_err *err)
{
	const struct call *call = h->preset == PRESET_SGLANG ? sglang : vllm;
	const char *mode = "";
	int r = pause_mode(h, &mode, err);

	if (r == 0 && !h->url)
		r = wfs_fail(err, -EINVAL, "hook %s: preset=%s needs url=, where the engine listens", h->name,
			     hook_presets[h->preset]);
	for (; r == 0 && call->path; call++) {
		WFS_AUTO(wfs_free_ptr) char *path = with_mode(call->path, mode);
		struct hook_request *q;

		r = path ? hook_request_add(h, "POST", path, err) : wfs_fail(err, -ENOMEM, "out of memory");
		if (r < 0)
			break;
		q = &h->request[h->n_requests - 1];
		q->always = call->always;
		q->judged = call->judged;
		q->body = with_mode(call->body, mode);
		if (call->body && !q->body)
			r = wfs_fail(err, -ENOMEM, "out of memory");
	}
	return r;
}

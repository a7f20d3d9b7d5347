/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.c - what a mount says about itself, and how often it complains
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs.h"
#include "passthrough.h"
#include "privilege.h"
#include "weightfs/base.h"
#include "weightfs/json.h"
#include "weightfs/log.h"

#define GATE_BURST	10u
#define GATE_NS		10000000000ull

struct log_gate {
	pthread_mutex_t lock;
	uint64_t since_ns;
	unsigned n, dropped;
};

struct log_gate *log_gate_new(void)
{
	struct log_gate *g = calloc(1, sizeof(*g));

	if (g)
		pthread_mutex_init(&g->lock, NULL);
	return g;
}

void log_gate_free(struct log_gate *g)
{
	if (!g)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

void log_gate_err(struct log_gate *g, const char *fmt, ...)
{
	uint64_t now = wfs_now_ns();
	unsigned dropped = 0;
	char line[1024];
	va_list ap;
	bool say;

	pthread_mutex_lock(&g->lock);
	if (now - g->since_ns > GATE_NS) {
		dropped = g->dropped;
		g->since_ns = now;
		g->n = g->dropped = 0;
	}
	say = g->n++ < GATE_BURST;
	g->dropped += !say;
	pthread_mutex_unlock(&g->lock);

	if (dropped)
		log_err("%u more failed reads were not logged", dropped);
	if (!say)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_err("%s", line);
}

static int append_mount(struct fs *fs, struct wfs_buf *out)
{
	struct bind_counts bound;
	char reason[256];
	int r;

	bind_count(fs->bind, &bound);
	passthrough_reason(fs->pass, reason, sizeof(reason));
	r = wfs_buf_printf(out, "{\"mount\":{\"point\":");
	if (r == 0)
		r = wfs_json_quote(out, fs->mnt);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"store\":");
	if (r == 0)
		r = wfs_json_quote(out, fs->store_url);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"cache\":");
	if (r == 0)
		r = wfs_json_quote(out, fs->opt->cache);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"mode\":\"%s\",\"mode_reason\":", reason[0] ? "cached" : "passthrough");
	if (r == 0)
		r = wfs_json_quote(out, reason);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"run_as\":");
	if (r == 0)
		r = wfs_json_quote(out, fs->priv->name);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"landlock\":%s,\"reads_all\":%s", fs->priv->landlock ? "true" : "false",
				   fs->priv->reads_all ? "true" : "false");
	if (r == 0)
		r = wfs_buf_printf(out,
				   ",\"program\":\"%s\",\"pid\":%d,\"uptime\":%" PRIu64
				   ",\"waiting_reads\":%u,\"open_files\":%zu,\"bound_processes\":%zu"
				   ",\"bound_jobs\":%zu,\"bindings_dropped\":%" PRIu64 "}",
				   WFS_VERSION, (int)getpid(), (wfs_now_ns() - fs->start_ns) / 1000000000u,
				   waiting_count(fs->waiting), views_count(fs->views), bound.processes,
				   bound.jobs, bound.dropped);
	return r;
}

int fs_status_json(struct fs *fs, struct wfs_buf *out)
{
	WFS_AUTO(wfs_buf_free) struct wfs_buf rest = WFS_BUF_INIT;
	char problem[512] = "";
	bool healthy;
	int r;

	healthy = wfs_replica_health(fs->replica, problem, sizeof(problem));
	r = append_mount(fs, out);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"healthy\":%s,\"reason\":", healthy ? "true" : "false");
	if (r == 0)
		r = wfs_json_quote(out, problem);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"hooks\":");
	if (r == 0)
		r = hooktab_status(fs->hooktab, out);
	if (r == 0)
		r = wfs_replica_status(fs->replica, &rest);
	if (r < 0)
		return r;
	/* "{...}" becomes ",...}" */
	if (rest.len > 2 && rest.data[0] == '{') {
		rest.data[0] = ',';
		return wfs_buf_append(out, rest.data, rest.len);
	}
	return wfs_buf_append(out, "}", 1);
}

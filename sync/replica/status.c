/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status.c - what a replica has, does and lacks, as JSON
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"
#include "weightfs/json.h"

static const char *const ready_names[] = { "complete", "delta", "manifest" };

static uint64_t ms_since(uint64_t ns)
{
	return ns ? (wfs_now_ns() - ns) / 1000000 : 0;
}

static int put_string(struct wfs_buf *out, const char *key, const char *value)
{
	int r = wfs_buf_printf(out, "\"%s\":", key);

	return r < 0 ? r : wfs_json_quote(out, value);
}

static int put_model(struct wfs_buf *out, struct wfs_model *m, bool first)
{
	uint64_t size = 0, built = 0, blocks = 0;
	struct wfs_file_status st;
	int r;

	for (size_t i = 0; i < m->v.n_files; i++) {
		wfs_model_file_status(m, i, &st);
		size += st.size;
		blocks += st.n_blocks;
		built += st.n_built;
	}
	r = wfs_buf_printf(out, "%s{\"sequence\":%" PRIu64 ",", first ? "" : ",", m->v.sequence);
	if (r == 0)
		r = put_string(out, "label", m->v.label);
	if (r == 0)
		r = wfs_buf_printf(out, ",\"time\":%" PRIu64 ",\"id\":\"%s\",\"files\":%zu,\"size\":%" PRIu64
				   ",\"blocks\":%" PRIu64 ",\"blocks_built\":%" PRIu64 ",\"complete\":%s,\"pinned\":%s"
				   ",\"in_use\":%s,\"linked\":%s}", m->v.time_ns, wfs_hex(&m->id).s, m->v.n_files, size, blocks, built,
				   m->complete ? "true" : "false", m->pinned ? "true" : "false",
				   wfs_model_in_use(m, 1) ? "true" : "false", m->linked ? "true" : "false");
	return r;
}

/* Models are held while they are printed, so that no lock is. */
static int put_models(struct wfs_replica *r, struct wfs_buf *out)
{
	uint64_t *seq;
	size_t n;
	bool first = true;
	int ret;

	ret = wfs_replica_list(r, &seq, &n);
	if (ret == 0)
		ret = wfs_buf_printf(out, ",\"newest\":%" PRIu64 ",\"versions\":[", n ? seq[n - 1] : 0);
	for (size_t i = 0; ret == 0 && i < n; i++) {
		struct wfs_model *m = wfs_replica_find(r, seq[i]);

		if (!m)
			continue;
		ret = put_model(out, m, first);
		first = false;
		wfs_model_put(m);
	}
	free(seq);
	return ret < 0 ? ret : wfs_buf_printf(out, "]");
}

static int put_counters(struct wfs_replica *r, struct wfs_buf *out)
{
	return wfs_buf_printf(out, ",\"bytes_received\":%" PRIu64 ",\"bytes_checked\":%" PRIu64 ",\"groups_checked\":%" PRIu64
			      ",\"bad_fetched\":%" PRIu64 ",\"blocks_built\":%" PRIu64 ",\"reads\":%" PRIu64
			      ",\"rot_found\":%" PRIu64, r->store ? wfs_store_received(r->store) : 0, r->n_bytes_checked,
			      r->n_groups_checked, r->n_bad_groups, r->n_blocks_built, r->n_blocks_read, r->n_rot);
}

static int put_pinned(struct wfs_replica *r, struct wfs_buf *out)
{
	bool first = true;
	int ret = 0;

	pthread_mutex_lock(&r->lock);
	for (struct wfs_model *m = r->models; ret == 0 && m; m = m->next) {
		if (!m->shown || !m->pinned)
			continue;
		ret = wfs_buf_printf(out, "%s%" PRIu64, first ? "" : ",", m->v.sequence);
		first = false;
	}
	pthread_mutex_unlock(&r->lock);
	return ret;
}

static int put_cache(struct wfs_replica *r, struct wfs_buf *out)
{
	uint64_t needed;
	int ret = wfs_buf_printf(out, ",\"cache\":{");

	pthread_mutex_lock(&r->lock);
	needed = r->needed;
	pthread_mutex_unlock(&r->lock);
	if (ret == 0)
		ret = put_string(out, "path", r->cache.path);
	if (ret == 0)
		ret = wfs_buf_printf(out, ",\"used\":%" PRIu64 ",\"free\":%" PRIu64 ",\"reserved\":%" PRIu64 ",\"held\":%" PRIu64
				     ",\"needed\":%" PRIu64, wfs_cache_used(&r->cache), wfs_cache_free(&r->cache),
				     wfs_cache_reserved(&r->cache), r->held, needed);
	if (ret == 0)
		ret = wfs_buf_printf(out, ",\"cache_size\":%" PRIu64 ",\"min_free\":%" PRIu64
				     ",\"keep_versions\":%u,\"leases\":%s,\"pinned\":[", r->cache.size_max,
				     r->cache.min_free, r->o.keep_versions, r->cache.leases ? "true" : "false");
	if (ret == 0)
		ret = put_pinned(r, out);
	return ret < 0 ? ret : wfs_buf_printf(out, "]}");
}

int wfs_replica_status(struct wfs_replica *r, struct wfs_buf *out)
{
	uint64_t building, done, total, looked, problem_ns, highest;
	char problem[sizeof(r->problem.msg)];
	int ret;

	pthread_mutex_lock(&r->lock);
	building = r->building;
	done = r->task_done;
	total = r->task_total;
	looked = r->looked_ns;
	highest = r->highest.sequence;
	pthread_mutex_unlock(&r->lock);
	problem_ns = wfs_replica_failing(r, problem, sizeof(problem));

	ret = wfs_buf_printf(out, "{\"run\":\"%s\",", r->run.s);
	if (ret == 0)
		ret = put_string(out, "store", r->store ? wfs_store_url(r->store) : "");
	if (ret == 0)
		ret = wfs_buf_printf(out, ",\"ready\":\"%s\",\"lazy\":%s", ready_names[r->o.ready], r->o.lazy ? "true" : "false");
	if (ret == 0)
		ret = put_models(r, out);
	if (ret == 0)
		ret = wfs_buf_printf(out, ",\"highest_seen\":%" PRIu64 ",\"building\":%" PRIu64 ",\"building_done\":%" PRIu64
				     ",\"building_total\":%" PRIu64 ",\"looked_ms_ago\":", highest, building,
				     building ? done : 0, building ? total : 0);
	if (ret == 0)
		ret = looked ? wfs_buf_printf(out, "%" PRIu64, ms_since(looked)) : wfs_buf_printf(out, "null");
	if (ret == 0)
		ret = put_counters(r, out);
	if (ret == 0)
		ret = put_cache(r, out);
	if (ret == 0)
		ret = wfs_buf_printf(out, ",");
	if (ret == 0)
		ret = put_string(out, "problem", problem);
	return ret < 0 ? ret : wfs_buf_printf(out, ",\"problem_ms\":%" PRIu64 "}", ms_since(problem_ns));
}

bool wfs_replica_health(struct wfs_replica *r, char *msg, size_t msg_len)
{
	struct wfs_model *m = wfs_replica_latest(r);
	bool shown = m;

	wfs_model_put(m);
	if (wfs_replica_failing(r, msg, msg_len))
		return false;
	if (!shown)
		snprintf(msg, msg_len, "no version is shown yet");
	return shown;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path.c - plans that are looked at instead of followed
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replica/internal.h"
#include "weightfs/base.h"

static void describe(struct wfs_step *s, const struct wfs_node *n)
{
	s->sequence = n->sequence;
	s->back = n->back;
	s->stored = n->stored;
	s->table = n->table_len;
	if (n->base)
		s->how = WFS_STEP_BASE;
	else if (!n->source)
		s->how = WFS_STEP_HELD;
	else if (n->undo)
		s->how = WFS_STEP_UNDO;
	else
		s->how = n->full ? WFS_STEP_FULL : WFS_STEP_DELTA;
}

int wfs_model_path(struct wfs_model *m, size_t i, struct wfs_path *out, struct wfs_err *err)
{
	struct wfs_image *img = m->images[i];
	struct wfs_plan *plan;
	int r;

	memset(out, 0, sizeof(*out));
	if (!img || img->assumed || wfs_image_probe(img))
		return 0;
	r = wfs_plan_get(&plan, img, true, false, err);
	if (r < 0)
		return r;
	out->steps = calloc(plan->n_nodes, sizeof(*out->steps));
	if (!out->steps) {
		r = wfs_fail(err, -ENOMEM, "out of memory");
	} else {
		for (size_t n = 0; n < plan->n_nodes; n++)
			describe(&out->steps[n], &plan->nodes[n]);
		out->n_steps = plan->n_nodes;
		out->bytes = plan->bytes;
		out->compared = plan->compared;
	}
	wfs_plan_put(img, plan);
	wfs_plan_drop(img, false);
	return r;
}

void wfs_model_assume(struct wfs_model *m, bool held)
{
	for (size_t i = 0; i < m->v.n_files; i++)
		if (m->images[i])
			m->images[i]->assumed = held;
}

void wfs_replica_history(struct wfs_replica *r, uint64_t *bytes, size_t *n)
{
	*bytes = *n = 0;
	wfs_history_begin(r);
	for (const struct wfs_past *p = wfs_history_first(r); p; p = p->next) {
		*bytes += p->len;
		++*n;
	}
	wfs_history_end(r);
}

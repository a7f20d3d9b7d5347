/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test-bind.c - more processes than the table of bindings has room for
 *
 * The processes that matter are children of ours.  The crowd are numbers that no process has: they are
 * remembered like any other until the sweep.  Versions are counted here instead of a replica's, so that
 * a reference too many or too few shows.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bind.h"
#include "bind_table.h"
#include "test.h"

#define NOBODY	0x40000000		/* above every pid there can be */

struct wfs_model {
	struct wfs_version version;
	long refs;
};

static struct wfs_model models[3] = { { { .sequence = 0 }, 0 }, { { .sequence = 1 }, 0 }, { { .sequence = 2 }, 0 } };
static unsigned newest;

struct wfs_model *__wrap_wfs_replica_latest(struct wfs_replica *r);
struct wfs_model *__wrap_wfs_model_get(struct wfs_model *m);
void __wrap_wfs_model_put(struct wfs_model *m);
const struct wfs_version *__wrap_wfs_model_version(const struct wfs_model *m);

struct wfs_model *__wrap_wfs_model_get(struct wfs_model *m)
{
	m->refs++;
	return m;
}

void __wrap_wfs_model_put(struct wfs_model *m)
{
	if (m)
		m->refs--;
}

const struct wfs_version *__wrap_wfs_model_version(const struct wfs_model *m)
{
	return &m->version;
}

struct wfs_model *__wrap_wfs_replica_latest(struct wfs_replica *r)
{
	(void)r;
	return __wrap_wfs_model_get(&models[newest]);
}

static struct bind *new_bind(enum bind_mode mode)
{
	struct bind_opts o = { .mode = mode, .linger_ms = 600000, .join_ms = 600000 };

	newest = 1;
	return bind_new(NULL, &o);
}

/* All that it held is given back. */
static void end_bind(struct bind *b)
{
	bind_free(b);
	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		CHECK_INT(models[i].refs, 0, "references left");
}

static pid_t child(void)
{
	pid_t pid = fork();

	while (pid == 0)
		pause();
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static uint64_t look_as(struct bind *b, struct bind_key key)
{
	struct wfs_model *m = bind_latest(b, key);
	uint64_t sequence = m ? m->version.sequence : 0;

	__wrap_wfs_model_put(m);
	return sequence;
}

static uint64_t look(struct bind *b, pid_t pid)
{
	struct bind_key key = bind_caller(b, pid);

	CHECK_INT(key.pid, pid, "the caller is seen");
	return look_as(b, key);
}

/* Others look, until so many have a version. */
static void crowd(struct bind *b, size_t until)
{
	struct bind_counts n;

	bind_count(b, &n);
	for (size_t i = n.processes; i < until; i++)
		look_as(b, (struct bind_key){ .pid = NOBODY + (pid_t)i, .start = 1 });
	bind_count(b, &n);
	CHECK_INT((long long)n.processes, (long long)until, "processes with a version");
}

static void one_more(struct bind *b)
{
	static pid_t more = NOBODY + (pid_t)(4 * BIND_MAX);

	look_as(b, (struct bind_key){ .pid = more++, .start = 1 });
}

static uint64_t dropped(struct bind *b)
{
	struct bind_counts n;

	bind_count(b, &n);
	CHECK_INT((long long)n.processes, BIND_MAX, "it is full, and no more than that");
	return n.dropped;
}

/* What was logged meanwhile. */
static FILE *capture(int *saved)
{
	FILE *f = tmpfile();

	fflush(stderr);
	*saved = dup(STDERR_FILENO);
	if (!f || dup2(fileno(f), STDERR_FILENO) < 0)
		abort();
	return f;
}

static void captured(char *out, size_t cap, FILE *f, int saved)
{
	size_t n;

	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(f);
	n = fread(out, 1, cap - 1, f);
	out[n] = '\0';
	fclose(f);
}

/* It is the version that was not in use for longest that ends, whoever took its own first; and no other. */
static void test_the_longest_unused_goes(void)
{
	struct bind *b = new_bind(BIND_PROCESS);
	pid_t loads = child(), idles = child();
	char text[1024], want[64];
	FILE *log;
	int saved;

	CHECK_INT((long long)look(b, loads), 1, "the first look");
	CHECK_INT((long long)look(b, idles), 1, "the second look");
	crowd(b, BIND_MAX);
	newest = 2;
	bind_touch(b, bind_caller(b, loads), 1);	/* it opened its next shard */
	log = capture(&saved);
	one_more(b);
	captured(text, sizeof(text), log, saved);
	CHECK_INT((long long)dropped(b), 1, "bindings dropped");
	snprintf(want, sizeof(want), "the version of process %d was let go", (int)idles);
	CHECK(strstr(text, want));
	CHECK_INT((long long)look(b, loads), 1, "who loads keeps its version");
	CHECK_INT((long long)look(b, idles), 2, "who was let go sees what is newest");
	end_child(loads);
	end_child(idles);
	end_bind(b);
}

/* Who asks from many processes loses versions of his own, although those of others were not used for longer. */
static void test_who_has_most_goes(void)
{
	struct bind *b = new_bind(BIND_PROCESS);
	pid_t loads = child();

	CHECK_INT((long long)look(b, loads), 1, "the first look");
	for (int i = 0; i < 2 * (int)BIND_MAX; i++)
		look_as(b, (struct bind_key){ .pid = NOBODY + i, .user = 1000, .start = 1 });
	newest = 2;
	CHECK_INT((long long)look(b, loads), 1, "who loads keeps its version");
	end_child(loads);
	end_bind(b);
}

/* A second one is counted, and not logged at once. */
static void test_a_flood_is_one_line(void)
{
	struct bind *b = new_bind(BIND_PROCESS);
	pid_t a = child(), c = child();
	char text[1024], *first;
	FILE *log;
	int saved;

	look(b, a);
	look(b, c);
	crowd(b, BIND_MAX);
	log = capture(&saved);
	one_more(b);
	one_more(b);
	captured(text, sizeof(text), log, saved);
	CHECK_INT((long long)dropped(b), 2, "bindings dropped");
	first = strstr(text, "was let go");
	CHECK(first && !strstr(first + 1, "was let go"));
	end_child(a);
	end_child(c);
	end_bind(b);
}

/* Who has no version, and who has ended, makes room before anybody loses one. */
static void test_who_loses_nothing_goes_first(void)
{
	struct bind *b = new_bind(BIND_PROCESS);
	pid_t loads = child(), asked = child(), ended;

	look(b, loads);
	look(b, asked);
	crowd(b, BIND_MAX);
	bind_close(b, bind_caller(b, asked));	/* its version ended, although it was used last */
	newest = 2;
	one_more(b);
	CHECK_INT((long long)dropped(b), 0, "for one that had none");
	CHECK_INT((long long)look(b, loads), 1, "who loads keeps its version");
	end_child(asked);
	end_child(loads);
	end_bind(b);

	b = new_bind(BIND_PROCESS);
	ended = child();
	look(b, ended);
	end_child(ended);
	crowd(b, BIND_MAX);
	one_more(b);
	CHECK_INT((long long)dropped(b), 0, "for one that has ended");
	end_bind(b);
}

/* One of a job that loses its version takes it again while another one of the job has it. */
static void test_a_job_gives_it_back(void)
{
	struct bind *b = new_bind(BIND_JOB);
	pid_t loads = child(), other = child();

	CHECK_INT((long long)look(b, loads), 1, "the first rank");
	CHECK_INT((long long)look(b, other), 1, "the second rank");
	crowd(b, BIND_MAX);
	newest = 2;
	look(b, other);
	one_more(b);
	CHECK_INT((long long)dropped(b), 1, "bindings dropped");
	CHECK_INT((long long)look(b, loads), 1, "the job's version");
	end_child(loads);
	end_child(other);
	end_bind(b);
}

/* The sweep makes room for as many as have ended. */
static void test_a_sweep_makes_room(void)
{
	struct bind *b = new_bind(BIND_PROCESS);
	struct bind_counts n;
	pid_t loads = child();

	look(b, loads);
	crowd(b, BIND_MAX);
	bind_sweep(b);
	bind_count(b, &n);
	CHECK_INT((long long)n.processes, 1, "who lives");
	newest = 2;
	CHECK_INT((long long)look(b, loads), 1, "and keeps its version");
	end_child(loads);
	end_bind(b);
}

/* A file or a socket that a process left to another one when it ended speaks for nobody: not for the
 * process either that has its number now. */
static void test_an_old_key_ends_nobodys_version(void)
{
	struct bind *b = new_bind(BIND_JOB);
	pid_t loads = child();
	struct bind_key key = bind_caller(b, loads), old = { .pid = loads, .start = key.start - 1 };

	CHECK_INT((long long)look(b, loads), 1, "the first look");
	newest = 2;
	bind_touch(b, old, 1);
	CHECK_INT((long long)look(b, loads), 1, "after another one's file was closed");
	bind_close(b, old);
	CHECK_INT((long long)look(b, loads), 1, "after another one's socket was answered");
	look_as(b, old);
	CHECK_INT((long long)look(b, loads), 1, "after another one's late look");
	end_child(loads);
	end_bind(b);
}

TEST_MAIN(T(test_the_longest_unused_goes), T(test_who_has_most_goes), T(test_a_flood_is_one_line),
	  T(test_who_loses_nothing_goes_first),
	  T(test_a_job_gives_it_back), T(test_a_sweep_makes_room),
	  T(test_an_old_key_ends_nobodys_version))

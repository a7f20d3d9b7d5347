#compdef weightfs weightsync
# SPDX-License-Identifier: Apache-2.0
# zsh completion for weightfs and weightsync

_weightfs_mount_options() {
	_values -s , 'mount option' \
		'accept_run[accept a store with a new run id]' 'allow_other[other users may read]' \
		'base[model directory used as base]:directory:_files -/' 'cache[local copy]:directory:_files -/' \
		'cache_size[bytes at most]:size' 'cacert[certificates]:file:_files' \
		'config[configuration file]:file:_files' 'foreground[do not go to the background]' \
		'fsname[source shown]:text' 'hub[model name in hub/]:name' 'uid[owner shown]:number' 'gid[group shown]:number' \
		'umask[permission bits taken away]:octal' 'keep_versions[kept beside the newest]:number' \
		'bind[who sees one version]:who:(job process cgroup none)' 'join[how long a job takes members]:time' \
		'lazy[fetch only what is read]' 'linger[how long a process keeps its version]:time' \
		'log_level[what is logged]:level:(error warn info debug)' 'min_free[bytes left free]:size' \
		'noexec[nothing may be executed]' 'passthrough[the kernel reads complete files]:when:(auto on off)' 'poll[time between looks]:time' 'rate[bytes a second]:size' \
		'read_timeout[how long a read waits]:time' \
		'serve[complete versions are files of the mount, or links into the cache]:how:(mount link)' \
		'ready[when a version is shown]:when:(complete delta manifest auto)' \
		'run_as[who the daemon of root is]:user:_users' 'scrub[time between checks]:time' 'show_code[show code and pickles]' 'workers[threads]:number'
}

_weightfs_commands() {
	case $words[1] in
	mount) _arguments '-o[options]:options:_weightfs_mount_options' '--help[options]' \
		'1:store:_files -/' '2:mount point:_files -/' ;;
	unmount) _arguments '--lazy[even while in use]' '--help[options]' '1:mount point:_files -/' ;;
	status) _arguments '--json[as JSON]' '--files[each file of a version]' '--version[which version]:version:' '--help[options]' '1:mount point:_files -/' ;;
	wait) _arguments '--newer-than[number]:number' '--timeout[seconds]:seconds' '--help[options]' \
		'1:mount point:_files -/' ;;
	events) _arguments '--json[as JSON]' '--newer-than[number]:number' '--help[options]' '1:mount point:_files -/' ;;
	hooks) _arguments '--once[tell the newest and end]' '--dry-run[send nothing]' '--config[configuration]:file:_files' '--help[options]' '1:mount point:_files -/' ;;
	pin|unpin) _arguments '--help[options]' '1:mount point:_files -/' '2:version:' ;;
	verify) _arguments '--help[options]' '1:cache:_files -/' ;;
	esac
}

_weightsync_commands() {
	case $words[1] in
	publish) _arguments '--label[word for people]:text' '--previous[equals the last version]:directory:_files -/' \
		'--cache[where the last version is kept]:directory:_files -/' '*--include[publish too]:glob' \
		'*--exclude[leave out]:glob' '--allow-empty[even when nothing changed]' \
		'--strides[also deltas from so far back]:list' '--full[store in full as well]' '--anchor[how to store in full]:how:(packed plain)' \
		'--anchor-limit[what a new reader may fetch]:factor' '--workers[threads]:number' '--wait[for another publisher too]:time' '--json[as JSON]' '--quiet[no progress]' '--help[options]' \
		'1:model directory:_files -/' '2:store:_files -/' ;;
	log) _arguments '--json[as JSON]' '--cacert[certificates]:file:_files' '--help[options]' '1:store:_files -/' ;;
	show) _arguments '--json[as JSON]' '--cacert[certificates]:file:_files' '--help[options]' '1:store:_files -/' '2:version' '3:file' ;;
	pull) _arguments '--version[number]:number' '--cacert[certificates]:file:_files' '--rate[bytes a second]:size' '--quiet[no progress]' '--help[options]' '1:store:_files -/' '2:directory:_files -/' ;;
	plan) _arguments '--have[number]:number' '--want[number]:number' '--json[as JSON]' '--cacert[certificates]:file:_files' '--help[options]' '1:store:_files -/' ;;
	gc) _arguments '--keep[versions kept]:number' '--grace[how long the rest stays]:time' '--wait[for a publisher]:time' '--dry-run[remove nothing]' '--json[as JSON]' '--help[options]' '1:store:_files -/' ;;
	verify) _arguments '--version[number]:number' '--json[as JSON]' '--cacert[certificates]:file:_files' '--quiet[no progress]' '--help[options]' '1:store:_files -/' ;;
	esac
}

_weightfs_programs() {
	local -a commands
	local curcontext=$curcontext state line
	case $service in
	weightfs) commands=(mount unmount status wait events hooks pin unpin verify) ;;
	weightsync) commands=(publish log show pull plan verify gc) ;;
	esac
	_arguments -C '--help[commands]' '--version[version]' '1:command:($commands)' '*::argument:->rest'
	[[ $state = rest ]] && _${service}_commands
}

_weightfs_programs "$@"

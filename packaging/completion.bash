# SPDX-License-Identifier: Apache-2.0
# bash completion for weightfs and weightsync

_weightfs_mount_options="accept_run allow_other base= bind= cache= cache_size= cacert= config= foreground fsname= gid=
	hub= join= keep_versions= lazy linger= log_level= min_free= noexec passthrough= poll= rate= read_timeout= ready= run_as= scrub= serve=
	show_code
	uid= umask= workers="

# The word in COMP_LINE that began with -o may hold several options: complete the one behind the last comma.
_weightfs_complete_options()
{
	local cur=$1 done=''

	case $cur in *,*) done=${cur%,*}, cur=${cur##*,} ;; esac
	case $cur in
	serve=*) mapfile -t COMPREPLY < <(compgen -W "mount link" -- "${cur#*=}") ;;
	ready=*) mapfile -t COMPREPLY < <(compgen -W "complete delta manifest auto" -- "${cur#*=}") ;;
	bind=*) mapfile -t COMPREPLY < <(compgen -W "job process cgroup none" -- "${cur#*=}") ;;
	log_level=*) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "${cur#*=}") ;;
	cache=*|base=*) mapfile -t COMPREPLY < <(compgen -d -- "${cur#*=}") ;;
	cacert=*|config=*) mapfile -t COMPREPLY < <(compgen -f -- "${cur#*=}") ;;
	*) mapfile -t COMPREPLY < <(compgen -W "$_weightfs_mount_options" -P "$done" -- "$cur") ;;
	esac
	compopt -o nospace
}

_weightfs()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''

	# bash splits words at "=": look at the text as typed.
	local typed=${COMP_LINE:0:COMP_POINT}
	typed=${typed##*[[:space:]]}
	if [[ ${COMP_LINE:0:COMP_POINT} =~ \ -o\ *[^[:space:]]*$ ]]; then
		_weightfs_complete_options "$typed"
		return
	fi
	if [ "$COMP_CWORD" -eq 1 ]; then
		words="mount unmount status wait events hooks pin unpin verify --help --version"
	else
		case ${COMP_WORDS[1]} in
		mount) words="-o --help" ;;
		unmount) words="--lazy --help" ;;
		status) words="--json --files --version --help" ;;
		wait) words="--newer-than --timeout --help" ;;
		events) words="--json --newer-than --help" ;;
		hooks) words="--once --dry-run --config --help" ;;
		pin|unpin|verify) words="--help" ;;
		esac
	fi
	case $prev in --newer-than|--timeout) return ;; esac
	case $cur in
	-*) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	*) [ "$COMP_CWORD" -eq 1 ] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ||
		mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	esac
}

_weightsync()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''

	if [ "$COMP_CWORD" -eq 1 ]; then
		words="publish log show pull plan verify gc --help --version"
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
	fi
	case $prev in
	--label|--include|--exclude|--strides|--have|--want|--keep|--grace|--wait|--version|--workers|--rate|--anchor-limit) return ;;
	--anchor) mapfile -t COMPREPLY < <(compgen -W "packed plain" -- "$cur"); return ;;
	esac
	case ${COMP_WORDS[1]} in
	publish) words="--label --previous --cache --include --exclude --allow-empty --full --strides --anchor --anchor-limit --workers --wait --json --quiet --help" ;;
	log|show) words="--json --cacert --help" ;;
	pull) words="--version --cacert --rate --quiet --help" ;;
	plan) words="--have --want --json --cacert --help" ;;
	gc) words="--keep --grace --wait --dry-run --json --help" ;;
	verify) words="--version --json --cacert --quiet --help" ;;
	esac
	case $cur in
	-*) mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	esac
}

complete -F _weightfs weightfs
complete -F _weightsync weightsync

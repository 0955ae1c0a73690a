#!/bin/bash
# `cmake --install`: what users get works from where they put it, and its manual page knows all commands and options.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

cmake --install "$build" --prefix "$tmp/usr" >"$tmp/install.out" || fail "does not install"
ubpf_run=$tmp/usr/bin/ubpf-run
# Not one built beside it: the preloaded library is found where it was installed.
for file in "$ubpf_run" "$tmp/usr/lib/ubpf-run/libubpf-preload.so" "$tmp/usr/include/ubpf/ubpf.h"; do
	[ -f "$file" ] || fail "$file is not installed"
done

start_victim target -t 2
pid=$last
load malloc
ubpf attach "$pid" >/dev/null || fail "attach"
tell target calls 10 >/dev/null
expect_count "$pid" 20
ubpf detach "$pid" >/dev/null || fail "detach"
end_loader INT
expect_status 0 "$ubpf_run" exec --preload -- sh -c 'grep -q libubpf-preload /proc/self/maps'

page=$(tr -d '\\' <"$tmp/usr/share/man/man1/ubpf-run.1")
commands=$("$ubpf_run" --help | sed -nE 's/^  ([a-z]+)  .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 11 ] || fail "commands of --help: $commands"
for command in $commands; do
	grep -q "^\.BR $command " <<<"$page" || fail "the manual page has no command $command"
	options=$("$ubpf_run" "$command" --help | sed -nE 's/^  (-.,|   ) --([a-z-]+).*/\2/p')
	for option in $options; do
		case $option in help | usage | version) continue ;; esac
		grep -qE -- "--$option([^a-z-]|\$)" <<<"$page" || fail "the manual page has no --$option of $command"
	done
done

# Is this a container? systemd knows them all; without it, what each kind leaves behind.
in_container() {
    if command -v systemd-detect-virt >/dev/null; then
        systemd-detect-virt --container --quiet
        return
    fi
    [ -e /run/systemd/container ] || [ -e /.dockerenv ] || [ -e /run/.containerenv ] ||
        tr '\0' '\n' 2>/dev/null </proc/1/environ | grep -q '^container=' ||
        grep -Eq 'docker|libpod|kubepods|lxc|machine\.slice' /proc/1/cgroup 2>/dev/null
}

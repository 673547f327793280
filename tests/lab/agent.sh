# The lab's agent: sh on the second serial line (descriptor 9). A command is one line, "MARK
# base64"; the answer is its output, MARK and exit status. All commands share one shell. `head`
# reads the line, because busybox's `read` loses what it has read when a child ends.
stty -F /dev/ttyS1 raw -echo
exec 9<>/dev/ttyS1
echo "LAB-AGENT-READY" >&9
while lab_line=$(head -n 1 <&9); do
    [ -n "$lab_line" ] || continue
    eval "$(echo "${lab_line#* }" | base64 -d)" >&9 2>&1 </dev/null
    echo "${lab_line%% *} $?" >&9
done

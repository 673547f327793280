# The lab's agent: sh on the second serial line. One line a command, "MARK base64"; the answer is its output,
# then MARK and its exit status. Commands run in one shell: variables and descriptors stay. Descriptor 9 is the line.
# A line is read by a program of its own: busybox's `read` begins anew, without what it had, when a child ends meanwhile.
stty -F /dev/ttyS1 raw -echo
exec 9<>/dev/ttyS1
echo "LAB-AGENT-READY" >&9
while lab_line=$(head -n 1 <&9); do
    [ -n "$lab_line" ] || continue
    eval "$(echo "${lab_line#* }" | base64 -d)" >&9 2>&1 </dev/null
    echo "${lab_line%% *} $?" >&9
done

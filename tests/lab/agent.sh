# The lab's agent: sh on the second serial line. One line a command, "MARK base64"; the answer is its output,
# then MARK and its exit status. Commands run in one shell: variables and descriptors stay. Descriptor 9 is the line.
stty -F /dev/ttyS1 raw -echo
exec 9<>/dev/ttyS1
echo "LAB-AGENT-READY" >&9
while read -r lab_mark lab_line <&9; do
    [ -n "$lab_line" ] || { [ -z "$lab_mark" ] || echo "$lab_mark READY" >&9; continue; }
    eval "$(echo "$lab_line" | base64 -d)" >&9 2>&1 </dev/null
    echo "$lab_mark $?" >&9
done

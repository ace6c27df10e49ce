#!/bin/sh
# Notes the checksum of every file that comes into a folder. It knows nothing of rolehost: two folders, a pause and a
# name come by its environment, it ends when it gets TERM, and what it prints is kept.
set -u

stopping=
trap 'stopping=yes' TERM

note() {
    # A file is noted once: its line is its name and its checksum.
    name=$(basename "$1")
    sed 's/ [^ ]*$//' "$LEDGER/ledger.txt" 2>/dev/null | grep -Fqx -e "$name" && return
    sum=$(sha256sum <"$1") || return
    echo "$name ${sum%% *}" >>"$LEDGER/ledger.txt"
    echo "$INSTANCE noted $name"
}

echo "$INSTANCE watches $INBOX"
while [ -z "$stopping" ]; do
    for file in "$INBOX"/*; do
        [ -f "$file" ] && note "$file"
        [ -n "$stopping" ] && break
    done
    sleep "$PAUSE" &
    wait $! # a signal ends the wait, not only the sleep after it
done
echo "$INSTANCE is done"

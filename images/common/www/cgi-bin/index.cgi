#!/bin/sh
# The page at /. Made at each request, so that it is right on a read-only disk and after a change of name.
printf 'Content-Type: text/plain\r\nConnection: close\r\n\r\nhello from %s\n' "$(hostname)"

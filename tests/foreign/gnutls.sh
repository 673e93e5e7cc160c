#!/bin/sh
# gnutls-cli, which knows TLS and no HTTP: a bound token, and a call with it.
set -eu
. "$(dirname "$0")/told.sh"

# over URL CERT KEY: sends standard input to that server, and reads until it closes. At the end of its own input gnutls-cli
# would hang up before the answer; so its input is a pipe that stays open.
over() {
    name=$(authority "$1")
    pipe=$(mktemp -u "$CERTBIND_CA.XXXXXX") && mkfifo "$pipe"
    gnutls-cli --x509cafile "$CERTBIND_CA" --x509certfile "$2" --x509keyfile "$3" --port "${name##*:}" "${name%:*}" <"$pipe" &
    exec 3>"$pipe"
    rm "$pipe"
    cat >&3
    wait "$!" || true
    exec 3>&-
}

answer=$(token_request | over "$TOKEN_ENDPOINT" "$CERTBIND_CERT" "$CERTBIND_KEY")
token=$(printf '%s' "$answer" | token_of)
[ -n "$token" ] || no_token "$answer"
status=$(api_request "$token" | over "$API" "$CERTBIND_CERT" "$CERTBIND_KEY" | status_of)

tell "$token" "$status" "$(api_request "$token" | over "$API" "$THIEF_CERT" "$THIEF_KEY" | status_of)"

#!/bin/sh
# curl: a bound token, and a call with it. What is secret goes by standard input: arguments stand in the list of processes.
set -eu
. "$(dirname "$0")/told.sh"

mutual() { curl --silent --show-error --cacert "$CERTBIND_CA" --cert "$CERTBIND_CERT" --key "$CERTBIND_KEY" "$@"; }
answer=$(proof | mutual -d grant_type=client_credentials -d scope=payments:read -d @- "$TOKEN_ENDPOINT")
token=$(printf '%s' "$answer" | token_of)
[ -n "$token" ] || no_token "$answer"
call() { printf 'Authorization: Bearer %s' "$token" | mutual -H @- "$API" -o /dev/null -w '%{http_code}'; }

status=$(call)
CERTBIND_CERT=$THIEF_CERT CERTBIND_KEY=$THIEF_KEY
tell "$token" "$status" "$(call)"

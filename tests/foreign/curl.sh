#!/bin/sh
# curl: a bound token, and a call with it.
set -eu
. "$(dirname "$0")/told.sh"

over() { curl --silent --show-error --cacert "$CERTBIND_CA" --cert "$1" --key "$2" -d "$3" "$TOKEN_ENDPOINT"; }
call() { curl --silent --show-error --cacert "$CERTBIND_CA" --cert "$1" --key "$2" -H "Authorization: Bearer $token" "$API" -o /dev/null -w '%{http_code}'; }

answer=$(over "$CERTBIND_CERT" "$CERTBIND_KEY" "grant_type=client_credentials&scope=payments:read&$(proof)")
token=$(printf '%s' "$answer" | token_of)
[ -n "$token" ] || no_token "$answer"
tell "$token" "$(call "$CERTBIND_CERT" "$CERTBIND_KEY")" "$(call "$THIEF_CERT" "$THIEF_KEY")"

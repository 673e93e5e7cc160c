#!/bin/sh
# openssl s_client, which knows TLS and no HTTP: a bound token, and a call with it.
set -eu
. "$(dirname "$0")/told.sh"

# over URL CERT KEY: sends standard input to that server. Intermediates stand in the certificate's file, behind it.
over() {
    openssl s_client -quiet -ign_eof -verify_return_error -connect "$(authority "$1")" -CAfile "$CERTBIND_CA" \
        -cert "$2" -cert_chain "$2" -key "$3" 2>/dev/null
}

answer=$(token_request | over "$TOKEN_ENDPOINT" "$CERTBIND_CERT" "$CERTBIND_KEY")
token=$(printf '%s' "$answer" | token_of)
[ -n "$token" ] || no_token "$answer"
status=$(api_request "$token" | over "$API" "$CERTBIND_CERT" "$CERTBIND_KEY" | status_of)

tell "$token" "$status" "$(api_request "$token" | over "$API" "$THIEF_CERT" "$THIEF_KEY" | status_of)"

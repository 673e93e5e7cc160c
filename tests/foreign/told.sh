# What a client here is told by its environment, and how it tells what came of it. Read by the other scripts with `.`

# Who asks: the certificate of the connection says it, or an assertion that `certbind token` signs.
proof() {
    if [ -z "${ASSERTION_KEY:-}" ]; then
        printf 'client_id=%s' "$CERTBIND_CLIENT_ID"
        return
    fi
    assertion=$("$CERTBIND" token --assertion-key "$ASSERTION_KEY" --alg "$ASSERTION_ALG" --assertion-only)
    printf 'client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=%s' "$assertion"
}

# Requests as they go over the wire, for programs that know TLS and no HTTP.
token_request() {
    body="grant_type=client_credentials&scope=payments:read&$(proof)"
    printf 'POST %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "/${TOKEN_ENDPOINT#https://*/}" "$(authority "$TOKEN_ENDPOINT")"
    printf 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %s\r\n\r\n%s' "${#body}" "$body"
}
api_request() {
    printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "/${API#https://*/}" "$(authority "$API")"
    printf 'Authorization: Bearer %s\r\n\r\n' "$1"
}
authority() { rest=${1#https://} && printf '%s' "${rest%%/*}"; }

# What stands in an answer that comes by standard input.
token_of() { sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'; }
status_of() { sed -n 's/.*HTTP\/1.1 \([0-9][0-9][0-9]\) .*/\1/p' | head -n 1; }

# The answer to a token request that brought none.
no_token() { echo "$1" >&2 && exit 1; }

# tell TOKEN STATUS STATUS_OF_THE_THIEF: one line of JSON.
tell() { printf '{"token_endpoint":"%s","token":"%s","api":%s,"thief":%s}\n' "$TOKEN_ENDPOINT" "$@"; }

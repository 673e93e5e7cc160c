//! `certbind explain REASON`: what a reason in the audit log means, and what to do about it.

use std::io::{self, Write};

use super::Exit;

/// A reason with its cause and its cure.
pub struct Reason {
    /// The name, as it stands in `reason`.
    pub name: &'static str,
    /// What was found.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

const fn reason(name: &'static str, cause: &'static str, cure: &'static str) -> Reason {
    Reason { name, cause, cure }
}

/// Every reason that a decision of this project can have, in alphabetical order.
pub const REASONS: &[Reason] = &[
    reason(
        "admin_certificate",
        "Somebody asked the admin API with a certificate that is not believed there: not of a CA in listen.admin.ca, expired, revoked, or not made for client authentication.",
        "`reason` in the answer and in the audit log names the fact; `certbind explain` tells what to do about it. A CA of [[trust]] vouches for clients, not for administrators.",
    ),
    reason(
        "admin_unknown",
        "Somebody asked the admin API who may not: over the Unix socket a process of another user, over TLS a certificate that no listen.admin.allow entry names.",
        "Run the command as the user of the server or as root, or add the certificate's name to listen.admin.allow.",
    ),
    reason(
        "agent_caller",
        "A process of another user asked the agent at its socket. The agent's own user, root and those of --user may.",
        "Run the program as one of these users, or start the agent with --user NAME.",
    ),
    reason(
        "agent_parameters",
        "A question to the agent has a parameter that it does not know, or one that is repeated or malformed.",
        "Ask GET /token with resource=URI (may be repeated), scope=… and min_ttl=60s, percent-encoded; all of them may be left out.",
    ),
    reason(
        "agent_path",
        "The agent was asked for something that it does not have, or not by GET.",
        "Ask for GET /token, GET /status or GET /livez.",
    ),
    reason(
        "agent_questions",
        "There are 64 different questions of resource and scope already, each put within the last ten minutes.",
        "Ask for fewer different scopes, or run an agent for each group of programs.",
    ),
    reason(
        "alg_not_allowed",
        "The assertion or token is signed with an algorithm that the profile forbids, that this server does not know, or that is not the one registered for the client (RFC 8725 §3.1).",
        "Sign with the registered token_endpoint_auth_signing_alg; fapi2 permits PS256, ES256 and EdDSA.",
    ),
    reason(
        "asked_by_page",
        "A request to the admin API had an Origin header, which browsers send for web pages; a page could use the certificate of whoever looks at it.",
        "Use the command line or a program. If a program of yours sends Origin, have it stop.",
    ),
    reason(
        "asked_too_often",
        "The client sent more token requests than limits.token_requests_per_client permits.",
        "Cache tokens until shortly before they expire (certbind-client does), or raise the limit.",
    ),
    reason(
        "assertion_audience",
        "The assertion's aud is not this server's issuer identifier alone (RFC 10070 §4). The token endpoint's URL, a second value and another spelling are all refused.",
        "Set aud to the issuer exactly as the metadata prints it. While an old library cannot, set legacy_audience = true for this client (never in fapi2).",
    ),
    reason(
        "assertion_expired",
        "The assertion's exp has passed, clock skew allowed for.",
        "Make a fresh assertion for every request, and look at the client's clock.",
    ),
    reason(
        "assertion_issuer",
        "The assertion's iss is missing or is not the client_id (RFC 7523 §3).",
        "Set iss and sub to the client_id, letter for letter.",
    ),
    reason(
        "assertion_jti",
        "The assertion has no jti, an empty or too long one, or one that is not a string (OpenID Connect Core §9).",
        "Give every assertion a fresh random jti of at most 256 characters.",
    ),
    reason(
        "assertion_malformed",
        "The client_assertion is not one compact JWS with a JSON header and claims of the right types (RFC 7515 §7.1, RFC 7519 §7.2).",
        "Print the assertion's header and claims; duplicate members, padding, crit, zip, b64 and nested tokens are refused.",
    ),
    reason(
        "assertion_not_signed",
        "The agent could not sign its client assertion.",
        "Look at --assertion-key and --alg.",
    ),
    reason(
        "assertion_not_yet_valid",
        "The assertion's nbf or iat lies further in the future than clocks may differ.",
        "Set the client's clock by NTP; leave out nbf.",
    ),
    reason(
        "assertion_replayed",
        "An assertion with this client's jti was accepted before and has not expired since (OpenID Connect Core §9).",
        "Make a fresh assertion for every try, retries included. If the client did, somebody else holds a copy of its assertion.",
    ),
    reason(
        "assertion_signature",
        "No key of the client verifies the assertion's signature.",
        "Compare the registered public key with the one the client signs with: certbind client explain shows both thumbprints.",
    ),
    reason(
        "assertion_subject",
        "The assertion's sub is missing or is not the client_id (RFC 7523 §3).",
        "Set iss and sub to the client_id, letter for letter.",
    ),
    reason(
        "assertion_too_long",
        "The assertion's exp lies further ahead than assertions.max_lifetime permits, or is missing.",
        "Set exp to at most a few minutes after iat; one minute is enough. While a library signs for an hour and has no option for less, assertions.max_lifetime = \"1h\" lets all clients do so.",
    ),
    reason(
        "assertion_typ",
        "The assertion's typ belongs to another kind of token (RFC 8725 §3.12).",
        "Leave typ out, or set client-authentication+jwt.",
    ),
    reason(
        "assertion_type",
        "client_assertion_type is missing or not urn:ietf:params:oauth:client-assertion-type:jwt-bearer, or came without client_assertion (RFC 7521 §4.2).",
        "Send both parameters, the type letter for letter.",
    ),
    reason(
        "audit_unavailable",
        "The audit log could not be written, so the token was not handed out or the change not made: log.audit_required is set.",
        "Look at the disk of the audit log and at the error log. It goes on by itself when the disk does.",
    ),
    reason(
        "authorization_header",
        "The request has an Authorization header at the token endpoint. No method of this server uses one; there are no shared secrets here.",
        "In Go's x/oauth2 set AuthStyleInParams, in requests-oauthlib give include_client_id=True; elsewhere switch off client_secret_basic.",
    ),
    reason(
        "binding_mismatch",
        "The token is bound to another certificate than the one on this connection (RFC 8705 §3).",
        "Fetch a new token after a certificate was renewed. If the client did not renew, the token was stolen.",
    ),
    reason(
        "body_malformed",
        "The body of a request to the admin API is not one JSON object, or a member stands in it twice.",
        "Send one JSON object with each member once.",
    ),
    reason(
        "body_too_large",
        "The request body is larger than 64 KiB, or 256 KiB at the admin API.",
        "Token requests and registrations are small; look at what was sent.",
    ),
    reason(
        "body_too_slow",
        "The request body did not arrive in time.",
        "Look at the network between client and server.",
    ),
    reason(
        "body_unreadable",
        "The request body ended early or was malformed.",
        "Look at the network and at proxies on the way.",
    ),
    reason(
        "certificate_expired",
        "The certificate's notAfter has passed.",
        "Renew it. Nothing has to change in the registration while the registered name stays the same.",
    ),
    reason(
        "certificate_malformed",
        "The certificate is not one strictly encoded DER certificate (RFC 5280 §4.1), or has a name with a NUL in it.",
        "Print it with openssl x509 -text, and ask the CA that issued it.",
    ),
    reason(
        "certificate_missing",
        "The client sent no certificate on this connection, and this client or this server's policy demands one.",
        "Give the client its certificate and key, and send it to the token endpoint of mtls_endpoint_aliases. If a proxy ends TLS, have it forward the certificate to [listen.proxy].",
    ),
    reason(
        "certificate_not_revoked",
        "An administrator wanted to lift the revocation of a certificate that no administrator has revoked, or that is lifted already.",
        "`certbind revoke list --kind certificate` shows what is revoked. One that is on a revocation list is taken back by its CA.",
    ),
    reason(
        "certificate_not_yet_valid",
        "The certificate's notBefore lies in the future.",
        "Look at the clocks of the CA and of this server.",
    ),
    reason(
        "certificate_refused_within_tls",
        "The server refused the client's certificate in the TLS handshake, before any OAuth was spoken.",
        "Look whether the certificate is of a CA that the server knows: `certbind client explain CLIENT --cert FILE` says it.",
    ),
    reason(
        "certificate_revoked",
        "A revocation list of the trust group lists the certificate or one of its issuers, or an administrator has revoked it by its thumbprint.",
        "Issue a new certificate; remove the entry only if it was made by mistake.",
    ),
    reason(
        "chain_too_long",
        "The client sent more certificates, or needs a longer path, than trust.max_chain_depth permits.",
        "Send the leaf and its intermediates only.",
    ),
    reason(
        "chain_untrusted",
        "No path leads from the certificate to an anchor of the client's trust group (RFC 8705 §2.1).",
        "See that the client sends its intermediates, and that [[trust]] names the right CA: certbind client explain NAME --cert FILE.",
    ),
    reason(
        "client_contended",
        "Others changed the same client so often that a change which fits any state (If-Match: *, disable, enable) did not get its turn. Nothing was changed.",
        "Send it again. If it happens often, something changes one client in a loop: admin.requested in the audit log says who.",
    ),
    reason(
        "client_disabled",
        "The registration says state = \"disabled\".",
        "Set it to active if the client may have tokens.",
    ),
    reason(
        "client_exists",
        "A client with this client_id is registered in the store already.",
        "Choose another client_id, or change the client that there is.",
    ),
    reason(
        "client_id_mismatch",
        "client_id and the assertion's sub name two clients (RFC 7521 §4.2).",
        "Leave client_id out, or send the same.",
    ),
    reason(
        "client_id_missing",
        "The request has no client_id, and no assertion that names one (RFC 8705 §2).",
        "Send client_id as a form parameter; a certificate alone does not identify a client.",
    ),
    reason(
        "client_in_file",
        "A file in clients.dir registers this client, and the file alone says how.",
        "Change or remove the file; the server follows it.",
    ),
    reason(
        "client_other",
        "The client_id in the body is not the one in the path. A client cannot be renamed.",
        "Leave client_id out of the body, or register the client anew under the other name.",
    ),
    reason(
        "client_unknown",
        "No client with this client_id is registered.",
        "Look at clients.dir, at rejected files in the log, and at the clients of the store.",
    ),
    reason(
        "condition_malformed",
        "If-Match or If-None-Match is not *, not one strong entity tag in quotes, or both were sent.",
        "Send the ETag that came with the client, in its quotes, or *.",
    ),
    reason(
        "confirmation_unknown",
        "The token's cnf holds nothing, or something besides x5t#S256 that this verifier cannot check (RFC 7800 §3.1).",
        "Use a verifier that knows the method, or have the server bind by certificate only.",
    ),
    reason(
        "content_type",
        "The body is not application/x-www-form-urlencoded (RFC 6749 Appendix B).",
        "Send a form, not JSON.",
    ),
    reason(
        "crl_stale",
        "A revocation list of this chain is past its nextUpdate, from the future, or not signed by the CA it speaks for (RFC 5280 §6.3).",
        "Fetch a fresh list into the file; it is read again when it changes. crl_stale = \"warn\" goes on with the old one.",
    ),
    reason(
        "dn_mismatch",
        "The certificate's subject is not the registered tls_client_auth_subject_dn (RFC 5280 §7.1).",
        "Compare both sides with certbind client explain NAME --cert FILE; a DN is written most specific RDN first (RFC 4514).",
    ),
    reason(
        "eku_missing",
        "The certificate may not be used for TLS client authentication: extendedKeyUsage lacks clientAuth.",
        "Issue it with clientAuth. Public CAs no longer do; use a private CA.",
    ),
    reason(
        "extension_unknown",
        "A certificate of the chain has a critical extension that is not understood, or that must not be critical (RFC 5280 §4.2).",
        "Issue it without, or not critical. Critical certificate policies are not supported.",
    ),
    reason(
        "failed_too_often",
        "This address failed to authenticate more often than limits.failed_auth_per_address permits.",
        "Look at the refusals before this one. Other clients at the same address still get their tokens.",
    ),
    reason(
        "form_malformed",
        "The body is not a form: a broken escape, no UTF-8, or too many parameters.",
        "Percent-encode each value once.",
    ),
    reason(
        "forwarded_hash_alone",
        "The proxy forwarded the hash of its client's certificate and not the certificate (XFCC with Hash= alone). The guard needs no more; here the certificate says who the client is.",
        "Have Envoy forward the certificate as well: set_current_client_cert_details with cert: true, or chain: true where clients have intermediates.",
    ),
    reason(
        "forwarded_malformed",
        "What a proxy forwarded as the certificate of its client is not in the format that certificate_from names in [listen.proxy] of the server, or in [listen] of the guard (RFC 9440 §2).",
        "Hold what the proxy writes into that header against the sample of deploy/, and look whether the two settings mean the same proxy.",
    ),
    reason(
        "forwarded_other_header",
        "Beside the header that is configured another one claims to forward a certificate, or one that differs by `_` or `.` for `-` alone (RFC 9440 §4).",
        "If a client sent it, this is an attempt to pass for somebody else. If the proxy did, have it remove that header, or name its format in certificate_from.",
    ),
    reason(
        "forwarded_repeated",
        "More than one certificate was forwarded for one client (RFC 9440 §2.2): two headers, a list, or the certificate of a proxy before this one.",
        "Have the proxy replace what its client sent instead of adding to it (Envoy: forward_client_cert_details: SANITIZE or SANITIZE_SET).",
    ),
    reason(
        "grant_not_registered",
        "The client's file has a grant_types without this grant (RFC 6749 §5.2).",
        "Add client_credentials to grant_types in the client's file, or leave grant_types out.",
    ),
    reason(
        "grant_type_missing",
        "The request has no grant_type (RFC 6749 §4.4.2).",
        "Send grant_type=client_credentials.",
    ),
    reason(
        "grant_type_unsupported",
        "The grant_type is not client_credentials (RFC 6749 §5.2).",
        "Send grant_type=client_credentials.",
    ),
    reason(
        "jwks_unavailable",
        "The client's jwks_uri gave no keys: unreachable, too slow, too large, not a JWK set, or at an address that is not allowed.",
        "Fetch it from this host with curl; private addresses need assertions.jwks_fetch.allow_private_networks = true.",
    ),
    reason(
        "key_too_weak",
        "The certificate has an RSA key below 2048 bits, an elliptic curve below 224 bits or a kind of key that is not supported.",
        "Issue it for a P-256 key.",
    ),
    reason(
        "key_unknown",
        "None of the registered keys fits the header's kid and alg, or the issuer has no such key.",
        "Register the key, or correct the kid; a jwks_uri is asked again at most every 30 s.",
    ),
    reason(
        "key_usage",
        "The certificate's keyUsage lacks digitalSignature, or permits signing certificates (RFC 5280 §4.2.1.3).",
        "Issue it with digitalSignature only.",
    ),
    reason(
        "keys_unavailable",
        "The resource server holds no keys of the issuer, or has not been able to renew them for longer than it relies on them (a day, unless set otherwise).",
        "Look whether it can reach the issuer's metadata and jwks_uri, and whether it trusts their certificates; its log names the fault.",
    ),
    reason(
        "media_type",
        "The body of a request to the admin API has another media type than the operation takes.",
        "Send application/json, and for PATCH application/merge-patch+json (RFC 7396).",
    ),
    reason(
        "metadata_invalid",
        "The registration is refused; the answer lists every member that is wrong (RFC 7591 §3.2.2).",
        "Put right what the errors name, and send it again.",
    ),
    reason(
        "method_not_allowed",
        "The path of the admin API does not have this method.",
        "Use one of the methods that the Allow header names.",
    ),
    reason(
        "method_not_registered",
        "The client proved itself by another method than its token_endpoint_auth_method (RFC 7591 §2).",
        "Change the client, or its registration.",
    ),
    reason(
        "method_unsupported",
        "The request uses a shared secret. This server has none.",
        "Register a certificate or a public key for the client.",
    ),
    reason(
        "name_constraint",
        "A CA above the certificate has name constraints that exclude it, or constrains directory names, e-mail addresses or URIs (RFC 5280 §4.2.1.10).",
        "Issue it inside the constraints. Constraints of DNS names and addresses work; all others refuse every certificate below.",
    ),
    reason(
        "next_key_published",
        "A next signing key was asked for, and one is published already: it signs as soon as its time has come.",
        "Wait for its time, which certbind key list says. If the key that signs now must not sign any longer, retire it: the next one takes over at once.",
    ),
    reason(
        "parameter_repeated",
        "A parameter came twice (RFC 6749 §3.2).",
        "Send each parameter once; only resource may repeat.",
    ),
    reason(
        "parameters_in_query",
        "The token request has parameters in its URL (RFC 6749 §2.3.1).",
        "Send them in the body.",
    ),
    reason(
        "path_unknown",
        "There is nothing at this path of the admin API.",
        "GET /admin/v1/openapi.json lists every path.",
    ),
    reason(
        "precondition_failed",
        "The client is not in the state that If-Match names: somebody changed it in between.",
        "Look at the client again, and send the change with its new ETag.",
    ),
    reason(
        "precondition_missing",
        "A change came without If-Match, so it could undo what somebody else changed in between (RFC 6585 §3).",
        "Send If-Match with the ETag of the state that you change, or * for any.",
    ),
    reason(
        "proxy_certificate",
        "Whoever came to a listener for proxies has a certificate that is not good for one: not of a CA in its ca, expired, revoked, or not made for client authentication. `detail` of the server's audit line names the fact.",
        "Give the proxy a certificate of that CA with clientAuth in its extended key usage, and renew it in time. A CA of [[trust]] vouches for clients, not for proxies.",
    ),
    reason(
        "proxy_unknown",
        "Somebody came to the guard, or to [listen.proxy] of the server, who is not a proxy that is known there, so what they say of a certificate is worth nothing.",
        "Over a Unix socket, name the proxy's user in users; over TLS, name a name of its certificate in allow (both in [listen.proxy] of the server, [listen] of the guard).",
    ),
    reason(
        "query_malformed",
        "A parameter in the query of a request to the admin API is unknown, repeated or malformed.",
        "Look at the parameter that the answer names; labels are written label=name=value.",
    ),
    reason(
        "question_malformed",
        "The proxy does not say which request it asks about, or says it twice.",
        "nginx has to set X-Original-Method and X-Original-URI, as in deploy/nginx; Traefik, Caddy and Envoy say it by themselves. Look at listen.mode.",
    ),
    reason(
        "registration_too_large",
        "With this change the client's registration would be larger than 256 KiB, the most that one may have, however many changes it is made of. Nothing was changed.",
        "Take away keys, certificates, labels or scopes that nobody needs. Publish a large key set at jwks_uri.",
    ),
    reason(
        "request_interrupted",
        "A request for a token was given up before its end, because the agent was stopping.",
        "Ask again; another agent may run by then.",
    ),
    reason(
        "resource_malformed",
        "A resource is not an absolute URI without fragment (RFC 8707 §2).",
        "Send the resource as registered.",
    ),
    reason(
        "resource_not_allowed",
        "The resource is not in the client's audiences (RFC 8707 §2).",
        "Add it to [certbind] audiences, spelt alike.",
    ),
    reason(
        "revocation_invalid",
        "A request to revoke does not name exactly one certificate or client, or not as it must be named.",
        "`errors` in the answer says what is wrong, member by member. Nothing was revoked.",
    ),
    reason(
        "revocation_stale",
        "The resource server does not know what the issuer revoked lately: it has no list, one that is too old, or no answer about the token. The token itself may be good, so the answer is 503.",
        "Look whether the resource server reaches the issuer, and whether the issuer reaches its store: without it the list grows old. docs/revocation.md says how long that is borne.",
    ),
    reason(
        "revocation_unknown",
        "The trust group has revocation lists, and none of them is for a CA of this chain (RFC 5280 §6.3).",
        "Add the list of each CA in the chain to crl, the root's as well.",
    ),
    reason(
        "revocations_full",
        "As many revocations are in force as the published list may hold, so a client's own was not taken. There is room for 40,000 more by administrators; what revocation lists say is always taken.",
        "Find the client that revokes without end in the audit log, or shorten tokens.lifetime: a revocation is kept until its token is over.",
    ),
    reason(
        "revoked_too_often",
        "The client revoked more than 1000 tokens in a minute.",
        "Revoke a token when it is no longer needed before its end, not each one; or disable the client, which ends all of its tokens.",
    ),
    reason(
        "role_insufficient",
        "The role of whoever asked the admin API does not permit the operation.",
        "Ask somebody with a higher role, or change the role in listen.admin.allow.",
    ),
    reason(
        "route_ambiguous",
        "The path of the request, or a header beside it, can be read in two ways: a dot segment, a double slash, an escaped separator, or a header that names another path or method. The service might read it otherwise than the guard.",
        "If a client means what it sends, have it send the plain form. Nothing in the guard's configuration lets it through.",
    ),
    reason(
        "route_unknown",
        "No [[route]] of the guard has this method and path, so nobody said what a token must be.",
        "Add a [[route]] for it; the first that fits counts.",
    ),
    reason(
        "san_mismatch",
        "No subjectAltName of the registered kind equals the registered value (RFC 8705 §2.1.2).",
        "Compare both sides with certbind client explain NAME --cert FILE. The common name is never looked at.",
    ),
    reason(
        "scheme_not_bearer",
        "The Authorization header has another scheme than Bearer (RFC 6750 §2.1).",
        "Send Authorization: Bearer TOKEN.",
    ),
    reason(
        "scope_malformed",
        "The scope has characters or blanks that a scope cannot have (RFC 6749 §3.3).",
        "Separate tokens by one space.",
    ),
    reason(
        "scope_missing",
        "The token is good, but has not all of the scope that the route demands (RFC 6750 §3.1).",
        "Ask for a token with the scope that the challenge names.",
    ),
    reason(
        "scope_not_allowed",
        "The scope is not in the client's registration (RFC 6749 §3.3).",
        "Add it to scope of the registration, or ask for less.",
    ),
    reason(
        "scope_of_other_resource",
        "The scope belongs to another resource than the one asked for, or to several (RFC 9068 §3).",
        "Name the resource, and ask for one token for each.",
    ),
    reason(
        "server_busy",
        "The authorization server answered that it cannot serve now (429, 5xx).",
        "Wait: the agent asks again by itself, not before the server wants it. The server's log has the reason under request_id.",
    ),
    reason(
        "server_not_oauth",
        "What answers at the issuer is no OAuth server, or its metadata will not do (RFC 8414).",
        "Look at --issuer and at what stands before the server: a page of a proxy is the usual cause.",
    ),
    reason(
        "server_refused",
        "The authorization server refused the request for a token; error_description has its code.",
        "Look up request_id in the server's audit log, and `certbind explain` the reason that stands there.",
    ),
    reason(
        "server_unreachable",
        "The authorization server could not be reached: no connection, no trust in its certificate, or no answer in time.",
        "Look at the network, at --ca and at --issuer. The agent keeps trying, and hands out the token that it has until that is over.",
    ),
    reason(
        "several_resources",
        "The profile gives a token for one resource only.",
        "Ask for one token for each resource.",
    ),
    reason(
        "signature_weak",
        "A certificate of the chain is signed with MD5 or SHA-1.",
        "Issue it with SHA-256 or better.",
    ),
    reason(
        "signer_unavailable",
        "The security module that holds the signing key did not sign in time or failed, or this server has no access to it.",
        "Look at the module, its token and the error log. It goes on by itself when the module does, unless the PIN was refused.",
    ),
    reason(
        "signing_failed",
        "The server could not sign the token, or not make or read a signing key.",
        "Look at the error log: this is ours.",
    ),
    reason(
        "signing_key_missing",
        "A next signing key was asked for, and the token of keys.source holds none: no key with the configured label, of the kind that tokens.algorithm asks for, and with a larger id than those that were taken.",
        "Make a key pair in the token with that label and a larger CKA_ID, and ask again.",
    ),
    reason(
        "signing_key_retired",
        "The signing key that was to be retired had been retired before.",
        "Nothing is to be done: it neither signs nor is it published.",
    ),
    reason(
        "signing_key_unknown",
        "There is no signing key with this kid, or it has left the store because nobody needs it any longer.",
        "Look at certbind key list.",
    ),
    reason(
        "signing_keys_outdated",
        "This server has not heard from its store for keys.publish_before. Its signing key may have been replaced without its knowledge, and nobody would verify the token.",
        "Look at the store and the error log. It goes on by itself as soon as the store answers; longer outages need a longer keys.publish_before.",
    ),
    reason(
        "signing_keys_too_many",
        "There are as many signing keys as a resource server is sure to read, so no other one is made.",
        "Wait until old ones are gone; certbind key list says when.",
    ),
    reason(
        "store_unavailable",
        "The store did not answer: an assertion's jti was not taken and nothing issued, nothing revoked, or a change is not known to be made.",
        "Look at the disk and at the error log. It goes on by itself when the store does.",
    ),
    reason(
        "thumbprint_unknown",
        "The certificate is not one of those registered for this client (RFC 8705 §2.2). The whole certificate counts, not its key or name.",
        "Register the new certificate beside the old one before it is used.",
    ),
    reason(
        "token_audience",
        "The token's aud does not name this resource (RFC 9068 §4).",
        "Ask for a token with this resource.",
    ),
    reason(
        "token_claims",
        "A claim that RFC 9068 §2.2 requires is missing or has the wrong type.",
        "Look at which server issued the token.",
    ),
    reason("token_expired", "The token's exp has passed.", "Fetch a new one; renew before it expires."),
    reason(
        "token_issuer",
        "The token's iss is not the issuer that this resource trusts (RFC 9068 §4).",
        "Ask the right server for a token.",
    ),
    reason(
        "token_malformed",
        "What came as token is not one compact JWS (RFC 7515 §7.1).",
        "Send the access_token as it was received.",
    ),
    reason("token_missing", "The request has no Authorization header.", "Send Authorization: Bearer TOKEN."),
    reason(
        "token_not_yet_valid",
        "The token's iat or nbf lies in the future.",
        "Look at the clocks of server and resource.",
    ),
    reason(
        "token_of_another_client",
        "A client asked to revoke a token that was issued to another one (RFC 7009 §2.1). The token stays good.",
        "Revoke with the credentials of the client that got the token. If nobody did, somebody holds a token that is not his.",
    ),
    reason(
        "token_parameter_missing",
        "The request names no token (RFC 7009 §2.1, RFC 7662 §2.1).",
        "Send the token as the form parameter token, in the body.",
    ),
    reason(
        "token_repeated",
        "The request has more than one Authorization header (RFC 6750 §2).",
        "Send one, with one token.",
    ),
    reason(
        "token_revoked",
        "The token was revoked by its client, or an operator revoked every token that the client had (RFC 7009 §2.1).",
        "Fetch a new one. If the client did not revoke it, ask who did: certbind's audit log has the event token.revoked.",
    ),
    reason(
        "token_signature",
        "No key of the issuer verifies the token's signature.",
        "The token is forged, cut or from another server.",
    ),
    reason(
        "token_too_old",
        "The token was made longer ago than the route accepts, though it has not expired.",
        "Fetch a new one for this route.",
    ),
    reason(
        "token_type",
        "The token's typ is not at+jwt (RFC 9068 §4).",
        "An id token or an assertion is not an access token.",
    ),
    reason(
        "token_unbound",
        "The token is not bound to a certificate, and the route demands it.",
        "Fetch it over a connection with a client certificate.",
    ),
    reason(
        "trust_unknown",
        "The client names a trust group that is no longer in the configuration.",
        "Bring the [[trust]] group back, or change certbind.trust of the client.",
    ),
    reason(
        "two_methods",
        "The request proves its client in more than one way (RFC 6749 §2.3). A certificate on the connection does not count as one.",
        "Send either an assertion or nothing but client_id.",
    ),
];

/// The reason with this name; the types of problems (RFC 9457) write it with hyphens.
#[must_use]
pub fn find(name: &str) -> Option<&'static Reason> {
    let name = &name.replace('-', "_");
    REASONS.binary_search_by(|reason| reason.name.cmp(name.as_str())).ok().and_then(|at| REASONS.get(at))
}

/// Prints cause and cure of one reason, or the list of all.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(name: Option<&str>, out: &mut dyn Write) -> io::Result<Exit> {
    let Some(name) = name else {
        for reason in REASONS {
            writeln!(out, "{}", reason.name)?;
        }
        return Ok(Exit::Done);
    };
    let Some(reason) = find(name) else {
        writeln!(io::stderr(), "there is no reason `{name}`; `certbind explain` lists them all")?;
        return Ok(Exit::Usage);
    };
    writeln!(out, "{}\n\ncause  {}\ncure   {}", reason.name, reason.cause, reason.cure)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_order_so_that_each_is_found() {
        assert!(REASONS.is_sorted_by(|a, b| a.name < b.name));
        for reason in REASONS {
            assert_eq!(find(reason.name).map(|found| found.name), Some(reason.name));
        }
        assert!(find("because").is_none());
        assert_eq!(find("client-exists").map(|found| found.name), Some("client_exists"));
    }

    #[test]
    fn each_reason_of_the_verifier_is_explained() {
        for name in certbind_verify::REASONS {
            assert!(find(name).is_some(), "{name}");
        }
    }
}

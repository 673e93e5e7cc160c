#!/usr/bin/env python3
"""Is this access token good for this request? RFC 8705 §3, RFC 9068 §4 and RFC 6750 in one file.

`verify` decides about one request; the README beside this file has its rules, in the same order. The package `cryptography` checks
signatures, everything else is Python's own. Run with files of vectors, it prints a verdict a line and fails when one is not theirs:
`python verify.py *.json`
"""
import base64, hashlib, hmac, json, re, sys

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

# What an algorithm needs: the kind of its key, its hash, the octets of a coordinate.
ALGORITHMS = {
    "EdDSA": (("OKP", "Ed25519"), None, 32),
    "ES256": (("EC", "P-256"), hashes.SHA256(), 32),
    "ES384": (("EC", "P-384"), hashes.SHA384(), 48),
    "PS256": (("RSA", None), hashes.SHA256(), None),
    "PS384": (("RSA", None), hashes.SHA384(), None),
    "RS256": (("RSA", None), hashes.SHA256(), None),
}
SECRET = {"d", "dp", "dq", "k", "oth", "p", "q", "qi"}
NOT_ENFORCED = {"jkt", "jku", "jwe", "jwk", "kid", "osc"}
LAST_SECOND = 253402300799


class Denied(Exception):
    def __init__(self, reason, error="invalid_token"):
        self.reason, self.error = reason, error


def need(holds, reason, error="invalid_token"):
    if not holds:
        raise Denied(reason, error)


def verify(authorization, certificate, jwks, settings, demand, revocations, now):
    """What the token says, or `Denied`. `certificate` is the DER of the leaf that was proved on this connection."""
    keys = usable_keys(jwks)
    token = bearer(authorization)
    header, payload, signed = parse(token, 16384)
    check_signature(header, signed, keys, settings["algorithms"])
    claims = check_claims(header, payload, settings, now)
    check_binding(claims, certificate, demand)
    if revocations is not None:
        check_revocations(claims, revocations, keys, settings, now)
    skew = settings["clock_skew"] * 1000
    max_age = demand["max_age"]
    need(max_age is None or now * 1000 - (claims["iat"] + skew) <= max_age * 1000, "token_too_old")
    need(scope_of(demand["scope"]) <= claims["scope"], "scope_missing", "insufficient_scope")
    return claims


def bearer(authorization):
    """1. The token of the `Authorization` headers."""
    need(authorization, "token_missing", None)
    need(len(authorization) == 1, "token_repeated", "invalid_request")
    scheme, _, credentials = authorization[0].partition(" ")
    need(scheme.lower() == "bearer" and scheme.isascii(), "scheme_not_bearer", None)
    credentials = credentials.lstrip(" ")
    is_token = re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", credentials) and len(credentials) <= 16384
    need(is_token, "token_malformed", "invalid_request")
    return credentials


def parse(token, longest):
    """2. Header, payload, and what the signature is about."""
    parts = token.split(".")
    need(len(token) <= longest and len(parts) == 3 and len(parts[0]) <= 4096, "token_malformed")
    header = json_object(base64url(parts[0]))
    need(not {"crit", "b64", "zip"} & header.keys() and not is_media_type(header.get("cty"), "jwt"), "token_malformed")
    need(isinstance(header.get("alg"), str), "token_malformed")
    header["alg"] = "EdDSA" if header["alg"] == "Ed25519" else header["alg"]
    need(header["alg"] in ALGORITHMS, "alg_not_allowed")
    need("kid" not in header or is_kid(header["kid"]), "token_malformed")
    need(isinstance(header.get("typ", ""), str), "token_malformed")
    payload, signature = base64url(parts[1]), base64url(parts[2])
    return header, payload, (f"{parts[0]}.{parts[1]}".encode(), signature)


def base64url(text, reason="token_malformed"):
    need(isinstance(text, str) and re.fullmatch(r"[A-Za-z0-9_-]*", text) and len(text) % 4 != 1, reason)
    octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    need(base64.urlsafe_b64encode(octets).rstrip(b"=").decode() == text, reason)
    return octets


def json_object(octets):
    def members(pairs):
        need(len(dict(pairs)) == len(pairs), "token_malformed")
        return dict(pairs)

    def number(text):
        need(abs(float(text)) < float("inf"), "token_malformed")  # And not NaN.
        return int(text) if text.lstrip("-").isdigit() else float(text)

    hooks = {"object_pairs_hook": members, "parse_int": number, "parse_float": number, "parse_constant": number}
    try:
        value = json.loads(octets.decode(), **hooks)
        json.dumps(value, ensure_ascii=False).encode()  # No half of a surrogate pair.
    except (ValueError, RecursionError):
        raise Denied("token_malformed") from None
    need(isinstance(value, dict) and depth(value) <= 16, "token_malformed")
    return value


def depth(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(depth, inside), default=0)


def is_kid(value):
    is_control = lambda c: ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0
    return isinstance(value, str) and 0 < len(value.encode()) <= 256 and not any(map(is_control, value))


def is_media_type(value, name):
    return isinstance(value, str) and value.isascii() and value.lower() in (name, f"application/{name}")


def usable_keys(jwks):
    """3. The keys of a set as (kid, algorithms, key); `None` where there is no set."""
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list) or len(jwks["keys"]) > 32:
        return None
    return [key for key in map(usable_key, jwks["keys"]) if key]


def usable_key(jwk):
    if not isinstance(jwk, dict) or SECRET & jwk.keys() or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations or ("kid" in jwk and not is_kid(jwk["kid"])):
        return None
    kind = (jwk.get("kty"), None if jwk.get("kty") == "RSA" else jwk.get("crv"))
    able = {name for name, (wanted, _, _) in ALGORITHMS.items() if wanted == kind}
    if "alg" in jwk:
        able &= {"EdDSA" if jwk["alg"] == "Ed25519" else jwk["alg"]} if isinstance(jwk["alg"], str) else set()
    if not able:
        return None
    try:
        return jwk.get("kid"), able, public_key(jwk, *kind)
    except (Denied, ValueError, UnsupportedAlgorithm):
        return None


def public_key(jwk, kty, crv):
    if kty == "RSA":
        n, e = base64url(jwk.get("n")), base64url(jwk.get("e"))
        need(n and e and n[0] and e[0], "key_unknown")
        n, e = int.from_bytes(n, "big"), int.from_bytes(e, "big")
        need(2048 <= n.bit_length() <= 8192 and 3 <= e < 2**33 and e % 2, "key_unknown")
        return rsa.RSAPublicNumbers(e, n).public_key()
    x = base64url(jwk.get("x"))
    if kty == "OKP":
        return ed25519.Ed25519PublicKey.from_public_bytes(x)
    y, size, curve = base64url(jwk.get("y")), *((32, ec.SECP256R1()) if crv == "P-256" else (48, ec.SECP384R1()))
    need(len(x) == len(y) == size, "key_unknown")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + x + y)


def check_signature(header, signed, keys, allowed):
    need(keys is not None, "keys_unavailable", None)
    alg = header["alg"]
    need(alg in allowed, "alg_not_allowed")
    fitting = [key for kid, able, key in keys if alg in able and header.get("kid", kid) == kid]
    need(fitting, "key_unknown")
    need(any(holds(alg, key, *signed) for key in fitting[:8]), "token_signature")


def holds(alg, key, message, signature):
    _, hashing, size = ALGORITHMS[alg]
    try:
        if alg == "EdDSA":
            key.verify(signature, message)
        elif alg.startswith("ES"):
            if len(signature) != 2 * size:
                return False
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashing))
        elif alg.startswith("PS"):
            key.verify(signature, message, padding.PSS(padding.MGF1(hashing), hashing.digest_size), hashing)
        else:
            key.verify(signature, message, padding.PKCS1v15(), hashing)
        return True
    except InvalidSignature:
        return False


def check_claims(header, payload, settings, now):
    """4. The claims, dates in milliseconds."""
    need(is_media_type(header.get("typ"), "at+jwt"), "token_type")
    claims = json_object(payload)
    need(claims.get("iss") == settings["issuer"], "token_issuer")
    aud = claims.get("aud") if isinstance(claims.get("aud"), list) else [claims.get("aud")]
    need(all(isinstance(one, str) for one in aud) and set(aud) & set(settings["audiences"]), "token_audience")
    skew = settings["clock_skew"]
    exp = date(claims, "exp")
    need(exp is not None, "token_claims")
    need(is_before(now, exp, skew), "token_expired")
    nbf = date(claims, "nbf")
    need(nbf is None or is_not_ahead(now, nbf, skew), "token_not_yet_valid")
    iat = date(claims, "iat")
    need(iat is not None, "token_claims")
    need(is_not_ahead(now, iat, skew), "token_not_yet_valid")
    for name in ("sub", "client_id", "jti"):
        need(isinstance(claims.get(name), str) and claims[name], "token_claims")
    scope = scope_of(claims.get("scope", ""))
    need(scope is not None, "token_claims")
    thumbprint = None
    if "cnf" in claims:
        cnf = claims["cnf"]
        need(isinstance(cnf, dict) and not NOT_ENFORCED & cnf.keys(), "confirmation_unknown")
        thumbprint = cnf.get("x5t#S256")
        need(len(base64url(thumbprint, "confirmation_unknown")) == 32, "confirmation_unknown")
    return {**claims, "aud": aud, "exp": exp, "iat": iat, "scope": scope, "thumbprint": thumbprint}


def date(claims, name):
    value = claims.get(name)
    if name not in claims:
        return None
    need(type(value) in (int, float) and 0 <= value <= LAST_SECOND, "token_malformed")
    return int(value * 1000)


def is_before(now, exp, skew):
    return now * 1000 < exp + min(skew, 60) * 1000


def is_not_ahead(now, moment, skew):
    return moment <= (now + min(max(skew, 10), 60)) * 1000


def scope_of(text):
    if not isinstance(text, str) or not re.fullmatch(r"([!#-\[\]-~]+( [!#-\[\]-~]+)*)?", text):
        return None
    return set(text.split())


def check_binding(claims, certificate, demand):
    """5. The certificate of this connection."""
    need(demand["audience"] is None or demand["audience"] in claims["aud"], "token_audience")
    if claims["thumbprint"] is None:
        return need(demand["binding"] == "when_bound", "token_unbound")
    need(certificate is not None, "certificate_missing")
    mine = hashlib.sha256(certificate).digest()
    need(hmac.compare_digest(mine, base64url(claims["thumbprint"])), "binding_mismatch")


def check_revocations(claims, revocations, keys, settings, now):
    """6. What the issuer revoked."""
    held, iat = read_list(revocations["list"], keys, settings, now), claims["iat"]
    if held:
        need(short_hash(claims["jti"].encode()) not in held["tokens"], "token_revoked")
        if claims["thumbprint"]:
            until = held["certificates"].get(base64url(claims["thumbprint"])[:16])
            need(until is None or iat > until * 1000, "certificate_revoked")
        until = held["clients"].get(short_hash(claims["client_id"].encode()))
        need(until is None or iat > until * 1000, "token_revoked")
    if revocations["when_stale"] == "deny":
        skew, max_age = settings["clock_skew"] * 1000, revocations["max_age"] * 1000
        is_current = held and now * 1000 - held["iat"] <= max_age + skew and now * 1000 < held["exp"] + skew
        need(is_current, "revocation_stale", None)


def read_list(document, keys, settings, now):
    try:
        header, payload, signed = parse(document or "", 8 << 20)
        check_signature(header, signed, keys, settings["algorithms"])
        need(is_media_type(header.get("typ"), "certbind-revocations+jwt"), "token_type")
        claims = json_object(payload)
        need(claims.get("iss") == settings["issuer"], "token_issuer")
        iat, exp, skew = date(claims, "iat"), date(claims, "exp"), settings["clock_skew"]
        need(None not in (iat, exp) and is_not_ahead(now, iat, skew) and is_before(now, exp, skew), "token_expired")
        ids = base64url(claims.get("tokens"))
        need(len(ids) % 16 == 0, "token_malformed")
        until = {}
        for name in ("certificates", "clients"):
            need(isinstance(claims.get(name), dict), "token_malformed")
            until[name] = {base64url(one): seconds for one, seconds in claims[name].items()}
            need(all(len(one) == 16 and type(seconds) is int for one, seconds in until[name].items()), "token_malformed")
        return {**until, "tokens": {ids[at : at + 16] for at in range(0, len(ids), 16)}, "iat": iat, "exp": exp}
    except Denied:
        return None


def short_hash(octets):
    return hashlib.sha256(octets).digest()[:16]


ANSWERS = {
    "invalid_request": (400, "One access token belongs into one Authorization header."),
    "invalid_token": (401, "The access token is not good here."),
    "insufficient_scope": (403, "The access token does not allow this."),
}


def answer(denied, settings, demand):
    """The status, and the challenge of the header `WWW-Authenticate`."""
    if denied.reason in ("keys_unavailable", "revocation_stale"):
        return {"status": 503, "error": None, "challenge": None, "reason": denied.reason}
    status, description = ANSWERS.get(denied.error, (401, None))
    scope = " ".join(sorted(scope_of(demand["scope"]))) if status == 403 else None
    attributes = {"realm": settings["realm"], "resource_metadata": settings["resource_metadata"]}
    attributes.update({"error": denied.error, "error_description": description, "scope": scope})
    clean = lambda value: re.sub(r"[^ !#-\[\]-~]", "", value)
    written = [f'{name}="{clean(value)}"' for name, value in attributes.items() if value is not None]
    challenge = " ".join(["Bearer", ", ".join(written)]).rstrip()
    return {"status": status, "error": denied.error, "challenge": challenge, "reason": denied.reason}


def verdict(case):
    certificate = None if case["certificate"] is None else base64.b64decode(case["certificate"])
    given = [case[name] for name in ("jwks", "settings", "demand", "revocations", "now")]
    try:
        claims = verify(case["authorization"], certificate, *given)
    except Denied as denied:
        return {"denied": answer(denied, case["settings"], case["demand"])}
    said = {name: claims[name] for name in ("client_id", "sub", "jti", "thumbprint")}
    times = {"issued_at": claims["iat"] // 1000, "expires": claims["exp"] // 1000}
    return {"accepted": {**said, **times, "audience": claims["aud"], "scope": " ".join(sorted(claims["scope"]))}}


def main(files):
    wrong = 0
    for file in files:
        with open(file, encoding="utf-8") as opened:
            vectors = json.load(opened)
        for case in vectors["cases"]:
            given = verdict({**vectors["defaults"], **case})
            wrong += given != case["verdict"]
            print(json.dumps({"file": file.rpartition("/")[2], "name": case["name"], "verdict": given}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env node
// Is this access token good for this request? RFC 8705 §3, RFC 9068 §4 and RFC 6750 in one file, with node:crypto alone.
//
// `verify` decides about one request; the README beside this file has its rules, in the same order. Run with files of vectors, it
// prints a verdict a line and fails when one is not theirs: `node verify.mjs *.json`
import { createHash, createPublicKey, timingSafeEqual, verify as verifySignature, constants } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { isDeepStrictEqual } from "node:util";

const PSS = constants.RSA_PKCS1_PSS_PADDING;
// What an algorithm needs: the kind of its key, and how node:crypto is asked.
const ALGORITHMS = new Map([
  ["EdDSA", { kty: "OKP", crv: "Ed25519", hash: null, options: {}, size: 64 }],
  ["ES256", { kty: "EC", crv: "P-256", hash: "sha256", options: { dsaEncoding: "ieee-p1363" }, size: 64 }],
  ["ES384", { kty: "EC", crv: "P-384", hash: "sha384", options: { dsaEncoding: "ieee-p1363" }, size: 96 }],
  ["PS256", { kty: "RSA", hash: "sha256", options: { padding: PSS, saltLength: 32 } }],
  ["PS384", { kty: "RSA", hash: "sha384", options: { padding: PSS, saltLength: 48 } }],
  ["RS256", { kty: "RSA", hash: "sha256", options: {} }],
]);
const COORDINATE = { "P-256": 32, "P-384": 48, Ed25519: 32 };
const SECRET = ["d", "dp", "dq", "k", "oth", "p", "q", "qi"];
const NOT_ENFORCED = ["jkt", "jku", "jwe", "jwk", "kid", "osc"];
const LAST_SECOND = 253402300799;

class Denied extends Error {
  constructor(reason, error) {
    super(reason);
    Object.assign(this, { reason, error });
  }
}

function need(holds, reason, error = "invalid_token") {
  if (!holds) throw new Denied(reason, error);
}

const has = (object, name) => Object.hasOwn(object, name);
const isText = (value) => typeof value === "string";
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const sha256 = (octets) => createHash("sha256").update(octets).digest();

/** What the token says, or `Denied`. `certificate` is the DER of the leaf that was proved on this connection. */
export function verify(authorization, certificate, { jwks, settings, demand, revocations, now }) {
  const keys = usableKeys(jwks);
  const { header, payload, signed } = parse(bearer(authorization), 16384);
  checkSignature(header, signed, keys, settings.algorithms);
  const claims = checkClaims(header, payload, settings, now);
  checkBinding(claims, certificate, demand);
  if (revocations !== null) checkRevocations(claims, revocations, keys, settings, now);
  const age = now * 1000 - (claims.iat + settings.clock_skew * 1000);
  need(demand.max_age === null || age <= demand.max_age * 1000, "token_too_old");
  need(scopeOf(demand.scope).every((part) => claims.scope.includes(part)), "scope_missing", "insufficient_scope");
  return claims;
}

/** 1. The token of the `Authorization` headers. */
function bearer(authorization) {
  need(authorization.length > 0, "token_missing", null);
  need(authorization.length === 1, "token_repeated", "invalid_request");
  const [, scheme, credentials] = /^([^ ]*) *(.*)$/s.exec(authorization[0]);
  need(/^bearer$/i.test(scheme), "scheme_not_bearer", null);
  const isToken = /^[A-Za-z0-9._~+/-]+=*$/.test(credentials) && credentials.length <= 16384;
  need(isToken, "token_malformed", "invalid_request");
  return credentials;
}

/** 2. Header, payload, and what the signature is about. */
function parse(token, longest) {
  const parts = token.split(".");
  need(token.length <= longest && parts.length === 3 && parts[0].length <= 4096, "token_malformed");
  const header = jsonObject(base64url(parts[0]));
  const changesMeaning = ["crit", "b64", "zip"].some((name) => has(header, name)) || isMediaType(header.cty, "jwt");
  need(!changesMeaning && has(header, "alg") && isText(header.alg), "token_malformed");
  if (header.alg === "Ed25519") header.alg = "EdDSA";
  need(ALGORITHMS.has(header.alg), "alg_not_allowed");
  need(!has(header, "kid") || isKid(header.kid), "token_malformed");
  need(!has(header, "typ") || isText(header.typ), "token_malformed");
  const [payload, signature] = [base64url(parts[1]), base64url(parts[2])];
  return { header, payload, signed: { message: Buffer.from(`${parts[0]}.${parts[1]}`), signature } };
}

function base64url(text, reason = "token_malformed") {
  const octets = Buffer.from(isText(text) ? text : "", "base64url");
  need(octets.toString("base64url") === text, reason);
  return octets;
}

function jsonObject(octets) {
  let value;
  try {
    // A byte order mark stays, and is no JSON.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(octets);
    value = JSON.parse(text);
    checkMembers(text);
  } catch (error) {
    if (error instanceof Denied || error instanceof SyntaxError || error instanceof TypeError) need(false, "token_malformed");
    throw error;
  }
  need(isObject(value) && isSound(value), "token_malformed");
  return value;
}

/** No member name twice, at most 16 objects and lists inside one another. The text is known to be JSON. */
function checkMembers(text) {
  const open = [];
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\]]/g)) {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (token.endsWith(":")) {
      const name = JSON.parse(token.slice(0, -1));
      need(!open.at(-1).has(name), "token_malformed");
      open.at(-1).add(name);
    }
    need(open.length <= 16, "token_malformed");
  }
}

/** No half of a surrogate pair, no number that is not finite. */
function isSound(value) {
  if (isText(value)) return !/\p{Surrogate}/u.test(value);
  if (typeof value === "number") return Number.isFinite(value);
  return value === null || typeof value !== "object" || Object.entries(value).flat().every(isSound);
}

function isKid(value) {
  return isText(value) && value !== "" && Buffer.byteLength(value) <= 256 && !/\p{Cc}/u.test(value);
}

function isMediaType(value, name) {
  return isText(value) && [name, `application/${name}`].includes(value.replace(/[A-Z]/g, (c) => c.toLowerCase()));
}

/** 3. The keys of a set that count; `null` where there is no set. */
function usableKeys(jwks) {
  const isSet = isObject(jwks) && Array.isArray(jwks.keys) && jwks.keys.length <= 32;
  return isSet ? jwks.keys.map(usableKey).filter((key) => key !== null) : null;
}

function usableKey(jwk) {
  if (!isObject(jwk) || SECRET.some((name) => has(jwk, name))) return null;
  const { kty, crv, use = "sig", key_ops: operations = ["verify"], kid } = jwk;
  if (use !== "sig" || !Array.isArray(operations) || !operations.includes("verify")) return null;
  if (has(jwk, "kid") && !isKid(kid)) return null;
  const named = jwk.alg === "Ed25519" ? "EdDSA" : jwk.alg;
  const able = [...ALGORITHMS].filter(([name, needs]) => {
    return needs.kty === kty && (kty === "RSA" || needs.crv === crv) && (!has(jwk, "alg") || name === named);
  });
  try {
    const isSized = kty === "RSA" ? isGoodRsa(jwk) : coordinates(jwk).every((one) => one.length === COORDINATE[crv]);
    if (able.length === 0 || !isSized) return null;
    const { x, y, n, e } = jwk;
    const key = createPublicKey({ key: JSON.parse(JSON.stringify({ kty, crv, x, y, n, e })), format: "jwk" });
    return { kid, able: able.map(([name]) => name), key };
  } catch {
    return null;
  }
}

const coordinates = ({ kty, x, y }) => (kty === "EC" ? [base64url(x), base64url(y)] : [base64url(x)]);

function isGoodRsa(jwk) {
  const [n, e] = [base64url(jwk.n), base64url(jwk.e)];
  if (!n[0] || !e[0]) return false;
  const [modulus, exponent] = [n, e].map((octets) => BigInt(`0x${octets.toString("hex")}`));
  const bits = modulus.toString(2).length;
  return bits >= 2048 && bits <= 8192 && exponent >= 3n && exponent < 2n ** 33n && exponent % 2n === 1n;
}

function checkSignature(header, { message, signature }, keys, allowed) {
  need(keys !== null, "keys_unavailable", null);
  need(allowed.includes(header.alg), "alg_not_allowed");
  const fitting = keys.filter((key) => key.able.includes(header.alg) && (!has(header, "kid") || key.kid === header.kid));
  need(fitting.length > 0, "key_unknown");
  const { hash, options, size = signature.length } = ALGORITHMS.get(header.alg);
  const holds = ({ key }) => signature.length === size && verifySignature(hash, message, { key, ...options }, signature);
  need(fitting.slice(0, 8).some(holds), "token_signature");
}

/** 4. The claims, dates in milliseconds. */
function checkClaims(header, payload, settings, now) {
  need(isMediaType(header.typ, "at+jwt"), "token_type");
  const claims = jsonObject(payload);
  const claim = (name) => (has(claims, name) ? claims[name] : undefined);
  need(claim("iss") === settings.issuer, "token_issuer");
  const aud = Array.isArray(claim("aud")) ? claim("aud") : [claim("aud")];
  need(aud.every(isText) && aud.some((one) => settings.audiences.includes(one)), "token_audience");
  const skew = settings.clock_skew;
  const exp = date(claim("exp"));
  need(exp !== undefined, "token_claims");
  need(isBefore(now, exp, skew), "token_expired");
  const nbf = date(claim("nbf"));
  need(nbf === undefined || isNotAhead(now, nbf, skew), "token_not_yet_valid");
  const iat = date(claim("iat"));
  need(iat !== undefined, "token_claims");
  need(isNotAhead(now, iat, skew), "token_not_yet_valid");
  const [sub, client_id, jti] = ["sub", "client_id", "jti"].map(claim);
  need([sub, client_id, jti].every((text) => isText(text) && text !== ""), "token_claims");
  const scope = scopeOf(has(claims, "scope") ? claims.scope : "");
  need(scope !== null, "token_claims");
  const thumbprint = has(claims, "cnf") ? confirmation(claims.cnf) : null;
  return { sub, client_id, jti, aud, exp, iat, scope, thumbprint };
}

function date(value) {
  if (value === undefined) return undefined;
  need(typeof value === "number" && value >= 0 && value <= LAST_SECOND, "token_malformed");
  return Math.trunc(value * 1000) + 0; // And no minus zero.
}

const isBefore = (now, exp, skew) => now * 1000 < exp + Math.min(skew, 60) * 1000;
const isNotAhead = (now, moment, skew) => moment <= (now + Math.min(Math.max(skew, 10), 60)) * 1000;

/** The parts of a scope, each once and in order; `null` where it is none. */
function scopeOf(text) {
  if (!isText(text) || !/^([!#-[\]-~]+( [!#-[\]-~]+)*)?$/.test(text)) return null;
  return [...new Set(text.split(" ").filter((part) => part !== ""))].sort();
}

function confirmation(cnf) {
  need(isObject(cnf) && !NOT_ENFORCED.some((method) => has(cnf, method)), "confirmation_unknown");
  const thumbprint = has(cnf, "x5t#S256") ? cnf["x5t#S256"] : undefined;
  need(base64url(thumbprint, "confirmation_unknown").length === 32, "confirmation_unknown");
  return thumbprint;
}

/** 5. The certificate of this connection. */
function checkBinding(claims, certificate, demand) {
  need(demand.audience === null || claims.aud.includes(demand.audience), "token_audience");
  if (claims.thumbprint === null) return need(demand.binding === "when_bound", "token_unbound");
  need(certificate !== null, "certificate_missing");
  need(timingSafeEqual(sha256(certificate), base64url(claims.thumbprint)), "binding_mismatch");
}

/** 6. What the issuer revoked. */
function checkRevocations(claims, revocations, keys, settings, now) {
  const held = readList(revocations.list, keys, settings, now);
  const isListed = (until, id) => until.has(id) && claims.iat <= until.get(id) * 1000;
  if (held !== null) {
    need(!held.tokens.has(shortId(sha256(claims.jti))), "token_revoked");
    const mine = claims.thumbprint === null ? null : shortId(base64url(claims.thumbprint));
    need(!isListed(held.certificates, mine), "certificate_revoked");
    need(!isListed(held.clients, shortId(sha256(claims.client_id))), "token_revoked");
  }
  if (revocations.when_stale !== "deny") return;
  const [time, skew] = [now * 1000, settings.clock_skew * 1000];
  const isCurrent = held !== null && time - held.iat <= revocations.max_age * 1000 + skew && time < held.exp + skew;
  need(isCurrent, "revocation_stale", null);
}

const shortId = (hash) => hash.subarray(0, 16).toString("base64url");

function readList(document, keys, settings, now) {
  try {
    const { header, payload, signed } = parse(document ?? "", 8 << 20);
    checkSignature(header, signed, keys, settings.algorithms);
    need(isMediaType(header.typ, "certbind-revocations+jwt"), "token_type");
    const claims = jsonObject(payload);
    need(claims.iss === settings.issuer, "token_issuer");
    const [iat, exp, skew] = [date(claims.iat), date(claims.exp), settings.clock_skew];
    need(iat !== undefined && exp !== undefined, "token_claims");
    need(isNotAhead(now, iat, skew) && isBefore(now, exp, skew), "token_expired");
    const ids = base64url(claims.tokens);
    need(ids.length % 16 === 0, "token_malformed");
    const tokens = new Set(Array.from({ length: ids.length / 16 }, (_, at) => shortId(ids.subarray(at * 16))));
    const [certificates, clients] = [claims.certificates, claims.clients].map((until) => {
      need(isObject(until), "token_malformed");
      const isGood = ([id, seconds]) => base64url(id).length === 16 && Number.isSafeInteger(seconds);
      need(Object.entries(until).every(isGood), "token_malformed");
      return new Map(Object.entries(until));
    });
    return { iat, exp, tokens, certificates, clients };
  } catch (error) {
    if (error instanceof Denied) return null;
    throw error;
  }
}

const ANSWERS = {
  invalid_request: [400, "One access token belongs into one Authorization header."],
  invalid_token: [401, "The access token is not good here."],
  insufficient_scope: [403, "The access token does not allow this."],
};

/** The status, and the challenge of the header `WWW-Authenticate`. */
export function answer({ reason, error }, settings, demand) {
  if (["keys_unavailable", "revocation_stale"].includes(reason)) return { status: 503, error: null, challenge: null, reason };
  const [status, description] = ANSWERS[error] ?? [401, null];
  const scope = status === 403 ? scopeOf(demand.scope).join(" ") : null;
  const { realm, resource_metadata } = settings;
  const attributes = Object.entries({ realm, resource_metadata, error, error_description: description, scope });
  const written = attributes
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}="${value.replace(/[^ !#-[\]-~]/g, "")}"`);
  return { status, error, challenge: `Bearer ${written.join(", ")}`.trimEnd(), reason };
}

function verdict(given) {
  const certificate = given.certificate === null ? null : Buffer.from(given.certificate, "base64");
  try {
    const { client_id, sub, jti, thumbprint, aud, iat, exp, scope } = verify(given.authorization, certificate, given);
    const [issued_at, expires] = [iat, exp].map((millis) => Math.floor(millis / 1000));
    return { accepted: { client_id, sub, jti, thumbprint, audience: aud, issued_at, expires, scope: scope.join(" ") } };
  } catch (error) {
    if (error instanceof Denied) return { denied: answer(error, given.settings, given.demand) };
    throw error;
  }
}

for (const file of process.argv.slice(2)) {
  const { defaults, cases } = JSON.parse(readFileSync(file, "utf8"));
  for (const one of cases) {
    const given = verdict({ ...defaults, ...one });
    if (!isDeepStrictEqual(given, one.verdict)) process.exitCode = 1;
    console.log(JSON.stringify({ file: basename(file), name: one.name, verdict: given }));
  }
}

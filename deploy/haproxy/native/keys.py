#!/usr/bin/env python3
"""Writes the ES256 keys of a JWKS as the PEM files that haproxy.cfg names: key-0.pem to key-2.pem, the last one repeated if there are fewer.

    curl --fail --silent --cacert ca.pem https://auth.example.com/.well-known/jwks.json | keys.py /etc/haproxy/keys

From a timer, more often than `keys.publish_before` of the issuer, with a reload of HAProxy after it: HAProxy reads keys when it starts.
Ends with 1, and changes none of them, when it does not understand a key, there are more than it can write, or it cannot write them."""

import base64
import json
import os
import sys

FILES = 3
# SubjectPublicKeyInfo of a point on P-256 (RFC 5480), up to the point.
BEFORE_THE_POINT = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def coordinate(text):
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(decoded) != 32:
        raise ValueError("a coordinate of P-256 has 32 bytes")
    return decoded


def pem(key):
    if (key.get("kty"), key.get("crv"), key.get("alg", "ES256")) != ("EC", "P-256", "ES256"):
        raise ValueError(f"{key.get('kid')}: {key.get('kty')} {key.get('alg')}, and the recipe is for ES256 alone")
    der = base64.b64encode(BEFORE_THE_POINT + coordinate(key["x"]) + coordinate(key["y"])).decode()
    lines = [der[at:at + 64] for at in range(0, len(der), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


try:
    keys = [pem(key) for key in json.load(sys.stdin)["keys"]]
    if not 0 < len(keys) <= FILES:
        raise ValueError(f"{len(keys)} keys, and there is place for {FILES}")
except (ValueError, KeyError, TypeError) as error:
    sys.exit(f"keys.py: {error}")
files = [os.path.join(sys.argv[1], f"key-{at}.pem") for at in range(FILES)]
try:
    for at, file in enumerate(files):
        with open(file + ".new", "w", encoding="ascii") as new:
            new.write(keys[min(at, len(keys) - 1)])
except OSError as error:
    sys.exit(f"keys.py: {error}")
# When all are written.
for file in files:
    os.rename(file + ".new", file)

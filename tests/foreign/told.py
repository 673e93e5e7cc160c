"""What a client here is told by its environment, and how it tells what came of it."""

import json
import os
import subprocess

import requests

issuer = os.environ["CERTBIND_ISSUER"]
client_id = os.environ["CERTBIND_CLIENT_ID"]
ca = os.environ["CERTBIND_CA"]
cert = os.environ["CERTBIND_CERT"]
key = os.environ["CERTBIND_KEY"]
assertion_key = os.environ.get("ASSERTION_KEY")
alg = os.environ.get("ASSERTION_ALG")
token_endpoint = os.environ["TOKEN_ENDPOINT"]
api = os.environ["API"]


def proof():
    """Who asks: the certificate of the connection says it, or an assertion that `certbind token` signs."""
    if not assertion_key:
        return {"client_id": client_id}
    sign = [os.environ["CERTBIND"], "token", "--assertion-key", assertion_key, "--alg", alg, "--assertion-only"]
    assertion = subprocess.run(sign, check=True, capture_output=True, text=True).stdout.strip()
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return {"client_assertion_type": kind, "client_assertion": assertion}


def tell(token, answer):
    """Calls the API once more with the thief's certificate, and prints one line of JSON."""
    thief = os.environ["THIEF_CERT"], os.environ["THIEF_KEY"]
    stolen = requests.get(api, headers={"Authorization": f"Bearer {token}"}, cert=thief, verify=ca)
    said = {"token_endpoint": token_endpoint, "token": token, "api": answer.status_code, "thief": stolen.status_code}
    print(json.dumps(said))

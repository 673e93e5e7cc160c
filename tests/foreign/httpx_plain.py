"""httpx, without an OAuth library: a bound token, and a call with it."""

import ssl

import httpx

from told import api, ca, cert, key, proof, tell, token_endpoint

context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(cert, key)
client = httpx.Client(verify=context)
answer = client.post(token_endpoint, data={"grant_type": "client_credentials", "scope": "payments:read", **proof()})
assert answer.is_success, answer.text
token = answer.json()["access_token"]
answer = client.get(api, headers={"Authorization": f"Bearer {token}"})

tell(token, answer)

"""requests, without an OAuth library: a bound token, and a call with it."""

import requests

from told import api, ca, cert, key, proof, tell, token_endpoint

session = requests.Session()
session.cert, session.verify = (cert, key), ca
answer = session.post(token_endpoint, data={"grant_type": "client_credentials", "scope": "payments:read", **proof()})
assert answer.ok, answer.text
token = answer.json()["access_token"]
answer = session.get(api, headers={"Authorization": f"Bearer {token}"})

tell(token, answer)

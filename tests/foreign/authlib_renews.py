"""Authlib renews a token by itself: calls the API three times, and prints how many tokens that took."""

from authlib.integrations.requests_client import OAuth2Session

from told import api, ca, cert, client_id, key, token_endpoint

options = {"token_endpoint": token_endpoint, "grant_type": "client_credentials"}
session = OAuth2Session(client_id, token_endpoint_auth_method="none", **options)
session.cert, session.verify = (cert, key), ca
session.fetch_token()
used = []
for _ in range(3):
    answer = session.get(api)
    assert answer.status_code == 200, answer.text
    used.append(answer.request.headers["Authorization"])
print(len(set(used)))

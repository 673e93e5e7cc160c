"""requests-oauthlib: a bound token, and a call with it."""

from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session

from told import api, assertion_key, ca, cert, client_id, key, proof, tell, token_endpoint

session = OAuth2Session(client=BackendApplicationClient(client_id, scope=["payments:read"]))
session.cert, session.verify = (cert, key), ca
# Without include_client_id it sends an Authorization header with an empty secret.
token = session.fetch_token(token_endpoint, include_client_id=True, **(proof() if assertion_key else {}))
answer = session.get(api)

tell(token["access_token"], answer)

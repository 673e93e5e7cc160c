"""requests-oauthlib without include_client_id: prints the error that it gets as one line of JSON."""

import json

from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session

from told import ca, cert, client_id, key, token_endpoint

session = OAuth2Session(client=BackendApplicationClient(client_id))
session.cert, session.verify = (cert, key), ca
answers = []
session.hooks["response"].append(lambda answer, **_: answers.append(answer))
try:
    session.fetch_token(token_endpoint)
except OAuth2Error as error:
    print(json.dumps({"error": error.error, "request_id": answers[-1].headers["X-Request-Id"]}))

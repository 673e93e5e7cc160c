"""Authlib's PrivateKeyJWT without any option: prints each assertion that it sent, and the error code of the answer.

With CLAIMS it gets those claims, twice with the same object, as a program that fetches a second token does.
"""

import json
import os
from pathlib import Path
from urllib.parse import parse_qs

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT

from told import assertion_key, ca, cert, client_id, key, token_endpoint

claims = json.loads(os.environ["CLAIMS"]) if "CLAIMS" in os.environ else None
session = OAuth2Session(client_id, Path(assertion_key).read_text(), token_endpoint_auth_method="private_key_jwt")
session.register_client_auth_method(PrivateKeyJWT(claims=claims))
session.cert, session.verify = (cert, key), ca
answers = []
session.hooks["response"].append(lambda answer, **_: answers.append(answer))
for _ in range(2):
    try:
        session.fetch_token(token_endpoint, grant_type="client_credentials")
    except OAuthError as error:
        assert error.error == answers[-1].json()["error"]
for answer in answers:
    assertion = parse_qs(answer.request.body)["client_assertion"][0]
    said = answer.json().get("error"), answer.headers["X-Request-Id"]
    print(json.dumps({"assertion": assertion, "error": said[0], "request_id": said[1]}))

"""Authlib with requests: a bound token, and a call with it."""

from pathlib import Path

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from joserfc.jwk import import_key

from told import alg, api, assertion_key, ca, cert, client_id, issuer, key, tell, token_endpoint


class Minute(PrivateKeyJWT):
    """By itself Authlib names the token endpoint as audience, and signs for an hour."""

    def sign(self, auth, token_endpoint):
        return private_key_jwt_sign(auth.client_secret, auth.client_id, issuer, alg=alg, expires_in=60)


secret, method = None, "none"  # sends the client_id, and that is all that both methods of mutual TLS need
if assertion_key:
    secret, method = import_key(Path(assertion_key).read_text(), "EC" if alg == "ES256" else "RSA"), Minute()
session = OAuth2Session(client_id, secret, token_endpoint_auth_method=method)
session.cert, session.verify = (cert, key), ca
session.fetch_token(token_endpoint, grant_type="client_credentials", scope="payments:read")
answer = session.get(api)

tell(session.token["access_token"], answer)

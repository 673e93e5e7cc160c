"""Authlib with requests: a bound token, and a call with it."""

from pathlib import Path

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from joserfc.jwk import import_key

from told import alg, api, assertion_key, ca, cert, client_id, issuer, key, tell, token_endpoint

if assertion_key:

    class Minute(PrivateKeyJWT):
        """By itself Authlib names the token endpoint as audience, and signs for an hour."""

        def sign(self, auth, token_endpoint):
            return private_key_jwt_sign(auth.client_secret, auth.client_id, issuer, alg=alg, expires_in=60)

    signing_key = import_key(Path(assertion_key).read_text(), "RSA" if alg.startswith(("RS", "PS")) else "EC")
    session = OAuth2Session(client_id, signing_key, token_endpoint_auth_method="private_key_jwt")
    session.register_client_auth_method(Minute())
else:
    # What `none` sends is the client_id, and that is all that both methods of RFC 8705 section 2 need.
    session = OAuth2Session(client_id, token_endpoint_auth_method="none")
session.cert, session.verify = (cert, key), ca
session.fetch_token(token_endpoint, grant_type="client_credentials", scope="payments:read")
answer = session.get(api)

tell(session.token["access_token"], answer)

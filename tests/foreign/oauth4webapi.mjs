// oauth4webapi: a bound token, and a call with it.
import * as oauth from 'oauth4webapi'
import { readFileSync } from 'node:fs'
import { importPKCS8 } from 'jose'
import { Agent, fetch } from 'undici'
import { alg, api, assertionKey, ca, cert, clientId, issuer, key, tell } from './told.mjs'

const mutual = new Agent({ connect: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) } })
const options = { [oauth.customFetch]: (url, options) => fetch(url, { ...options, dispatcher: mutual }) }
const client = { client_id: clientId, use_mtls_endpoint_aliases: true }
const proof = assertionKey
  ? oauth.PrivateKeyJwt(await importPKCS8(readFileSync(assertionKey, 'utf8'), alg))
  : oauth.TlsClientAuth()
const found = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...options })
const server = await oauth.processDiscoveryResponse(new URL(issuer), found)
const granted = await oauth.clientCredentialsGrantRequest(server, client, proof, { scope: 'payments:read' }, options)
const { access_token } = await oauth.processClientCredentialsResponse(server, client, granted)
const answer = await oauth.protectedResourceRequest(access_token, 'GET', new URL(api), undefined, undefined, options)

await tell(server.mtls_endpoint_aliases?.token_endpoint ?? server.token_endpoint, access_token, answer)

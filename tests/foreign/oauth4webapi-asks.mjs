// oauth4webapi and jose as a resource server (RFC 9068 §4, RFC 7662, RFC 9701), and as a client that takes its token back (RFC 7009).
import * as oauth from 'oauth4webapi'
import { readFileSync } from 'node:fs'
import { createRemoteJWKSet, customFetch as jwksFetch, jwtVerify } from 'jose'
import { Agent, fetch } from 'undici'
import { ca, cert, clientId, issuer, key, resource, resourceServer } from './told.mjs'

const as = (client_id, cert, key) => {
  const dispatcher = new Agent({ connect: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) } })
  const options = { [oauth.customFetch]: (url, options) => fetch(url, { ...options, dispatcher }) }
  return [{ client_id, use_mtls_endpoint_aliases: true }, oauth.TlsClientAuth(), options]
}
const [client, proof, options] = as(clientId, cert, key)
const [api, its, apis] = as('api', resourceServer.cert, resourceServer.key)

const found = await oauth.discoveryRequest(new URL(issuer), options)
const server = await oauth.processDiscoveryResponse(new URL(issuer), found)
const granted = await oauth.clientCredentialsGrantRequest(server, client, proof, {}, options)
const { access_token } = await oauth.processClientCredentialsResponse(server, client, granted)

// Its own validateJwtAccessToken knows no certificates and refuses every token that is bound to one; so jose checks it.
const keys = createRemoteJWKSet(new URL(server.jwks_uri), { [jwksFetch]: apis[oauth.customFetch] })
const checked = await jwtVerify(access_token, keys, { issuer, audience: resource, typ: 'at+jwt' })
const ask = async (more) => {
  const answer = await oauth.introspectionRequest(server, api, its, access_token, { ...apis, ...more })
  const said = await oauth.processIntrospectionResponse(server, api, answer)
  if (more.requestJwtResponse) await oauth.validateApplicationLevelSignature(server, answer, apis)
  return said
}
const before = await ask({})
const signed = await ask({ requestJwtResponse: true })
const revoked = await oauth.revocationRequest(server, client, proof, access_token, options)
await oauth.processRevocationResponse(revoked)
const after = await ask({})
console.log(JSON.stringify({ claims: checked.payload, before, signed, after }))

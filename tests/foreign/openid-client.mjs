// openid-client: a bound token, and a call with it.
import * as client from 'openid-client'
import { readFileSync } from 'node:fs'
import { importPKCS8 } from 'jose'
import { Agent, fetch } from 'undici'
import { alg, api, assertionKey, ca, cert, clientId, issuer, key, tell } from './told.mjs'

const mutual = new Agent({ connect: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) } })
const proof = assertionKey
  ? client.PrivateKeyJwt(await importPKCS8(readFileSync(assertionKey, 'utf8'), alg))
  : client.TlsClientAuth()
const config = await client.discovery(new URL(issuer), clientId, { use_mtls_endpoint_aliases: true }, proof, {
  [client.customFetch]: (url, options) => fetch(url, { ...options, dispatcher: mutual }),
})
const { access_token } = await client.clientCredentialsGrant(config, { scope: 'payments:read' })
const answer = await client.fetchProtectedResource(config, access_token, new URL(api), 'GET')

const metadata = config.serverMetadata()
await tell(metadata.mtls_endpoint_aliases?.token_endpoint ?? metadata.token_endpoint, access_token, answer)

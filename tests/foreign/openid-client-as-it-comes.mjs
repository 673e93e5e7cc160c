// openid-client without use_mtls_endpoint_aliases: prints the error that it gets as one line of JSON.
import * as client from 'openid-client'
import { readFileSync } from 'node:fs'
import { importPKCS8 } from 'jose'
import { Agent, fetch } from 'undici'
import { alg, assertionKey, ca, cert, clientId, issuer, key } from './told.mjs'

const mutual = new Agent({ connect: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) } })
const proof = assertionKey
  ? client.PrivateKeyJwt(await importPKCS8(readFileSync(assertionKey, 'utf8'), alg))
  : client.TlsClientAuth()
const config = await client.discovery(new URL(issuer), clientId, {}, proof, {
  [client.customFetch]: (url, options) => fetch(url, { ...options, dispatcher: mutual }),
})
try {
  await client.clientCredentialsGrant(config)
  throw new Error('it got a token')
} catch ({ error, error_description, response }) {
  console.log(JSON.stringify({ error, error_description, request_id: response.headers.get('x-request-id') }))
}

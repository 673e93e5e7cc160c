// oidc-provider, an authorization server that speaks RFC 8705: one listener that asks for certificates, one that does not.
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import Provider, { errors } from 'oidc-provider'

const { CERTBIND_ISSUER: issuer, MTLS: mtls, API: api, SITE: site } = process.env
const file = (name) => readFileSync(`${site}/${name}`)

// The clients of `certbind dev`, in the words of RFC 7591.
const ledger = new X509Certificate(file('clients/ledger.pem'))
const ledgerKey = { ...ledger.publicKey.export({ format: 'jwk' }), x5c: [ledger.raw.toString('base64')] }
const clients = [
  { client_id: 'billing', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_uri: 'spiffe://certbind.dev/billing' },
  { client_id: 'ledger', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [ledgerKey] } },
  { client_id: 'batch', token_endpoint_auth_method: 'private_key_jwt', jwks: JSON.parse(file('clients/batch.jwks.json')) },
]
const machine = { grant_types: ['client_credentials'], response_types: [], redirect_uris: [], scope: 'payments:read' }
const bound = { tls_client_certificate_bound_access_tokens: true, id_token_signed_response_alg: 'ES256' }
const signing = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })

const provider = new Provider(issuer, {
  clients: clients.map((client) => ({ ...client, ...machine, ...bound })),
  clientAuthMethods: clients.map((client) => client.token_endpoint_auth_method),
  discovery: { mtls_endpoint_aliases: { token_endpoint: `${mtls}/token` } },
  jwks: { keys: [{ ...signing, alg: 'ES256' }] },
  scopes: ['payments:read', 'payments:write'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_uri' &&
        ctx.socket.getPeerX509Certificate().subjectAltName.split(', ').includes(`URI:${expected}`),
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => api,
      getResourceServerInfo: (_, resource) => {
        if (resource !== api) throw new errors.InvalidTarget()
        return { audience: api, scope: 'payments:read', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }
      },
    },
  },
})

const tls = { ca: file('ca.pem'), cert: file('server.pem'), key: file('server.key') }
const asking = { ...tls, requestCert: true, rejectUnauthorized: false }
createServer(asking, provider.callback()).listen(new URL(mtls).port, '127.0.0.1', () => {
  createServer(tls, provider.callback()).listen(new URL(issuer).port, '127.0.0.1')
})

// What a client here is told by its environment, and how it tells what came of it.
import { readFileSync } from 'node:fs'
import { Agent, fetch } from 'undici'

const { env } = process
export const issuer = env.CERTBIND_ISSUER
export const clientId = env.CERTBIND_CLIENT_ID
export const ca = env.CERTBIND_CA
export const cert = env.CERTBIND_CERT
export const key = env.CERTBIND_KEY
export const assertionKey = env.ASSERTION_KEY
export const alg = env.ASSERTION_ALG
export const api = env.API
export const resource = env.RESOURCE
export const resourceServer = { cert: env.RESOURCE_SERVER_CERT, key: env.RESOURCE_SERVER_KEY }

/** Calls the API once more with the thief's certificate, and prints one line of JSON. */
export async function tell(tokenEndpoint, token, answer) {
  const connect = { ca: readFileSync(ca), cert: readFileSync(env.THIEF_CERT), key: readFileSync(env.THIEF_KEY) }
  const stolen = await fetch(api, { dispatcher: new Agent({ connect }), headers: { authorization: `Bearer ${token}` } })
  console.log(JSON.stringify({ token_endpoint: tokenEndpoint, token, api: answer.status, thief: stolen.status }))
}

// Logs in with openid-client: pushed, private_key_jwt, DPoP; signed (JAR) if asked.
// argv: JSON {issuer, client, jwk, kid, redirect, customer, signed}. Prints where to
// send the browser, reads where it came back to, and prints what the gateway said.
import * as client from 'openid-client'
import { createInterface } from 'node:readline/promises'

const o = JSON.parse(process.argv[2])
const key = await crypto.subtle.importKey('jwk', o.jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
const config = await client.discovery(new URL(o.issuer), o.client, undefined, client.PrivateKeyJwt({ key, kid: o.kid }))
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))

const verifier = client.randomPKCECodeVerifier()
const state = client.randomState()
const nonce = client.randomNonce()
let request = new URLSearchParams({
  redirect_uri: o.redirect, scope: 'openid', login_hint: o.customer, state, nonce,
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
})
if (o.signed) {
  const url = await client.buildAuthorizationUrlWithJAR(config, request, { key, kid: o.kid })
  request = url.searchParams
}
const url = await client.buildAuthorizationUrlWithPAR(config, request, { DPoP })
console.log(url.href)

const back = await createInterface({ input: process.stdin }).question('')
const tokens = await client.authorizationCodeGrant(config, new URL(back),
  { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, idTokenExpected: true }, undefined, { DPoP })
const claims = tokens.claims()
const info = await client.fetchUserInfo(config, tokens.access_token, claims.sub, { DPoP })
console.log(JSON.stringify({ claims, info, type: tokens.token_type }))
process.exit(0)

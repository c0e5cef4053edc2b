// Logs in with oauth4webapi: pushed, with a certificate (tls_client_auth), and tokens
// that are bound to it. argv: JSON {issuer, client, redirect, customer, cert, key,
// ca}, the last three PEM. Prints and reads as openid-client.mjs does.
import * as oauth from 'oauth4webapi'
import https from 'node:https'
import { createInterface } from 'node:readline/promises'

const o = JSON.parse(process.argv[2])
const agent = new https.Agent({ cert: o.cert, key: o.key, ca: o.ca })

// fetch by node:https, which can show a certificate.
const customFetch = (url, options) => new Promise((resolve, reject) => {
  const request = https.request(url, { agent, method: options.method, headers: options.headers }, (response) => {
    const chunks = []
    response.on('data', (chunk) => chunks.push(chunk))
    response.on('end', () => resolve(new Response(Buffer.concat(chunks), { status: response.statusCode, headers: response.headers })))
  })
  request.on('error', reject)
  request.end(options.body?.toString())
})
const options = { [oauth.customFetch]: customFetch }

const issuer = new URL(o.issuer)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options))
const client = { client_id: o.client, use_mtls_endpoint_aliases: true }
const auth = oauth.TlsClientAuth()

const verifier = oauth.generateRandomCodeVerifier()
const state = oauth.generateRandomState()
const nonce = oauth.generateRandomNonce()
const pushed = await oauth.processPushedAuthorizationResponse(as, client,
  await oauth.pushedAuthorizationRequest(as, client, auth, {
    response_type: 'code', redirect_uri: o.redirect, scope: 'openid', login_hint: o.customer, state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  }, options))
const url = new URL(as.authorization_endpoint)
url.search = new URLSearchParams({ client_id: o.client, request_uri: pushed.request_uri })
console.log(url.href)

const back = await createInterface({ input: process.stdin }).question('')
const answer = oauth.validateAuthResponse(as, client, new URL(back), state)
const response = await oauth.authorizationCodeGrantRequest(as, client, auth, answer, o.redirect, verifier, options)
const tokens = await oauth.processAuthorizationCodeResponse(as, client, response, { expectedNonce: nonce, requireIdToken: true })
const claims = oauth.getValidatedIdTokenClaims(tokens)
const info = await oauth.processUserInfoResponse(as, client, claims.sub, await oauth.userInfoRequest(as, client, tokens.access_token, options))
console.log(JSON.stringify({ claims, info, type: tokens.token_type }))
process.exit(0)

// Package oidc is the OpenID Connect door: a provider for portals that send
// their customers here for the second factor.
//
// A portal names the customer itself, over its own authenticated connection
// (a pushed request, RFC 9126). The browser carries no more than the name of
// that request, so nothing in it can change who is asked for, what is asked,
// or where the answer goes.
//
// A client of a laxer profile may have the browser carry the request itself: signed
// (a request object, RFC 9101, object.go), or with an ID token of an issuer that is
// configured for it, which names the customer (id_token_hint, hint.go). Only for a
// client that is marked, and warned about, is a bare login_hint enough. Microsoft
// Entra's external authentication method is the second of these, answered by an ID
// token at once.
//
// What is asked is checked in parameters.go, claims.go (acr, amr) and details.go
// (transactions that are confirmed: RFC 9396), whichever way it came.
//
// # Routes
//
//	GET  /.well-known/openid-configuration   what is offered, and nothing else
//	GET  /jwks.json                          the public signing keys
//	POST /par                                client → request_uri (90 s)
//	GET  /authorize, POST /authorize         browser → transaction, code page
//	GET  /authorize/response/{id}            browser → page whose form posts the answer to the portal
//	POST /token                              client, code → ID token, access token
//	GET  /userinfo, POST /userinfo           access token → who has passed, and how
//	POST /introspect                         client, its access token → what it is good for
//	POST /revoke                             client, its access token → gone
//	POST /status                             client, customer → the state of the service
//	GET  /end_session, POST /end_session     browser → portal, or a page: nobody is signed in
//
// Those that clients talk to by themselves (the back channel: /par, /token,
// /userinfo, /introspect, /revoke, /status) are served once more on a listener that
// asks for certificates (MountMTLS).
//
// # Who asks
//
// A client has one profile and one way to authenticate: by signed assertion, by
// secret, or by certificate (authenticate.go). Nothing else is taken from it, and
// every failure has the same answer. The keys are configured, or fetched from the
// client's server and kept (keyset.go). What is held back, of whom and when, is in
// limits.go: a stranger can use up what his address has, never what a client has.
//
// # States of a request
//
//	            /par                /authorize              Accept or Refuse
//	(client) ────────► pushed ─────────────────► open ───────────────────────► ended
//	                    90 s      a transaction  10 min                          │
//	                              per load, bound                    Accept only │
//	                              to its browser                                 ▼
//	                                                      code, 60 s ──/token──► ID token,
//	                                                                             access token, 60 s
//
// Loading /authorize consumes nothing (FAPI 2.0 Security Profile §5.3.2.2): a
// person reloads, goes back, opens a second tab, and each load is one more
// transaction of the same request. A request object that comes again is such a load
// too. The request is consumed when it ends, once, whichever transaction ends it,
// and its transactions and their cookies go with it; for ten seconds a second press
// of the button gets the answer of the first, and for a minute the form that takes
// an answer to the portal can be fetched. A code is consumed by the first
// redemption, right or wrong. All of it is store.Passing: lost at a restart, and
// then every step answers as if it had expired. That used assertions are forgotten
// too is made up for by a mark on disk (mark.go); of request objects in browsers,
// those that were made before the start are refused.
//
// # Access tokens
//
// An access token is 256 random bits, kept as a digest with what it stands for
// (access.go). It is bound to what its client has shown at /token: the key of a DPoP
// proof (RFC 9449, dpop.go), or the certificate of the connection (RFC 8705 §3); a
// client that is asked for one gets no token without. A code that comes a second
// time ends the token that it has given.
//
// # Room
//
// A client pays for what is kept for it: at /par, before anything is stored, all
// that the log-in may come to need is reserved on the client's account
// (account.go), so that one portal can't shut out another, and a code that a
// customer has typed is never lost for want of room. What strangers can begin in
// their browsers has a part of the account, so that it leaves room for the rest.
//
// # Signing keys
//
// Each algorithm that a client has asked for has its own keys, in records of the
// store, sealed. A key is published two days before it signs, and for an hour
// after the next one does (keyring.go); a policy makes and removes them
// (keykeeper.go).
//
// # What is whose
//
// The page that asks for the code is not here: it drives Pending, Accept and
// Refuse. Who may pass is decided by the verifier; Accept takes its Result.
//
// github.com/zitadel/oidc builds and signs the tokens
// (op.CreateTokenResponse). Its own HTTP handlers are never exposed:
// client authentication, parameters, PKCE, single use, the browser binding and
// redirects are checked in this package, more strictly than the library does.
package oidc

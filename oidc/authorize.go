package oidc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// errNoSuchRequest is why /authorize shows a page instead of going on.
var errNoSuchRequest = refuse(invalidRequest, "the request is unknown, expired or ended")

// serveAuthorize is the authorization endpoint. With a request_uri the browser
// carries no more than the name of what the portal has pushed, and the rest of what
// it carries is ignored (RFC 9126 §4). Without one, what counts is what a browser
// can't have made up: see fromBrowser.
func (p *Provider) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	secure(w)
	client, location, err := p.authorize(w, r)
	p.record(r, "authorize", client, err)
	back := new(returnedError)
	switch {
	case errors.As(err, &back):
		e := asProtocolError(back.cause)
		p.send(w, r, client, back.to.Locales, p.answer(&back.to, failure(e.code, e.description)))
	case err != nil:
		p.refuseBrowser(w, r, err)
	default:
		sendOn(w, location)
	}
}

// returnedError is a refusal that goes back to the portal, since it is known where
// the portal is.
type returnedError struct {
	to    replyTo
	cause error
}

func (e *returnedError) Error() string { return e.cause.Error() }
func (e *returnedError) Unwrap() error { return e.cause }

// refuseBrowser answers a browser that can't safely be sent anywhere.
func (p *Provider) refuseBrowser(w http.ResponseWriter, r *http.Request, err error) {
	status, e := http.StatusNotFound, asProtocolError(err)
	switch {
	case e.status == http.StatusTooManyRequests:
		status = e.status
		w.Header().Set("Retry-After", seconds(e.retryAfter))
	case e.status >= http.StatusInternalServerError:
		status = http.StatusServiceUnavailable
	}
	p.noRequest(w, r, status)
}

// authorize returns the code page, to send the browser to. It has set the cookie
// that binds the transaction.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) (*Client, string, error) {
	if err := p.limits.browser(sourceOf(r)); err != nil {
		return nil, "", err
	}
	form, err := readBrowserForm(w, r)
	if err != nil {
		return nil, "", err
	}
	client := p.clients[form["client_id"]]
	var ref string
	var req *request
	switch {
	case form["client_id"] == "":
		return nil, "", refuse(invalidRequest, "client_id and request_uri are required: push the request to /par")
	case client == nil:
		return nil, "", errNoSuchRequest
	case form["request_uri"] != "":
		ref, req, err = p.fromPushed(r.Context(), client, form["request_uri"])
	default:
		ref, req, err = p.fromBrowser(r, client, form)
	}
	if err != nil {
		return client, "", err
	}
	if req.Silent {
		return client, "", p.refuseSilently(r.Context(), ref)
	}
	location, err := p.openTransaction(w, r, ref, client.ID)
	return client, location, err
}

// fromPushed finds the request that the client has pushed.
func (p *Provider) fromPushed(ctx context.Context, client *Client, requestURI string) (ref string, req *request, err error) {
	secret, isOurs := strings.CutPrefix(requestURI, requestURIPrefix)
	if !isOurs {
		return "", nil, errNoSuchRequest
	}
	ref = digest(secret)
	req, err = p.loadable(ctx, client, ref)
	return ref, req, err
}

// loadable is the request ref of client, if it may still be loaded.
func (p *Provider) loadable(ctx context.Context, client *Client, ref string) (*request, error) {
	req, err := p.loadRequest(ctx, ref)
	if err != nil {
		return nil, err
	}
	if req == nil || req.Client != client.ID || !p.now().Before(req.LoadBefore) {
		return nil, errNoSuchRequest
	}
	return req, nil
}

// fromBrowser makes a request of what a browser carries, where the client's profile
// has that: a request object, or else parameters whose customer an id_token_hint
// names, or, for a client that is marked for it, a bare login_hint.
func (p *Provider) fromBrowser(r *http.Request, client *Client, form params) (ref string, req *request, err error) {
	switch {
	case client.Profile == ProfileFAPI2: // FAPI 2.0 Security Profile §5.3.2.2
		return "", nil, refuse(invalidRequest, "client_id and request_uri are required: push the request to /par")
	case form["request"] != "":
		return p.fromObject(r.Context(), client, form["request"])
	}
	to, err := trusted(client, form)
	if err != nil {
		return "", nil, err
	}
	back := func(err error) (string, *request, error) { return "", nil, &returnedError{*to, err} }
	if client.RequestObject == ObjectsRequired {
		return back(refuse(invalidRequest, "this client's requests must be signed: send a request object"))
	}
	req, err = p.newRequest(r.Context(), client, form, bare)
	if err != nil {
		return back(err)
	}
	if form["id_token_hint"] != "" {
		if ref, req, err = p.fromHint(r.Context(), client, form, req); err != nil && !errors.Is(err, errNoSuchRequest) {
			return back(err)
		}
		return ref, req, err
	}
	ref = digest(newSecret())
	if err := p.saveUnproven(r.Context(), ref, req); err != nil {
		return back(err)
	}
	return ref, req, nil
}

// fromObject makes a request of a request object in the browser's hands. The same
// object again is a reload, as with a request_uri, as long as its request is open;
// another one with its jti is refused.
func (p *Provider) fromObject(ctx context.Context, client *Client, raw string) (ref string, req *request, err error) {
	form, object, err := p.openObject(ctx, client, raw)
	if err != nil {
		return "", nil, err
	}
	to, err := trusted(client, form)
	if err != nil {
		return "", nil, err
	}
	back := func(err error) (string, *request, error) { return "", nil, &returnedError{*to, err} }
	if err := p.madeSinceStart(object); err != nil {
		return back(err)
	}
	if req, err = p.newRequest(ctx, client, form, signed); err != nil {
		return back(err)
	}
	if req.Key, err = boundKey(form["dpop_jkt"], ""); err != nil {
		return back(err)
	}
	ref = digest(raw)
	fresh, err := p.useObject(ctx, client, object)
	if err != nil {
		return back(err)
	}
	if !fresh {
		req, err = p.loadable(ctx, client, ref) // of these very bytes, or there is none
		return ref, req, err
	}
	if err := p.saveRequest(ctx, ref, req, beginning); err != nil {
		return back(err)
	}
	return ref, req, nil
}

// trusted is where to answer a request that a browser carries, if its redirect URI
// is the client's. Without that nothing may be sent anywhere.
func trusted(client *Client, form params) (*replyTo, error) {
	if form["client_id"] != client.ID || !slices.Contains(client.RedirectURIs, form["redirect_uri"]) { // byte for byte
		return nil, refuse(invalidRequest, "redirect_uri is not one that is configured for this client")
	}
	to := &replyTo{
		RedirectURI: form["redirect_uri"], Locales: locales(form["ui_locales"]),
		FormPost: form["response_mode"] == "form_post" || client.Profile == ProfileEntraEAM,
	}
	if checkEchoes(client, params{"state": form["state"]}) == nil {
		to.State = form["state"]
	}
	return to, nil
}

// refuseSilently ends a request that must not show a page: there is no session
// that could answer it (OIDC Core §3.1.2.6).
func (p *Provider) refuseSilently(ctx context.Context, ref string) error {
	req, err := p.endRequest(ctx, ref)
	if err != nil {
		return err
	}
	if req == nil { // another load was faster
		return errNoSuchRequest
	}
	p.accounts[req.Client].release(req.Reserved)
	return &returnedError{req.replyTo, refuse(loginRequired, "a one-time password is always asked for")}
}

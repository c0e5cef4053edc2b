package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"otpgate/verifier"
)

// Client speaks to a Server over its socket. An answer that is no success is
// returned as a *Problem.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client for the socket at path. Nothing is opened yet.
func NewClient(path string) *Client {
	return &Client{socket: path, http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// AddUser makes a user.
func (c *Client) AddUser(ctx context.Context, n NewUser) (u SteppedUser, err error) {
	return u, c.call(ctx, http.MethodPost, "/v1/users", n, &u)
}

// Account returns everything that is known of a user.
func (c *Client) Account(ctx context.Context, realm, name string) (a Account, err error) {
	return a, c.call(ctx, http.MethodGet, userPath(realm, name), nil, &a)
}

// StepUser makes one step with a user: apply, unlock, groups, set_pin, clear_pin,
// remove.
func (c *Client) StepUser(ctx context.Context, realm, name, step string, s Step) (u SteppedUser, err error) {
	return u, c.call(ctx, http.MethodPost, userPath(realm, name)+"/"+step, s, &u)
}

// Users calls fn for each user of realm, or of all if it is "".
func (c *Client) Users(ctx context.Context, realm string, fn func(User) error) error {
	return list(ctx, c, "/v1/users?realm="+url.QueryEscape(realm), fn)
}

// CreateToken makes a token.
func (c *Client) CreateToken(ctx context.Context, n NewToken) (t SteppedToken, err error) {
	return t, c.call(ctx, http.MethodPost, "/v1/tokens", n, &t)
}

// Token returns what is known of a token.
func (c *Client) Token(ctx context.Context, serial string) (t Token, err error) {
	return t, c.call(ctx, http.MethodGet, "/v1/tokens/"+url.PathEscape(serial), nil, &t)
}

// StepToken makes one step in a token's life: assign, start, resync, suspend,
// resume, unusable, reissue, release, uri. It returns the token as it is then:
// after a reissue, the new one.
func (c *Client) StepToken(ctx context.Context, serial, step string, s Step) (t SteppedToken, err error) {
	return t, c.call(ctx, http.MethodPost, "/v1/tokens/"+url.PathEscape(serial)+"/"+step, s, &t)
}

// Tokens calls fn for each token that f means.
func (c *Client) Tokens(ctx context.Context, f verifier.TokenFilter, fn func(Token) error) error {
	query := url.Values{"realm": {f.Realm}, "user": {f.User}, "state": {string(f.State)}}
	return list(ctx, c, "/v1/tokens?"+query.Encode(), fn)
}

func userPath(realm, name string) string {
	return "/v1/users/" + url.PathEscape(realm) + "/" + url.PathEscape(name)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(out)
}

func list[T any](ctx context.Context, c *Client, path string, fn func(T) error) error {
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var item T
		switch err := d.Decode(&item); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the gateway's list was cut off: %w", err)
		}
		if err := fn(item); err != nil {
			return err
		}
	}
}

func (c *Client) do(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	return c.send(ctx, method, path, body)
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://otpgate"+path, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	problem := &Problem{}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(problem); err != nil || problem.Problem == "" {
		return nil, fmt.Errorf("the gateway answered %s", res.Status)
	}
	return nil, problem
}

// unreachable says in words why the socket could not be spoken to.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Problem{Problem: "no gateway is listening on " + c.socket, Hint: "start it with otpgate serve, or name its socket with --socket", cause: err}
	case errors.Is(err, fs.ErrPermission):
		return &Problem{Problem: "you may not open " + c.socket, Hint: "run this as the user that otpgate runs as"}
	}
	return err
}

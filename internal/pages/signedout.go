package pages

import "net/http"

// SignedOut answers whoever a portal has sent here to log out: there is nothing to
// log out of, since the gateway keeps nobody signed in.
func (p *Pages) SignedOut(w http.ResponseWriter, r *http.Request) {
	p.render(w, r, nil, "problem", http.StatusOK, problemNotice{
		Title: "signed_out.title", What: "signed_out.what", Next: "signed_out.next",
	})
}

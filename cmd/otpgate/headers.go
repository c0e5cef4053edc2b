package main

import "net/http"

const (
	// bareContent is the policy of what is no page: nothing may be loaded by it,
	// sent from it or framed around it. Pages have their own (internal/pages).
	bareContent = "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
	// noFeatures: nothing here needs a device, a location or a payment.
	noFeatures = "accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), " +
		"geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), " +
		"screen-wake-lock=(), usb=(), xr-spatial-tracking=()"
	// strictTransport keeps browsers from plain http at this host for a year
	// (RFC 6797 §6.1). Not at its subdomains: those are the bank's to decide about.
	strictTransport = "max-age=31536000"
)

// hardened is h with what every answer of a public server tells browsers, whichever
// door it comes from, those included that the mux itself gives. strict adds HSTS. It
// must be false with our own certificate for loopback: HSTS holds for a host on all
// its ports (RFC 6797 §8.3), so whoever trusts that certificate could reach nothing
// else on localhost by plain http.
func hardened(h http.Handler, strict bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", bareContent)
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Permissions-Policy", noFeatures)
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY") // for browsers without frame-ancestors
		if strict {
			header.Set("Strict-Transport-Security", strictTransport)
		}
		h.ServeHTTP(w, r)
	})
}

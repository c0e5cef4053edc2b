package main

import (
	"context"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/oidc"
)

// noteKey writes to the audit log what became of a signing key.
func (g *gateway) noteKey(ctx context.Context, by, event, detail string) error {
	e := audit.Entry{Event: event, Outcome: "done", Detail: detail}
	if by != "" {
		e.Door, e.Client = "admin", by
	}
	return g.data.audit.Append(ctx, e)
}

// signingKeys lets the operator's door at the OIDC door's keys, which it doesn't
// know.
type signingKeys struct{ provider *oidc.Provider }

// List implements admin.SigningKeys.
func (s signingKeys) List() []admin.SigningKey {
	keys := []admin.SigningKey{}
	for _, k := range s.provider.SigningKeys() {
		keys = append(keys, admin.SigningKey{
			ID: k.ID, Algorithm: k.Algorithm, State: string(k.State), Published: k.Published, Signs: k.Signs, Until: k.Until,
		})
	}
	return keys
}

// Rotate implements admin.SigningKeys.
func (s signingKeys) Rotate(ctx context.Context, by string, leaked bool) error {
	return s.provider.RotateSigningKeys(ctx, by, leaked)
}

func printSigningKeys(term terminal, keys []admin.SigningKey) error {
	t := newTable(term.out, zoned("KEY\tALGORITHM\tSTATE\tPUBLISHED (%s)\tSIGNS FROM\tUNTIL"))
	for _, k := range keys {
		if err := t.row("%s\t%s\t%s\t%s\t%s\t%s", k.ID, k.Algorithm, k.State, when(k.Published), when(k.Signs), when(k.Until)); err != nil {
			return err
		}
	}
	return t.Flush()
}

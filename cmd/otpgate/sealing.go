package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/internal/store/seal"
	"otpgate/oidc"
	"otpgate/verifier"
)

// resealer is a seal.Box, which renews, or a seal.Trial, which only looks.
type resealer interface {
	Reseal(recordKey, purpose string, sealed []byte) (again []byte, changed bool, err error)
}

// sealedRecords says, for every kind of record that holds sealed values, how its
// owner renews it. What is left out here is lost with the data key that it was
// sealed under.
func sealedRecords(box resealer) map[string]seal.Reseal {
	all := verifier.Reseal(box)
	maps.Copy(all, oidc.Reseal(box))
	maps.Copy(all, resealAudit(box))
	return all
}

// newRotation makes what replaces the keys of d while the gateway runs.
func (g *gateway) newRotation() *seal.Rotation {
	d := g.data
	r := seal.NewRotation(seal.Config{
		Box: d.seal, Records: d.db, Master: d.master, Owners: sealedRecords(d.seal), Log: g.log,
		Note: func(ctx context.Context, by, event, detail string) error {
			e := audit.Entry{Event: event, Outcome: "done", Detail: detail}
			if by != "" {
				e.Door, e.Client = "admin", by
			}
			return d.audit.Append(ctx, e)
		},
	})
	r.Register(g.metrics)
	return r
}

// keys lets the operator's door at the keys, which it doesn't know.
type keys struct{ rotation *seal.Rotation }

// Status implements admin.Keys.
func (k keys) Status() admin.KeyStatus {
	s := k.rotation.Status()
	return admin.KeyStatus{
		Seals: s.Newest, Old: s.Old, Phase: string(s.Phase), Resealed: s.Resealed, Unreadable: s.Unreadable, Problem: s.Problem,
	}
}

// Rotate implements admin.Keys.
func (k keys) Rotate(ctx context.Context, by, newMaster string) error {
	if newMaster == "" {
		return rotationError(k.rotation.Start(ctx, by))
	}
	master, err := newMasterKey(newMaster)
	if err != nil {
		return err
	}
	// A file that was made here stays, whatever follows: after an error nobody can
	// be sure that nothing is under it.
	return rotationError(k.rotation.StartUnder(ctx, by, master))
}

// newMasterKey reads the master key at path, and makes it first if it isn't
// there.
func newMasterKey(path string) (seal.Master, error) {
	refused := func(err error) error {
		return &verifier.Refusal{Problem: err.Error(), Hint: "name a file that the gateway can read or make"}
	}
	if !filepath.IsAbs(path) {
		return seal.Master{}, refused(fmt.Errorf("the new master key's path %q doesn't begin at the root", path))
	}
	master, err := seal.LoadMaster(path)
	if errors.Is(err, fs.ErrNotExist) {
		master, err = seal.CreateMaster(path)
	}
	if err != nil {
		return seal.Master{}, refused(err)
	}
	return master, nil
}

func rotationError(err error) error {
	switch {
	case errors.Is(err, seal.ErrRotating):
		return &verifier.Refusal{Problem: "a rotation is under way", Hint: "otpgate key show says how far it is"}
	case errors.Is(err, seal.ErrSameMaster):
		return &verifier.Refusal{Problem: "that is the master key in use", Hint: "name another file; one that isn't there is made"}
	}
	return err
}

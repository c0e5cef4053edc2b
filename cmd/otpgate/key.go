package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"otpgate/internal/admin"
	"otpgate/internal/store/seal"
)

type keyCmd struct {
	Show   keyShowCmd   `cmd:"" help:"Show which data keys there are, and how far a rotation is."`
	Rotate keyRotateCmd `cmd:"" help:"Make a new data key and seal everything anew under it, while the gateway serves."`
}

type keyShowCmd struct {
	daemonFlags
	Wait bool `help:"Wait for the end of a rotation that is under way."`
	OIDC bool `name:"oidc" help:"Show the keys that sign ID tokens instead."`
}

// Run shows the keys.
func (c keyShowCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.OIDC {
		keys, err := client.SigningKeys(ctx)
		return c.printSigning(term, keys, err)
	}
	ask := client.Keys
	if c.Wait {
		ask = func(ctx context.Context) (admin.KeyStatus, error) { return watchRotation(ctx, client, term) }
	}
	k, err := ask(ctx)
	if err != nil {
		return err
	}
	return c.print(term, k)
}

type keyRotateCmd struct {
	daemonFlags
	Master string `placeholder:"NEWFILE" help:"Replace the master key as well, by the one in NEWFILE; made if it isn't there. For when a master key has leaked."`
	NoWait bool   `help:"Return at once; otpgate key show --wait waits for its end."`
	OIDC   bool   `name:"oidc" help:"Rotate the keys that sign ID tokens instead: next ones are published, and sign in two days."`
	Leaked bool   `help:"With --oidc: new keys sign at once, and the old ones are withdrawn. Portals refuse log-ins until they fetch the key set again."`
}

// Run begins a rotation and waits for its end. Interrupted, the rotation goes on
// in the gateway.
func (c keyRotateCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	switch {
	case c.OIDC && c.Master != "":
		return &usageError{"--master is for the data keys, and --oidc for those that sign ID tokens", "give one of them"}
	case c.OIDC:
		keys, err := client.RotateSigningKeys(ctx, admin.SigningRotation{Leaked: c.Leaked})
		return c.printSigning(term, keys, err)
	case c.Leaked:
		return &usageError{"--leaked goes with --oidc", "for a leaked master key, see --master"}
	}
	var request admin.Rotation
	if c.Master != "" {
		if request.NewMaster, err = filepath.Abs(c.Master); err != nil {
			return err
		}
	}
	k, err := client.RotateKeys(ctx, request)
	if err != nil {
		return err
	}
	if request.NewMaster != "" {
		fmt.Fprintf(term.err, "The master key is the one in %s now. Before the gateway's next start, put it in place of the file\n"+
			"that gateway.yaml names (master_key_file), or name it there. Keep a copy apart, and the old key for as\n"+
			"long as you keep backups from before.\n", request.NewMaster)
	}
	if !c.NoWait {
		if k, err = watchRotation(ctx, client, term); err != nil {
			return err
		}
	}
	return c.print(term, k)
}

// watchRotation waits for the end of the rotation, with its progress before a
// person.
func watchRotation(ctx context.Context, client *admin.Client, term terminal) (admin.KeyStatus, error) {
	const interval = 200 * time.Millisecond
	watched := isTerminal(term.err)
	for {
		k, err := client.Keys(ctx)
		if err != nil {
			return k, err
		}
		line := fmt.Sprintf("%d values sealed anew", k.Resealed)
		switch seal.Phase(k.Phase) {
		case seal.Resealing:
		case seal.Settling:
			line += fmt.Sprintf("; waiting up to %v for what is under way", seal.Settle)
		default:
			if watched {
				fmt.Fprintf(term.err, "\r%-79s\r", "")
			}
			return k, nil
		}
		if watched {
			fmt.Fprintf(term.err, "\r%-79s", line)
		}
		select {
		case <-ctx.Done():
			return k, fmt.Errorf("the rotation goes on in the gateway; otpgate key show says how far it is")
		case <-time.After(interval):
		}
	}
}

// printSigning shows the keys that sign ID tokens.
func (f daemonFlags) printSigning(term terminal, keys []admin.SigningKey, err error) error {
	switch {
	case err != nil:
		return err
	case f.JSON:
		return printJSON(term.out, keys)
	}
	return printSigningKeys(term, keys)
}

// print shows k; a rotation that has stalled is an error.
func (f daemonFlags) print(term terminal, k admin.KeyStatus) error {
	if f.JSON {
		if err := printJSON(term.out, k); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(term.out, keySentence(k))
	}
	if seal.Phase(k.Phase) == seal.Stalled {
		return &admin.Problem{
			Problem: "the rotation has stalled, and old data keys are kept: " + k.Problem,
			Hint:    "put the record right (a token: release it), then run otpgate key rotate again",
		}
	}
	return nil
}

func keySentence(k admin.KeyStatus) string {
	if len(k.Old) == 0 {
		return fmt.Sprintf("data key %d seals everything; %d values sealed anew since the gateway's start", k.Seals, k.Resealed)
	}
	var old []string
	for _, number := range k.Old {
		old = append(old, fmt.Sprint(number))
	}
	return fmt.Sprintf("data key %d seals; %s not removed yet (%s); %d values sealed anew so far",
		k.Seals, strings.Join(old, ", "), k.Phase, k.Resealed)
}

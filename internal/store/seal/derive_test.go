package seal

import (
	"bytes"
	"errors"
	"testing"
)

func TestEnvelope(t *testing.T) {
	records, master := open(t), newMaster(t)
	box := mustBox(t, records, master)
	e := box.Envelope("a use, version 1")
	sealed := e.Seal([]byte("how far it has come"))
	if len(sealed) != envelopeBytes+len("how far it has come") || bytes.Contains(sealed, []byte("how far")) {
		t.Errorf("sealed: %x", sealed)
	}
	if bytes.Equal(sealed, e.Seal([]byte("how far it has come"))) {
		t.Error("sealed twice, the values are the same")
	}
	// Another process, and another node: the same data keys.
	again := mustBox(t, records, master).Envelope("a use, version 1")
	if got, err := again.Open(sealed); err != nil || string(got) != "how far it has come" {
		t.Errorf("opened again: %q, %v", got, err)
	}
	for name, other := range map[string]interface{ Open([]byte) ([]byte, error) }{
		"another use":      box.Envelope("a use, version 2"),
		"another database": mustBox(t, open(t), master).Envelope("a use, version 1"),
	} {
		if got, err := other.Open(sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %q, %v; want ErrSealed", name, got, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := e.Open(changed); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := e.Open(sealed[:i]); !errors.Is(err, ErrSealed) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	// A record's value and an envelope have keys of their own.
	if _, err := e.Open(box.Seal("a use, version 1", "", []byte("x"))); !errors.Is(err, ErrSealed) {
		t.Errorf("a record's value: %v", err)
	}
	if _, err := box.Open("a use, version 1", "", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("opened as a record's: %v", err)
	}
}

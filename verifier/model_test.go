package verifier_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"otpgate/verifier"
)

// model is a tiny reference of one user with one token: what the gate must
// never contradict, whatever happens in whatever order.
type model struct {
	*gate
	last    int64
	row     int // wrong codes in a row
	usable  bool
	shifted bool                 // a code of another step than ours was accepted: its clock may be off
	pinRow  int                  // wrong PINs in a row
	factor  verifier.FirstFactor // what the right PIN is taken for, as long as it isn't locked
}

// TestRandomHistories runs random sequences of tries, clerk's steps, waits and
// reopens against the model.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{gate: newGate(t), last: -1, usable: true}
		defer m.close()
		m.newToken("hanako", "T1")
		m.setPIN("hanako", goodPIN)
		right, err := m.CheckPIN(t.Context(), "retail", "hanako", goodPIN)
		m.must(err)
		m.factor = right
		rt.Repeat(map[string]func(*rapid.T){
			"wait": func(rt *rapid.T) {
				m.advance(time.Duration(rapid.IntRange(1, 300).Draw(rt, "seconds")) * time.Second)
			},
			"right": func(rt *rapid.T) { m.right(rt, 0) },
			"near":  func(rt *rapid.T) { m.right(rt, rapid.Int64Range(-2, 2).Draw(rt, "steps off")) },
			"wrong": func(rt *rapid.T) { m.wrongCode(rt) },
			"PIN":   func(rt *rapid.T) { m.rightPIN(rt) },
			"wrong PIN": func(rt *rapid.T) {
				if r := m.verify("hanako", m.code("T1", 0), wrongFactors["pin"]); r.Outcome != verifier.WrongFirstFactor {
					rt.Fatalf("a wrong PIN: %v", r.Outcome)
				}
				m.pinRow = min(10, m.pinRow+1)
			},
			"again": func(rt *rapid.T) { m.again(rt) },
			"burst": func(rt *rapid.T) { m.burst(rt) },
			"suspend": func(*rapid.T) {
				if m.usable {
					_, _, err := m.Suspend(t.Context(), because("model"), "T1")
					m.must(err)
					m.usable = false
				}
			},
			"resume": func(*rapid.T) {
				if !m.usable {
					_, _, err := m.Resume(t.Context(), because("model"), "T1")
					m.must(err)
					m.usable, m.row = true, 0
				}
			},
			"unlock": func(*rapid.T) { m.unlock("hanako"); m.row, m.pinRow = 0, 0 },
			"reopen": func(*rapid.T) { m.reopen() },
			"":       func(rt *rapid.T) { m.check(rt) },
		})
	})
}

func (m *model) right(rt *rapid.T, offset int64) {
	step := m.Realms["retail"].OTP.Step(m.now) + offset
	r, err := m.try("hanako", m.code("T1", offset))
	m.must(err)
	certain := offset == 0 && !m.shifted && m.usable && m.row < 10 && step > m.last
	switch {
	case r.Outcome != verifier.Accepted && certain:
		rt.Fatalf("a right code was refused: %+v", r)
	case r.Outcome == verifier.Accepted && (!m.usable || m.row >= 10 || step <= m.last):
		rt.Fatalf("step %d was accepted; usable %v, %d wrong in a row, last step %d", step, m.usable, m.row, m.last)
	case r.Outcome == verifier.Accepted:
		m.last, m.row, m.shifted = step, 0, m.shifted || offset != 0
	default:
		m.count(rt, r)
	}
}

// rightPIN shows a right PIN with the code of now.
func (m *model) rightPIN(rt *rapid.T) {
	step := m.Realms["retail"].OTP.Step(m.now)
	r := m.verify("hanako", m.code("T1", 0), m.factor)
	switch {
	case m.pinRow >= 10:
		if r.Outcome != verifier.WrongFirstFactor {
			rt.Fatalf("the PIN is locked, and the outcome is %v", r.Outcome)
		}
	case r.Outcome == verifier.Accepted:
		if !m.usable || m.row >= 10 || step <= m.last {
			rt.Fatalf("step %d was accepted; usable %v, %d wrong in a row, last step %d", step, m.usable, m.row, m.last)
		}
		m.last, m.row, m.pinRow = step, 0, 0
	case r.Outcome == verifier.WrongFirstFactor:
		rt.Fatalf("a right PIN, of which %d were wrong in a row, is a wrong first factor", m.pinRow)
	default:
		m.count(rt, r)
	}
}

func (m *model) wrongCode(rt *rapid.T) {
	r, err := m.try("hanako", m.wrong("T1"))
	m.must(err)
	if r.Outcome == verifier.Accepted {
		rt.Fatal("a wrong code was accepted")
	}
	m.count(rt, r)
}

// count holds a refusal against the model's own count.
func (m *model) count(rt *rapid.T, r verifier.Result) {
	counted := r.Outcome == verifier.Wrong || r.Outcome == verifier.NextCode
	if counted {
		m.row++
	}
	if counted && m.row > 10 || m.usable && m.row >= 10 && !r.Locked {
		rt.Fatalf("%d wrong in a row, and the answer is %+v", m.row, r)
	}
}

// again tries the last accepted step.
func (m *model) again(rt *rapid.T) {
	if m.last < 0 {
		return
	}
	r, err := m.try("hanako", m.code("T1", m.last-m.Realms["retail"].OTP.Step(m.now)))
	m.must(err)
	if r.Outcome == verifier.Accepted || r.Outcome == verifier.Wrong {
		rt.Fatalf("the last accepted code again: %v", r.Outcome)
	}
}

// burst uses one code many times at once.
func (m *model) burst(rt *rapid.T) {
	step := m.Realms["retail"].OTP.Step(m.now)
	code := m.code("T1", 0)
	may := m.usable && m.row < 10 && step > m.last
	counts := m.parallel("hanako", 8, func(int) string { return code })
	if n := counts[verifier.Accepted]; n > 1 || n == 1 && !may {
		rt.Fatalf("outcomes %v; might be accepted: %v", counts, may)
	} else if n == 1 {
		m.last, m.row = step, 0
	}
	m.row += counts[verifier.Wrong] + counts[verifier.NextCode]
}

func (m *model) check(rt *rapid.T) {
	a := m.account("hanako")
	if a.PIN.Failures != m.pinRow || (m.pinRow >= 10) != !a.PIN.LockedAt.IsZero() {
		rt.Fatalf("%d wrong PINs, locked at %v; the model counts %d", a.PIN.Failures, a.PIN.LockedAt, m.pinRow)
	}
	if a.Failures != m.row || (m.row >= 10) != !a.LockedAt.IsZero() {
		rt.Fatalf("%d failures, locked at %v; the model counts %d", a.Failures, a.LockedAt, m.row)
	}
}

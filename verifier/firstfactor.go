package verifier

// FirstFactor is what became of what a door asked for besides the code. The zero
// value: nothing was.
type FirstFactor struct {
	Kind    FactorKind // for the audit log
	Verdict FactorVerdict
	// Vouches says, with Kind radius and Verdict right, that the user, who has no
	// token here, passes by it alone.
	Vouches bool
}

// FactorKind is what kind of first factor was asked for.
type FactorKind string

// The kinds.
const (
	FactorPIN    FactorKind = "pin"
	FactorLDAP   FactorKind = "ldap"
	FactorRADIUS FactorKind = "radius"
)

// FactorVerdict is what became of a first factor.
type FactorVerdict int

// The verdicts.
const (
	FactorWrong FactorVerdict = iota
	FactorRight
	FactorUnset // a PIN that is yet to be chosen
)

// WrongFirstFactor is the outcome for a first factor that was wrong.
const WrongFirstFactor Outcome = "wrong_first_factor"

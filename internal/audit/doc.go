// Package audit is the log of what happened: every try at a door and every step
// of a token's or user's life, for whoever has to account for it later.
//
// # On disk
//
// One Entry is one line of JSON in the file audit-000001.jsonl (the number is
// there for rotation), mode 0600, in a folder of mode 0700. Each line carries the
// SHA-256 of the line before it, so a line that was changed, taken out or put in
// later breaks the chain from there on:
//
//	{"seq":1,"prev":"","time":"2026-11-02T09:00:00Z","event":"token.create",…}
//	{"seq":2,"prev":"5f2c…","time":"2026-11-02T09:00:07Z","event":"verify",…}
//
// A line's hash is over its bytes as they stand in the file, without the newline:
// to check the chain needs no JSON.
//
// # Writing
//
// Append returns when its line is on the disk. One goroutine writes; whoever
// comes while it waits for the disk shares the next write and flush. There is no
// timer. What strangers chose (user names) is cut to a bounded length in plain
// sight; JSON keeps it from starting a line or moving a cursor.
//
// # States
//
//	open ──► broken   a write failed: nothing is appended any more, Err says why
//	  └────► closed   by Close, also from broken
//
// A daemon whose audit log is broken must not accept anything: the gate waits
// for Append.
//
// # Starting
//
// Open reads the end of the file alone. A last line without its newline was cut
// off by a kill or a power cut before Append had returned: it is removed. Any
// other fault of the last line is for a person to look at, and is refused.
//
// # Not here
//
// Which events there are, and their words, belong to who appends. The log makes
// no decision and is never read by the gate. It holds no code and no key.
package audit

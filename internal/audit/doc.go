// Package audit is the log of what happened: every try at a door and every step
// of a token's or user's life, for whoever has to account for it later.
//
// # On disk
//
//	audit-000001.jsonl, …   the entries, one a line of JSON, oldest file first
//	heads.jsonl             signed heads
//	audit.pub               the public key they are checked with (PEM)
//
// all of mode 0600, in a folder of mode 0700. Each line carries the SHA-256 of
// the line before it, over the ends of files as well, so a line that was changed,
// taken out or put in later breaks the chain from there on:
//
//	{"seq":1,"prev":"","time":"2026-11-02T09:00:00Z","event":"token.create",…}
//	{"seq":2,"prev":"5f2c…","time":"2026-11-02T09:00:07Z","event":"verify",…}
//
// A line's hash is over its bytes as they stand in the file, without the newline:
// to check the chain needs no JSON. A new file begins with the first entry of a
// month (UTC), or when one is full.
//
// # Heads
//
// Somebody who can write to the files could compute the chain anew. Therefore
// the newest line's number and hash are signed (Ed25519) when a file ends, at
// Close, after many entries, and at most headInterval after an entry. Each head
// is also handed to Options.Save, whose owner keeps it out of reach of whoever
// can edit the files: so they can't be cut back together. Open refuses a log that
// doesn't hold the saved head.
//
// # Writing
//
// Append returns when its line is on the disk. One goroutine writes; whoever
// comes while it waits for the disk shares the next write and flush. There is no
// timer. What strangers chose (user names) is cut to a bounded length in plain
// sight; JSON keeps it from starting a line or moving a cursor. Another goroutine
// signs, behind the writer: no entry waits for it.
//
// # States
//
//	open ──► broken   a write of an entry or head failed: nothing is appended any
//	  │        │      more, Err says why
//	  └────────┴──► closed   by Close
//
// A daemon whose audit log is broken must not accept anything: the gate waits
// for Append.
//
// # Starting
//
// Open reads the end of the log, back to the saved head. A last line without its
// newline was cut off by a kill or a power cut before Append had returned: it is
// removed. Any other fault there is for a person to look at, and is refused.
// Logs of the first version, of one file and without heads, go on unchanged.
//
// # Reading
//
// Search reads backwards, Range and Follow forwards, each with one block in
// memory, and without a lock: what is on disk doesn't change. Verify needs no
// open log, only the folder or a copy of it.
//
//	log.go     Append, and the writer         signer.go  when heads are signed
//	open.go    Open                           head.go    heads and the key's file
//	read.go    Search, Range, Follow          files.go   names, files, lines
//	verify.go  Verify, and the heads in it    judge.go   which line is the bad one
//	entry.go   Entry                          line.go    its encoding and bounds
//
// # Not here
//
// Which events there are, and their words, belong to who appends. The log makes
// no decision and is never read by the gate. It holds no code and no key: the
// signing key and the newest head are its owner's to keep.
package audit

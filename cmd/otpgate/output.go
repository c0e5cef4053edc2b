package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/boombuler/barcode/qr"
	"golang.org/x/term"

	"otpgate/config"
)

// printJSON prints v as one line of JSON: what scripts read.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// table prints rows as they come, with their columns lined up per screenful.
type table struct {
	*tabwriter.Writer
	rows int
}

func newTable(w io.Writer, header string) *table {
	t := &table{Writer: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	fmt.Fprintln(t, header)
	return t
}

func (t *table) row(format string, args ...any) error {
	const screenful = 1000 // rows held back to line columns up
	if t.rows++; t.rows%screenful == 0 {
		if err := t.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(t, format+"\n", args...)
	return err
}

// when prints a time for people, or a dash.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(zone()).Format("2006-01-02 15:04:05")
}

// zone is the one that times are printed in: this machine's as it is now, also
// for times of the other half of the year, so that a heading can name it.
func zone() *time.Location { return time.FixedZone(time.Now().Zone()) }

// zoned puts the zone's name in a heading.
func zoned(header string) string { return fmt.Sprintf(header, zone()) }

// count is a number of things: "1 realm", "2 realms".
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// isTerminal reports whether w is a screen with a person before it.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// columns is how wide a terminal is; 80 if it doesn't tell.
func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// printQR draws text as a QR code of half blocks, light on dark as a terminal
// is, with the quiet zone of four modules that readers need.
func printQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return err
	}
	const quiet = 4
	size := code.Bounds().Dx()
	light := func(x, y int) bool {
		if x < 0 || y < 0 || x >= size || y >= size {
			return true
		}
		r, _, _, _ := code.At(x, y).RGBA()
		return r != 0
	}
	for y := -quiet; y < size+quiet; y += 2 {
		for x := -quiet; x < size+quiet; x++ {
			block := " "
			switch top, bottom := light(x, y), light(x, y+1); {
			case top && bottom:
				block = "█"
			case top:
				block = "▀"
			case bottom:
				block = "▄"
			}
			fmt.Fprint(w, block)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func printFaults(w io.Writer, faults config.Faults) {
	for _, f := range faults {
		fmt.Fprintln(w, f)
	}
	if len(faults) > 1 { // one says all itself
		fmt.Fprintf(w, "otpgate: %d faults in the configuration\n", len(faults))
	}
}

package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"otpgate/verifier"
)

// The routes of token files and the batches that they bring:
//
//	POST /v1/tokens/import         a TokenImport on a line, then the file; ImportLines come back
//	GET  /v1/batches               batches, a JSON object a line
//	GET  /v1/batches/{id}
//	POST /v1/batches/check         two codes of a token
//	POST /v1/batches/{id}/{step}   release, discard

const (
	// maxTokenFile bounds a file: 250,000 tokens with all they can have encrypted
	// take some 800 MB.
	maxTokenFile = 1 << 30
	// progressEvery is after how many tokens the caller is told.
	progressEvery = 1000
)

// The formats of a token file.
const (
	FormatPSKC = "pskc" // RFC 6030
	FormatCSV  = "csv"  // see verifier.ReadCSV
)

// TokenImport says how the file that follows is to be taken in; see
// verifier.ImportOptions.
type TokenImport struct {
	Format   string           `json:"format"`
	File     string           `json:"file"` // its name
	Realm    string           `json:"realm,omitempty"`
	Carrier  verifier.Carrier `json:"carrier,omitempty"`
	Key      []byte           `json:"key,omitempty"`      // opens a PSKC file
	Password []byte           `json:"password,omitempty"` // the same
	DryRun   bool             `json:"dry_run,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Form     string           `json:"form,omitempty"`
}

// ImportLine is one line of the answer to a TokenImport. The last one has Done,
// Problem or both.
type ImportLine struct {
	Token   *ImportedToken  `json:"token,omitempty"`
	Read    int             `json:"read,omitempty"`   // tokens, so far
	Landed  int             `json:"landed,omitempty"` // tokens in their place, so far
	Tokens  int             `json:"tokens,omitempty"` // of how many
	Done    *ImportedTokens `json:"done,omitempty"`
	Problem *Problem        `json:"problem,omitempty"`
}

// ImportedToken is what is said of one token: of each on a dry run, else of those
// that can't be taken.
type ImportedToken struct {
	Line    int    `json:"line"`
	Serial  string `json:"serial"`
	User    string `json:"user,omitempty"`
	Problem string `json:"problem,omitempty"` // absent: none
}

// ImportedTokens is what an import did. If there are faults it did nothing.
type ImportedTokens struct {
	Tokens            int    `json:"tokens"`
	Faults            int    `json:"faults,omitempty"`
	Users             int    `json:"users"` // tokens with a user
	Batch             *Batch `json:"batch,omitempty"`
	*verifier.Receipt        // absent if nothing was done
}

// Batch is what one file brought.
type Batch struct {
	ID       string              `json:"batch"`
	Realm    string              `json:"realm,omitempty"` // absent: any
	File     string              `json:"file"`
	State    verifier.BatchState `json:"state"`
	Tokens   int                 `json:"tokens"`
	Stock    int                 `json:"stock"`   // of them, for stock
	Checked  []string            `json:"checked"` // serials that showed two right codes
	Wanted   int                 `json:"wanted"`  // how many more must, before a release
	Failed   int                 `json:"failed"`  // checks
	By       string              `json:"by"`
	Imported time.Time           `json:"imported"`
	Released time.Time           `json:"released,omitzero"`
	Receipt  string              `json:"import_receipt"`
}

// SteppedBatch is a batch after a step, with its receipt.
type SteppedBatch struct {
	Batch
	verifier.Receipt
}

// BatchCheck asks for a token to be checked: it showed the codes in a row.
type BatchCheck struct {
	Serial string    `json:"serial"`
	Codes  [2]string `json:"codes"`
	Reason string    `json:"reason,omitempty"`
	Form   string    `json:"form,omitempty"`
}

// CheckedBatch is what the codes have shown.
type CheckedBatch struct {
	SteppedBatch
	Serial string `json:"serial"`
	Offset int64  `json:"offset"` // steps that the token is ahead
}

// importTokens takes a file in while it comes, and tells how far it is.
func (s *Server) importTokens(w http.ResponseWriter, r *http.Request) {
	// A gateway that stops undoes what isn't in yet.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(stopOf(ctx), cancel)()

	connection := http.NewResponseController(w)
	body := &patientBody{ctx, http.MaxBytesReader(w, r.Body, maxTokenFile), connection}
	out := &answer{ResponseWriter: patient{w, connection}}
	w.Header().Set("Content-Type", "application/jsonl")
	err := connection.EnableFullDuplex() // the answer begins before the request's end
	if err == nil {
		err = s.takeTokens(ctx, peer(r), bufio.NewReaderSize(body, maxBody), func(l ImportLine) error {
			return errors.Join(json.NewEncoder(out).Encode(l), connection.Flush())
		})
	}
	if ctx.Err() == nil {
		// Closed with something unread, the connection would lose the answer.
		_, _ = io.Copy(io.Discard, body) // the caller has gone: nobody to tell
	}
	if err != nil {
		s.fail(out, r, err)
	}
}

// takeTokens reads a TokenImport and the file behind it. What the file is refused
// for is part of the answer; the error is another.
func (s *Server) takeTokens(ctx context.Context, who string, body *bufio.Reader, send func(ImportLine) error) error {
	line, err := body.ReadSlice('\n')
	if err != nil {
		return badRequest{"the request doesn't begin with a line of JSON"}
	}
	var in TokenImport
	if err := json.Unmarshal(line, &in); err != nil {
		return badRequest{"the request's first line is no JSON of the expected form"}
	}
	var source iter.Seq2[verifier.Imported, error]
	switch in.Format {
	case FormatPSKC:
		source = verifier.ReadPSKC(body, in.Key, in.Password)
	case FormatCSV:
		source = verifier.ReadCSV(body)
	default:
		return badRequest{fmt.Sprintf("there is no format %.20q", in.Format)}
	}
	read := 0
	by := verifier.By{Who: who, Reason: in.Reason, Form: in.Form}
	report, err := s.Verifier.Import(ctx, by, source, verifier.ImportOptions{
		File: in.File, Realm: in.Realm, Carrier: in.Carrier, DryRun: in.DryRun,
		Each: func(t verifier.Imported, problem string) error {
			if in.DryRun || problem != "" {
				if err := send(ImportLine{Token: &ImportedToken{t.Line, t.Serial, t.User, problem}}); err != nil {
					return err
				}
			}
			if read++; read%progressEvery == 0 {
				return send(ImportLine{Read: read})
			}
			return nil
		},
		// From here on nothing can be called off: who doesn't listen misses it.
		Progress: func(landed, tokens int) { _ = send(ImportLine{Landed: landed, Tokens: tokens}) },
	})
	last := ImportLine{Done: &ImportedTokens{Tokens: report.Tokens, Faults: report.Faults, Users: report.Users}}
	var refusal *verifier.Refusal
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
		last.Problem = &Problem{Problem: refusal.Problem, Hint: refusal.Hint}
	case errors.As(err, &tooLong):
		last.Problem = &Problem{Problem: fmt.Sprintf("the file is larger than %d bytes", tooLong.Limit), Hint: "split it"}
	case err != nil:
		return err
	case report.Receipt.Number != "":
		b := wireBatch(report.Batch)
		last.Done.Batch, last.Done.Receipt = &b, &report.Receipt
	}
	return send(last)
}

// patientBody gives each read time of its own, in place of one for the whole
// request. It ends with ctx: a file may have gigabytes in which there is no token
// at which an import would see that it is to stop.
type patientBody struct {
	ctx context.Context
	io.Reader
	connection *http.ResponseController
}

// Read implements io.Reader.
func (p *patientBody) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	//nolint:forbidigo // a deadline of the kernel's, by its clock
	if err := p.connection.SetReadDeadline(time.Now().Add(maxStall)); err != nil {
		return 0, err
	}
	n, err := p.Reader.Read(b)
	if err != nil { // nothing comes any more: passed while we write, it would end the request's context
		_ = p.connection.SetReadDeadline(time.Time{}) // it could be set just now
	}
	return n, err
}

func (s *Server) listBatches(r *http.Request, out *json.Encoder) error {
	return s.Verifier.Batches(r.Context(), func(b verifier.Batch) error { return out.Encode(wireBatch(b)) })
}

func (s *Server) showBatch(r *http.Request, out *json.Encoder) error {
	b, err := s.Verifier.Batch(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return out.Encode(wireBatch(b))
}

func (s *Server) stepBatch(r *http.Request, out *json.Encoder) error {
	var in Step
	if err := decode(r, &in); err != nil {
		return err
	}
	by := in.by(r)
	var b verifier.Batch
	var receipt verifier.Receipt
	var err error
	switch step := r.PathValue("step"); step {
	case "release":
		b, receipt, err = s.Verifier.ReleaseBatch(r.Context(), by, r.PathValue("id"))
	case "discard":
		b, receipt, err = s.Verifier.DiscardBatch(r.Context(), by, r.PathValue("id"))
	default:
		err = badRequest{fmt.Sprintf("there is no step %q", step)}
	}
	if err != nil {
		return err
	}
	return out.Encode(SteppedBatch{wireBatch(b), receipt})
}

func (s *Server) checkBatch(r *http.Request, out *json.Encoder) error {
	var in BatchCheck
	if err := decode(r, &in); err != nil {
		return err
	}
	by := verifier.By{Who: peer(r), Reason: in.Reason, Form: in.Form}
	done, err := s.Verifier.CheckBatch(r.Context(), by, in.Serial, verifier.Typed(in.Codes[0]), verifier.Typed(in.Codes[1]))
	if err != nil {
		return err
	}
	return out.Encode(CheckedBatch{SteppedBatch{wireBatch(done.Batch), done.Receipt}, in.Serial, done.Offset})
}

func wireBatch(b verifier.Batch) Batch {
	checked := b.Checked
	if checked == nil {
		checked = []string{}
	}
	return Batch{
		ID: b.ID, Realm: b.Realm, File: b.File, State: b.State, Tokens: b.Tokens, Stock: b.Stock, Checked: checked,
		Wanted: b.Wanted(), Failed: b.Failed, By: b.By, Imported: b.Imported, Released: b.Released, Receipt: b.Receipt,
	}
}

// ImportTokens sends a token file, and calls fn for each line of the answer.
func (c *Client) ImportTokens(ctx context.Context, in TokenImport, file io.Reader, fn func(ImportLine) error) error {
	head, err := json.Marshal(in) //nolint:gosec // with its key or password: the gateway is to open the file with it
	if err != nil {
		return err
	}
	body, err := c.send(ctx, http.MethodPost, "/v1/tokens/import", io.MultiReader(bytes.NewReader(append(head, '\n')), file))
	if err != nil {
		return err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var l ImportLine
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("the gateway's answer was cut off; otpgate batch list shows what became of the import: %w", err)
		}
		if err := fn(l); err != nil || l.Done != nil {
			return err
		}
	}
}

// Batches calls fn for each batch.
func (c *Client) Batches(ctx context.Context, fn func(Batch) error) error {
	return list(ctx, c, "/v1/batches", fn)
}

// Batch returns one batch.
func (c *Client) Batch(ctx context.Context, id string) (b Batch, err error) {
	return b, c.call(ctx, http.MethodGet, "/v1/batches/"+url.PathEscape(id), nil, &b)
}

// StepBatch makes one step with a batch: release, discard.
func (c *Client) StepBatch(ctx context.Context, id, step string, s Step) (b SteppedBatch, err error) {
	return b, c.call(ctx, http.MethodPost, "/v1/batches/"+url.PathEscape(id)+"/"+step, s, &b)
}

// CheckBatch checks a token of a batch.
func (c *Client) CheckBatch(ctx context.Context, in BatchCheck) (done CheckedBatch, err error) {
	return done, c.call(ctx, http.MethodPost, "/v1/batches/check", in, &done)
}

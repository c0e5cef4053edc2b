package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A file ends with its import, also where there is no token to stop at.
func TestFileEndsWithItsImport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	body := &patientBody{ctx, strings.NewReader("<KeyContainer>"), http.NewResponseController(httptest.NewRecorder())}
	cancel()
	if n, err := body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

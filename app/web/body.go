package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
)

// bodyTimeout is the default of Site.BodyTimeout.
const bodyTimeout = 10 * time.Second

// receiveBody reads the body into memory. It reports only lateness; other errors are left to the body's reader.
func (s *Site) receiveBody(c *gin.Context) error {
	connection := http.NewResponseController(c.Writer)
	if err := connection.SetReadDeadline(time.Now().Add(s.BodyTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	body, err := io.ReadAll(c.Request.Body)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.Header("Connection", "close") // the rest may still arrive
		return errSlowBody
	}
	_ = connection.SetReadDeadline(time.Time{}) // if it fails, so will whatever comes next
	if err == nil {
		err = io.EOF
	}
	c.Request.Body = &receivedBody{bytes.NewReader(body), err, c.Request.Body}
	return nil
}

// receivedBody is a body that was read before, up to an error.
type receivedBody struct {
	data *bytes.Reader
	end  error
	io.Closer
}

func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.data.Read(p)
	if err != nil {
		err = b.end
	}
	return n, err
}

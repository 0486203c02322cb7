package db_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"latchkey/db"
)

func TestServersThatAreAwayAreToldFromWrongSettings(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	says := func(code string) error { return &pgconn.PgError{Code: code} }
	refused := dial(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	untrusted := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	noTLS := errors.New("server refused TLS connection")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{refused, true}, {dial(syscall.EHOSTUNREACH), true}, {dial(os.NewSyscallError("connect", syscall.ENOENT)), true}, {context.DeadlineExceeded, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, true}, {io.ErrUnexpectedEOF, true}, {io.EOF, true},
		{&net.DNSError{IsTemporary: true}, true}, {&net.DNSError{IsNotFound: true}, true},
		{says("57P03"), true}, {says("53300"), true}, {says("08006"), true}, {says("25006"), true}, {says("57P01"), true},
		{pgconn.ErrStandbyConnection, true}, {pgconn.ErrReadOnlyConnection, true},
		{errors.Join(noTLS, says("57P03")), true}, // sslmode=prefer, the default
		{errors.Join(refused, pgconn.ErrStandbyConnection), true},

		{says("28P01"), false}, {says("28000"), false}, {says("3D000"), false}, {says("42501"), false}, {says("42704"), false},
		{untrusted, false}, {noTLS, false}, {tls.RecordHeaderError{}, false},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, false},
		{errors.Join(refused, says("28P01")), false}, {errors.Join(refused, untrusted), false}, {errors.Join(says("57P03"), says("3D000")), false},
		{errors.New("something else"), false}, {fs.ErrInvalid, false}, {context.Canceled, false},
	} {
		require.Equal(t, c.want, db.Away(fmt.Errorf("connect: %w", errors.Join(c.err))), "%#v", c.err)
	}
}

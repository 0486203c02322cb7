package live

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/stretchr/testify/require"

	"latchkey/models"
)

// runOn has a stream of its own wait on a connection, and returns what ends its session.
func runOn(conn net.Conn, head string) (finish func(models.Reason)) {
	all := newStreams(nil, time.Now, slog.New(slog.DiscardHandler))
	s, err := all.register(&models.Session{})
	if err != nil {
		panic(err)
	}
	all.begin(s, conn, []byte(head))
	return func(why models.Reason) { all.finish(uuid.Nil, why) }
}

func TestStreamIsKeptFromBeingCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		begun := time.Now()
		finish := runOn(server, "head")
		in := make([]byte, 256)
		read := func() string {
			n, err := client.Read(in)
			require.NoError(t, err)
			return string(in[:n])
		}
		require.Equal(t, "head", read())
		for range 5 {
			before := time.Now()
			require.Equal(t, ":\n\n", read())
			require.Equal(t, 25*time.Second, time.Since(before))
		}
		require.Greater(t, time.Since(begun), time.Minute, "no timeout of the server's")

		finish(models.EndedByLogout)

		require.Contains(t, read(), `"reason":"logout"`)
		_, err := client.Read(in)
		require.ErrorIs(t, err, io.EOF)
	})
}

// A pipe holds nothing: whoever does not read it keeps the writer waiting.
func TestClientThatDoesNotReadIsDropped(t *testing.T) {
	for what, read := range map[string]int{"its beginning": 0, "a ping": 4} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				runOn(server, "head")
				_, err := io.ReadFull(client, make([]byte, read))
				require.NoError(t, err)

				time.Sleep(time.Minute)
				synctest.Wait()

				_, err = client.Read(make([]byte, 1))
				require.ErrorIs(t, err, io.EOF)
			})
		})
	}
}

func TestClientThatDoesNotReadKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		finish := runOn(server, "head")
		_, err := io.ReadFull(client, make([]byte, 4))
		require.NoError(t, err)
		begun := time.Now()

		finish(models.EndedByLogout)

		require.Zero(t, time.Since(begun))
		synctest.Wait()
		_, err = client.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, client.Close())
	})
}

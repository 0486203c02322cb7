package kit_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"latchkey/test/kit"
)

func TestBinaryIsBuiltOnce(t *testing.T) {
	path := kit.Binary(t)
	before, err := os.Stat(path)
	require.NoError(t, err)

	require.Equal(t, path, kit.Binary(t))

	after, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
	require.FileExists(t, filepath.Join(kit.Root(t), "go.mod"))
}

func TestAnswerText(t *testing.T) {
	a := kit.Answer{Body: `{"ui": {"action": "/auth", "nodes": []}}`}
	require.Equal(t, "/auth", a.Text("ui", "action"))
	require.Empty(t, a.Text("ui", "nodes"))
	require.Empty(t, a.Text("ui", "action", "method"))
	require.Empty(t, kit.Answer{Body: "no JSON"}.Text("ui"))
}

func TestReadUntilReadsWholeEvents(t *testing.T) {
	in := bufio.NewReader(strings.NewReader("event: session\ndata: 1\n\nevent: ended\ndata: 2\n\nevent: more"))

	event, err := kit.ReadUntil(in, "event: ended")

	require.NoError(t, err)
	require.True(t, strings.HasSuffix(event, "event: ended\ndata: 2\n\n"), event)
	_, err = kit.ReadUntil(in, "event: ended")
	require.Error(t, err)
}

func TestClock(t *testing.T) {
	begin := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	clock := kit.NewClock(begin)
	clock.Advance(time.Hour)
	clock.Advance(-time.Minute)
	require.Equal(t, begin.Add(59*time.Minute), clock.Now())
}

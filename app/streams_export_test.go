package app

import (
	"log/slog"
	"net"
	"time"

	"github.com/gofrs/uuid/v5"

	"latchkey/models"
)

// MaxStreamsOfSession is how many streams a session may have open.
const MaxStreamsOfSession = maxStreamsOfSession

// OpenStreams returns how many there are.
func (a *App) OpenStreams() int {
	a.streams.mu.Lock()
	defer a.streams.mu.Unlock()
	return a.streams.count
}

// LimitStreams sets how many there may be in all.
func (a *App) LimitStreams(most int) {
	a.streams.mu.Lock()
	defer a.streams.mu.Unlock()
	a.streams.most = most
}

// FollowsEnds reports whether the ends of sessions are being read.
func (a *App) FollowsEnds() bool {
	a.streams.reading.Lock()
	defer a.streams.reading.Unlock()
	return a.streams.tail.known
}

// StreamsFail reports whether the ends can't be read.
func (a *App) StreamsFail() bool {
	a.streams.reading.Lock()
	defer a.streams.reading.Unlock()
	return a.streams.trouble.on
}

// RunStream has a stream of its own wait on a connection, and returns what ends the session.
func RunStream(conn net.Conn, head string) (finish func(models.Reason)) {
	all := newStreams(nil, time.Now, slog.New(slog.DiscardHandler))
	s, err := all.register(&models.Session{})
	if err != nil {
		panic(err)
	}
	all.begin(s, conn, []byte(head))
	return func(why models.Reason) { all.finish(uuid.Nil, why) }
}

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gofrs/uuid/v5"

	"latchkey/models"
)

const (
	// maxStreams bounds what streams take of memory and file descriptors: one each.
	maxStreams = 50_000
	// No session and no person can take the place of all others.
	maxStreamsOfPerson  = 2_000
	maxStreamsOfSession = 32
	streamsRetryAfter   = 10 * time.Second

	// pingEvery is less than the 30 seconds or more after which proxies take silence for the end.
	pingEvery = 25 * time.Second
	// streamPatience is how long a client may leave unread what it was sent.
	streamPatience = 10 * time.Second
)

var (
	errTooManyStreams = &problem{code: http.StatusServiceUnavailable, retryAfter: streamsRetryAfter,
		reason: "As many event streams are open as this server can hold. Try again in a few seconds."}
	errTooManyOwnStreams = &problem{code: http.StatusTooManyRequests, id: errTooMany.id, retryAfter: streamsRetryAfter,
		reason: fmt.Sprintf("Too many event streams are open: a session may have %d, a person %d. Close one first.", maxStreamsOfSession, maxStreamsOfPerson)}
	errStopping = &problem{code: http.StatusServiceUnavailable, retryAfter: time.Second, reason: "The server is stopping. Try again in a second."}
)

// sessionEvent is the first event of a stream.
type sessionEvent struct {
	ID        uuid.UUID `json:"id"`
	ExpiresAt time.Time `json:"expires_at"` // without further use
}

// endedEvent is the last one.
type endedEvent struct {
	ID     uuid.UUID     `json:"id"`
	Reason models.Reason `json:"reason"`
}

// sessionEvents answers GET /auth/sessions/events: a stream that says when the session ends. It is
// no use of the session, or an open page would keep its person signed in.
//
// The connection is taken over from net/http, with whose buffers, goroutines and timeouts a stream
// would need many times the memory, and could not last.
func (a *App) sessionEvents(c *gin.Context) {
	session, err := a.active(c)
	if err != nil {
		a.fail(c, err)
		return
	}
	head := c.Request.Method == http.MethodHead
	var s *stream
	if !head {
		s, err = a.streams.open(c.Request.Context(), session)
	}
	if err != nil {
		a.fail(c, err)
		return
	}
	c.Header("Content-Type", "text/event-stream")
	c.Header("X-Accel-Buffering", "no") // nginx is to pass on each event at once
	c.Status(http.StatusOK)
	if head {
		return
	}
	conn, _, err := c.Writer.Hijack()
	if err != nil {
		a.streams.drop(s)
		c.Header("Content-Type", "application/json; charset=utf-8")
		a.fail(c, fmt.Errorf("take the connection over: %w", err))
		return
	}
	a.streams.begin(s, conn, streamHead(c.Writer.Header(), session))
}

// streamHead is what a stream begins with. There is no length: it goes on until the connection
// closes (RFC 9112 §6.3).
func streamHead(header http.Header, session *models.Session) []byte {
	var out bytes.Buffer
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	out.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&out) // to memory
	out.WriteString("\r\nretry: 1000\n")
	out.Write(event("session", sessionEvent{session.ID, session.ExpiresAt}))
	return out.Bytes()
}

// event formats a server-sent event: HTML Standard §9.2.
func event(name string, data any) []byte {
	body, err := json.Marshal(data)
	if err != nil {
		panic(err) // of our own types
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, body)
}

// streams are the open event streams of this process.
type streams struct {
	store *models.Store
	now   func() time.Time
	most  int // maxStreams, but for tests
	news  chan struct{}
	// noticed is set while this process has notice of the ends that others make.
	noticed atomic.Bool

	mu        sync.Mutex
	count     int
	bySession map[uuid.UUID][]*stream
	ofPerson  map[uuid.UUID]int
	closed    bool
	running   sync.WaitGroup

	reading sync.Mutex // guards what follows
	tail    tail
	checked time.Time // when all were, last
	trouble outage    // of the database, lately
}

// stream is an open connection that waits for the end of a session. It has one goroutine, of few
// kilobytes, which does all that is done with the connection.
type stream struct {
	all             *streams
	session, person uuid.UUID
	conn            net.Conn  // guarded by all.mu; nil until the stream has begun
	expiresAt       time.Time // as far as is known; guarded by all.mu
	end             atomic.Pointer[models.Reason]
}

func newStreams(store *models.Store, now func() time.Time, log *slog.Logger) *streams {
	return &streams{store: store, now: now, trouble: outage{log: log, what: "reading the ends of sessions"}, most: maxStreams, news: make(chan struct{}, 1),
		bySession: map[uuid.UUID][]*stream{}, ofPerson: map[uuid.UUID]int{}}
}

// poke has the ends read soon. It never waits.
func (all *streams) poke() {
	select {
	case all.news <- struct{}{}:
	default:
	}
}

// open registers a stream for a session that is still active. From when it is registered, and ends
// are read, no end is missed; one before that shows in the session, which is read after both.
func (all *streams) open(ctx context.Context, session *models.Session) (*stream, error) {
	s, err := all.register(session)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readEndsTimeout)
	defer cancel()
	if err = all.follow(ctx); err == nil {
		var anew models.Session
		anew, err = all.store.Sessions.ByToken(ctx, session.Token)
		if errors.Is(err, models.ErrNotFound) || err == nil && !anew.Active(all.now()) {
			err = errNoSession
		}
	}
	if err != nil {
		all.drop(s)
		return nil, err
	}
	return s, nil
}

// howMany returns how many are open.
func (all *streams) howMany() int {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.count
}

func (all *streams) register(session *models.Session) (*stream, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case all.closed:
		return nil, errStopping
	case all.count >= all.most:
		return nil, errTooManyStreams
	case len(all.bySession[session.ID]) >= maxStreamsOfSession, all.ofPerson[session.IdentityID] >= maxStreamsOfPerson:
		return nil, errTooManyOwnStreams
	}
	s := &stream{all: all, session: session.ID, person: session.IdentityID, expiresAt: session.ExpiresAt}
	all.count++
	all.bySession[s.session] = append(all.bySession[s.session], s)
	all.ofPerson[s.person]++
	return s, nil
}

// begin takes a stream's connection, sends what it begins with, and lets it wait.
func (all *streams) begin(s *stream, conn net.Conn, head []byte) {
	all.mu.Lock()
	defer all.mu.Unlock()
	s.conn = conn
	if all.closed {
		_ = conn.Close() // nothing was sent
		return
	}
	all.running.Go(func() { s.run(head) })
}

// drop forgets a stream and closes its connection.
func (all *streams) drop(s *stream) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close() // whatever is wrong with it
	}
	all.count--
	if all.ofPerson[s.person]--; all.ofPerson[s.person] == 0 {
		delete(all.ofPerson, s.person)
	}
	others := slices.DeleteFunc(all.bySession[s.session], func(other *stream) bool { return other == s })
	if all.bySession[s.session] = others; len(others) == 0 {
		delete(all.bySession, s.session)
	}
}

// close ends all streams, and with them their goroutines. Clients come back by themselves.
func (all *streams) close() {
	all.mu.Lock()
	all.closed = true
	for _, open := range all.bySession {
		for _, s := range open {
			if s.conn != nil {
				_ = s.conn.Close() // it is over in any case
			}
		}
	}
	all.mu.Unlock()
	all.running.Wait()
}

// run waits for the session's end, or for the client's. A read that times out is both the alarm
// clock for pings and how the end gets in, without a channel or a timer.
func (s *stream) run(head []byte) {
	defer s.all.drop(s)
	if !s.write(head) {
		return
	}
	nothing := make([]byte, 1)
	for {
		err := s.conn.SetReadDeadline(time.Now().Add(pingEvery))
		if err == nil && s.end.Load() == nil { // finish may have set its deadline before this one
			_, err = s.conn.Read(nothing)
		}
		switch why := s.end.Load(); {
		case why != nil:
			s.write(event("ended", endedEvent{s.session, *why}))
			return
		case !errors.Is(err, os.ErrDeadlineExceeded): // it has gone, or talks
			return
		case !s.write([]byte(":\n\n")):
			return
		}
	}
}

func (s *stream) write(p []byte) bool {
	if err := s.conn.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
		return false
	}
	_, err := s.conn.Write(p)
	return err == nil
}

// finish tells the streams of a session that it has ended. It waits for none of them.
func (all *streams) finish(session uuid.UUID, why models.Reason) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, s := range all.bySession[session] {
		if s.end.CompareAndSwap(nil, &why) && s.conn != nil {
			_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // if it fails, the stream is over
		}
	}
}

// run reads the ends of sessions, at once when this process makes one or has notice of another's, and
// now and then in any case, until ctx is done. Without streams it leaves the database alone.
func (all *streams) run(ctx context.Context) {
	defer all.close()
	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { all.listen(ctx) })
	tick := time.NewTicker(readEndsEvery)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.news:
		case <-tick.C:
			if all.noticed.Load() && time.Since(last) < readEndsAnyway {
				continue
			}
		}
		last = time.Now()
		all.read(ctx)
	}
}

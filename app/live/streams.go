// Package live serves the event streams that tell open pages when their session ends.
package live

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

	"latchkey/app/outage"
	"latchkey/app/web"
	"latchkey/models"
)

const (
	// maxStreams limits the memory and file descriptors that streams use, one descriptor each.
	maxStreams = 50_000
	// No session and no person can use up all streams.
	maxStreamsOfPerson  = 2_000
	MaxStreamsOfSession = 32
	streamsRetryAfter   = 10 * time.Second

	// pingEvery is less than the 30 seconds or more after which proxies close an idle connection.
	pingEvery = 25 * time.Second
	// writeTimeout is how long a write may block on a client that doesn't read.
	writeTimeout = 10 * time.Second
)

var (
	errTooManyStreams = &web.Problem{Code: http.StatusServiceUnavailable, RetryAfter: streamsRetryAfter,
		Reason: "This server has reached its limit of event streams. Try again in a few seconds."}
	errTooManyOwnStreams = &web.Problem{Code: http.StatusTooManyRequests, ID: web.ErrTooMany.ID, RetryAfter: streamsRetryAfter,
		Reason: fmt.Sprintf("Too many event streams are open: the limit is %d per session and %d per person. Close one first.", MaxStreamsOfSession, maxStreamsOfPerson)}
)

// Handler serves event streams.
type Handler struct {
	*web.Site
	streams *streams
}

// New returns a Handler. Call Run too.
func New(site *web.Site, store *models.Store) *Handler {
	return &Handler{Site: site, streams: newStreams(store, site.Now, site.Log)}
}

// Wake makes Run read the ends of sessions soon. It never blocks.
func (h *Handler) Wake() { h.streams.wake() }

// Streams returns how many streams are open.
func (h *Handler) Streams() int { return h.streams.openCount() }

// Limit sets how many streams may be open in all, up to 50,000.
func (h *Handler) Limit(most int) {
	h.streams.mu.Lock()
	defer h.streams.mu.Unlock()
	h.streams.most = min(most, maxStreams)
}

// Following reports whether the ends of sessions are being read, as they are while streams are open.
func (h *Handler) Following() bool {
	h.streams.reading.Lock()
	defer h.streams.reading.Unlock()
	return h.streams.tail.known
}

// Failing reports whether the ends could not be read the last time.
func (h *Handler) Failing() bool { return h.streams.outage.Failing() }

// Run notifies the streams when their sessions end, until ctx is done. It then closes them.
func (h *Handler) Run(ctx context.Context) { h.streams.run(ctx) }

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

// Events answers GET /auth/sessions/events: a stream that says when the session ends. It doesn't
// count as use of the session, or an open page would keep its person signed in.
//
// The connection is hijacked from net/http: with its buffers and goroutines a stream would need many
// times the memory, and with its timeouts it couldn't stay open.
func (h *Handler) Events(c *gin.Context) {
	session, err := h.Active(c)
	if err != nil {
		h.Fail(c, err)
		return
	}
	head := c.Request.Method == http.MethodHead
	var s *stream
	if !head {
		s, err = h.streams.open(c.Request.Context(), session)
	}
	if err != nil {
		h.Fail(c, err)
		return
	}
	c.Header("Content-Type", "text/event-stream")
	c.Header("X-Accel-Buffering", "no") // nginx must not buffer events
	c.Status(http.StatusOK)
	if head {
		return
	}
	conn, _, err := c.Writer.Hijack()
	if err != nil {
		h.streams.drop(s)
		c.Header("Content-Type", "application/json; charset=utf-8")
		h.Fail(c, fmt.Errorf("hijack the connection: %w", err))
		return
	}
	h.streams.begin(s, conn, streamHead(c.Writer.Header(), session))
}

// streamHead returns the header and first event of a stream. There is no Content-Length: it lasts until
// the connection closes (RFC 9112 §6.3).
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
	most  int // maxStreams, except in tests
	news  chan struct{}
	// notified is set while the database notifies this process of sessions that others end.
	notified atomic.Bool

	mu        sync.Mutex
	count     int
	bySession map[uuid.UUID][]*stream
	ofPerson  map[uuid.UUID]int
	closed    bool
	running   sync.WaitGroup

	reading sync.Mutex // guards the fields below
	tail    tail
	checked time.Time // when all sessions were last
	outage  *outage.Log
	log     *slog.Logger
}

// stream is an open connection that waits for the end of a session. It has one goroutine, of a
// few kilobytes, which alone uses the connection.
type stream struct {
	all             *streams
	session, person uuid.UUID
	conn            net.Conn  // guarded by all.mu; nil until the stream has begun
	expiresAt       time.Time // as far as is known; guarded by all.mu
	end             atomic.Pointer[models.Reason]
}

func newStreams(store *models.Store, now func() time.Time, log *slog.Logger) *streams {
	return &streams{store: store, now: now, outage: outage.New(log, "reading the ends of sessions"), log: log, most: maxStreams, news: make(chan struct{}, 1),
		bySession: map[uuid.UUID][]*stream{}, ofPerson: map[uuid.UUID]int{}}
}

// wake makes run read the ends soon. It never blocks.
func (all *streams) wake() {
	select {
	case all.news <- struct{}{}:
	default:
	}
}

// open registers a stream for a session that is still active. Once it is registered and ends are being
// read, no end is missed; an earlier end shows in the session, which is read after both.
func (all *streams) open(ctx context.Context, session *models.Session) (*stream, error) {
	s, err := all.register(session)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readEndsTimeout)
	defer cancel()
	if err = all.follow(ctx); err == nil {
		var current models.Session // by its id: a confirmation may have replaced its token since
		current, err = all.store.Sessions.ByID(ctx, session.ID)
		if errors.Is(err, models.ErrNotFound) || err == nil && !current.Active(all.now()) {
			err = web.ErrNoSession
		}
	}
	if err != nil {
		all.drop(s)
		return nil, err
	}
	return s, nil
}

// openCount returns how many streams are open.
func (all *streams) openCount() int {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.count
}

func (all *streams) register(session *models.Session) (*stream, error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case all.closed:
		return nil, web.ErrStopping
	case all.count >= all.most:
		return nil, errTooManyStreams
	case len(all.bySession[session.ID]) >= MaxStreamsOfSession, all.ofPerson[session.IdentityID] >= maxStreamsOfPerson:
		return nil, errTooManyOwnStreams
	}
	s := &stream{all: all, session: session.ID, person: session.IdentityID, expiresAt: session.ExpiresAt}
	all.count++
	all.bySession[s.session] = append(all.bySession[s.session], s)
	all.ofPerson[s.person]++
	return s, nil
}

// begin takes a stream's connection, and starts the goroutine that sends head and waits for the end.
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
		_ = s.conn.Close() // it is no longer needed
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

// close ends all streams, and with them their goroutines. Clients reconnect by themselves.
func (all *streams) close() {
	all.mu.Lock()
	all.closed = true
	for _, open := range all.bySession {
		for _, s := range open {
			if s.conn != nil {
				_ = s.conn.Close() // it is no longer needed
			}
		}
	}
	all.mu.Unlock()
	all.running.Wait()
}

// run waits until the session ends or the client disconnects. A read that times out serves both to send
// pings and to be woken by the session's end, without a channel or a timer.
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
		case !errors.Is(err, os.ErrDeadlineExceeded): // it has disconnected, or sent something
			return
		case !s.write([]byte(":\n\n")):
			return
		}
	}
}

func (s *stream) write(p []byte) bool {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return false
	}
	_, err := s.conn.Write(p)
	return err == nil
}

// finish tells the streams of a session that it has ended. It doesn't wait for them.
func (all *streams) finish(session uuid.UUID, why models.Reason) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, s := range all.bySession[session] {
		if s.end.CompareAndSwap(nil, &why) && s.conn != nil {
			_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // if it fails, the stream is over
		}
	}
}

// run reads the ends of sessions, at once when this process ends one or is notified of one, and
// periodically, until ctx is done. Without streams it doesn't query the database.
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
			if all.notified.Load() && time.Since(last) < readEndsAnyway {
				continue
			}
		}
		last = time.Now()
		all.read(ctx)
	}
}

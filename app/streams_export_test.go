package app

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
	return a.streams.failing
}

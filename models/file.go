package models

import "sync/atomic"

// file is the file of a database that is one, and whether it is where it was opened.
type file struct {
	inPlace func() error // nil where there is no file
	lost    atomic.Pointer[error]
}

// check looks, which takes some microseconds.
func (f *file) check() error {
	if f.inPlace == nil {
		return nil
	}
	err := f.inPlace()
	if err == nil {
		f.lost.Store(nil)
		return nil
	}
	f.lost.Store(&err)
	return err
}

// checked returns what the last check found: for those who read, and can't wait for another one. A
// session that somebody ends in the file at the path would go on in the one that is open.
func (f *file) checked() error {
	if err := f.lost.Load(); err != nil {
		return *err
	}
	return nil
}

package keys

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Draw returns a number for a text: the same on all instances until the logout key is rotated, and unpredictable
// without the key.
func (r *Ring) Draw(text string) uint64 {
	key := &r.current.Load().logout[0]
	mac := key.macs.Get().(hash.Hash)
	defer key.macs.Put(mac)
	mac.Reset()
	sum := sha256.Sum256([]byte(text))
	mac.Write([]byte("draw")) // with the sum it is longer than any session's id, of which logout tokens are made
	mac.Write(sum[:])
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

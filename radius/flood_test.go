package radius

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
)

const (
	floodSize = 100_000
	// floodRoom is how much more of the heap may be in use after a flood than
	// before: buffers of the queue that stay for the next one. To keep an address
	// of each packet in a map would take more.
	floodRoom = 4 << 20
)

// heapGrowth is how many octets more are in use after f, garbage not counted.
func heapGrowth(f func()) int {
	used := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // twice, for what is in a sync.Pool
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := used()
	f()
	return used() - before
}

// addressOf is one of 2^24 addresses that no client has.
func addressOf(i int) netip.AddrPort {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 10<<24|uint32(i))
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(1024+i%60000))
}

func TestFloodsTakeBoundedMemory(t *testing.T) {
	garbage := func(i int) []byte { return binary.BigEndian.AppendUint32([]byte{1, byte(i), 0, 19}, uint32(i)) }
	for name, flood := range map[string]func(i int) sent{
		"new addresses": func(i int) sent { return sent{addressOf(i), loginOf(fmt.Sprint(i), i)} },
		"malformed":     func(i int) sent { return sent{vpn, garbage(i)} },
		"wrong secrets": func(i int) sent {
			return sent{vpn, newPacket(1, byte(i), fmt.Sprint(i)).user(fmt.Sprint(i)).signed("guess")}
		},
		"no authenticator": func(i int) sent { return sent{legacy, newPacket(1, byte(i), fmt.Sprint(i)).user(fmt.Sprint(i)).b} },
		"garbled passwords": func(i int) sent {
			return sent{netip.AddrPortFrom(legacy.Addr(), uint16(i)), newPacket(1, byte(i), fmt.Sprint(i)).user(fmt.Sprint(i)).password(rightCode, "guess").b}
		},
		"EAP without authenticator": func(i int) sent {
			return sent{legacy, newPacket(1, byte(i), fmt.Sprint(i)).user("x").add(79, []byte{2, byte(i), 0, 4}).b}
		},
		"Access-Accepts": func(i int) sent {
			return sent{vpn, newPacket(codec.CodeAccessAccept, byte(i), fmt.Sprint(i)).add(rfc2865.State_Type, make([]byte, 16)).b}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				send := func(from, to int) {
					for i := from; i < to; i++ {
						h.conn.in <- flood(i)
						if i%1000 == 0 {
							synctest.Wait()
						}
					}
					synctest.Wait()
				}
				send(0, floodSize/10) // until what may be kept is
				if n := heapGrowth(func() { send(floodSize/10, floodSize) }); n > floodRoom {
					t.Errorf("the heap grew by %d octets over %d packets", n, floodSize)
				}
				if n := len(h.cache.entries) + len(h.cache.evaluated.known) + len(h.users.byUser) + len(h.bursts.byLogin); n != 0 {
					t.Errorf("%d things are remembered of packets that anybody can send", n)
				}
				h.wantCalls(0)
				h.wantReply(vpn, login(1, "real", rightCode), codec.CodeAccessAccept)
			})
		})
	}
}

// Connections that never begin their handshake, from one address after another.
func TestHalfOpenConnectionsTakeBoundedMemory(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		open := func(n int) {
			for i := range n {
				h.connect(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 199)}), uint16(1024+i)))
			}
			synctest.Wait()
			if _, handshakes, _ := h.counted(); handshakes > maxHandshakes {
				t.Errorf("%d are in their handshake, want at most %d", handshakes, maxHandshakes)
			}
			time.Sleep(handshakeLimit + time.Second)
			synctest.Wait()
		}
		open(1000)
		if n := heapGrowth(func() {
			for range 20 {
				open(1000)
			}
		}); n > floodRoom {
			t.Errorf("the heap grew by %d octets", n)
		}
		if n := testutil.ToFloat64(h.Metrics.tlsRefused.WithLabelValues(string(tooManyHandshakes))); n < 10_000 {
			t.Errorf("only %v were refused: the test doesn't test", n)
		}
		h.mustDial(proxy, h.as("proxy.example"))
	})
}

package verifier_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"otpgate/verifier"
)

// BenchmarkVerify is a wrong code, from the typed digits to the database's
// flush, for one caller and for many who share it.
func BenchmarkVerify(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			g := newGate(b)
			g.setLockout(verifier.Lockout{Consecutive: 1 << 14})
			const users = 64
			for i := range users {
				g.newToken(fmt.Sprintf("user%d", i), fmt.Sprintf("T%d", i))
				g.expect(fmt.Sprintf("user%d", i), g.code(fmt.Sprintf("T%d", i), 0), verifier.Accepted)
			}
			var n atomic.Int64
			b.SetParallelism(max(1, callers/2)) // two processors
			b.ReportAllocs()
			b.ResetTimer()
			try := func() {
				if _, err := g.try(fmt.Sprintf("user%d", n.Add(1)%users), "000000"); err != nil {
					b.Error(err)
				}
			}
			if callers == 1 {
				for range b.N {
					try()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					try()
				}
			})
		})
	}
}

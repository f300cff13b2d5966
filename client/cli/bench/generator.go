// SPDX-License-Identifier: AGPL-3.0-only

package bench

import (
	"math/rand/v2"
	"strconv"
)

const (
	blobKeys  = 16 // how many keys hold blobs
	valuePool = 1 << 20
)

// workload is what all connections share; it does not change.
type workload struct {
	o      Options
	chance []op   // an operation for each unit of weight
	values []byte // random text, of which values are windows
	blob   []byte
	zipf   float64
	stride uint64 // coprime with the number of keys: scatters the hot ones
	digits int
}

func newWorkload(o Options) *workload {
	w := &workload{o: o, stride: 1}
	weights, _ := parseMix(o.Mix) // Validate has read it
	w.zipf, _ = parseSkew(o.Skew) // as above
	divisor := 0
	for _, n := range weights {
		divisor = gcd(divisor, n)
	}
	for kind, n := range weights {
		for range n / divisor {
			w.chance = append(w.chance, op(kind))
		}
	}
	r := rand.New(rand.NewPCG(o.Seed, 0))
	const alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	w.values = make([]byte, o.ValueSize+min(valuePool, 64*o.ValueSize))
	for i := range w.values {
		w.values[i] = alphabet[r.Uint32()&63]
	}
	if weights[opBlobPut]+weights[opBlobGet] > 0 {
		w.blob = make([]byte, o.BlobSize)
		for i := range w.blob {
			w.blob[i] = byte(r.Uint32())
		}
	}
	for s := uint64(o.Keys)*5/8 | 1; s > 1; s -= 2 {
		if gcd(int(s), o.Keys) == 1 {
			w.stride = s
			break
		}
	}
	w.digits = len(strconv.Itoa(o.Keys - 1))
	return w
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// generator makes the requests of one connection.
type generator struct {
	w    *workload
	r    *rand.Rand
	zipf *rand.Zipf
	// A prefill writes the keys from next on, every step-th, to the end.
	prefill    bool
	next, step int
}

func newGenerator(w *workload, id int) *generator {
	g := &generator{w: w, r: rand.New(rand.NewPCG(w.o.Seed, uint64(id)+1))}
	if w.zipf > 0 {
		g.zipf = rand.NewZipf(g.r, w.zipf, 1, uint64(w.o.Keys-1))
	}
	return g
}

// request appends a request without its line end, and a body; ok is false when a prefill is done.
func (g *generator) request(dst []byte) (out []byte, kind op, ok bool) {
	if g.prefill {
		if g.next >= g.w.o.Keys {
			return dst, 0, false
		}
		n := g.next
		g.next += g.step
		return g.put(dst, n), opPut, true
	}
	kind = g.w.chance[0]
	if len(g.w.chance) > 1 {
		kind = g.w.chance[g.r.IntN(len(g.w.chance))]
	}
	switch kind {
	case opGet:
		dst = append(g.key(append(dst, "KEY GET "...), g.pick()), "\r\n"...)
	case opPut:
		dst = g.put(dst, g.pick())
	case opDel:
		dst = append(g.key(append(dst, "KEY DEL "...), g.pick()), "\r\n"...)
	case opScan, opKeys:
		n := g.pick()
		dst = g.table(append(dst, "SCAN "...), n)
		if kind == opScan {
			dst = append(dst, " VALUES"...)
		}
		dst = strconv.AppendInt(append(dst, " LIMIT "...), int64(g.w.o.ScanLimit), 10)
		dst = append(g.key(append(dst, " AFTER "...), n), "\r\n"...)
	case opCount:
		dst = append(g.table(append(dst, "COUNT "...), g.pick()), "\r\n"...)
	case opSample:
		dst = append(g.table(append(dst, "SAMPLE "...), g.pick()), " 10\r\n"...)
	case opBlobGet:
		dst = append(g.blobKey(append(dst, "KEY BLOB GET "...)), "\r\n"...)
	case opBlobPut:
		dst = g.blobKey(append(dst, "KEY BLOB SET "...))
		dst = strconv.AppendInt(append(dst, ' '), int64(len(g.w.blob)), 10)
		dst = append(append(dst, "\r\n"...), g.w.blob...)
	}
	return dst, kind, true
}

func (g *generator) put(dst []byte, n int) []byte {
	dst = g.key(append(dst, "KEY PUT "...), n)
	at := g.r.IntN(len(g.w.values) - g.w.o.ValueSize + 1)
	dst = append(append(dst, ' '), g.w.values[at:at+g.w.o.ValueSize]...)
	return append(dst, "\r\n"...)
}

func (g *generator) pick() int {
	if g.zipf != nil {
		return int(g.zipf.Uint64() * g.w.stride % uint64(g.w.o.Keys))
	}
	return g.r.IntN(g.w.o.Keys)
}

func (g *generator) table(dst []byte, n int) []byte {
	dst = append(dst, g.w.o.Table...)
	if g.w.o.Tables > 1 {
		dst = strconv.AppendInt(dst, int64(n%g.w.o.Tables), 10)
	}
	return dst
}

// key appends the n-th key, its number padded so that numbers sort.
func (g *generator) key(dst []byte, n int) []byte {
	dst = append(g.table(dst, n), '.')
	end := len(dst) + g.w.digits
	for range g.w.digits {
		dst = append(dst, '0')
	}
	for i := end - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

func (g *generator) blobKey(dst []byte) []byte {
	dst = append(append(dst, g.w.o.Table...), "-blob.b"...)
	return strconv.AppendInt(dst, int64(g.r.IntN(blobKeys)), 10)
}
